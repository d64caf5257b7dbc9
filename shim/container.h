// One container: its init process, its execs, and what may be done with them in which state.
//
//   the first process: empty -> created -> running <-> paused -> stopped -> deleted
//   execs: created -> running -> stopped
//
// An exec whose start failed is created again.
//
// The runtime decides what happens in the kernel; this class puts the steps in order, undoes what
// failed, and tells the end of every process exactly once, in this order: output taken in, exit
// record on disk, state, event, waiters. Execs are reported before the init process; if that had no
// pid namespace of its own, what it left behind is killed first.
//
// Thread-safe. Create, Start, Exec, Kill, Delete, Pause, Resume, Update, Checkpoint, Stats and Pids
// block and are for worker threads; calls that change the same process run one after the other,
// except Kill, which never waits for another call. `limit` is how long a call may take; a runtime
// that has not answered by then is killed.
//
// Errors of all calls: kNotFound no such process; kFailedPrecondition wrong state, the message says
// which; kUnavailable the runtime did not answer in time; kInternal it failed, with its own words.
// Spec: OCI runtime-spec "lifecycle"; ordering as containerd's clients rely on it.
#ifndef GANTRY_SHIM_CONTAINER_H_
#define GANTRY_SHIM_CONTAINER_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "proto/shim/v1/shim.pb.h"
#include "shim/bounded_files.h"
#include "shim/cgroup.h"
#include "shim/event_log.h"
#include "shim/event_loop.h"
#include "shim/oci_runtime.h"
#include "shim/oom_watch.h"
#include "shim/process_session.h"
#include "shim/reaper.h"
#include "shim/spec_facts.h"
#include "shim/stdio.h"
#include "shim/worker_threads.h"

namespace gantry::shim {

class PortForward;
class Resolver;

class Container {
 public:
  struct Options {
    std::string name_space;
    std::string id;
    std::string bundle;  // the process's working directory
    // A sealed copy of the program at `runtime_path`, run in its place; invalid if there is none.
    std::string runtime_path;
    UniqueFd sealed_runtime;
    // cgroup v1 hierarchies, by controller, that are ready to be put where the runtime will look
    // for them; others are made when needed.
    std::map<std::string, UniqueFd> controllers;
  };
  using WaitCallback = std::function<void(const v1::WaitResponse&)>;

  // `loop`, `reaper`, `events` and `workers` outlive the container.
  Container(Options options, EventLoop* loop, Reaper* reaper, EventLog* events,
            WorkerThreads* workers);
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  // kAlreadyExists: was created before. After a failure it is empty again, and nothing is left
  // behind.
  absl::StatusOr<v1::CreateResponse> Create(const v1::CreateRequest& request, absl::Duration limit);
  absl::StatusOr<v1::StartResponse> Start(const std::string& exec_id, absl::Duration limit);
  // kAlreadyExists: the id is taken.
  absl::StatusOr<v1::ExecResponse> Exec(const v1::ExecRequest& request, absl::Duration limit);
  // Ended processes are kNotFound.
  absl::Status Kill(const v1::KillRequest& request, absl::Duration limit);
  absl::StatusOr<v1::DeleteResponse> Delete(const v1::DeleteRequest& request, absl::Duration limit);
  absl::Status Pause(absl::Duration limit);
  absl::Status Resume(absl::Duration limit);
  absl::Status Update(const std::string& resources_json, absl::Duration limit);
  absl::Status Checkpoint(const v1::CheckpointRequest& request, absl::Duration limit);
  absl::StatusOr<v1::StatsResponse> Stats();
  absl::StatusOr<v1::PidsResponse> Pids(absl::Duration limit);

  absl::StatusOr<v1::ProcessState> State(const std::string& exec_id) const;
  void FillInfo(v1::InfoResponse* info) const;
  // No process was ever made here: the shim may as well go.
  bool IsEmpty() const;
  // The init process and its leavings are gone: there is nothing left to serve.
  bool IsDeleted() const;
  bool HasLiveProcess() const;

  // `callback` is called once: at once on this thread if the process has ended, later on the event
  // loop otherwise. Returns a number for CancelWait(), 0 if called already. An init process that
  // does not exist yet may be waited for.
  absl::StatusOr<uint64_t> Wait(const std::string& exec_id, WaitCallback callback);
  // The callback may be running.
  void CancelWait(uint64_t id);

