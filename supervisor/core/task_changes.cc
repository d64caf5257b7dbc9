#include "supervisor/core/task_changes.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/event.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/task_core.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

using runtime::TaskKey;

namespace {

Event ProcessEvent(const TaskKey& key, absl::string_view action, ProcessFacts facts) {
  Event event(EventKind::kContainer, action, key.container_id);
  if (!facts.exec_id.empty()) event.attributes["execID"] = facts.exec_id;
  event.facts = std::move(facts);
  return event;
}

}  // namespace

void TaskChanges::ApplyCreated(Task& task, int32_t pid, bool again) {
  Task::Known& init = task.processes[""];
  if (init.created_published && !again) return;
  init.created_published = true;
  init.process.pid = pid;
  if (init.process.status == ProcessStatus::kUnknown) init.process.status = ProcessStatus::kCreated;
  ProcessFacts facts;
  facts.pid = pid;
  facts.setup = task.setup;
  Event event = ProcessEvent(task.key, action::kTaskCreate, std::move(facts));
  event.low_level = true;
  core_.parts.events->Publish(task.key.ns, std::move(event));
}

void TaskChanges::ApplyExecAdded(Task& task, const std::string& exec_id, bool again) {
  auto it = task.processes.find(exec_id);
  if (it == task.processes.end() || (it->second.created_published && !again)) return;
  it->second.created_published = true;
  ProcessFacts facts;
  facts.exec_id = exec_id;
  Event event = ProcessEvent(task.key, action::kExecCreate, std::move(facts));
  event.detail = it->second.command;
  core_.parts.events->Publish(task.key.ns, std::move(event));
}

void TaskChanges::ApplyStarted(Task& task, const std::string& exec_id, int32_t pid, absl::Time at,
                               bool again) {
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
  ProcessFacts facts;
  facts.exec_id = exec_id;
  facts.pid = pid;
  Event event = ProcessEvent(task.key, exec_id.empty() ? action::kStart : action::kExecStart,
                             std::move(facts));
  event.detail = known.command;
  core_.parts.events->Publish(task.key.ns, std::move(event));
}

void TaskChanges::ApplyOom(Task& task, bool again) {
  Task::Known& init = task.processes[""];
  if (init.oom_published && !again) return;
  init.oom_published = true;
  core_.parts.events->Publish(task.key.ns, ProcessEvent(task.key, action::kOom, {}));
}

void TaskChanges::ApplyNeverStarted(Task& task, const std::string& exec_id, uint32_t exit_status,
                                    DueCalls& done) {
  auto it = task.processes.find(exec_id);
  if (it == task.processes.end() || it->second.process.status != ProcessStatus::kCreated) return;
  Process& process = it->second.process;
  process.status = ProcessStatus::kStopped;
  process.exit_status = exit_status;
  process.exited_at = absl::Now();
  core_.waits.Take({&task, exec_id}, Exit{0, exit_status, process.exited_at, false}, done);
}

void TaskChanges::ForgetExec(Task& task, const std::string& exec_id, absl::string_view why,
                             DueCalls& done) {
  task.processes.erase(exec_id);
  core_.waits.Take({&task, exec_id},
                   absl::NotFoundError(absl::StrCat(ProcessText(task.key, exec_id), ": ", why)),
                   done);
}

void TaskChanges::Abandon(Task& task) {
  DueCalls done;
  {
    absl::MutexLock lock(&task.mu);
    task.deleted = true;
    core_.waits.Take(
        {&task, ""},
        absl::NotFoundError(absl::StrCat(ProcessText(task.key, ""), ": was not created")), done);
  }
  for (const auto& call : done) call();
}

void TaskChanges::ApplyExited(Task& task, const std::string& exec_id, const Exit& exit,
                              const std::string& reason, bool again, DueCalls& done) {
  auto it = task.processes.find(exec_id);
  if (it == task.processes.end()) return;
  Task::Known& known = it->second;
  // An exec id may be used again; an event of the exec that had it before does not concern this
  // one.
  if (exit.pid != 0 && known.process.pid != 0 && exit.pid != known.process.pid) return;
  if (known.exit_told || (known.exit_published && !again)) return;
  if (exit.oom_killed) ApplyOom(task, false);
  known.exit_published = true;
  known.exit_told = true;
  known.process.status = ProcessStatus::kStopped;
  known.process.exit_status = exit.status;
  known.process.exited_at = exit.at;
  known.process.oom_killed = exit.oom_killed;
  known.process.reason = reason;
  ProcessFacts facts;
  facts.exec_id = exec_id;
  facts.pid = known.process.pid;
  facts.exit_status = exit.status;
  facts.exited_at = exit.at;
  Event event =
      ProcessEvent(task.key, exec_id.empty() ? action::kDie : action::kExecDie, std::move(facts));
  event.attributes["exitCode"] = absl::StrCat(exit.status);
  if (exec_id.empty() && known.process.started_at != absl::InfinitePast()) {
    event.attributes["execDuration"] =
        absl::StrCat(absl::ToInt64Seconds(exit.at - known.process.started_at));
  }
  core_.parts.events->Publish(task.key.ns, std::move(event));

  Exit told = exit;
  told.pid = known.process.pid;
  core_.waits.Take({&task, exec_id}, told, done);
  if (exec_id.empty()) core_.waits.Take(TaskCore::NextExitOf(task.key), told, done);
  if (core_.observer != nullptr) {
    done.push_back([self = core_.shared_from_this(), ns = task.key.ns, process = known.process] {
      self->Hand([self, ns, process] { self->observer->OnExit(ns, process); });
    });
  }
}

