#include "supervisor/core/task_core.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/executor.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/runtime/dead_task.h"

namespace gantry::core {

using runtime::TaskKey;

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

void SeenEvents::Open(const std::string& bundle_path) {
  fd_.reset(open((bundle_path + kFile).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

uint64_t SeenEvents::Read() const {
  char text[32] = {};
  uint64_t number = 0;
  if (!fd_.valid() || pread(fd_.get(), text, sizeof text - 1, 0) <= 0) return 0;
  return absl::SimpleAtoi(absl::string_view(text, 20), &number) ? number : 0;
}

void SeenEvents::Write(uint64_t number) {
  if (!fd_.valid()) return;
  // Fixed width: a successor never sees the tail of a longer, older number.
  std::string text = absl::StrCat(absl::Dec(number, absl::kZeroPad20));
  if (pwrite(fd_.get(), text.data(), text.size(), 0) < 0) {
    PLOG(WARNING) << "cannot note the last event seen; a restart may repeat events";
  }
}

std::shared_ptr<TaskService::Task> TaskService::Core::Find(const TaskKey& key) const {
  absl::MutexLock lock(&map_mu);
  auto it = tasks.find(key);
  return it == tasks.end() ? nullptr : it->second;
}

void TaskService::Core::Forget(const std::shared_ptr<Task>& task) {
  absl::MutexLock lock(&map_mu);
  auto it = tasks.find(task->key);
  if (it != tasks.end() && it->second == task) tasks.erase(it);
}

absl::StatusOr<std::pair<std::shared_ptr<TaskService::Task>, std::shared_ptr<runtime::Shim>>>
TaskService::Core::Reach(const TaskKey& key) const {
  std::shared_ptr<Task> task = Find(key);
  if (!task) return NoSuchProcess(key, "");
  absl::MutexLock lock(&task->mu);
  if (task->deleted || !task->ready) return NoSuchProcess(key, "");
  if (!task->shim) {
    return absl::UnavailableError(absl::StrCat(ProcessText(key, ""), ": its shim is gone"));
  }
  return std::make_pair(task, task->shim);
}

void TaskService::Core::SayOnce(const std::string& line) {
  {
    absl::MutexLock lock(&said_mu);
    if (said.size() > 200 || !said.insert(line).second) return;
  }
  LOG(INFO) << line;
}

void TaskService::Core::ApplyCreated(Task& task, int32_t pid, bool again) {
  Task::Known& init = task.processes[""];
  if (init.created_published && !again) return;
  init.created_published = true;
  init.process.pid = pid;
  if (init.process.status == ProcessStatus::kUnknown) init.process.status = ProcessStatus::kCreated;
  task.create_event.set_pid(pid);
  parts.events->Publish(task.key.ns, "/tasks/create", task.create_event);
}

void TaskService::Core::ApplyStarted(Task& task, const std::string& exec_id, int32_t pid,
                                     absl::Time at, bool again) {
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

void TaskService::Core::ApplyOom(Task& task, bool again) {
  Task::Known& init = task.processes[""];
  if (init.oom_published && !again) return;
  init.oom_published = true;
  containerd::events::TaskOOM event;
  event.set_container_id(task.key.container_id);
  parts.events->Publish(task.key.ns, "/tasks/oom", event);
}

void TaskService::Core::EndWaits(Task::Known& known, const Exit& exit, WaitersDone& done) {
  {
    absl::MutexLock lock(&ticket_mu);
    for (const auto& waiting : known.waiters) tickets.erase(waiting.first);
  }
  for (auto& [ticket, waiter] : known.waiters) {
    done.push_back([waiter = std::move(waiter), exit] { waiter(exit); });
  }
  known.waiters.clear();
}

void TaskService::Core::ApplyNeverStarted(Task& task, const std::string& exec_id,
                                          uint32_t exit_status, WaitersDone& done) {
  auto it = task.processes.find(exec_id);
  if (it == task.processes.end() || it->second.process.status != ProcessStatus::kCreated) return;
  Process& process = it->second.process;
  process.status = ProcessStatus::kStopped;
  process.exit_status = exit_status;
  process.exited_at = absl::Now();
  EndWaits(it->second, Exit{0, exit_status, process.exited_at, false}, done);
}

void TaskService::Core::ApplyExited(Task& task, const std::string& exec_id, const Exit& exit,
                                    const std::string& reason, bool again, WaitersDone& done) {
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
  EndWaits(known, told, done);
  if (observer != nullptr) {
    done.push_back([self = shared_from_this(), ns = task.key.ns, process = known.process] {
      self->parts.workers->Schedule([self, ns, process] { self->observer->OnExit(ns, process); });
    });
  }
}

void TaskService::Core::OnShimEvent(const std::weak_ptr<Task>& weak, const shim::v1::Event& event) {
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

void TaskService::Core::SetPaused(Task& task, bool paused) {
  Process& init = task.processes[""].process;
  if (paused && init.status == ProcessStatus::kRunning) init.status = ProcessStatus::kPaused;
  if (!paused && init.status == ProcessStatus::kPaused) init.status = ProcessStatus::kRunning;
}

void TaskService::Core::PublishDeleted(Task& task, const std::string& exec_id, const Exit& exit) {
  containerd::events::TaskDelete event;
  event.set_container_id(task.key.container_id);
  event.set_id(exec_id.empty() ? task.key.container_id : exec_id);
  event.set_pid(static_cast<uint32_t>(exit.pid));
  event.set_exit_status(exit.status);
  SetTimestamp(exit.at, event.mutable_exited_at());
  parts.events->Publish(task.key.ns, "/tasks/delete", event);
}

void TaskService::Core::Listen(const std::shared_ptr<Task>& task, runtime::Shim& shim,
                               uint64_t after) {
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

void TaskService::Core::OnShimGone(const std::shared_ptr<runtime::Shim>& shim) {
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

void TaskService::Core::Settle(const std::shared_ptr<Task>& task, const Exit& init_exit,
                               const std::string& reason) {
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
      ApplyExited(*task, exec_id, Exit{process.pid, init_exit.status, init_exit.at, false}, reason,
                  false, done);
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

void TaskService::Core::CancelWait(uint64_t ticket) {
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

}  // namespace gantry::core
