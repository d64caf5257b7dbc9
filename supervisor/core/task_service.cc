#include "supervisor/core/task_service.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/crash_point.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/containerd/events/task.pb.h"
#include "proto/containerd/types/runc/options/oci.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/seccomp_filter.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/cgroup_warmer.h"
#include "supervisor/runtime/dead_task.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_launcher.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

using runtime::TaskKey;

constexpr absl::Duration kRuntimeCall = absl::Seconds(60);  // calls that run the OCI runtime
constexpr char kCheckpoint[] = "/checkpoint";  // in a bundle: what its task is restored from
constexpr absl::Duration kShortCall = absl::Seconds(10);  // calls the shim answers by itself
constexpr absl::Duration kCatchUp =
    absl::Seconds(3);  // for what all shims have to tell after a restart

absl::Time FromProto(const google::protobuf::Timestamp& at) {
  return absl::FromUnixSeconds(at.seconds()) + absl::Nanoseconds(at.nanos());
}

std::string ProcessText(const TaskKey& key, const std::string& exec_id) {
  return exec_id.empty()
             ? absl::StrCat("task \"", key.container_id, "\" in namespace \"", key.ns, "\"")
             : absl::StrCat("exec \"", exec_id, "\" of task \"", key.container_id,
                            "\" in namespace \"", key.ns, "\"");
}

absl::Status NoSuchProcess(const TaskKey& key, const std::string& exec_id) {
  return absl::NotFoundError(absl::StrCat(ProcessText(key, exec_id), ": not found"));
}

// The number of the newest event this supervisor has handled, kept in the bundle so that a successor republishes nothing and
// misses nothing. State is on tmpfs: a write costs microseconds.
class SeenEvents {
 public:
  static constexpr char kFile[] = "/events.seen";

  void Open(const std::string& bundle_path) {
    fd_.reset(open((bundle_path + kFile).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  }
  uint64_t Read() const {
    char text[32] = {};
    uint64_t number = 0;
    if (!fd_.valid() || pread(fd_.get(), text, sizeof text - 1, 0) <= 0) return 0;
    return absl::SimpleAtoi(absl::string_view(text, 20), &number) ? number : 0;
  }
  void Write(uint64_t number) {
    if (!fd_.valid()) return;
    // Fixed width: a successor never sees the tail of a longer, older number.
    std::string text = absl::StrCat(absl::Dec(number, absl::kZeroPad20));
    if (pwrite(fd_.get(), text.data(), text.size(), 0) < 0) {
      PLOG(WARNING) << "cannot note the last event seen; a restart may repeat events";
    }
  }

 private:
  UniqueFd fd_;
};

}  // namespace

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

  explicit Task(TaskKey task_key) : key(std::move(task_key)) {}

  const TaskKey key;
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
  std::shared_ptr<Task> Find(const TaskKey& key) const {
    absl::MutexLock lock(&map_mu);
    auto it = tasks.find(key);
    return it == tasks.end() ? nullptr : it->second;
  }

  void Forget(const std::shared_ptr<Task>& task) {
    absl::MutexLock lock(&map_mu);
    auto it = tasks.find(task->key);
    if (it != tasks.end() && it->second == task) tasks.erase(it);
  }

  // The task and its shim, for a call.
  absl::StatusOr<std::pair<std::shared_ptr<Task>, std::shared_ptr<runtime::Shim>>> Reach(
      const TaskKey& key) const {
    std::shared_ptr<Task> task = Find(key);
    if (!task) return NoSuchProcess(key, "");
    absl::MutexLock lock(&task->mu);
    if (task->deleted || !task->ready) return NoSuchProcess(key, "");
    if (!task->shim) {
      return absl::UnavailableError(absl::StrCat(ProcessText(key, ""), ": its shim is gone"));
    }
    return std::make_pair(task, task->shim);
  }

  // What the machine withholds is the same for every container: one line is enough.
  void SayOnce(const std::string& line) {
    {
      absl::MutexLock lock(&said_mu);
      if (said.size() > 200 || !said.insert(line).second) return;
    }
    LOG(INFO) << line;
  }

  // ---- what happened; each is idempotent ----
  void ApplyCreated(Task& task, int32_t pid, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu) {
    Task::Known& init = task.processes[""];
    if (init.created_published && !again) return;
    init.created_published = true;
    init.process.pid = pid;
    if (init.process.status == ProcessStatus::kUnknown)
      init.process.status = ProcessStatus::kCreated;
    task.create_event.set_pid(pid);
    parts.events->Publish(task.key.ns, "/tasks/create", task.create_event);
  }

