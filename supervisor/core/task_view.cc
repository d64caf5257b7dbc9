#include "supervisor/core/task_view.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "base/status_macros.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/task_core.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

using runtime::TaskKey;

constexpr absl::Duration kStatsCall = absl::Seconds(2);  // shims that do not answer are left out

}  // namespace

TaskView::TaskView(std::shared_ptr<TaskCore> core) : core_(std::move(core)) {}

absl::StatusOr<Process> TaskView::Get(const std::string& ns, const std::string& id,
                                      const std::string& exec_id) const {
  const TaskKey key{ns, id};
  std::shared_ptr<Task> task = core_->Find(key);
  if (!task) return NoSuchProcess(key, exec_id);
  absl::MutexLock lock(&task->mu);
  auto it = task->processes.find(exec_id);
  if (!task->ready || it == task->processes.end()) return NoSuchProcess(key, exec_id);
  return it->second.process;
}

std::vector<std::pair<std::string, Process>> TaskView::List(const std::string& ns) const {
  const std::vector<std::shared_ptr<Task>> found = core_->TasksOf(ns);
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

bool TaskView::Exists(const std::string& ns, const std::string& id) const {
  return core_->Find({ns, id}) != nullptr;
}

std::vector<Process> TaskView::Execs(const std::string& ns, const std::string& id) const {
  std::vector<Process> list;
  const std::shared_ptr<Task> task = core_->Find({ns, id});
  if (task == nullptr) return list;
  absl::MutexLock lock(&task->mu);
  for (const auto& [exec_id, known] : task->processes) {
    if (!exec_id.empty() && task->ready) list.push_back(known.process);
  }
  return list;
}

std::vector<Process> TaskView::FindExecs(const std::string& ns, const std::string& exec_id) const {
  std::vector<Process> list;
  for (const std::shared_ptr<Task>& task : core_->TasksOf(ns)) {
    absl::MutexLock lock(&task->mu);
    const auto found = task->processes.find(exec_id);
    if (!exec_id.empty() && task->ready && found != task->processes.end())
      list.push_back(found->second.process);
  }
  return list;
}

absl::StatusOr<shim::v1::PidsResponse> TaskView::Pids(const CallContext& context,
                                                      const std::string& id) const {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  return reached.second->client().Pids(runtime::CallOptions{kShortCall, context.cancel});
}

absl::StatusOr<shim::v1::StatsResponse> TaskView::Stats(const CallContext& context,
                                                        const std::string& id) const {
  return std::move(Stats(context, std::vector<std::string>{id})[0]);
}

std::vector<absl::StatusOr<shim::v1::StatsResponse>> TaskView::Stats(
    const CallContext& context, const std::vector<std::string>& ids) const {
  // Shared with the calls, which may come back after the wait has ended.
  struct Answers {
    absl::Mutex mu;
    size_t outstanding ABSL_GUARDED_BY(mu) = 0;
    std::vector<absl::StatusOr<shim::v1::StatsResponse>> stats ABSL_GUARDED_BY(mu);
  };
  auto answers = std::make_shared<Answers>();
  {
    absl::MutexLock lock(&answers->mu);
    answers->outstanding = ids.size();
  }
  std::vector<absl::StatusOr<std::shared_ptr<runtime::Shim>>> shims;
  for (const std::string& id : ids) {
    shims.push_back(Shim(context.ns, id));
    absl::MutexLock lock(&answers->mu);
    answers->stats.push_back(
        shims.back().ok() ? absl::DeadlineExceededError(absl::StrCat(
                                ProcessText({context.ns, id}, ""), ": its shim does not answer"))
                          : shims.back().status());
    if (!shims.back().ok()) --answers->outstanding;
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!shims[i].ok()) continue;
    (*shims[i])->client().StatsAsync(kStatsCall,
                                     [answers, i](absl::StatusOr<shim::v1::StatsResponse> one) {
                                       absl::MutexLock lock(&answers->mu);
                                       answers->stats[i] = std::move(one);
                                       --answers->outstanding;
                                     });
  }
  CancelToken::Registration on_cancel;
  absl::Duration limit = kStatsCall;
  if (context.cancel != nullptr) {
    limit = std::min(limit, context.cancel->remaining());
    on_cancel = context.cancel->OnCancel([answers] { absl::MutexLock lock(&answers->mu); });
  }
  absl::MutexLock lock(&answers->mu);
  const auto complete = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(answers->mu) {
    return answers->outstanding == 0 || (context.cancel != nullptr && context.cancel->cancelled());
  };
  answers->mu.AwaitWithTimeout(absl::Condition(&complete), limit);
  return answers->stats;
}

absl::StatusOr<std::shared_ptr<runtime::Shim>> TaskView::Shim(const std::string& ns,
                                                              const std::string& id) const {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({ns, id}));
  return reached.second;
}

absl::StatusOr<std::string> TaskView::BundleDirectory(const std::string& ns,
                                                      const std::string& id) const {
  const TaskKey key{ns, id};
  std::shared_ptr<Task> task = core_->Find(key);
  if (!task) return NoSuchProcess(key, "");
  absl::MutexLock lock(&task->mu);
  return task->bundle_path;
}

}  // namespace gantry::core
