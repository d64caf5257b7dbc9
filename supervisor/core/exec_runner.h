// Runs a command in a container to its end, within a time, and hands back its output: health
// checks and CRI's ExecSync.
//
// Stop() before destruction; the executor must be idle by then. Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_EXEC_RUNNER_H_
#define GANTRY_SUPERVISOR_CORE_EXEC_RUNNER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/clock.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/task_service.h"

namespace gantry {
class Executor;
}
namespace gantry::v1 {
class ExecConfig;
}

namespace gantry::core {

// What became of one run. Without an exit code, either `timed_out` or `error` says why.
struct RunResult {
  absl::Time start;
  absl::Time end;
  std::optional<uint32_t> exit_code;
  bool timed_out = false;  // it was killed
  std::string out;
  std::string err;
  absl::Status error;  // it could not be started, or its streams were lost
};

class ExecRunner {
 public:
  struct Limits {
    absl::Duration timeout = absl::InfiniteDuration();
    size_t output_bytes = 1 << 20;  // of both streams together; the rest is read and dropped
    bool merge = false;             // both streams in `out`, in the order of arrival
    // How long the streams of a process that has ended are read: its children may keep them open.
    absl::Duration drain = absl::Seconds(2);
  };

  ExecRunner(ExecService& execs, TaskService& tasks, Executor& workers, const Clock& clock)
      : execs_(execs), tasks_(tasks), workers_(workers), clock_(clock), timers_(clock, workers) {}

  // Of `config` the attach flags are ignored: stdout and stderr are attached. Blocks for as long as
  // a process takes to start. Calls `done` once, on any thread, at the timeout at the latest, also
  // when a child of the process keeps the streams open.
  // Returns what gives the run up: kills the process, and `done` gets kCancelled as its error.
  // Without effect once the run is over. Blocks for as long as a signal takes.
  std::function<void()> RunToEnd(const std::string& ns, const std::string& container,
                                 const v1::ExecConfig& config, const Limits& limits,
                                 std::function<void(RunResult)> done);
  // Ends the runs under way, and later ones at once, with kCancelled as their error.
  void Stop();

 private:
  class Run;

  ExecService& execs_;
  TaskService& tasks_;
  Executor& workers_;
  const Clock& clock_;
  Delayed timers_;
  absl::Mutex mu_;
  std::vector<std::weak_ptr<Run>> runs_ ABSL_GUARDED_BY(mu_);  // some of them may be over
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EXEC_RUNNER_H_