  void ApplyStarted(Task& task, const std::string& exec_id, int32_t pid, absl::Time at, bool again)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu) {
    auto it = task.processes.find(exec_id);
    if (it == task.processes.end()) return;
    Task::Known& known = it->second;
    if (known.started_published && !again) return;
    if (exec_id.empty() && !known.created_published) ApplyCreated(task, pid, false);
    known.started_published = true;
    known.process.pid = pid;
    if (known.process.started_at == absl::InfinitePast()) known.process.started_at = at;
    if (known.process.status == ProcessStatus::kCreated ||
        known.process.status == ProcessStatus::kUnknown) {
      known.process.status = ProcessStatus::kRunning;
    }
    if (exec_id.empty()) {
      containerd::events::TaskStart event;
      event.set_container_id(task.key.container_id);
      event.set_pid(pid);
      parts.events->Publish(task.key.ns, "/tasks/start", event);
    } else {
      containerd::events::TaskExecStarted event;
      event.set_container_id(task.key.container_id);
      event.set_exec_id(exec_id);
      event.set_pid(pid);
      parts.events->Publish(task.key.ns, "/tasks/exec-started", event);
    }
  }

  void ApplyOom(Task& task, bool again) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu) {
    Task::Known& init = task.processes[""];
    if (init.oom_published && !again) return;
    init.oom_published = true;
    containerd::events::TaskOOM event;
    event.set_container_id(task.key.container_id);
    parts.events->Publish(task.key.ns, "/tasks/oom", event);
  }

  // Adds to `done` what must run once the lock is released.
  void ApplyExited(Task& task, const std::string& exec_id, const Exit& exit,
                   const std::string& reason, bool again, WaitersDone& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu) {
    auto it = task.processes.find(exec_id);
    if (it == task.processes.end()) return;
    Task::Known& known = it->second;
    // An exec id may be used again; the news of its former bearer is no news of this one.
    if (exit.pid != 0 && known.process.pid != 0 && exit.pid != known.process.pid) return;
    if (known.exit_published && !again) return;
    if (exit.oom_killed) ApplyOom(task, false);
    known.exit_published = true;
    known.process.status = ProcessStatus::kStopped;
    known.process.exit_status = exit.status;
    known.process.exited_at = exit.at;
    known.process.oom_killed = exit.oom_killed;
    known.process.reason = reason;
    containerd::events::TaskExit event;
    event.set_container_id(task.key.container_id);
    event.set_id(exec_id.empty() ? task.key.container_id : exec_id);
    event.set_pid(static_cast<uint32_t>(known.process.pid));
    event.set_exit_status(exit.status);
    SetTimestamp(exit.at, event.mutable_exited_at());
    parts.events->Publish(task.key.ns, "/tasks/exit", event);

    Exit told = exit;
    told.pid = known.process.pid;
    {
      absl::MutexLock lock(&ticket_mu);
      for (const auto& waiting : known.waiters) tickets.erase(waiting.first);
    }
    for (auto& [ticket, waiter] : known.waiters) {
      done.push_back([waiter = std::move(waiter), told] { waiter(told); });
    }
    known.waiters.clear();
    if (observer != nullptr) {
      done.push_back([self = shared_from_this(), ns = task.key.ns, process = known.process] {
        self->parts.workers->Schedule([self, ns, process] { self->observer->OnExit(ns, process); });
      });
    }
  }

  // One event of a shim's stream.
  void OnShimEvent(const std::weak_ptr<Task>& weak, const shim::v1::Event& event) {
    std::shared_ptr<Task> task = weak.lock();
    if (!task) return;
    WaitersDone done;
    {
      absl::MutexLock lock(&task->mu);
      const bool again = event.number() <= task->history_until;
      switch (event.what_case()) {
        case shim::v1::Event::kCreated:
          ApplyCreated(*task, event.created().pid(), again);
          break;
        case shim::v1::Event::kStarted:
          ApplyStarted(*task, event.started().exec_id(), event.started().pid(),
                       FromProto(event.at()), again);
          break;
        case shim::v1::Event::kExited: {
          const auto& exited = event.exited();
          ApplyExited(*task, exited.exec_id(),
                      Exit{exited.pid(), exited.exit_status(), FromProto(exited.exited_at()),
                           exited.oom_killed()},
                      "", again, done);
          break;
        }
        case shim::v1::Event::kExecAdded: {
          containerd::events::TaskExecAdded added;
          added.set_container_id(task->key.container_id);
          added.set_exec_id(event.exec_added().exec_id());
          auto it = task->processes.find(event.exec_added().exec_id());
          if (it != task->processes.end() && (!it->second.created_published || again)) {
            it->second.created_published = true;
            parts.events->Publish(task->key.ns, "/tasks/exec-added", added);
          }
          break;
        }
        case shim::v1::Event::kOom:
          ApplyOom(*task, again);
          break;
        case shim::v1::Event::kPaused: {
          SetPaused(*task, true);
          containerd::events::TaskPaused paused;
          paused.set_container_id(task->key.container_id);
          parts.events->Publish(task->key.ns, "/tasks/paused", paused);
          break;
        }
        case shim::v1::Event::kResumed: {
          SetPaused(*task, false);
          containerd::events::TaskResumed resumed;
          resumed.set_container_id(task->key.container_id);
          parts.events->Publish(task->key.ns, "/tasks/resumed", resumed);
          break;
        }
        case shim::v1::Event::kCheckpointed: {
          containerd::events::TaskCheckpointed checkpointed;
          checkpointed.set_container_id(task->key.container_id);
          checkpointed.set_checkpoint(event.checkpointed().image_path());
          parts.events->Publish(task->key.ns, "/tasks/checkpointed", checkpointed);
          break;
        }
        case shim::v1::Event::kDeleted:  // told by Delete(), which asked for it
        case shim::v1::Event::WHAT_NOT_SET:
          break;
      }
      task->seen.Write(event.number());
      task->applied_until = std::max(task->applied_until, event.number());
    }
    for (auto& call : done) call();
  }

  void SetPaused(Task& task, bool paused) ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu) {
    Process& init = task.processes[""].process;
    if (paused && init.status == ProcessStatus::kRunning) init.status = ProcessStatus::kPaused;
    if (!paused && init.status == ProcessStatus::kPaused) init.status = ProcessStatus::kRunning;
  }

  void PublishDeleted(Task& task, const std::string& exec_id, const Exit& exit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(task.mu) {
    containerd::events::TaskDelete event;
    event.set_container_id(task.key.container_id);
    event.set_id(exec_id.empty() ? task.key.container_id : exec_id);
    event.set_pid(static_cast<uint32_t>(exit.pid));
    event.set_exit_status(exit.status);
    SetTimestamp(exit.at, event.mutable_exited_at());
    parts.events->Publish(task.key.ns, "/tasks/delete", event);
  }

  // Follows the shim's stream from `after` on.
  void Listen(const std::shared_ptr<Task>& task, runtime::Shim& shim, uint64_t after) {
    std::weak_ptr<Task> weak = task;
    auto self = shared_from_this();
    auto stream = shim.client().Events(
        after, [self, weak](const shim::v1::Event& event) { self->OnShimEvent(weak, event); },
        [key = task->key](const absl::Status& status) {
          // A shim that ended says so through its pidfd; anything else is worth a line.
          if (!status.ok() && !absl::IsUnavailable(status) && !absl::IsCancelled(status)) {
            LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id
                       << " event stream of the shim ended: " << status;
          }
        });
    absl::MutexLock lock(&task->mu);
    task->stream = std::move(stream);
  }

  // The shim died without being asked to. Runs on a worker: it kills and cleans up what the shim leaves.
  void OnShimGone(const std::shared_ptr<runtime::Shim>& shim) {
    std::shared_ptr<Task> task = Find(shim->key());
    if (!task) return;
    absl::MutexLock operation(&task->operation);
    {
      absl::MutexLock lock(&task->mu);
      if (task->shim != shim || task->deleted) return;
    }
    LOG(ERROR) << "ns=" << task->key.ns << " id=" << task->key.container_id << " shim "
               << shim->process().pid << " died; its container is stopped and cleaned up";
    absl::StatusOr<runtime::TaskExit> ended =
        runtime::ReapDeadTask(shim->bundle(), "its shim died unexpectedly", kRuntimeCall);
    Exit exit;
    std::string reason = "its shim died unexpectedly";
    if (ended.ok()) {
      exit = Exit{ended->pid, ended->exit_status, ended->exited_at, ended->oom_killed};
      if (!ended->synthesised) reason.clear();
    } else {
      exit = Exit{0, 137, absl::Now(), false};
      reason = absl::StrCat(reason, "; cleaning up: ", ended.status().message());
      LOG(ERROR) << "ns=" << task->key.ns << " id=" << task->key.container_id
                 << " cleaning up after a dead shim: " << ended.status();
    }
    Settle(task, exit, reason);
    if (absl::Status removed = parts.bundles->Remove(task->key); !removed.ok()) {
      LOG(ERROR) << "ns=" << task->key.ns << " id=" << task->key.container_id << " " << removed;
    }
  }

  // The end of a task that nobody deleted: exits of everything that ran, then the deletion, are published, and it is forgotten.
  void Settle(const std::shared_ptr<Task>& task, const Exit& init_exit, const std::string& reason) {
    WaitersDone done;
    std::unique_ptr<runtime::EventStream> stream;
    {
      absl::MutexLock lock(&task->mu);
      std::vector<std::string> execs;
      for (const auto& [exec_id, known] : task->processes) {
        if (!exec_id.empty()) execs.push_back(exec_id);
      }
      for (const std::string& exec_id : execs) {
        const Process& process = task->processes[exec_id].process;
        ApplyExited(*task, exec_id, Exit{process.pid, init_exit.status, init_exit.at, false},
                    reason, false, done);
      }
      if (task->ready) {
        ApplyExited(*task, "", init_exit, reason, false, done);
        Exit told = init_exit;
        told.pid = task->processes[""].process.pid;
        PublishDeleted(*task, "", told);
      }
      task->deleted = true;
      task->shim = nullptr;
      stream = std::move(task->stream);
    }
    Forget(task);
    stream.reset();
    for (auto& call : done) call();
  }

  void CancelWait(uint64_t ticket) {
    std::pair<std::weak_ptr<Task>, std::string> where;
    {
      absl::MutexLock lock(&ticket_mu);
      auto it = tickets.find(ticket);
      if (it == tickets.end()) return;
      where = it->second;
      tickets.erase(it);
    }
    std::function<void(absl::StatusOr<Exit>)> done;
    if (std::shared_ptr<Task> task = where.first.lock()) {
      absl::MutexLock lock(&task->mu);
      auto process = task->processes.find(where.second);
      if (process != task->processes.end()) {
        auto waiter = process->second.waiters.find(ticket);
        if (waiter != process->second.waiters.end()) {
          done = std::move(waiter->second);
          process->second.waiters.erase(waiter);
        }
      }
    }
    if (done) done(absl::CancelledError("the wait was cancelled"));
  }

  Parts parts;
  ExitObserver* observer = nullptr;
  std::unique_ptr<runtime::ShimRegistry> registry;
  oci::SeccompFilters seccomp;
  std::atomic<uint64_t> next_ticket{1};

  mutable absl::Mutex map_mu;
  std::map<TaskKey, std::shared_ptr<Task>> tasks ABSL_GUARDED_BY(map_mu);
  absl::Mutex said_mu;
  std::set<std::string> said ABSL_GUARDED_BY(said_mu);
  // Which process a ticket waits for.
  absl::Mutex ticket_mu;
  std::map<uint64_t, std::pair<std::weak_ptr<Task>, std::string>> tickets
      ABSL_GUARDED_BY(ticket_mu);
};