  // Streams to attach to; those of the init process exist before Create().
  absl::StatusOr<std::shared_ptr<ProcessIo>> Streams(const std::string& exec_id) const;
  absl::Status ResizePty(const std::string& exec_id, uint32_t width, uint32_t height);
  absl::Status CloseStdin(const std::string& exec_id);
  // Calls back once, like ProcessIo::ReopenLog(); at once when there is no process.
  void ReopenLog(std::function<void(absl::Status)> done);

  // Forwards what the file beside the network namespace says now: the supervisor has written
  // another. On the event loop. A failure is logged.
  void ReadForwardedPorts();

 private:
  struct Ended {
    int wait_status;
    absl::Time at;
  };
  struct Process {
    explicit Process(std::string id) : exec_id(std::move(id)) {}

    const std::string exec_id;  // "" for the init process
    absl::Mutex op_mu;          // held across one operation; before mu_ in the order of locks

    // Guarded by mu_ of the container.
    v1::Status status = v1::STATUS_EMPTY;
    std::shared_ptr<ProcessIo> io;
    bool io_open =
        false;  // of an exec; a failed start closes its streams, the next one opens others
    v1::Stdio stdio;
    std::string process_json;
    pid_t pid = 0;
    UniqueFd pidfd;
    bool starting = false;  // an end that is seen now is reported after the start
    std::optional<Ended> early_end;
    bool reaped = false;
    uint32_t exit_status = 0;
    absl::Time started_at = absl::InfinitePast();
    absl::Time exited_at = absl::InfinitePast();
    bool oom_killed = false;
    bool deleted = false;
    absl::Duration time_limit = absl::InfiniteDuration();  // of an exec, from its start on
  };
  using ProcessPtr = std::shared_ptr<Process>;
  struct Waiter {
    ProcessPtr process;
    WaitCallback callback;
  };

  std::shared_ptr<ProcessIo> MakeIo();
  absl::StatusOr<ProcessPtr> Find(const std::string& exec_id) const ABSL_LOCKS_EXCLUDED(mu_);
  // The init process in one of the states named, and the runtime. kFailedPrecondition: another
  // state.
  absl::StatusOr<OciRuntime*> RuntimeWhen(std::initializer_list<v1::Status> states,
                                          absl::string_view what) const ABSL_LOCKS_EXCLUDED(mu_);

  // The status of a call of the runtime about the running container: where it failed because the
  // container has just ended, kFailedPrecondition in our own words.
  absl::Status UnlessEnded(const absl::Status& status, absl::string_view what)
      ABSL_LOCKS_EXCLUDED(mu_);
  // The status of a pause (`frozen`) or resume: OK if the kernel says that it is done, whatever the
  // runtime says.
  absl::Status FreezeOutcome(const absl::Status& status, bool frozen, absl::string_view what)
      ABSL_LOCKS_EXCLUDED(mu_);

