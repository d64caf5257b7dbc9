#include "supervisor/core/task_takeover.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "glog/logging.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/task_core.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

using runtime::TaskKey;

constexpr absl::Duration kAsk = absl::Seconds(60);   // one question to a shim that is slow
constexpr absl::Duration kPause = absl::Seconds(1);  // between two questions, and two looks
constexpr absl::Duration kLook = absl::Seconds(1);

}  // namespace

std::shared_ptr<Task> TaskTakeover::Restore(const runtime::RecoveredTask& recovered) {
  const TaskKey& key = recovered.key;
  auto task = std::make_shared<Task>(key);
  {
    absl::MutexLock lock(&task->mu);
    task->ready = recovered.verdict != runtime::Verdict::kReap;
    task->shim = recovered.shim;
    task->bundle = recovered.bundle;
    task->bundle_path = recovered.bundle->path();
    task->seen.Open(task->bundle_path);
    Task::Known& known = task->processes[""];
    Process& init = known.process;
    init.container_id = key.container_id;
    const shim::v1::CreateRequest& create = recovered.bundle->launch().create;
    init.terminal = create.stdio().terminal();
    init.stdin_uri = create.stdio().stdin();
    init.stdout_uri = create.stdio().stdout();
    init.stderr_uri = create.stdio().stderr();
    if (recovered.verdict == runtime::Verdict::kMarkExited) {
      known.created_published = true;
      known.started_published = true;
    }
    TaskSetup setup;
    setup.bundle = task->bundle_path;
    setup.stdin_uri = init.stdin_uri;
    setup.stdout_uri = init.stdout_uri;
    setup.stderr_uri = init.stderr_uri;
    setup.terminal = init.terminal;
    for (const auto& mount : create.rootfs()) {
      setup.rootfs.push_back({mount.type(),
                              mount.source(),
                              mount.target(),
                              {mount.options().begin(), mount.options().end()}});
    }
    task->setup = std::make_shared<const TaskSetup>(std::move(setup));
  }
  absl::MutexLock lock(&core_.map_mu);
  core_.tasks.insert_or_assign(key, task);
  return task;
}

void TaskTakeover::Adopt(Task& task, const shim::v1::InfoResponse& info) {
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
    process.reason.clear();
    known.created_published = true;
    known.started_published = process.status != ProcessStatus::kCreated;
    known.exit_published = process.status == ProcessStatus::kStopped;
  };
  adopt(task.processes[""], info.init());
  for (const auto& exec : info.execs()) {
    const auto [entry, fresh] = task.processes.try_emplace(exec.exec_id());
    Task::Known& known = entry->second;
    if (fresh) known.process.of_former_daemon = true;
    known.process.container_id = task.key.container_id;
    known.process.stdin_uri = exec.stdin();
    known.process.stdout_uri = exec.stdout();
    known.process.stderr_uri = exec.stderr();
    if (!exec.process_json().empty()) {
      known.process.process_json = std::make_shared<const std::string>(exec.process_json());
      known.command = CommandOf(exec.process_json());
    }
    adopt(known, exec);
  }
  task.applied_until = std::max(task.applied_until, task.seen.Read());
  task.history_until = info.last_event();
}

void TaskTakeover::Ask(const std::shared_ptr<Task>& task,
                       const std::shared_ptr<runtime::Shim>& shim, bool gap) {
  shim->client().InfoAsync(kAsk, [self = std::weak_ptr<TaskCore>(core_.shared_from_this()),
                                  weak = std::weak_ptr<Task>(task), shim,
                                  gap](absl::StatusOr<shim::v1::InfoResponse> info) {
    auto core = self.lock();
    if (core == nullptr) return;
    core->Hand([core, weak, shim, info = std::move(info), gap] {
      if (auto asked = weak.lock()) core->takeover.TakeUp(asked, shim, info, gap);
    });
  });
}

void TaskTakeover::TakeUp(const std::shared_ptr<Task>& task,
                          const std::shared_ptr<runtime::Shim>& shim,
                          const absl::StatusOr<shim::v1::InfoResponse>& info, bool gap) {
  const TaskKey& key = task->key;
  if (!info.ok() || info->namespace_() != key.ns || info->container_id() != key.container_id) {
    // The registry reports one that died meanwhile.
    if (core_.registry->Find(key) != shim) return;
    core_.Hand(
        [self = core_.shared_from_this(), task, shim, gap] { self->takeover.Ask(task, shim, gap); },
        kPause);
    return;
  }
  const bool never_created = info->init().status() == shim::v1::STATUS_EMPTY;
  uint64_t after = 0;
  bool was_unknown = false;
  Process init;
  DueCalls done;
  {
    absl::MutexLock lock(&task->mu);
    if (task->deleted || task->shim != shim) return;
    if (never_created) {
      // Its launch had not got as far as a container when the supervisor died: no client knows of
      // it.
      task->ready = false;
    } else {
      was_unknown = task->processes[""].process.status == ProcessStatus::kUnknown;
      Adopt(*task, *info);
      init = task->processes[""].process;
      if (gap) {
        task->applied_until = info->last_event();
        task->seen.Write(task->applied_until);
      }
      after = task->applied_until;
      // Told here, whether or not the stream tells them once more: the events may be lost, or may
      // have been handled by a former supervisor, whose records were read when this one did not
      // know of the end yet.
      std::vector<std::pair<std::string, Exit>> ended;
      for (const auto& [exec_id, known] : task->processes) {
        const Process& process = known.process;
        if (process.status == ProcessStatus::kStopped && known.started_published) {
          ended.emplace_back(exec_id, Exit{process.pid, process.exit_status, process.exited_at,
                                           process.oom_killed});
        }
      }
      // Execs before the init process, whose id is the empty one.
      for (auto it = ended.rbegin(); it != ended.rend(); ++it)
        core_.changes.ApplyExited(*task, it->first, it->second, "", /*again=*/true, done);
    }
  }
  if (never_created) {
    if (absl::Status killed = shim->KillShim(); !killed.ok())
      LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << killed;
    return;
  }
  LOG(INFO) << "ns=" << key.ns << " id=" << key.container_id
            << (gap ? " its shim has lost events; what it knows is taken over"
                    : " its shim answers and is taken up");
  for (const auto& call : done) call();
  core_.changes.Listen(task, *shim, after);
  if (core_.observer != nullptr && was_unknown) core_.observer->OnTakenUp(key.ns, init);
}

