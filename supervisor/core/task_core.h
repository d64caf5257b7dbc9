// What is known of each task: a view of its shim's event stream, kept in order and published as it changes.
//
// Private to the task service, whose calls (task_service.cc) and recovery after a restart (task_recovery.cc) work on it.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_CORE_H_
#define GANTRY_SUPERVISOR_CORE_TASK_CORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

#include "base/unique_fd.h"
#include "proto/containerd/events/task.pb.h"
#include "supervisor/core/task_service.h"
#include "supervisor/oci/seccomp_filter.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

constexpr absl::Duration kRuntimeCall = absl::Seconds(60);  // calls that run the OCI runtime
constexpr absl::Duration kShortCall = absl::Seconds(10);    // calls the shim answers by itself

absl::Time FromProto(const google::protobuf::Timestamp& at);

// "task "ID" in namespace "NS"", or of its exec.
std::string ProcessText(const runtime::TaskKey& key, const std::string& exec_id);
absl::Status NoSuchProcess(const runtime::TaskKey& key, const std::string& exec_id);

// The number of the newest event this supervisor has handled, kept in the bundle so that a successor republishes nothing and
// misses nothing. State is on tmpfs: a write costs microseconds.
class SeenEvents {
 public:
  static constexpr char kFile[] = "/events.seen";

  void Open(const std::string& bundle_path);
  uint64_t Read() const;
  void Write(uint64_t number);

 private:
  UniqueFd fd_;
};

// One task. `mu` guards what is known of it; it is held while events are published (which only fills queues), so that every
// subscriber sees the task's events in order. It is never held across a call to the shim.
struct TaskService::Task {
  struct Known {
    Process process;
    bool created_published = false;
    bool started_published = false;
    bool oom_published = false;
    bool exit_published = false;
    std::map<uint64_t, std::function<void(absl::StatusOr<Exit>)>> waiters;
  };

  explicit Task(runtime::TaskKey task_key) : key(std::move(task_key)) {}

  const runtime::TaskKey key;
  // Held by Create and by the removal of the whole task: one of them at a time.
  absl::Mutex operation;

  mutable absl::Mutex mu;
  std::shared_ptr<runtime::Shim> shim ABSL_GUARDED_BY(mu);
  std::map<std::string, Known> processes ABSL_GUARDED_BY(mu);
  std::unique_ptr<runtime::EventStream> stream ABSL_GUARDED_BY(mu);
  std::string bundle_path ABSL_GUARDED_BY(mu);
  containerd::events::TaskCreate create_event ABSL_GUARDED_BY(mu);
  bool ready ABSL_GUARDED_BY(mu) = false;  // Create has succeeded; lists show it
  bool deleted ABSL_GUARDED_BY(mu) = false;
  uint64_t history_until ABSL_GUARDED_BY(mu) =
      0;  // events up to here happened while no supervisor listened
  uint64_t applied_until ABSL_GUARDED_BY(mu) = 0;  // the shim's last event that was published
  SeenEvents seen ABSL_GUARDED_BY(mu);
};

struct TaskService::Core : std::enable_shared_from_this<TaskService::Core> {
  explicit Core(const Parts& given) : parts(given) {}

  using WaitersDone = std::vector<std::function<void()>>;

  // ---- the map ----
  std::shared_ptr<Task> Find(const runtime::TaskKey& key) const;

  void Forget(const std::shared_ptr<Task>& task);

  // The task and its shim, for a call.
  absl::StatusOr<std::pair<std::shared_ptr<Task>, std::shared_ptr<runtime::Shim>>> Reach(
      const runtime::TaskKey& key) const;

  // What the machine withholds is the same for every container: one line is enough.
  void SayOnce(const std::string& line);

  // ---- what happened; each is idempotent ----
  void ApplyCreated(Task& task, int32_t pid, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  void ApplyStarted(Task& task, const std::string& exec_id, int32_t pid, absl::Time at, bool again)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  void ApplyOom(Task& task, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // A process beside the first that could not be started: there was never one whose exit could be news.
  void ApplyNeverStarted(Task& task, const std::string& exec_id, uint32_t exit_status,
                         WaitersDone& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);
  void EndWaits(Task::Known& known, const Exit& exit, WaitersDone& done);
  // Adds to `done` what must run once the lock is released.
  void ApplyExited(Task& task, const std::string& exec_id, const Exit& exit,
                   const std::string& reason, bool again, WaitersDone& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // One event of a shim's stream.
  void OnShimEvent(const std::weak_ptr<Task>& weak, const shim::v1::Event& event);

  void SetPaused(Task& task, bool paused) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  void PublishDeleted(Task& task, const std::string& exec_id, const Exit& exit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu);

  // Follows the shim's stream from `after` on.
  void Listen(const std::shared_ptr<Task>& task, runtime::Shim& shim, uint64_t after);

  // The shim died without being asked to. Runs on a worker: it kills and cleans up what the shim leaves.
  void OnShimGone(const std::shared_ptr<runtime::Shim>& shim);

  // The end of a task that nobody deleted: exits of everything that ran, then the deletion, are published, and it is forgotten.
  void Settle(const std::shared_ptr<Task>& task, const Exit& init_exit, const std::string& reason);

  void CancelWait(uint64_t ticket);

  Parts parts;
  ExitObserver* observer = nullptr;
  std::unique_ptr<runtime::ShimRegistry> registry;
  oci::SeccompFilters seccomp;
  std::atomic<uint64_t> next_ticket{1};

  mutable absl::Mutex map_mu;
  std::map<runtime::TaskKey, std::shared_ptr<Task>> tasks ABSL_GUARDED_BY(map_mu);
  absl::Mutex said_mu;
  std::set<std::string> said ABSL_GUARDED_BY(said_mu);
  // Which process a ticket waits for.
  absl::Mutex ticket_mu;
  std::map<uint64_t, std::pair<std::weak_ptr<Task>, std::string>> tickets
      ABSL_GUARDED_BY(ticket_mu);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_CORE_H_
