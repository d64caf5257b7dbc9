// Processor time of the calling thread, for accounts of where a long operation spent it. A system
// call: once per buffer, not per byte.

#ifndef GANTRY_BASE_PROCESSOR_TIME_H_
#define GANTRY_BASE_PROCESSOR_TIME_H_

#include <time.h>

#include "absl/time/time.h"

namespace gantry {

inline absl::Duration ThreadProcessorTime() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return absl::DurationFromTimespec(time);
}

// Adds the processor time from here to the end of the scope to `total`.
class ProcessorTimer {
 public:
  explicit ProcessorTimer(absl::Duration& total) : total_(total), begun_(ThreadProcessorTime()) {}
  ~ProcessorTimer() { total_ += ThreadProcessorTime() - begun_; }
  ProcessorTimer(const ProcessorTimer&) = delete;
  ProcessorTimer& operator=(const ProcessorTimer&) = delete;

 private:
  absl::Duration& total_;
  const absl::Duration begun_;
};

}  // namespace gantry

#endif  // GANTRY_BASE_PROCESSOR_TIME_H_