void TaskTakeover::LookAgain(const std::shared_ptr<Task>& task) {
  absl::StatusOr<std::vector<runtime::RecoveredTask>> found =
      runtime::RecoverShims(*core_.parts.bundles, kLook, task->key);
  {
    absl::MutexLock lock(&task->mu);
    if (task->deleted || task->shim != nullptr || !task->operation.empty()) return;
  }
  if (found.ok() && !found->empty()) {
    Apply(task, (*found)[0]);
  } else {
    core_.Hand([self = core_.shared_from_this(), task] { self->takeover.LookAgain(task); }, kPause);
  }
}

bool TaskTakeover::Apply(const std::shared_ptr<Task>& task,
                         const runtime::RecoveredTask& recovered) {
  const TaskKey& key = task->key;
  switch (recovered.verdict) {
    case runtime::Verdict::kReap:
    case runtime::Verdict::kMarkExited: {
      const bool ran = recovered.verdict == runtime::Verdict::kMarkExited;
      LOG(INFO) << "ns=" << key.ns << " id=" << key.container_id
                << (ran ? " ended while no supervisor ran: " : " removing what is left: ")
                << recovered.reason;
      if (recovered.shim) {
        if (absl::Status killed = recovered.shim->KillShim(); !killed.ok()) LOG(ERROR) << killed;
      }
      runtime::Bundle bundle = *recovered.bundle;
      if (bundle.launch().create.runtime().path().empty()) {
        // Of a damaged record. The default runtime is the likeliest one to know the container.
        runtime::LaunchRecord launch = bundle.launch();
        const absl::StatusOr<runtime::RuntimeInfo> likely = core_.parts.runtimes->Resolve("");
        if (likely.ok()) *launch.create.mutable_runtime() = likely->ForShim(key.ns);
        bundle = runtime::Bundle(key, bundle.path(), bundle.socket_path(), std::move(launch));
      }
      {
        absl::MutexLock lock(&task->mu);
        task->ready = ran;
        task->shim = nullptr;
        task->bundle = bundle;
        task->processes[""].created_published = ran;
        task->processes[""].started_published = ran;
      }
      core_.removal.ReapSoon(task, bundle, recovered.reason, absl::ZeroDuration());
      return false;
    }
    case runtime::Verdict::kKeepUnknown:
    case runtime::Verdict::kAdopt:
      break;
  }
  {
    absl::MutexLock lock(&task->mu);
    task->ready = true;
    task->shim = recovered.shim;
    task->bundle = recovered.bundle;
    if (recovered.verdict == runtime::Verdict::kKeepUnknown)
      task->processes[""].process.reason = recovered.reason;
  }
  if (recovered.shim == nullptr) {
    // Not even its process is known.
    core_.Hand([self = core_.shared_from_this(), task] { self->takeover.LookAgain(task); }, kPause);
    return false;
  }
  if (absl::Status added = core_.registry->Add(recovered.shim); !added.ok())
    LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << added;
  // The state record may be older than the last event that a former supervisor handled.
  const auto is_behind = [&]() ABSL_LOCKS_EXCLUDED(task->mu) {
    absl::MutexLock lock(&task->mu);
    return recovered.info_is_recorded && task->seen.Read() > recovered.info->last_event();
  };
  if (!recovered.info.has_value() || is_behind()) {
    LOG(WARNING) << "ns=" << key.ns << " id=" << key.container_id
                 << " is unknown until its shim answers: " << recovered.reason;
    Ask(task, recovered.shim, /*gap=*/false);
    return false;
  }
  uint64_t after = 0;
  {
    absl::MutexLock lock(&task->mu);
    Adopt(*task, *recovered.info);
    after = task->applied_until;
    // Where nothing happened while no supervisor listened, connecting need not hold up the doors.
    task->to_follow = recovered.info_is_recorded && after >= task->history_until;
    if (task->to_follow) return true;
  }
  core_.changes.Listen(task, *recovered.shim, after);
  return true;
}

}  // namespace gantry::core
