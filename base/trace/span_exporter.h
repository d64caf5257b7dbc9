// Spans of a process on their way to a collector.
//
// Collects spans and sends them from a thread of its own, together. Add() never waits: what the
// collector does not take in time is dropped and counted. Thread-safe.
#ifndef GANTRY_BASE_TRACE_SPAN_EXPORTER_H_
#define GANTRY_BASE_TRACE_SPAN_EXPORTER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/trace/otlp.h"
#include "base/trace/span.h"
#include "base/unique_fd.h"

namespace gantry::trace {

class SpanExporter final : public SpanSink {
 public:
  static constexpr size_t kMostQueued = 2048;

  // Sends at least every `period`.
  explicit SpanExporter(OtlpTarget target, absl::Duration period = absl::Seconds(1));
  // Sends what is queued, if that takes no more than a second.
  ~SpanExporter() override;
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  void Add(Span span) override;
  int64_t dropped() const { return dropped_; }

 private:
  void Run();
  void Send(const std::vector<Span>& spans, absl::Duration limit, int stop);

  const OtlpTarget target_;
  const absl::Duration period_;
  const UniqueFd stop_;  // readable: a send that is under way gives up
  std::atomic<int64_t> dropped_ = 0;

  absl::Mutex mu_;
  std::vector<Span> queue_ ABSL_GUARDED_BY(mu_);
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
  bool failing_ = false;  // the thread's

  std::thread thread_;  // none: the kernel gave none, and spans are dropped
};

}  // namespace gantry::trace

#endif  // GANTRY_BASE_TRACE_SPAN_EXPORTER_H_
