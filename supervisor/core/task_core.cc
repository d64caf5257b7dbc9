#include "supervisor/core/task_core.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {

using runtime::TaskKey;

TaskCore::Operation::~Operation() {
  if (task_ == nullptr) return;
  absl::MutexLock lock(&task_->mu);
  task_->operation.clear();
}

absl::StatusOr<TaskCore::Operation> TaskCore::Begin(const std::shared_ptr<Task>& task,
                                                    absl::string_view name, CancelToken* cancel,
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

void TaskCore::Hand(std::function<void()> work, absl::Duration delay) {
  absl::MutexLock lock(&map_mu);
  if (stopped) return;
  if (delay > absl::ZeroDuration()) {
    later.At(delay, std::move(work));
  } else {
    parts.workers->Schedule(std::move(work));
  }
}

std::shared_ptr<Task> TaskCore::Find(const TaskKey& key) const {
  absl::MutexLock lock(&map_mu);
  auto it = tasks.find(key);
  return it == tasks.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<Task>> TaskCore::TasksOf(const std::string& ns) const {
  std::vector<std::shared_ptr<Task>> list;
  absl::MutexLock lock(&map_mu);
  for (const auto& [key, task] : tasks) {
    if (ns.empty() || key.ns == ns) list.push_back(task);
  }
  return list;
}

void TaskCore::Forget(const std::shared_ptr<Task>& task) {
  absl::MutexLock lock(&map_mu);
  auto it = tasks.find(task->key);
  if (it != tasks.end() && it->second == task) tasks.erase(it);
}

absl::StatusOr<std::pair<std::shared_ptr<Task>, std::shared_ptr<runtime::Shim>>> TaskCore::Reach(
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

void TaskCore::SayOnce(const std::string& line) {
  {
    absl::MutexLock lock(&said_mu);
    if (said.size() > 200 || !said.insert(line).second) return;
  }
  LOG(INFO) << line;
}

void TaskCore::EndWaits() {
  waits.Close(absl::UnavailableError("gantryd stops; the container runs on"));
}

void TaskCore::Stop() {
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
