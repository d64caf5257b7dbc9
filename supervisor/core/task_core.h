// What is known of each task: a view of its shim's event stream, kept in order and published as it
// changes.
//
// Private to the task service: its calls (task_service.cc), removal (task_removal.cc) and recovery
// after a restart (task_recovery.cc) work on it.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_CORE_H_
#define GANTRY_SUPERVISOR_CORE_TASK_CORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

#include "base/clock.h"
#include "base/executor.h"
#include "base/unique_fd.h"
#include "supervisor/core/delayed.h"
#include "supervisor/core/event.h"
#include "supervisor/core/task_service.h"
#include "supervisor/core/wait_board.h"
#include "supervisor/oci/seccomp_filter.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

constexpr absl::Duration kRuntimeCall = absl::Seconds(60);  // calls that run the OCI runtime
constexpr absl::Duration kShortCall = absl::Seconds(10);    // calls the shim answers by itself
constexpr absl::Duration kReapCall = absl::Seconds(10);  // cleaning up after a dead shim, one try

constexpr char kCheckpoint[] = "/checkpoint";  // in a bundle: what its task is restored from

absl::Time FromProto(const google::protobuf::Timestamp& at);

// "task "ID" in namespace "NS"", or of its exec.
std::string ProcessText(const runtime::TaskKey& key, const std::string& exec_id);
// The arguments of an OCI process document in one line; "" where it cannot be read.
std::string CommandOf(const std::string& process_json);
absl::Status NoSuchProcess(const runtime::TaskKey& key, const std::string& exec_id);

// The number of the newest event this supervisor has handled, kept in the bundle so that a
// successor republishes nothing and misses nothing. State is on tmpfs: a write costs microseconds.
class SeenEvents {
 public:
  static constexpr char kFile[] = "/events.seen";

  void Open(const std::string& bundle_path);
  uint64_t Read() const;
  void Write(uint64_t number);

 private:
  UniqueFd fd_;
};

// One task. `mu` guards what is known of it; it is held while events are published (which only
// fills queues), so that every subscriber sees the task's events in order. It is never held across
// a call to the shim.
struct TaskService::Task {
  struct Known {
    Process process;
    std::string command;  // of an exec, in one line
    bool created_published = false;
    bool started_published = false;
    bool oom_published = false;
    bool exit_published = false;  // by this supervisor or its predecessor
    bool exit_told = false;       // by this supervisor
  };

  explicit Task(runtime::TaskKey task_key) : key(std::move(task_key)) {}

  const runtime::TaskKey key;

  mutable absl::Mutex mu;
  // What is under way for the whole task, "" for nothing: see Core::Operation.
  std::string operation ABSL_GUARDED_BY(mu);
  // Null: it died, and what it left behind is being cleaned up.
  std::shared_ptr<runtime::Shim> shim ABSL_GUARDED_BY(mu);
  std::optional<runtime::Bundle> bundle ABSL_GUARDED_BY(mu);
  std::map<std::string, Known> processes ABSL_GUARDED_BY(mu);
  std::unique_ptr<runtime::EventStream> stream ABSL_GUARDED_BY(mu);
  std::string bundle_path ABSL_GUARDED_BY(mu);
  std::shared_ptr<const TaskSetup> setup ABSL_GUARDED_BY(mu);
  bool ready ABSL_GUARDED_BY(mu) = false;  // Create has succeeded; lists show it
  bool deleted ABSL_GUARDED_BY(mu) = false;
  bool to_follow ABSL_GUARDED_BY(mu) = false;  // Follow() has still to listen to its shim
  uint64_t history_until ABSL_GUARDED_BY(mu) =
      0;  // events up to here happened while no supervisor listened
  uint64_t applied_until ABSL_GUARDED_BY(mu) = 0;  // the shim's last event that was published
  SeenEvents seen ABSL_GUARDED_BY(mu);
  // Answers to pauses and resumes less their events: the later of the two says nothing new, and may
  // come when the next pause or resume has been done.
  int switches_ahead ABSL_GUARDED_BY(mu) = 0;
};

