// Further processes in running containers, as objects: create, start, inspect, resize, signal.
//
// An exec that was created and not started exists only here and costs the container nothing. The
// state of an exec that has ended is kept for kKept, so that a client can ask for its exit code.
//
// All execs can be looked at and handled here, whichever door made them: those of containerd's
// clients, and those of an earlier daemon, are known as their shims report them. The ids that this
// service gives are unique. The ids that containerd's clients choose are unique within a container
// only; a call that gives such an id names the container where the id alone is ambiguous.
//
// Thread-safe. kNotFound: no such exec or container; kInvalidArgument: ambiguous prefix or exec id,
// bad request; kFailedPrecondition: the state of the container or exec forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

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

namespace gantry::shim::v1 {
class Stdio;
}
namespace gantry::v1 {
class ExecConfig;
class ExecInput_Open;
class TerminalSize;
}  // namespace gantry::v1

namespace gantry::core {

// Exec ids that this service gives begin so; containerd's clients choose their own.
inline constexpr char kExecPrefix[] = "gantry-exec-";  // reserved, see ExecService::Add()

struct ExecState {
  std::string exec_id;
  std::string container_id;
  // Shared with copies of the state; never null. Of an exec that was not created by this service
  // since the daemon's start: command, user (as UID:GID), working directory and terminal only.
  std::shared_ptr<const v1::ExecConfig> config;
  bool started = false;
  int32_t pid = 0;                               // once it was started
  std::optional<uint32_t> exit_code;             // once it has ended
  absl::Time created_at = absl::InfinitePast();  // InfinitePast: unknown
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
    // An exec whose attached client leaves ends, with what it has started.
    bool ends_with_client = false;
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
  // The exec, if it can be started now; for clients whose stream begins before Start() can fail.
  // kFailedPrecondition: it was started before, or its container does not run.
  absl::StatusOr<ExecState> Startable(const CallContext& context, const std::string& exec_id) const;
  // With a handler the streams are connected before the process starts; without, it runs detached.
  // kFailedPrecondition: it was started before. One that failed to start can be started again.
  absl::StatusOr<StartedExec> Start(const CallContext& context, const std::string& exec_id,
                                    runtime::AttachStream::Handler* handler);
  // Create() and Start() in one; nothing stays when it fails. With a time limit the exec is killed
  // with what it has started, even if nobody waits for it any more.
  absl::StatusOr<StartedExec> Exec(const CallContext& context, const v1::ExecInput_Open& open,
                                   runtime::AttachStream::Handler* handler,
                                   absl::Duration time_limit = absl::InfiniteDuration());
  // The client that was attached to an exec has gone without saying that the exec is to go on: ends
  // it where that is configured, with what it has started, by SIGTERM (with a terminal SIGHUP) and
  // soon after by SIGKILL. Waits for the shim; not after Stop(). An exec that has ended is fine.
  void ClientLeft(const std::string& ns, const std::string& container_id,
                  const std::string& exec_id);
  // The daemon ends, and with it all connections: clients that leave from now on leave because of
  // that.
  void Stop() { stopping_ = true; }
  // An exec under an id that the client chooses, of a process document and streams of its own
  // making (containerd's API). The task has it from then on: it is started, waited for and deleted
  // there.
  //   kInvalidArgument  the id begins with kExecPrefix
  //   kAlreadyExists    the container has an exec of this id
  absl::Status Add(const CallContext& context, const std::string& container_id,
                   const std::string& exec_id, const std::string& process_json,
                   const shim::v1::Stdio& stdio);
  // `container` (id, name or prefix) may be empty where the exec id is unique in the namespace.
  absl::StatusOr<ExecState> Inspect(const CallContext& context, const std::string& exec_id,
                                    const std::string& container = "") const;
  // kInvalidArgument: the size; kFailedPrecondition: it does not run.
  absl::Status Resize(const CallContext& context, const std::string& exec_id,
                      const v1::TerminalSize& size);
  // `container` as for Inspect().
  absl::Status SignalExec(const CallContext& context, const std::string& container,
                          const std::string& exec_id, const std::string& signal);

  // An exec has ended: called for each exit that is observed.
  void OnExit(const std::string& ns, const Process& exec);
  // Called where the end is seen in the exec's stream, which may be sooner. Only of execs that this
  // service created; other ids are ignored.
  void NoteExit(const std::string& ns, const std::string& exec_id, uint32_t exit_code,
                absl::Time ended_at);
  // Drops the state of an exec whose caller has its result. The process is left alone.
  void Forget(const std::string& ns, const std::string& exec_id);

 private:
  using Key = std::tuple<std::string, std::string, std::string>;  // namespace, exec id, container
  using Execs = std::map<Key, ExecState>;

  // The container, if a process can be started in it now.
  absl::StatusOr<LoadedContainer> LoadRunning(const CallContext& context,
                                              const std::string& container) const;
  // Create() and Start() in a container that is loaded already.
  absl::StatusOr<std::string> Register(const LoadedContainer& loaded, const v1::ExecConfig& config);
  absl::StatusOr<StartedExec> StartIn(const CallContext& context, const LoadedContainer& loaded,
                                      const std::string& exec_id, const v1::ExecConfig& config,
                                      runtime::AttachStream::Handler* handler,
                                      absl::Duration time_limit);
  absl::StatusOr<StartedExec> Launch(const CallContext& context, const LoadedContainer& loaded,
                                     const std::string& exec_id, const v1::ExecConfig& config,
                                     runtime::AttachStream::Handler* handler,
                                     absl::Duration time_limit);
  void DropOld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The entry of an exec with an id of ours; end() if there is none.
  Execs::iterator FindOurs(const std::string& ns, const std::string& exec_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Parts parts_;

  std::atomic<bool> stopping_ = false;

  mutable absl::Mutex mu_;
  // Those that this service created, and those that have ended.
  Execs execs_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_