TaskService::TaskService(const Parts& parts) : core_(std::make_shared<Core>(parts)) {
  std::weak_ptr<Core> weak = core_;
  core_->registry =
      std::make_unique<runtime::ShimRegistry>([weak](std::shared_ptr<runtime::Shim> shim) {
        if (auto core = weak.lock()) {
          core->parts.workers->Schedule([core, shim = std::move(shim)] { core->OnShimGone(shim); });
        }
      });
}

TaskService::~TaskService() { Stop(); }

void TaskService::SetExitObserver(ExitObserver* observer) { core_->observer = observer; }

void TaskService::AnnounceStart() {
  if (core_->parts.warmer != nullptr) core_->parts.warmer->Poke();
}

namespace {

// What containerd's runc options say, as far as we act on it.
struct ChosenRuntime {
  runtime::RuntimeInfo info;
  shim::v1::Runtime for_shim;
};

absl::StatusOr<ChosenRuntime> ChooseRuntime(runtime::RuntimeProbe& probe, const CreateTask& create,
                                            const std::string& ns, shim::v1::Stdio& stdio) {
  std::string name = create.runtime;
  containerd::runc::v1::Options options;
  const absl::string_view type = absl::string_view(create.runtime_options_type_url);
  const bool runc_options =
      type == "containerd.runc.v1.Options" || absl::EndsWith(type, "/containerd.runc.v1.Options");
  if (runc_options && !options.ParseFromString(create.runtime_options)) {
    return absl::InvalidArgumentError("runtime options: malformed containerd.runc.v1.Options");
  }
  // containerd's names say which shim to use. All of them are ours; what remains of the choice is the OCI runtime.
  if (absl::StartsWith(name, "io.containerd.")) name = "";
  if (!options.binary_name().empty()) name = options.binary_name();
  ChosenRuntime chosen;
  GANTRY_ASSIGN_OR_RETURN(chosen.info, probe.Resolve(name));
  chosen.for_shim = chosen.info.ForShim(ns);
  if (!options.root().empty())
    chosen.for_shim.set_state_root(absl::StrCat(options.root(), "/", ns));
  if (options.systemd_cgroup()) chosen.for_shim.set_systemd_cgroup(true);
  if (options.no_pivot_root()) chosen.for_shim.set_no_pivot_root(true);
  if (options.no_new_keyring()) chosen.for_shim.set_no_new_keyring(true);
  if (options.io_uid() != 0) stdio.set_owner_uid(options.io_uid());
  if (options.io_gid() != 0) stdio.set_owner_gid(options.io_gid());
  return chosen;
}

}  // namespace