struct TaskService::Core : std::enable_shared_from_this<TaskService::Core> {
  explicit Core(const Parts& given) : parts(given), later(Clock::Real(), *given.workers) {}

  // Who waits for the end of a process. Waiters are added and taken under the task's mutex: none is
  // added to a process that has ended or is forgotten.
  using Subject = std::pair<const Task*, std::string>;  // the task and the exec id
  // The next exit of a container, whichever task it is of.
  static Subject NextExitOf(const runtime::TaskKey& key) { return {nullptr, key.ToString()}; }

  // The right to create or remove a task, until destroyed: one call at a time has it.
  class Operation {
   public:
    Operation(Operation&& other) noexcept : task_(std::move(other.task_)) {}
    ~Operation();

   private:
    friend struct Core;
    explicit Operation(std::shared_ptr<Task> task) : task_(std::move(task)) {}
    std::shared_ptr<Task> task_;
  };
  // Waits for its turn. kUnavailable after `patience`, with the name of what is under way; the
  // token's status when it ends first.
  absl::StatusOr<Operation> Begin(const std::shared_ptr<Task>& task, absl::string_view name,
                                  CancelToken* cancel, absl::Duration patience);

  // Runs `work` on a worker, after `delay` if there is one. Not any more once the service has
  // stopped.
  void Hand(std::function<void()> work, absl::Duration delay = absl::ZeroDuration())
      ABSL_LOCKS_EXCLUDED(map_mu);

  // ---- the map ----
  std::shared_ptr<Task> Find(const runtime::TaskKey& key) const;

  // Of a namespace, or of all of them; in the order of their keys.
  std::vector<std::shared_ptr<Task>> TasksOf(const std::string& ns) const;

  void Forget(const std::shared_ptr<Task>& task);

  // The task and its shim, for a call.
  absl::StatusOr<std::pair<std::shared_ptr<Task>, std::shared_ptr<runtime::Shim>>> Reach(
      const runtime::TaskKey& key) const;

  // What the machine withholds is the same for every container: one line is enough.
  void SayOnce(const std::string& line);

