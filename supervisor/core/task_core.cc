#include "supervisor/core/task_core.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/runtime/dead_task.h"

namespace gantry::core {

using runtime::TaskKey;

absl::Time FromProto(const google::protobuf::Timestamp& at) {
  return absl::FromUnixSeconds(at.seconds()) + absl::Nanoseconds(at.nanos());
}

namespace {

Event ProcessEvent(const TaskKey& key, absl::string_view action, ProcessFacts facts) {
  Event event(EventKind::kContainer, action, key.container_id);
  if (!facts.exec_id.empty()) event.attributes["execID"] = facts.exec_id;
  event.facts = std::move(facts);
  return event;
}

}  // namespace

std::string ProcessText(const TaskKey& key, const std::string& exec_id) {
  return exec_id.empty()
             ? absl::StrCat("task \"", key.container_id, "\" in namespace \"", key.ns, "\"")
             : absl::StrCat("exec \"", exec_id, "\" of task \"", key.container_id,
                            "\" in namespace \"", key.ns, "\"");
}

// The arguments of an OCI process document in one line; "" where it cannot be read.
std::string CommandOf(const std::string& process_json) {
  const auto process = nlohmann::json::parse(process_json, nullptr, /*allow_exceptions=*/false);
  if (!process.is_object()) return "";
  const auto args = process.find("args");
  if (args == process.end() || !args->is_array()) return "";
  return absl::StrJoin(*args, " ", [](std::string* out, const nlohmann::json& argument) {
    if (argument.is_string()) absl::StrAppend(out, argument.get_ref<const std::string&>());
  });
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

TaskService::Core::Operation::~Operation() {
  if (task_ == nullptr) return;
  absl::MutexLock lock(&task_->mu);
  task_->operation.clear();
}

absl::StatusOr<TaskService::Core::Operation> TaskService::Core::Begin(
    const std::shared_ptr<Task>& task, absl::string_view name, CancelToken* cancel,
    absl::Duration patience) {
  CancelToken::Registration on_cancel;
  if (cancel != nullptr) {
    patience = std::min(patience, cancel->remaining());
    // Threads that wait below check their condition again.
    on_cancel = cancel->OnCancel([task] { absl::MutexLock lock(&task->mu); });
  }
  absl::MutexLock lock(&task->mu);
  const auto free = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(task->mu) {
    return task->operation.empty() || (cancel != nullptr && cancel->cancelled());
  };
  const bool waited = task->mu.AwaitWithTimeout(absl::Condition(&free), patience);
  if (cancel != nullptr && !task->operation.empty()) GANTRY_RETURN_IF_ERROR(cancel->Check());
  if (!waited || !task->operation.empty()) {
    return absl::UnavailableError(absl::StrCat(ProcessText(task->key, ""), ": ", name,
                                               " waits for what is under way: ", task->operation));
  }
  task->operation = std::string(name);
  return Operation(task);
}

void TaskService::Core::Hand(std::function<void()> work, absl::Duration delay) {
  absl::MutexLock lock(&map_mu);
  if (stopped) return;
  if (delay > absl::ZeroDuration()) {
    later.At(delay, std::move(work));
  } else {
    parts.workers->Schedule(std::move(work));
  }
}

std::shared_ptr<TaskService::Task> TaskService::Core::Find(const TaskKey& key) const {
  absl::MutexLock lock(&map_mu);
  auto it = tasks.find(key);
  return it == tasks.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<TaskService::Task>> TaskService::Core::TasksOf(
    const std::string& ns) const {
  std::vector<std::shared_ptr<Task>> list;
  absl::MutexLock lock(&map_mu);
  for (const auto& [key, task] : tasks) {
    if (ns.empty() || key.ns == ns) list.push_back(task);
  }
  return list;
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
  ProcessFacts facts;
  facts.pid = pid;
  facts.setup = task.setup;
  Event event = ProcessEvent(task.key, action::kTaskCreate, std::move(facts));
  event.low_level = true;
  parts.events->Publish(task.key.ns, std::move(event));
}

void TaskService::Core::ApplyExecAdded(Task& task, const std::string& exec_id, bool again) {
  auto it = task.processes.find(exec_id);
  if (it == task.processes.end() || (it->second.created_published && !again)) return;
  it->second.created_published = true;
  ProcessFacts facts;
  facts.exec_id = exec_id;
  Event event = ProcessEvent(task.key, action::kExecCreate, std::move(facts));
  event.detail = it->second.command;
  parts.events->Publish(task.key.ns, std::move(event));
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
  ProcessFacts facts;
  facts.exec_id = exec_id;
  facts.pid = pid;
  Event event = ProcessEvent(task.key, exec_id.empty() ? action::kStart : action::kExecStart,
                             std::move(facts));
  event.detail = known.command;
  parts.events->Publish(task.key.ns, std::move(event));
}

void TaskService::Core::ApplyOom(Task& task, bool again) {
  Task::Known& init = task.processes[""];
  if (init.oom_published && !again) return;
  init.oom_published = true;
  parts.events->Publish(task.key.ns, ProcessEvent(task.key, action::kOom, {}));
}

void TaskService::Core::ApplyNeverStarted(Task& task, const std::string& exec_id,
                                          uint32_t exit_status, DueCalls& done) {
  auto it = task.processes.find(exec_id);
  if (it == task.processes.end() || it->second.process.status != ProcessStatus::kCreated) return;
  Process& process = it->second.process;
  process.status = ProcessStatus::kStopped;
  process.exit_status = exit_status;
  process.exited_at = absl::Now();
  waits.Take({&task, exec_id}, Exit{0, exit_status, process.exited_at, false}, done);
}

void TaskService::Core::ForgetExec(Task& task, const std::string& exec_id, absl::string_view why,
                                   DueCalls& done) {
  task.processes.erase(exec_id);
  waits.Take({&task, exec_id},
             absl::NotFoundError(absl::StrCat(ProcessText(task.key, exec_id), ": ", why)), done);
}

void TaskService::Core::Abandon(Task& task) {
  DueCalls done;
  {
    absl::MutexLock lock(&task.mu);
    task.deleted = true;
    waits.Take({&task, ""},
               absl::NotFoundError(absl::StrCat(ProcessText(task.key, ""), ": was not created")),
               done);
  }
  for (const auto& call : done) call();
}

void TaskService::Core::ApplyExited(Task& task, const std::string& exec_id, const Exit& exit,
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
  parts.events->Publish(task.key.ns, std::move(event));

  Exit told = exit;
  told.pid = known.process.pid;
  waits.Take({&task, exec_id}, told, done);
  if (exec_id.empty()) waits.Take(NextExitOf(task.key), told, done);
  if (observer != nullptr) {
    done.push_back([self = shared_from_this(), ns = task.key.ns, process = known.process] {
      self->Hand([self, ns, process] { self->observer->OnExit(ns, process); });
    });
  }
}

void TaskService::Core::OnShimEvent(const std::weak_ptr<Task>& weak, const shim::v1::Event& event) {
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
        parts.events->Publish(task->key.ns, ProcessEvent(task->key, action::kPause, {}));
        break;
      }
      case shim::v1::Event::kResumed: {
        ApplySwitchEvent(*task, false, again);
        parts.events->Publish(task->key.ns, ProcessEvent(task->key, action::kUnpause, {}));
        break;
      }
      case shim::v1::Event::kCheckpointed: {
        ProcessFacts facts;
        facts.checkpoint = event.checkpointed().image_path();
        parts.events->Publish(task->key.ns,
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

void TaskService::Core::SetPaused(Task& task, bool paused) {
  Process& init = task.processes[""].process;
  if (paused && init.status == ProcessStatus::kRunning) init.status = ProcessStatus::kPaused;
  if (!paused && init.status == ProcessStatus::kPaused) init.status = ProcessStatus::kRunning;
}

void TaskService::Core::ApplySwitchAnswer(Task& task, bool paused) {
  absl::MutexLock lock(&task.mu);
  if (++task.switches_ahead > 0) SetPaused(task, paused);
}

void TaskService::Core::ApplySwitchEvent(Task& task, bool paused, bool again) {
  // What the shim said of itself at the recovery is newer.
  if (again) return;
  if (--task.switches_ahead < 0) SetPaused(task, paused);
}

void TaskService::Core::PublishDeleted(Task& task, const std::string& exec_id, const Exit& exit) {
  ProcessFacts facts;
  facts.exec_id = exec_id;
  facts.pid = exit.pid;
  facts.exit_status = exit.status;
  facts.exited_at = exit.at;
  Event event = ProcessEvent(task.key, action::kTaskDelete, std::move(facts));
  event.low_level = true;
  parts.events->Publish(task.key.ns, std::move(event));
}

void TaskService::Core::Listen(const std::shared_ptr<Task>& task, runtime::Shim& shim,
                               uint64_t after) {
  {
    absl::MutexLock lock(&map_mu);
    if (stopped) return;
  }
  std::weak_ptr<Task> weak = task;
  std::weak_ptr<Core> self = shared_from_this();
  auto stream = shim.client().Events(
      after,
      [self, weak](const shim::v1::Event& event) {
        if (auto core = self.lock()) core->OnShimEvent(weak, event);
      },
      [self, weak](const absl::Status& status) {
        auto core = self.lock();
        if (core == nullptr || status.ok() || absl::IsCancelled(status)) return;
        // Not on this thread, which belongs to the stream.
        core->Hand([core, weak, status] { core->OnStreamEnd(weak, status); });
      });
  absl::MutexLock lock(&task->mu);
  // The former one ends after the lock is released.
  stream.swap(task->stream);
}

void TaskService::Core::OnStreamEnd(const std::weak_ptr<Task>& weak, const absl::Status& status) {
  const std::shared_ptr<Task> task = weak.lock();
  if (task == nullptr) return;
  const std::shared_ptr<runtime::Shim> shim = registry->Find(task->key);
  // The registry reports the end of a dead shim.
  if (shim == nullptr || shim->WaitGone(absl::ZeroDuration()).ok()) return;
  LOG(WARNING) << "ns=" << task->key.ns << " id=" << task->key.container_id
               << " event stream of the shim ended, it is asked anew: " << status;
  Ask(task, shim, /*gap=*/absl::IsDataLoss(status));
}

void TaskService::Core::Settle(const std::shared_ptr<Task>& task, const Exit& init_exit,
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
      waits.Take({task.get(), exec_id}, NoSuchProcess(task->key, exec_id), done);
    }
    if (task->ready) {
      ApplyExited(*task, "", init_exit, reason, false, done);
      Exit told = init_exit;
      told.pid = task->processes[""].process.pid;
      PublishDeleted(*task, "", told);
    }
    waits.Take({task.get(), ""}, NoSuchProcess(task->key, ""), done);
    task->deleted = true;
    task->shim = nullptr;
    stream = std::move(task->stream);
  }
  Forget(task);
  stream.reset();
  for (auto& call : done) call();
}

void TaskService::Core::EndWaits() {
  waits.Close(absl::UnavailableError("gantryd stops; the container runs on"));
}

void TaskService::Core::Stop() {
  std::unique_ptr<Executor> reaping;
  std::vector<std::unique_ptr<runtime::EventStream>> streams;
  {
    absl::MutexLock lock(&map_mu);
    stopped = true;
    reaping = std::move(reapers);
    for (auto& [key, task] : tasks) {
      absl::MutexLock task_lock(&task->mu);
      streams.push_back(std::move(task->stream));
    }
  }
  EndWaits();
  later.Stop();
  registry->Stop();
}

}  // namespace gantry::core