absl::StatusOr<int32_t> TaskService::Create(const CallContext& context, const CreateTask& create) {
  const TaskKey key{context.ns, create.container_id};
  const Parts& parts = core_->parts;
  auto task = std::make_shared<Task>(key);
  absl::MutexLock operation(&task->operation);
  {
    absl::MutexLock lock(&core_->map_mu);
    if (!core_->tasks.emplace(key, task).second) {
      return absl::AlreadyExistsError(absl::StrCat(ProcessText(key, ""), ": already exists"));
    }
  }
  absl::Cleanup unreserve = [this, &task] { core_->Forget(task); };

  shim::v1::CreateRequest request;
  *request.mutable_stdio() = create.stdio;
  GANTRY_ASSIGN_OR_RETURN(ChosenRuntime chosen, ChooseRuntime(*parts.runtimes, create, context.ns,
                                                              *request.mutable_stdio()));
  for (const snapshot::Mount& mount : create.rootfs) {
    shim::v1::Mount* out = request.add_rootfs();
    out->set_type(mount.type);
    out->set_source(mount.source);
    out->set_target(mount.target);
    for (const std::string& option : mount.options) out->add_options(option);
  }
  request.set_start(create.start);
  request.set_discard_rootfs(create.discard_rootfs);
  request.set_restore_image_path(create.restore_image_path);

  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec, oci::RuntimeSpec::Parse(create.spec_json));
  std::vector<std::string> changed = spec.LowerVersion(chosen.info.oci_version_max);
  for (std::string& change : spec.ClampToHost(*parts.host)) changed.push_back(std::move(change));
  for (const std::string& change : changed)
    core_->SayOnce(absl::StrCat("specs are fitted to this host: ", change));
  const bool prebuilt = chosen.info.is_crun && core_->seccomp.Prebuild(spec);
  bool set_late = false;
  if (create.restore_image_path.empty() && !create.fill_restore_image) {
    if (const std::optional<oci::Rlimit> limit = spec.TakeSmallDescriptorLimit(*parts.host)) {
      set_late = true;
      request.mutable_open_files()->set_soft(limit->soft);
      request.mutable_open_files()->set_hard(limit->hard);
    }
  }

  // A spec is written once, for the driver of its day. Runtimes refuse the one's path with the other, and settings change.
  chosen.for_shim.set_systemd_cgroup(spec.systemd_makes_cgroup(chosen.for_shim.systemd_cgroup()));
  *request.mutable_runtime() = chosen.for_shim;

  runtime::LaunchRecord launch;
  launch.create = request;
  launch.cgroup_path = spec.cgroups_path();
  launch.private_pid_namespace = spec.has_namespace("pid") && spec.namespace_path("pid").empty();
  launch.created_at = absl::Now();
  // What the client wrote goes to the runtime byte for byte unless something had to be fitted.
  GANTRY_ASSIGN_OR_RETURN(
      runtime::Bundle bundle,
      parts.bundles->Create(
          key, changed.empty() && !prebuilt && !set_late ? create.spec_json : spec.Print(),
          launch));
  absl::Cleanup remove_bundle = [&parts, &key] {
    if (absl::Status removed = parts.bundles->Remove(key); !removed.ok()) {
      LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id
                 << " undoing a failed create: " << removed;
    }
  };

  if (create.fill_restore_image) {
    const std::string directory = bundle.path() + kCheckpoint;
    GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
    GANTRY_RETURN_IF_ERROR(create.fill_restore_image(directory));
    request.set_restore_image_path(directory);
  }

  GANTRY_ASSIGN_OR_RETURN(runtime::LaunchedShim launched,
                          parts.launcher->Launch(bundle, request.runtime().path()));
  auto shim = std::make_shared<runtime::Shim>(bundle, launched.process, std::move(launched.pidfd));
  absl::Cleanup end_shim = [this, &key, shim] {
    core_->registry->Remove(key);
    // Asks first: the shim undoes a half-made container itself. Then makes sure.
    shim::v1::ShutdownRequest shutdown;
    shutdown.set_force(true);
    const absl::Status asked =
        shim->client().Shutdown(shutdown, runtime::CallOptions{kShortCall, nullptr});
    if (!asked.ok() || !shim->WaitGone(kShortCall).ok()) {
      if (absl::Status killed = shim->KillShim(); !killed.ok())
        LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << killed;
      absl::StatusOr<runtime::TaskExit> reaped =
          runtime::ReapDeadTask(shim->bundle(), "its creation failed", kShortCall);
      if (!reaped.ok())
        LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << reaped.status();
    }
  };
  GANTRY_RETURN_IF_ERROR(core_->registry->Add(shim));
  {
    absl::MutexLock lock(&task->mu);
    task->shim = shim;
    task->bundle_path = bundle.path();
    task->seen.Open(bundle.path());
    containerd::events::TaskCreate& event = task->create_event;
    event.set_container_id(key.container_id);
    event.set_bundle(bundle.path());
    for (const snapshot::Mount& mount : create.rootfs) {
      auto* out = event.add_rootfs();
      out->set_type(mount.type);
      out->set_source(mount.source);
      out->set_target(mount.target);
      for (const std::string& option : mount.options) out->add_options(option);
    }
    event.mutable_io()->set_stdin(create.stdio.stdin());
    event.mutable_io()->set_stdout(create.stdio.stdout());
    event.mutable_io()->set_stderr(create.stdio.stderr());
    event.mutable_io()->set_terminal(create.stdio.terminal());
    event.set_checkpoint(request.restore_image_path());
    Process& init = task->processes[""].process;
    init.container_id = key.container_id;
    init.terminal = create.stdio.terminal();
    init.stdin_uri = create.stdio.stdin();
    init.stdout_uri = create.stdio.stdout();
    init.stderr_uri = create.stdio.stderr();
  }
  core_->Listen(task, *shim, 0);
  absl::Cleanup stop_listening = [&task] {
    std::unique_ptr<runtime::EventStream> stream;
    absl::MutexLock lock(&task->mu);
    stream = std::move(task->stream);
    task->mu.Unlock();  // the stream's end waits for a running callback, which takes this lock
    stream.reset();
    task->mu.Lock();
  };

  if (create.before_create) create.before_create(*shim);
  GANTRY_ASSIGN_OR_RETURN(
      shim::v1::CreateResponse created,
      shim->client().Create(request, runtime::CallOptions{kRuntimeCall, context.cancel}));
  CrashPoint("task.created");
  {
    absl::MutexLock lock(&task->mu);
    task->ready = true;
    core_->ApplyCreated(*task, created.pid(), false);
    if (create.start) core_->ApplyStarted(*task, "", created.pid(), absl::Now(), false);
  }
  std::move(stop_listening).Cancel();
  std::move(end_shim).Cancel();
  std::move(remove_bundle).Cancel();
  std::move(unreserve).Cancel();
  return created.pid();
}