  // ---- what happened; each is idempotent ----
  void ApplyCreated(Task& task, int32_t pid, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  void ApplyExecAdded(Task& task, const std::string& exec_id, bool again)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  void ApplyStarted(Task& task, const std::string& exec_id, int32_t pid, absl::Time at, bool again)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  void ApplyOom(Task& task, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // An exec that could not be started: its waiters are answered, no exit is published.
  void ApplyNeverStarted(Task& task, const std::string& exec_id, uint32_t exit_status,
                         DueCalls& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // Adds to `done` what must run once the lock is released.
  void ApplyExited(Task& task, const std::string& exec_id, const Exit& exit,
                   const std::string& reason, bool again, DueCalls& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // Forgets an exec. Those who wait for its end get kNotFound with `why`.
  void ForgetExec(Task& task, const std::string& exec_id, absl::string_view why, DueCalls& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // The task's creation failed: nothing will ever be known of it.
  void Abandon(Task& task);

  // One event of a shim's stream.
  void OnShimEvent(const std::weak_ptr<Task>& weak, const shim::v1::Event& event);

  void SetPaused(Task& task, bool paused) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // After the shim's answer to a pause (`paused`) or resume.
  void ApplySwitchAnswer(Task& task, bool paused);
  // After its event.
  void ApplySwitchEvent(Task& task, bool paused, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  void PublishDeleted(Task& task, const std::string& exec_id, const Exit& exit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // Follows the shim's stream from `after` on.
  void Listen(const std::shared_ptr<Task>& task, runtime::Shim& shim, uint64_t after);

  // The stream ended, and not because of Settle(). Where the shim lives it is asked how things
  // stand, and listened to again.
  void OnStreamEnd(const std::weak_ptr<Task>& weak, const absl::Status& status);

  // ---- a shim that did not answer at the start, or lost events (task_recovery.cc) ----
  // Asks the shim for everything it knows, without a thread; TakeUp() follows. `gap`: some of its
  // events are lost.
  void Ask(const std::shared_ptr<Task>& task, const std::shared_ptr<runtime::Shim>& shim, bool gap);
  // Brings what is known in line with what the shim says, publishes exits that were not told, and
  // follows its stream. Asks again later if there was no answer, unless the shim has died, which
  // the registry reports.
  void TakeUp(const std::shared_ptr<Task>& task, const std::shared_ptr<runtime::Shim>& shim,
              const absl::StatusOr<shim::v1::InfoResponse>& info, bool gap);
  void Adopt(Task& task, const shim::v1::InfoResponse& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  // Enters what was found of a bundle into the map.
  std::shared_ptr<Task> Restore(const runtime::RecoveredTask& recovered);
  // Does what its verdict asks for. True: its shim was adopted.
  bool Apply(const std::shared_ptr<Task>& task, const runtime::RecoveredTask& recovered);
  // Another look at a bundle of which nothing could be said, not even who serves it.
  void LookAgain(const std::shared_ptr<Task>& task);

  // ---- the end (task_removal.cc) ----
  absl::StatusOr<Exit> DeleteExec(const CallContext& context, const std::shared_ptr<Task>& task,
                                  const std::string& exec_id, bool force);
  absl::StatusOr<Exit> DeleteTask(const CallContext& context, const std::shared_ptr<Task>& task,
                                  bool force);
  // Has the shim delete its container. Gives up when the shim does not even answer questions
  // meanwhile.
  absl::StatusOr<shim::v1::DeleteResponse> AskToDelete(runtime::Shim& shim,
                                                       const shim::v1::DeleteRequest& request,
                                                       CancelToken* cancel);
  // Settles the task and removes its bundle.
  void Finish(const std::shared_ptr<Task>& task, const Exit& exit, const std::string& reason);
  // Kills and removes what a dead shim left, from outside, then Finish(). The operation is held.
  //   kUnavailable  processes or cgroups stay, the message says which; the task stays with that as its reason
  absl::StatusOr<Exit> Reap(const std::shared_ptr<Task>& task, const runtime::Bundle& bundle,
                            const std::string& reason);
  // Reap() on a thread of its own pool, and again with growing pauses until it succeeds.
  void ReapSoon(const std::shared_ptr<Task>& task, const runtime::Bundle& bundle,
                const std::string& reason, absl::Duration delay);
  // The shim died without being asked to. Runs on a worker: it kills and cleans up what the shim
  // leaves.
  void OnShimGone(const std::shared_ptr<runtime::Shim>& shim);

  // The end of a task that was not deleted by a call: exits of everything that ran, then the
  // deletion, are published, and it is forgotten.
  void Settle(const std::shared_ptr<Task>& task, const Exit& init_exit, const std::string& reason);

  void EndWaits();
  // Ends the threads and answers all waits.
  void Stop();

  Parts parts;
  ExitObserver* observer = nullptr;
  std::unique_ptr<runtime::ShimRegistry> registry;
  Delayed later;
  oci::SeccompFilters seccomp;
  WaitBoard<Subject, Exit> waits;

  mutable absl::Mutex map_mu;
  std::map<runtime::TaskKey, std::shared_ptr<Task>> tasks ABSL_GUARDED_BY(map_mu);
  bool stopped ABSL_GUARDED_BY(map_mu) = false;
  // Cleans up after dead shims, many side by side; made when needed.
  std::unique_ptr<Executor> reapers ABSL_GUARDED_BY(map_mu);
  int reaps_under_way ABSL_GUARDED_BY(map_mu) = 0;
  absl::Mutex said_mu;
  std::set<std::string> said ABSL_GUARDED_BY(said_mu);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_CORE_H_
