// The calls on tasks that there are. Their creation is in task_creation.cc, what they work on in
// task_core.h, what follows from a restart of the daemon in task_recovery.cc.
#include "supervisor/core/task_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/crash_point.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/task_core.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/cgroup_warmer.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

using runtime::TaskKey;

constexpr absl::Duration kStatsCall = absl::Seconds(2);  // shims that do not answer are left out
constexpr uint32_t kNeverStartedStatus = 255;

}  // namespace

TaskService::TaskService(const Parts& parts) : core_(std::make_shared<Core>(parts)) {
  std::weak_ptr<Core> weak = core_;
  core_->registry =
      std::make_unique<runtime::ShimRegistry>([weak](std::shared_ptr<runtime::Shim> shim) {
        if (auto core = weak.lock()) {
          core->Hand([core, shim = std::move(shim)] { core->OnShimGone(shim); });
        }
      });
}

TaskService::~TaskService() { Stop(); }

void TaskService::SetExitObserver(ExitObserver* observer) { core_->observer = observer; }

void TaskService::AnnounceStart() {
  if (core_->parts.warmer != nullptr) core_->parts.warmer->Poke();
}

absl::StatusOr<int32_t> TaskService::Start(const CallContext& context, const std::string& id,
                                           const std::string& exec_id) {
  AnnounceStart();
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  auto& [task, shim] = reached;
  shim::v1::StartRequest request;
  request.set_exec_id(exec_id);
  absl::StatusOr<shim::v1::StartResponse> answer =
      shim->client().Start(request, runtime::CallOptions{kRuntimeCall, context.cancel});
  if (!answer.ok() && !exec_id.empty()) {
    // What was tried and failed is "created" again, and may be tried again. Those who wait for its
    // end are answered, as containerd does: there may be no other try. Where the call was only
    // given up the shim may still carry it out.
    const bool given_up = absl::IsDeadlineExceeded(answer.status()) ||
                          absl::IsCancelled(answer.status()) ||
                          absl::IsUnavailable(answer.status());
    DueCalls done;
    if (!given_up) {
      absl::MutexLock lock(&task->mu);
      core_->ApplyNeverStarted(*task, exec_id, kNeverStartedStatus, done);
    }
    for (const auto& call : done) call();
  }
  GANTRY_RETURN_IF_ERROR(answer.status());
  const shim::v1::StartResponse& started = *answer;
  std::string restored_from;
  {
    absl::MutexLock lock(&task->mu);
    core_->ApplyStarted(*task, exec_id, started.pid(), absl::Now(), false);
    if (exec_id.empty() && task->setup != nullptr &&
        task->setup->checkpoint == task->bundle_path + kCheckpoint)
      restored_from = task->setup->checkpoint;
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
                                          const shim::v1::Stdio& stdio, bool start,
                                          absl::Duration time_limit) {
  if (exec_id.empty()) return absl::InvalidArgumentError("exec: the exec id is empty");
  if (start) AnnounceStart();
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  auto& [task, shim] = reached;
  auto document = std::make_shared<const std::string>(process_json);
  std::string command = CommandOf(process_json);
  {
    // Known before the shim is, so that the shim's events find it.
    absl::MutexLock lock(&task->mu);
    auto [it, fresh] = task->processes.try_emplace(exec_id);
    if (!fresh) {
      return absl::AlreadyExistsError(
          absl::StrCat(ProcessText(task->key, exec_id), ": already exists"));
    }
    it->second.command = std::move(command);
    Process& process = it->second.process;
    process.container_id = id;
    process.exec_id = exec_id;
    process.status = ProcessStatus::kCreated;
    process.terminal = stdio.terminal();
    process.stdin_uri = stdio.stdin();
    process.stdout_uri = stdio.stdout();
    process.stderr_uri = stdio.stderr();
    process.process_json = std::move(document);
  }
  shim::v1::ExecRequest request;
  request.set_exec_id(exec_id);
  request.set_process_json(process_json);
  *request.mutable_stdio() = stdio;
  request.set_start(start);
  if (time_limit < absl::InfiniteDuration())
    request.set_time_limit_ms(absl::ToInt64Milliseconds(time_limit));
  absl::StatusOr<shim::v1::ExecResponse> added = shim->client().Exec(
      request, runtime::CallOptions{start ? kRuntimeCall : kShortCall, context.cancel});
  CrashPoint("exec.added");
  if (!added.ok()) {
    DueCalls done;
    {
      absl::MutexLock lock(&task->mu);
      core_->ForgetExec(*task, exec_id, "could not be added", done);
    }
    for (const auto& call : done) call();
    if (absl::IsCancelled(added.status()) || absl::IsDeadlineExceeded(added.status())) {
      // The shim may have added it all the same, without a client.
      core_->Hand([shim = shim, exec_id] {
        shim::v1::DeleteRequest undo;
        undo.set_exec_id(exec_id);
        undo.set_force(true);
        // It need not be there, and the end of the container removes it in any case.
        (void)shim->client().Delete(undo, runtime::CallOptions{kShortCall, nullptr});
      });
    }
    return added.status();
  }
  absl::MutexLock lock(&task->mu);
  core_->ApplyExecAdded(*task, exec_id, /*again=*/false);
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
  return exec_id.empty() ? core_->DeleteTask(context, task, force)
                         : core_->DeleteExec(context, task, exec_id, force);
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

bool TaskService::Exists(const std::string& ns, const std::string& id) const {
  return core_->Find({ns, id}) != nullptr;
}

std::vector<Process> TaskService::Execs(const std::string& ns, const std::string& id) const {
  std::vector<Process> list;
  const std::shared_ptr<Task> task = core_->Find({ns, id});
  if (task == nullptr) return list;
  absl::MutexLock lock(&task->mu);
  for (const auto& [exec_id, known] : task->processes) {
    if (!exec_id.empty() && task->ready) list.push_back(known.process);
  }
  return list;
}

std::vector<Process> TaskService::FindExecs(const std::string& ns,
                                            const std::string& exec_id) const {
  std::vector<Process> list;
  for (const std::shared_ptr<Task>& task : core_->TasksOf(ns)) {
    absl::MutexLock lock(&task->mu);
    const auto found = task->processes.find(exec_id);
    if (!exec_id.empty() && task->ready && found != task->processes.end())
      list.push_back(found->second.process);
  }
  return list;
}

uint64_t TaskService::WaitAsync(const std::string& ns, const std::string& id,
                                const std::string& exec_id,
                                std::function<void(absl::StatusOr<Exit>)> done) {
  const TaskKey key{ns, id};
  absl::StatusOr<Exit> answer = NoSuchProcess(key, exec_id);
  if (std::shared_ptr<Task> task = core_->Find(key)) {
    absl::MutexLock lock(&task->mu);
    auto it = task->processes.find(exec_id);
    if (!task->deleted && it != task->processes.end()) {
      const Process& process = it->second.process;
      if (process.status != ProcessStatus::kStopped) {
        absl::StatusOr<uint64_t> ticket = core_->waits.Add({task.get(), exec_id}, std::move(done));
        if (ticket.ok()) return *ticket;
        answer = ticket.status();
      } else {
        answer = Exit{process.pid, process.exit_status, process.exited_at, process.oom_killed};
      }
    }
  }
  done(std::move(answer));
  return 0;
}

uint64_t TaskService::WaitNextExitAsync(const std::string& ns, const std::string& id,
                                        std::function<void(absl::StatusOr<Exit>)> done) {
  const absl::StatusOr<uint64_t> ticket =
      core_->waits.Add(Core::NextExitOf({ns, id}), std::move(done));
  if (ticket.ok()) return *ticket;
  done(ticket.status());  // NOLINT(bugprone-use-after-move): it was not taken
  return 0;
}

void TaskService::EndNextExitWaits(const std::string& ns, const std::string& id) {
  const TaskKey key{ns, id};
  core_->waits.AnswerAll(Core::NextExitOf(key),
                         absl::NotFoundError(absl::StrCat("container \"", id, "\" in namespace \"",
                                                          ns, "\" was removed before it ended")));
}

void TaskService::AnswerNextExitWaits(const std::string& ns, const std::string& id,
                                      const Exit& last) {
  core_->waits.AnswerAll(Core::NextExitOf({ns, id}), last);
}

void TaskService::CancelWait(uint64_t ticket) {
  core_->waits.AnswerOne(ticket, absl::CancelledError("the wait was cancelled"));
}

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
    on_cancel = context.cancel->OnCancel([this, ticket] { CancelWait(ticket); });
  }
  if (!answer->ready.WaitForNotificationWithTimeout(limit)) {
    CancelWait(ticket);
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
  core_->ApplySwitchAnswer(*reached.first, true);
  return absl::OkStatus();
}

absl::Status TaskService::Resume(const CallContext& context, const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  GANTRY_RETURN_IF_ERROR(
      reached.second->client().Resume(runtime::CallOptions{kRuntimeCall, context.cancel}));
  core_->ApplySwitchAnswer(*reached.first, false);
  return absl::OkStatus();
}

absl::Status TaskService::Update(const CallContext& context, const std::string& id,
                                 const std::string& resources_json) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  shim::v1::UpdateRequest request;
  request.set_resources_json(resources_json);
  nlohmann::json resources =
      nlohmann::json::parse(resources_json, nullptr, /*allow_exceptions=*/false);
  const std::vector<std::string> changed = oci::ClampResourcesToHost(*core_->parts.host, resources);
  for (const std::string& change : changed)
    core_->SayOnce(absl::StrCat("updates are fitted to this host: ", change));
  if (!changed.empty()) request.set_resources_json(resources.dump());
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
  return std::move(Stats(context, std::vector<std::string>{id})[0]);
}

std::vector<absl::StatusOr<shim::v1::StatsResponse>> TaskService::Stats(
    const CallContext& context, const std::vector<std::string>& ids) {
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

void TaskService::EndWaits() { core_->EndWaits(); }

void TaskService::Stop() { core_->Stop(); }

}  // namespace gantry::core