absl::StatusOr<int32_t> TaskService::Start(const CallContext& context, const std::string& id,
                                           const std::string& exec_id) {
  AnnounceStart();
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  auto& [task, shim] = reached;
  shim::v1::StartRequest request;
  request.set_exec_id(exec_id);
  GANTRY_ASSIGN_OR_RETURN(
      shim::v1::StartResponse started,
      shim->client().Start(request, runtime::CallOptions{kRuntimeCall, context.cancel}));
  std::string restored_from;
  {
    absl::MutexLock lock(&task->mu);
    core_->ApplyStarted(*task, exec_id, started.pid(), absl::Now(), false);
    if (exec_id.empty() && task->create_event.checkpoint() == task->bundle_path + kCheckpoint)
      restored_from = task->create_event.checkpoint();
  }
  if (!restored_from.empty()) {
    // What it holds is the process's memory, and that is its own again.
    const absl::Status removed = RemoveTree(restored_from);
    LOG_IF(WARNING, !removed.ok()) << "ns=" << context.ns << " id=" << id << " " << removed;
  }
  return started.pid();
}

absl::StatusOr<int32_t> TaskService::Exec(const CallContext& context, const std::string& id,
                                          const std::string& exec_id,
                                          const std::string& process_json,
                                          const shim::v1::Stdio& stdio, bool start) {
  if (exec_id.empty()) return absl::InvalidArgumentError("exec: the exec id is empty");
  if (start) AnnounceStart();
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  auto& [task, shim] = reached;
  {
    // Known before the shim is, so that the shim's events find it.
    absl::MutexLock lock(&task->mu);
    auto [it, fresh] = task->processes.try_emplace(exec_id);
    if (!fresh) {
      return absl::AlreadyExistsError(
          absl::StrCat(ProcessText(task->key, exec_id), ": already exists"));
    }
    Process& process = it->second.process;
    process.container_id = id;
    process.exec_id = exec_id;
    process.status = ProcessStatus::kCreated;
    process.terminal = stdio.terminal();
    process.stdin_uri = stdio.stdin();
    process.stdout_uri = stdio.stdout();
    process.stderr_uri = stdio.stderr();
  }
  shim::v1::ExecRequest request;
  request.set_exec_id(exec_id);
  request.set_process_json(process_json);
  *request.mutable_stdio() = stdio;
  request.set_start(start);
  absl::StatusOr<shim::v1::ExecResponse> added = shim->client().Exec(
      request, runtime::CallOptions{start ? kRuntimeCall : kShortCall, context.cancel});
  CrashPoint("exec.added");
  absl::MutexLock lock(&task->mu);
  if (!added.ok()) {
    task->processes.erase(exec_id);
    return added.status();
  }
  auto it = task->processes.find(exec_id);
  if (it != task->processes.end() && !it->second.created_published) {
    it->second.created_published = true;
    containerd::events::TaskExecAdded event;
    event.set_container_id(id);
    event.set_exec_id(exec_id);
    core_->parts.events->Publish(context.ns, "/tasks/exec-added", event);
  }
  if (start) core_->ApplyStarted(*task, exec_id, added->pid(), absl::Now(), false);
  return added->pid();
}

