// What is known of one process of a task, and of its end.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_PROCESS_H_
#define GANTRY_SUPERVISOR_CORE_TASK_PROCESS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"

namespace gantry::core {

enum class ProcessStatus {
  kUnknown = 0,
  kCreated = 1,
  kRunning = 2,
  kStopped = 3,
  kPaused = 4,
  kPausing = 5
};

// One process of a task: the init process (exec_id "") or an exec.
struct Process {
  std::string container_id;
  std::string exec_id;
  ProcessStatus status = ProcessStatus::kUnknown;
  int32_t pid = 0;
  uint32_t exit_status = 0;
  absl::Time started_at = absl::InfinitePast();
  absl::Time exited_at = absl::InfinitePast();  // InfinitePast: has not
  bool oom_killed = false;
  bool terminal = false;
  std::string stdin_uri, stdout_uri, stderr_uri;
  // Of an exec: its OCI process document; null when an old shim does not report it.
  std::shared_ptr<const std::string> process_json;
  bool of_former_daemon = false;  // an exec that was made before this daemon started
  std::string reason;             // why it is kUnknown, or what killed the shim; "" otherwise
};

struct Exit {
  int32_t pid = 0;
  uint32_t status = 0;
  absl::Time at;
  bool oom_killed = false;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_PROCESS_H_