  // What to execute for the runtime: a link to its sealed copy, "" when there is none.
  std::string RuntimeProgram(const v1::Runtime& runtime) const;
  absl::Status MountControllers(const v1::Runtime& runtime);
  absl::StatusOr<pid_t> CreateInit(const v1::CreateRequest& request, const ProcessPtr& init,
                                   absl::Duration limit);
  absl::Status StartInit(OciRuntime& runtime, absl::Duration limit) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<pid_t> RestoreInit(const ProcessPtr& init, absl::Duration limit);
  // The event `added`, if given, is published before the start.
  absl::StatusOr<pid_t> StartExec(const ProcessPtr& process, absl::Duration limit,
                                  std::optional<v1::Event> added);
  // Kills the exec, with what it has started, once its time is over.
  void EndInTime(const ProcessPtr& process);
  // The runtime has made `pid`: keeps a handle on it and asks for its end. Under a Reaper::Hold.
  void Adopt(const ProcessPtr& process, pid_t pid) ABSL_LOCKS_EXCLUDED(mu_);
  // No start is under way any more: an end that came during it is reported now.
  void StartIsOver(const ProcessPtr& process) ABSL_LOCKS_EXCLUDED(mu_);
  void EmitStarted(const ProcessPtr& process) ABSL_LOCKS_EXCLUDED(mu_);
  void FindCgroup(pid_t pid) ABSL_LOCKS_EXCLUDED(mu_);
  // Where the runtime puts it, unless systemd does.
  std::string CgroupPath() const ABSL_LOCKS_EXCLUDED(mu_);
  // Its cgroup is below groups that are not shared by all containers and may have to be made.
  bool HasOwnParents() const ABSL_LOCKS_EXCLUDED(mu_);
  void WatchForOom();
  void TellOom();  // on the event loop
  // From now on; connections that came before wait in the kernel's queue.
  // The first process was announced as ended.
  bool HasEnded() ABSL_LOCKS_EXCLUDED(mu_);
  void ForwardPorts(std::unique_ptr<PortForward> forward);
  // From now on; queries that came before wait in the resolver's socket.
  void AnswerNames(std::unique_ptr<Resolver> resolver);
  absl::Status WaitForEnd(const ProcessPtr& process, absl::Duration limit);
  // Takes in what an ended process has left in its pipes, and closes its streams; those of one that
  // never ran at once.
  void EndOutput(const Process& process, absl::Duration limit) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<v1::DeleteResponse> DeleteInit(bool force, absl::Duration limit);
  absl::StatusOr<v1::DeleteResponse> DeleteExec(const ProcessPtr& process, bool force,
                                                absl::Duration limit);
  // Writes back what the container, which has ended, made of its generated files.
  void EndBoundedFiles() ABSL_LOCKS_EXCLUDED(mu_);
  // Under the init process's op_mu.
  absl::Status UnmountRootfs() ABSL_LOCKS_EXCLUDED(mu_);
  // Runs after the end, while the exit is reported: unmounting an overlay takes a millisecond,
  // which a delete then need not wait for.
  void UnmountRootfsEarly() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status DeleteRuntimeState(bool force, absl::Duration limit);
  absl::Status SignalDirectly(const Process& process, int signal) const ABSL_LOCKS_EXCLUDED(mu_);
  // The same to all that it has started and that is still there. What a SIGTERM or SIGHUP has not
  // ended after a moment is killed; a SIGKILL is repeated for what is started meanwhile.
  absl::Status SignalSession(const Process& process, int signal) ABSL_LOCKS_EXCLUDED(mu_);
  static void KillSession(std::vector<ProcessId> members, const Cgroup& cgroup);
  void FillState(const Process& process, v1::ProcessState* state) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // On the event loop.
  void OnReaped(const ProcessPtr& process, Ended end) ABSL_LOCKS_EXCLUDED(mu_);
  void HandleEnd(const ProcessPtr& process, Ended end) ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<WaitCallback> TakeWaiters(const Process& process) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Sets the state and hands out who waited for it.
  std::vector<WaitCallback> MarkStopped(Process& process, v1::WaitResponse* answer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool AnyExecRuns() const ABSL_LOCKS_EXCLUDED(mu_);
  void AnnounceEnd(const ProcessPtr& process, Ended end) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  EventLoop* const loop_;
  Reaper* const reaper_;
  EventLog* const events_;
  WorkerThreads* const workers_;
  const ProcessPtr init_;

  // Event loop only.
  std::unique_ptr<OomWatch> oom_watch_;
  bool oom_told_ = false;                 // as an event
  std::unique_ptr<PortForward> forward_;  // until the container's end
  std::unique_ptr<Resolver> resolver_;
  std::optional<Ended> init_end_;  // waits for the execs
  EventLoop::TimerId init_end_timer_ = 0;

  mutable absl::Mutex mu_;
  std::unique_ptr<OciRuntime> runtime_ ABSL_GUARDED_BY(mu_);  // set once; the object is thread-safe
  SpecFacts facts_ ABSL_GUARDED_BY(mu_);
  Cgroup cgroup_ ABSL_GUARDED_BY(mu_);
  v1::CreateRequest restore_ ABSL_GUARDED_BY(mu_);  // of a restore that Start() does
  bool rootfs_mounted_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<BoundedFiles> bounded_files_ ABSL_GUARDED_BY(mu_);
  bool keep_bounded_files_ ABSL_GUARDED_BY(mu_) = false;  // what is made of them is written back
  std::map<std::string, ProcessPtr> execs_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mu_);
  uint64_t next_waiter_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t next_console_ ABSL_GUARDED_BY(mu_) = 1;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_CONTAINER_H_