absl::Status TaskService::Kill(const CallContext& context, const std::string& id,
                               const std::string& exec_id, uint32_t signal, bool all) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  auto& [task, shim] = reached;
  {
    absl::MutexLock lock(&task->mu);
    auto it = task->processes.find(exec_id);
    if (it == task->processes.end()) return NoSuchProcess(task->key, exec_id);
    if (it->second.process.status == ProcessStatus::kStopped && !all) {
      return absl::NotFoundError(
          absl::StrCat(ProcessText(task->key, exec_id), ": process already finished: not found"));
    }
  }
  shim::v1::KillRequest request;
  request.set_exec_id(exec_id);
  request.set_signal(signal);
  request.set_all(all);
  return shim->client().Kill(request, runtime::CallOptions{kShortCall, context.cancel});
}

absl::StatusOr<Exit> TaskService::Delete(const CallContext& context, const std::string& id,
                                         const std::string& exec_id, bool force) {
  const TaskKey key{context.ns, id};
  std::shared_ptr<Task> task = core_->Find(key);
  if (!task) return NoSuchProcess(key, exec_id);
  if (!exec_id.empty()) {
    GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach(key));
    shim::v1::DeleteRequest request;
    request.set_exec_id(exec_id);
    request.set_force(force);
    GANTRY_ASSIGN_OR_RETURN(
        shim::v1::DeleteResponse gone,
        reached.second->client().Delete(request, runtime::CallOptions{kShortCall, context.cancel}));
    const Exit exit{gone.pid(), gone.exit_status(), FromProto(gone.exited_at()), false};
    Core::WaitersDone done;
    {
      absl::MutexLock lock(&task->mu);
      auto it = task->processes.find(exec_id);
      if (it == task->processes.end()) return NoSuchProcess(key, exec_id);
      if (it->second.started_published) core_->ApplyExited(*task, exec_id, exit, "", false, done);
      core_->PublishDeleted(*task, exec_id, exit);
      task->processes.erase(exec_id);
    }
    for (auto& call : done) call();
    return exit;
  }

  absl::MutexLock operation(&task->operation);
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach(key));
  std::shared_ptr<runtime::Shim> shim = reached.second;
  // From here on the shim's end is what we want, no news.
  core_->registry->Remove(key);
  shim::v1::DeleteRequest request;
  request.set_force(force);
  absl::StatusOr<shim::v1::DeleteResponse> gone =
      shim->client().Delete(request, runtime::CallOptions{kRuntimeCall, context.cancel});
  if (!gone.ok()) {
    if (absl::Status added = core_->registry->Add(shim); !added.ok()) {
      LOG(ERROR) << "ns=" << key.ns << " id=" << id << " " << added;
    }
    return gone.status();
  }
  CrashPoint("task.deleted");
  const Exit exit{gone->pid(), gone->exit_status(), FromProto(gone->exited_at()), false};
  core_->Settle(task, exit, "");
  // The record of the task was the bundle; what is left of it are files.
  if (absl::Status removed = core_->parts.bundles->Remove(key); !removed.ok()) {
    LOG(ERROR) << "ns=" << key.ns << " id=" << id << " " << removed;
  }
  return exit;
}

absl::StatusOr<Process> TaskService::Get(const std::string& ns, const std::string& id,
                                         const std::string& exec_id) const {
  const TaskKey key{ns, id};
  std::shared_ptr<Task> task = core_->Find(key);
  if (!task) return NoSuchProcess(key, exec_id);
  absl::MutexLock lock(&task->mu);
  auto it = task->processes.find(exec_id);
  if (!task->ready || it == task->processes.end()) return NoSuchProcess(key, exec_id);
  return it->second.process;
}

std::vector<std::pair<std::string, Process>> TaskService::List(const std::string& ns) const {
  std::vector<std::shared_ptr<Task>> found;
  {
    absl::MutexLock lock(&core_->map_mu);
    for (const auto& [key, task] : core_->tasks) {
      if (ns.empty() || key.ns == ns) found.push_back(task);
    }
  }
  std::vector<std::pair<std::string, Process>> list;
  list.reserve(found.size());
  for (const auto& task : found) {
    absl::MutexLock lock(&task->mu);
    auto it = task->processes.find("");
    if (task->ready && it != task->processes.end())
      list.emplace_back(task->key.ns, it->second.process);
  }
  return list;
}

bool TaskService::Exists(const std::string& ns, const std::string& id) const {
  return core_->Find({ns, id}) != nullptr;
}

uint64_t TaskService::WaitAsync(const std::string& ns, const std::string& id,
                                const std::string& exec_id,
                                std::function<void(absl::StatusOr<Exit>)> done) {
  const TaskKey key{ns, id};
  const uint64_t ticket = core_->next_ticket.fetch_add(1);
  absl::StatusOr<Exit> answer = NoSuchProcess(key, exec_id);
  if (std::shared_ptr<Task> task = core_->Find(key)) {
    absl::MutexLock lock(&task->mu);
    auto it = task->processes.find(exec_id);
    if (it != task->processes.end()) {
      const Process& process = it->second.process;
      if (process.status != ProcessStatus::kStopped) {
        it->second.waiters.emplace(ticket, std::move(done));
        absl::MutexLock ticket_lock(&core_->ticket_mu);
        core_->tickets.emplace(ticket, std::make_pair(std::weak_ptr<Task>(task), exec_id));
        return ticket;
      }
      answer = Exit{process.pid, process.exit_status, process.exited_at, process.oom_killed};
    }
  }
  done(std::move(answer));
  return ticket;
}