void TaskChanges::OnShimEvent(const std::weak_ptr<Task>& weak, const shim::v1::Event& event) {
  std::shared_ptr<Task> task = weak.lock();
  if (!task) return;
  DueCalls done;
  {
    absl::MutexLock lock(&task->mu);
    const bool again = event.number() <= task->history_until;
    switch (event.what_case()) {
      case shim::v1::Event::kCreated:
        ApplyCreated(*task, event.created().pid(), again);
        break;
      case shim::v1::Event::kStarted:
        ApplyStarted(*task, event.started().exec_id(), event.started().pid(), FromProto(event.at()),
                     again);
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
        ApplyExecAdded(*task, event.exec_added().exec_id(), again);
        break;
      }
      case shim::v1::Event::kOom:
        ApplyOom(*task, again);
        break;
      case shim::v1::Event::kPaused: {
        ApplySwitchEvent(*task, true, again);
        core_.parts.events->Publish(task->key.ns, ProcessEvent(task->key, action::kPause, {}));
        break;
      }
      case shim::v1::Event::kResumed: {
        ApplySwitchEvent(*task, false, again);
        core_.parts.events->Publish(task->key.ns, ProcessEvent(task->key, action::kUnpause, {}));
        break;
      }
      case shim::v1::Event::kCheckpointed: {
        ProcessFacts facts;
        facts.checkpoint = event.checkpointed().image_path();
        core_.parts.events->Publish(task->key.ns,
                                    ProcessEvent(task->key, action::kCheckpoint, std::move(facts)));
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

void TaskChanges::SetPaused(Task& task, bool paused) {
  Process& init = task.processes[""].process;
  if (paused && init.status == ProcessStatus::kRunning) init.status = ProcessStatus::kPaused;
  if (!paused && init.status == ProcessStatus::kPaused) init.status = ProcessStatus::kRunning;
}

void TaskChanges::ApplySwitchAnswer(Task& task, bool paused) {
  absl::MutexLock lock(&task.mu);
  if (++task.switches_ahead > 0) SetPaused(task, paused);
}

void TaskChanges::ApplySwitchEvent(Task& task, bool paused, bool again) {
  // What the shim said of itself at the recovery is newer.
  if (again) return;
  if (--task.switches_ahead < 0) SetPaused(task, paused);
}

void TaskChanges::PublishDeleted(Task& task, const std::string& exec_id, const Exit& exit) {
  ProcessFacts facts;
  facts.exec_id = exec_id;
  facts.pid = exit.pid;
  facts.exit_status = exit.status;
  facts.exited_at = exit.at;
  Event event = ProcessEvent(task.key, action::kTaskDelete, std::move(facts));
  event.low_level = true;
  core_.parts.events->Publish(task.key.ns, std::move(event));
}

void TaskChanges::Listen(const std::shared_ptr<Task>& task, runtime::Shim& shim, uint64_t after) {
  {
    absl::MutexLock lock(&core_.map_mu);
    if (core_.stopped) return;
  }
  std::weak_ptr<Task> weak = task;
  std::weak_ptr<TaskCore> self = core_.shared_from_this();
  auto stream = shim.client().Events(
      after,
      [self, weak](const shim::v1::Event& event) {
        if (auto core = self.lock()) core->changes.OnShimEvent(weak, event);
      },
      [self, weak](const absl::Status& status) {
        auto core = self.lock();
        if (core == nullptr || status.ok() || absl::IsCancelled(status)) return;
        // Not on this thread, which belongs to the stream.
        core->Hand([core, weak, status] { core->changes.OnStreamEnd(weak, status); });
      });
  absl::MutexLock lock(&task->mu);
  // The former one ends after the lock is released.
  stream.swap(task->stream);
}

void TaskChanges::OnStreamEnd(const std::weak_ptr<Task>& weak, const absl::Status& status) {
  const std::shared_ptr<Task> task = weak.lock();
  if (task == nullptr) return;
  const std::shared_ptr<runtime::Shim> shim = core_.registry->Find(task->key);
  // The registry reports the end of a dead shim.
  if (shim == nullptr || shim->WaitGone(absl::ZeroDuration()).ok()) return;
  LOG(WARNING) << "ns=" << task->key.ns << " id=" << task->key.container_id
               << " event stream of the shim ended, it is asked anew: " << status;
  core_.takeover.Ask(task, shim, /*gap=*/absl::IsDataLoss(status));
}

void TaskChanges::Settle(const std::shared_ptr<Task>& task, const Exit& init_exit,
                         const std::string& reason) {
  DueCalls done;
  std::unique_ptr<runtime::EventStream> stream;
  {
    absl::MutexLock lock(&task->mu);
    std::vector<std::string> execs;
    for (const auto& [exec_id, known] : task->processes) {
      if (!exec_id.empty()) execs.push_back(exec_id);
    }
    for (const std::string& exec_id : execs) {
      const Process& process = task->processes[exec_id].process;
      ApplyExited(*task, exec_id, Exit{process.pid, init_exit.status, init_exit.at, false}, reason,
                  false, done);
      core_.waits.Take({task.get(), exec_id}, NoSuchProcess(task->key, exec_id), done);
    }
    if (task->ready) {
      ApplyExited(*task, "", init_exit, reason, false, done);
      Exit told = init_exit;
      told.pid = task->processes[""].process.pid;
      PublishDeleted(*task, "", told);
    }
    core_.waits.Take({task.get(), ""}, NoSuchProcess(task->key, ""), done);
    task->deleted = true;
    task->shim = nullptr;
    stream = std::move(task->stream);
  }
  core_.Forget(task);
  stream.reset();
  for (auto& call : done) call();
}

}  // namespace gantry::core
