// Running containers: every task of every namespace, each behind its own shim.
//
// A task exists from Create() until Delete(). What the daemon knows of a task is a view of its
// shim's event stream, kept in memory so that TaskView never waits for a shim to answer Get() and
// List(); after a restart TaskSupervision::Recover() rebuilds it. This class has the calls that
// change a task; view() reads, waits() waits for ends, and task_supervision.h has the daemon's own
// calls. Each event is published once, in the order create, start, exit, delete, no matter whether
// a call's answer or the shim's stream reports it first.
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
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "snapshotter/mount.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/task_process.h"
#include "supervisor/core/task_view.h"
#include "supervisor/core/task_waits.h"

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
}  // namespace gantry::runtime

namespace gantry::core {

class EventBus;
class TaskSupervision;
struct TaskCore;

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

  // What is known of the tasks, and waits for their ends. Both live as long as the service.
  const TaskView& view() const { return view_; }
  TaskWaits& waits() { return waits_; }

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

  absl::Status Pause(const CallContext& context, const std::string& id);
  absl::Status Resume(const CallContext& context, const std::string& id);
  absl::Status Update(const CallContext& context, const std::string& id,
                      const std::string& resources_json);
  absl::Status ResizePty(const CallContext& context, const std::string& id,
                         const std::string& exec_id, uint32_t width, uint32_t height);
  absl::Status CloseStdin(const CallContext& context, const std::string& id,
                          const std::string& exec_id);
  absl::Status ReopenLog(const CallContext& context, const std::string& id);
  absl::Status Checkpoint(const CallContext& context, const std::string& id,
                          const shim::v1::CheckpointRequest& request);

 private:
  friend class TaskSupervision;
  std::shared_ptr<TaskCore> core_;
  const TaskView view_;
  TaskWaits waits_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_SERVICE_H_