void TaskService::CancelWait(uint64_t ticket) { core_->CancelWait(ticket); }

absl::StatusOr<Exit> TaskService::Wait(const CallContext& context, const std::string& id,
                                       const std::string& exec_id, absl::Duration limit) {
  struct Answer {
    absl::Notification ready;
    absl::StatusOr<Exit> exit = absl::UnknownError("no answer yet");
  };
  auto answer = std::make_shared<Answer>();
  const uint64_t ticket = WaitAsync(context.ns, id, exec_id, [answer](absl::StatusOr<Exit> exit) {
    answer->exit = std::move(exit);
    answer->ready.Notify();
  });
  CancelToken::Registration on_cancel;
  if (context.cancel != nullptr) {
    limit = std::min(limit, context.cancel->remaining());
    on_cancel =
        context.cancel->OnCancel([core = core_.get(), ticket] { core->CancelWait(ticket); });
  }
  if (!answer->ready.WaitForNotificationWithTimeout(limit)) {
    core_->CancelWait(ticket);
    answer->ready.WaitForNotification();
    if (absl::IsCancelled(answer->exit.status())) {
      return absl::DeadlineExceededError(absl::StrCat(ProcessText({context.ns, id}, exec_id),
                                                      ": still running after ",
                                                      absl::FormatDuration(limit)));
    }
  }
  return answer->exit;
}

absl::Status TaskService::Pause(const CallContext& context, const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  GANTRY_RETURN_IF_ERROR(
      reached.second->client().Pause(runtime::CallOptions{kRuntimeCall, context.cancel}));
  absl::MutexLock lock(&reached.first->mu);
  core_->SetPaused(*reached.first, true);
  return absl::OkStatus();
}

absl::Status TaskService::Resume(const CallContext& context, const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  GANTRY_RETURN_IF_ERROR(
      reached.second->client().Resume(runtime::CallOptions{kRuntimeCall, context.cancel}));
  absl::MutexLock lock(&reached.first->mu);
  core_->SetPaused(*reached.first, false);
  return absl::OkStatus();
}

absl::Status TaskService::Update(const CallContext& context, const std::string& id,
                                 const std::string& resources_json) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  shim::v1::UpdateRequest request;
  request.set_resources_json(resources_json);
  return reached.second->client().Update(request,
                                         runtime::CallOptions{kRuntimeCall, context.cancel});
}

absl::Status TaskService::ResizePty(const CallContext& context, const std::string& id,
                                    const std::string& exec_id, uint32_t width, uint32_t height) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  shim::v1::ResizePtyRequest request;
  request.set_exec_id(exec_id);
  request.set_width(width);
  request.set_height(height);
  return reached.second->client().ResizePty(request,
                                            runtime::CallOptions{kShortCall, context.cancel});
}

absl::Status TaskService::CloseStdin(const CallContext& context, const std::string& id,
                                     const std::string& exec_id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  shim::v1::CloseStdinRequest request;
  request.set_exec_id(exec_id);
  return reached.second->client().CloseStdin(request,
                                             runtime::CallOptions{kShortCall, context.cancel});
}

absl::Status TaskService::ReopenLog(const CallContext& context, const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  return reached.second->client().ReopenLog(runtime::CallOptions{kShortCall, context.cancel});
}

absl::StatusOr<shim::v1::PidsResponse> TaskService::Pids(const CallContext& context,
                                                         const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  return reached.second->client().Pids(runtime::CallOptions{kShortCall, context.cancel});
}

absl::StatusOr<shim::v1::StatsResponse> TaskService::Stats(const CallContext& context,
                                                           const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  return reached.second->client().Stats(runtime::CallOptions{kShortCall, context.cancel});
}

absl::Status TaskService::Checkpoint(const CallContext& context, const std::string& id,
                                     const shim::v1::CheckpointRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  return reached.second->client().Checkpoint(request,
                                             runtime::CallOptions{kRuntimeCall, context.cancel});
}

absl::StatusOr<std::shared_ptr<runtime::Shim>> TaskService::Shim(const std::string& ns,
                                                                 const std::string& id) const {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({ns, id}));
  return reached.second;
}

absl::StatusOr<std::string> TaskService::BundleDirectory(const std::string& ns,
                                                         const std::string& id) const {
  const TaskKey key{ns, id};
  std::shared_ptr<Task> task = core_->Find(key);
  if (!task) return NoSuchProcess(key, "");
  absl::MutexLock lock(&task->mu);
  return task->bundle_path;
}

