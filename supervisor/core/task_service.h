// Running containers: every task of every namespace, each behind its own shim.
//
// A task exists from Create() until Delete(). What this class knows of a task is a view of its
// shim's event stream, kept in memory so that Get() and List() never wait for a shim; after a
// restart it is rebuilt by Recover(). Events are published here, once each, in the order create,
// start, exit, delete, whichever of a call's answer and the shim's stream is first to bring the
// news.
//
// Thread-safe. A call on one task never waits for another task. Calls that reach the shim carry a
// deadline. Status codes common to all: kNotFound no such task or process; kUnavailable the shim
// does not answer (retry; `ctl ps` shows it as "unknown"); kFailedPrecondition wrong state, the
// message says which. Semantics: containerd "tasks" service.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_TASK_SERVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "snapshotter/mount.h"
#include "supervisor/core/call_context.h"

namespace gantry {
class Executor;
}
namespace gantry::oci {
struct HostFacts;
}
namespace gantry::runtime {
class BundleStore;
class CgroupWarmer;
class Launcher;
class RuntimeProbe;
class Shim;
struct RecoveredTask;
}  // namespace gantry::runtime

namespace gantry::core {

class EventBus;

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

struct CreateTask {
  std::string container_id;
  std::string spec_json;  // OCI runtime-spec config.json, written to the bundle as it is
  std::vector<snapshot::Mount>
      rootfs;  // mounted by the shim at <bundle>/rootfs; empty: spec root.path stands by itself
  bool discard_rootfs = false;  // it ends with the container, and is not synced
  // With a network: the paths of its namespace and of the file that its resolver is run by.
  std::string netns;
  std::string resolver;
  // Directory whose files the container may write, and how many bytes they may have together; 0: no
  // limit (shim.proto, BoundedFiles).
  std::string bounded_directory;
  int64_t bounded_bytes = 0;
  shim::v1::Stdio stdio;
  std::string runtime;  // name, absolute path, "io.containerd.runc.v2", or "" for the default
  std::string
      runtime_options_type_url;  // containerd's runtime options as they came: stored, and read where known
  std::string runtime_options;
  std::string
      restore_image_path;  // of CRIU; must be there until the start, which is when it is read
  // Fills an empty directory with such an image instead. It goes when the task has started or is
  // deleted. May be empty.
  std::function<absl::Status(const std::string& directory)> fill_restore_image;
  bool start = false;  // create and start in one go, one runtime call fewer
  // Returns when what the container needs besides its shim is there, its networks for example, or
  // cannot be had: it is made while the shim starts. A failure undoes the creation. May be empty.
  std::function<absl::Status()> ready;
  // Called when the shim is up and before it creates anything: who attaches its streams here misses
  // no output. A failure undoes the creation. May be empty.
  std::function<void(runtime::Shim&)> before_create;
};

// What to do about exits, asked once per process after its exit was recorded and published.
class ExitObserver {
 public:
  virtual ~ExitObserver() = default;
  // Runs on a worker thread of the service; may call back into it.
  virtual void OnExit(const std::string& ns, const Process& process) = 0;
  // A task that was unknown since the start of the service, because its shim did not answer, is
  // known again; this is its first process. Runs on a worker thread.
  virtual void OnTakenUp(const std::string& ns, const Process& process) {}
};

class TaskService {
 public:
  struct Parts {
    runtime::BundleStore* bundles;
    runtime::RuntimeProbe* runtimes;
    runtime::Launcher* launcher;
    runtime::CgroupWarmer* warmer;  // may be null
    EventBus* events;
    Executor* workers;
    const oci::HostFacts* host;
    // A shim that has not answered a question within this, while its answer to a forced removal is
    // awaited, hangs.
    absl::Duration shim_patience = absl::Seconds(2);
  };
  // Parts are not owned and outlive the service.
  explicit TaskService(const Parts& parts);
  ~TaskService();
  TaskService(const TaskService&) = delete;
  TaskService& operator=(const TaskService&) = delete;

  void SetExitObserver(ExitObserver* observer);  // once, before the first task

  // Begins the cgroup attach that the runtime will need, so that it overlaps with the caller's
  // snapshot work. Never fails.
  void AnnounceStart();

  // kAlreadyExists: the container has a task. kInternal and others: the runtime's own words. Leaves
  // nothing behind on failure.
  absl::StatusOr<int32_t> Create(const CallContext& context, const CreateTask& create);
  absl::StatusOr<int32_t> Start(const CallContext& context, const std::string& id,
                                const std::string& exec_id);
  // Registers (and with `start` starts) a further process. When it has run for `time_limit` its
  // shim kills it with what it has started, whether this daemon runs or not. kAlreadyExists: exec
  // id taken.
  absl::StatusOr<int32_t> Exec(const CallContext& context, const std::string& id,
                               const std::string& exec_id, const std::string& process_json,
                               const shim::v1::Stdio& stdio, bool start,
                               absl::Duration time_limit = absl::InfiniteDuration());
  absl::Status Kill(const CallContext& context, const std::string& id, const std::string& exec_id,
                    uint32_t signal, bool all);
  // Removes a stopped process, and with the init process the whole task. kFailedPrecondition: still
  // running. `force` kills first, and does not depend on the shim: one that does not answer or
  // whose runtime fails is killed, and what it leaves is killed and removed from outside.
  // kUnavailable: something stays all the same, which the message names; it is tried again by
  // itself, and by the next call.
  absl::StatusOr<Exit> Delete(const CallContext& context, const std::string& id,
                              const std::string& exec_id, bool force = false);

