// Further processes in running containers, as objects: create, start, inspect, resize, signal.
//
// An exec that was created and not started exists only here and costs the container nothing. The
// state of an exec that has ended is kept for kKept, so that a client can ask for its exit code.
// Execs of containerd's clients, and those of an earlier daemon, are not known here.
//
// Thread-safe. kNotFound: no such exec or container; kInvalidArgument: ambiguous prefix, bad
// request; kFailedPrecondition: the state of the container or exec forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/clock.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/task_service.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/runtime/shim_client.h"

namespace gantry::v1 {
class ExecConfig;
class ExecInput_Open;
class TerminalSize;
}  // namespace gantry::v1

namespace gantry::core {

// Exec ids that this service gives begin so; containerd's clients choose their own.
inline constexpr char kExecPrefix[] = "gantry-exec-";

struct ExecState {
  std::string exec_id;
  std::string container_id;
  std::shared_ptr<const v1::ExecConfig> config;  // shared with copies of the state
  bool started = false;
  int32_t pid = 0;                    // once it was started
  std::optional<uint32_t> exit_code;  // once it has ended
  absl::Time created_at = absl::InfinitePast();
  absl::Time ended_at = absl::InfinitePast();

  bool running() const { return started && !exit_code.has_value(); }
};

class ExecService {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerFiles* files;
    TaskService* tasks;
    const oci::HostFacts* host;
    const Clock* clock = &Clock::Real();
  };
  static constexpr absl::Duration kKept = absl::Minutes(5);  // after the end
  // States kept in all; beyond, the oldest of those that do not run are dropped.
  static constexpr size_t kMaxKept = 4096;

  explicit ExecService(const Parts& parts) : parts_(parts) {}

  struct StartedExec {
    std::string exec_id;
    std::string container_id;
    int32_t pid = 0;
    std::unique_ptr<runtime::AttachStream> stream;  // null when detached
  };

  // Returns the id of the new exec. The container must be running.
  absl::StatusOr<std::string> Create(const CallContext& context, const std::string& container,
                                     const v1::ExecConfig& config);
  // With a handler the streams are connected before the process starts; without, it runs detached.
  // kFailedPrecondition: it was started before. One that failed to start can be started again.
  absl::StatusOr<StartedExec> Start(const CallContext& context, const std::string& exec_id,
                                    runtime::AttachStream::Handler* handler);
  // Create() and Start() in one; nothing stays when it fails.
  absl::StatusOr<StartedExec> Exec(const CallContext& context, const v1::ExecInput_Open& open,
                                   runtime::AttachStream::Handler* handler);
  absl::StatusOr<ExecState> Inspect(const CallContext& context, const std::string& exec_id) const;
  // kInvalidArgument: the size; kFailedPrecondition: it does not run.
  absl::Status Resize(const CallContext& context, const std::string& exec_id,
                      const v1::TerminalSize& size);
  absl::Status SignalExec(const CallContext& context, const std::string& container,
                          const std::string& exec_id, const std::string& signal);

  // The exec has ended: called for each exit that is observed, and by those that see the end in the
  // exec's stream, which may be sooner. Ids that are not known here are ignored.
  void NoteExit(const std::string& ns, const std::string& exec_id, uint32_t exit_code,
                absl::Time ended_at);
  // Drops the state of an exec that nobody will ask for. The process is left alone.
  void Forget(const std::string& ns, const std::string& exec_id);

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, exec id

  // The container, if a process can be started in it now.
  absl::StatusOr<LoadedContainer> LoadRunning(const CallContext& context,
                                              const std::string& container) const;
  // Create() and Start() in a container that is loaded already.
  absl::StatusOr<std::string> Register(const LoadedContainer& loaded, const v1::ExecConfig& config);
  absl::StatusOr<StartedExec> StartIn(const CallContext& context, const LoadedContainer& loaded,
                                      const std::string& exec_id, const v1::ExecConfig& config,
                                      runtime::AttachStream::Handler* handler);
  absl::StatusOr<StartedExec> Launch(const CallContext& context, const LoadedContainer& loaded,
                                     const std::string& exec_id, const v1::ExecConfig& config,
                                     runtime::AttachStream::Handler* handler);
  void DropOld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Parts parts_;

  mutable absl::Mutex mu_;
  std::map<Key, ExecState> execs_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_