int TaskService::Recover(std::vector<runtime::RecoveredTask> found) {
  const Parts& parts = core_->parts;
  int alive = 0;
  std::vector<std::shared_ptr<Task>> caught_up;
  for (runtime::RecoveredTask& recovered : found) {
    const TaskKey& key = recovered.key;
    if (recovered.verdict == runtime::Verdict::kReap) {
      LOG(INFO) << "ns=" << key.ns << " id=" << key.container_id
                << " removing what is left: " << recovered.reason;
      if (recovered.bundle.has_value()) {
        if (recovered.shim) {
          if (absl::Status killed = recovered.shim->KillShim(); !killed.ok()) LOG(ERROR) << killed;
        }
        auto reaped = runtime::ReapDeadTask(*recovered.bundle, recovered.reason, kShortCall);
        if (!reaped.ok())
          LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << reaped.status();
      }
      if (absl::Status removed = parts.bundles->Remove(key); !removed.ok()) {
        LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << removed;
      }
      continue;
    }

    auto task = std::make_shared<Task>(key);
    {
      absl::MutexLock lock(&task->mu);
      task->ready = true;
      task->shim = recovered.shim;
      containerd::events::TaskCreate& event = task->create_event;
      event.set_container_id(key.container_id);
      Process& init = task->processes[""].process;
      init.container_id = key.container_id;
      if (recovered.bundle.has_value()) {
        task->bundle_path = recovered.bundle->path();
        task->seen.Open(task->bundle_path);
        event.set_bundle(task->bundle_path);
        const shim::v1::CreateRequest& create = recovered.bundle->launch().create;
        init.terminal = create.stdio().terminal();
        init.stdin_uri = create.stdio().stdin();
        init.stdout_uri = create.stdio().stdout();
        init.stderr_uri = create.stdio().stderr();
        event.mutable_io()->set_stdin(init.stdin_uri);
        event.mutable_io()->set_stdout(init.stdout_uri);
        event.mutable_io()->set_stderr(init.stderr_uri);
        event.mutable_io()->set_terminal(init.terminal);
        for (const auto& mount : create.rootfs()) {
          auto* out = event.add_rootfs();
          out->set_type(mount.type());
          out->set_source(mount.source());
          out->set_target(mount.target());
          *out->mutable_options() = mount.options();
        }
      }
    }
    {
      absl::MutexLock lock(&core_->map_mu);
      core_->tasks.emplace(key, task);
    }

    if (recovered.verdict == runtime::Verdict::kMarkExited) {
      LOG(INFO) << "ns=" << key.ns << " id=" << key.container_id
                << " ended while no supervisor ran: " << recovered.reason;
      Exit exit{0, 137, absl::Now(), false};
      if (recovered.exit.has_value()) {
        exit = Exit{recovered.exit->pid, recovered.exit->exit_status, recovered.exit->exited_at,
                    recovered.exit->oom_killed};
      }
      if (recovered.bundle.has_value()) {
        auto reaped = runtime::ReapDeadTask(*recovered.bundle, recovered.reason, kShortCall);
        if (!reaped.ok())
          LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << reaped.status();
      }
      {
        absl::MutexLock lock(&task->mu);
        task->processes[""].created_published = true;
        task->processes[""].started_published = true;
        // dockerd takes an exit for its container's only if this is the pid it knows.
        task->processes[""].process.pid = exit.pid;
      }
      core_->Settle(
          task, exit,
          recovered.exit.has_value() && !recovered.exit->synthesised ? "" : recovered.reason);
      if (absl::Status removed = parts.bundles->Remove(key); !removed.ok()) {
        LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << removed;
      }
      continue;
    }

    ++alive;
    if (recovered.verdict == runtime::Verdict::kKeepUnknown) {
      LOG(WARNING) << "ns=" << key.ns << " id=" << key.container_id
                   << " kept as unknown: " << recovered.reason;
      absl::MutexLock lock(&task->mu);
      task->processes[""].process.reason = recovered.reason;
    }
    uint64_t after = 0;
    if (recovered.info.has_value()) {
      absl::MutexLock lock(&task->mu);
      auto adopt = [](Task::Known& known, const shim::v1::ProcessState& state) {
        Process& process = known.process;
        process.exec_id = state.exec_id();
        process.status = static_cast<ProcessStatus>(state.status());
        process.pid = state.pid();
        process.exit_status = state.exit_status();
        if (state.has_exited_at()) process.exited_at = FromProto(state.exited_at());
        if (state.has_started_at()) process.started_at = FromProto(state.started_at());
        process.oom_killed = state.oom_killed();
        process.terminal = state.terminal();
        known.created_published = true;
        known.started_published = process.status != ProcessStatus::kCreated;
        known.exit_published = process.status == ProcessStatus::kStopped;
      };
      adopt(task->processes[""], recovered.info->init());
      task->create_event.set_pid(task->processes[""].process.pid);
      for (const auto& exec : recovered.info->execs()) {
        Task::Known& known = task->processes[exec.exec_id()];
        known.process.container_id = key.container_id;
        known.process.stdin_uri = exec.stdin();
        known.process.stdout_uri = exec.stdout();
        known.process.stderr_uri = exec.stderr();
        adopt(known, exec);
      }
      after = task->seen.Read();
      task->applied_until = after;
      task->history_until = recovered.info->last_event();
    }
    if (recovered.shim) {
      if (absl::Status added = core_->registry->Add(recovered.shim); !added.ok())
        LOG(ERROR) << added;
      core_->Listen(task, *recovered.shim, after);
      caught_up.push_back(task);
    }
  }
  // What the shims have to tell of the time without a supervisor is published before the doors open: clients that come back
  // meanwhile are told it then, and never again. Few have anything to tell.
  const absl::Time deadline = absl::Now() + kCatchUp;
  for (const std::shared_ptr<Task>& task : caught_up) {
    absl::MutexLock lock(&task->mu);
    const auto told = [&task]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(task->mu) {
      return task->deleted || task->applied_until >= task->history_until;
    };
    if (!task->mu.AwaitWithDeadline(absl::Condition(&told), deadline)) {
      LOG(WARNING) << "ns=" << task->key.ns << " id=" << task->key.container_id
                   << " its shim is slow to tell what happened while no supervisor ran";
    }
  }
  return alive;
}

void TaskService::Stop() {
  core_->registry.reset();
  std::vector<std::unique_ptr<runtime::EventStream>> streams;
  {
    absl::MutexLock lock(&core_->map_mu);
    for (auto& [key, task] : core_->tasks) {
      absl::MutexLock task_lock(&task->mu);
      streams.push_back(std::move(task->stream));
    }
  }
}

}  // namespace gantry::core