  absl::StatusOr<Process> Get(const std::string& ns, const std::string& id,
                              const std::string& exec_id) const;
  // Init processes of a namespace ("" for all), in order of (namespace, id).
  std::vector<std::pair<std::string, Process>> List(const std::string& ns) const;
  bool Exists(const std::string& ns, const std::string& id) const;
  // The execs that the container's shim has, ended ones too until they are deleted; by id.
  std::vector<Process> Execs(const std::string& ns, const std::string& id) const;
  // Those of this id, of any container of the namespace.
  std::vector<Process> FindExecs(const std::string& ns, const std::string& exec_id) const;

  // Calls `done` once: when the process has ended (at once if it has), with kNotFound when there is
  // no such process or it is deleted or its creation failed, with kCancelled after CancelWait, with
  // kUnavailable when the service stops. `done` runs without locks held. Returns a ticket.
  uint64_t WaitAsync(const std::string& ns, const std::string& id, const std::string& exec_id,
                     std::function<void(absl::StatusOr<Exit>)> done);
  // The next exit of the container's first process: of the task that there is, or of one that is
  // created later. The removal of the container calls EndNextExitWaits(), which answers kNotFound.
  uint64_t WaitNextExitAsync(const std::string& ns, const std::string& id,
                             std::function<void(absl::StatusOr<Exit>)> done);
  void EndNextExitWaits(const std::string& ns, const std::string& id);
  // There will be no next exit because the restart that was due will not happen: answers those who
  // wait for it with the last one.
  void AnswerNextExitWaits(const std::string& ns, const std::string& id, const Exit& last);
  void CancelWait(uint64_t ticket);
  // Blocking form; kDeadlineExceeded / kCancelled by the context.
  absl::StatusOr<Exit> Wait(const CallContext& context, const std::string& id,
                            const std::string& exec_id, absl::Duration limit);

  absl::Status Pause(const CallContext& context, const std::string& id);
  absl::Status Resume(const CallContext& context, const std::string& id);
  absl::Status Update(const CallContext& context, const std::string& id,
                      const std::string& resources_json);
  absl::Status ResizePty(const CallContext& context, const std::string& id,
                         const std::string& exec_id, uint32_t width, uint32_t height);
  absl::Status CloseStdin(const CallContext& context, const std::string& id,
                          const std::string& exec_id);
  absl::Status ReopenLog(const CallContext& context, const std::string& id);
  absl::StatusOr<shim::v1::PidsResponse> Pids(const CallContext& context, const std::string& id);
  absl::StatusOr<shim::v1::StatsResponse> Stats(const CallContext& context, const std::string& id);
  // Of many at once, in the order of `ids`. A shim that is slow holds up none of the others: all is
  // over within two seconds.
  std::vector<absl::StatusOr<shim::v1::StatsResponse>> Stats(const CallContext& context,
                                                             const std::vector<std::string>& ids);
  absl::Status Checkpoint(const CallContext& context, const std::string& id,
                          const shim::v1::CheckpointRequest& request);

  // A live task's shim, for streams (attach). kNotFound; kUnavailable: there is no shim (any more).
  absl::StatusOr<std::shared_ptr<runtime::Shim>> Shim(const std::string& ns,
                                                      const std::string& id) const;

  // <state>/tasks/<ns>/<id> of a live task.
  absl::StatusOr<std::string> BundleDirectory(const std::string& ns, const std::string& id) const;

  // At start, before the doors open: takes over the shims that runtime::RecoverShims() found, or
  // settles what became of them, and publishes what happened meanwhile. Returns how many tasks live
  // on. A shim that does not answer is kept as kUnknown, never deleted on a guess, and taken up
  // when it answers. Takes about a second at most: what needs longer goes on by itself.
  int Recover(std::vector<runtime::RecoveredTask> found);
  // Once the doors are open: listens to the shims whose recorded state Recover() took over. Until
  // then their tasks are as recorded; nothing that happens meanwhile is missed. Returns at once.
  void Follow();

  // Answers all waits, now and from now on, with kUnavailable. The first step of a stop: no
  // call waits when the server ends.
  void EndWaits();

  // Stops listening to shims and answers all waits; containers run on. Calls that are under way may
  // end, on other threads, after it.
  void Stop();

 private:
  struct Task;
  struct Core;
  std::shared_ptr<Core> core_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_SERVICE_H_
