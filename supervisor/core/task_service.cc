// The calls on tasks that there are. Their creation is in task_creation.cc, what they work on in
// task_core.h.
#include "supervisor/core/task_service.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/crash_point.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/task_core.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/runtime/cgroup_warmer.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

using runtime::TaskKey;

constexpr uint32_t kNeverStartedStatus = 255;

}  // namespace

TaskService::TaskService(const Parts& parts)
    : core_(std::make_shared<TaskCore>(parts)), view_(core_), waits_(core_) {
  std::weak_ptr<TaskCore> weak = core_;
  core_->registry =
      std::make_unique<runtime::ShimRegistry>([weak](std::shared_ptr<runtime::Shim> shim) {
        if (auto core = weak.lock()) {
          core->Hand([core, shim = std::move(shim)] { core->removal.OnShimGone(shim); });
        }
      });
}

TaskService::~TaskService() { core_->Stop(); }

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
      core_->changes.ApplyNeverStarted(*task, exec_id, kNeverStartedStatus, done);
    }
    for (const auto& call : done) call();
  }
  GANTRY_RETURN_IF_ERROR(answer.status());
  const shim::v1::StartResponse& started = *answer;
  std::string restored_from;
  {
    absl::MutexLock lock(&task->mu);
    core_->changes.ApplyStarted(*task, exec_id, started.pid(), absl::Now(), false);
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
      core_->changes.ForgetExec(*task, exec_id, "could not be added", done);
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
  core_->changes.ApplyExecAdded(*task, exec_id, /*again=*/false);
  if (start) core_->changes.ApplyStarted(*task, exec_id, added->pid(), absl::Now(), false);
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
  return exec_id.empty() ? core_->removal.DeleteTask(context, task, force)
                         : core_->removal.DeleteExec(context, task, exec_id, force);
}

absl::Status TaskService::Pause(const CallContext& context, const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  GANTRY_RETURN_IF_ERROR(
      reached.second->client().Pause(runtime::CallOptions{kRuntimeCall, context.cancel}));
  core_->changes.ApplySwitchAnswer(*reached.first, true);
  return absl::OkStatus();
}

absl::Status TaskService::Resume(const CallContext& context, const std::string& id) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  GANTRY_RETURN_IF_ERROR(
      reached.second->client().Resume(runtime::CallOptions{kRuntimeCall, context.cancel}));
  core_->changes.ApplySwitchAnswer(*reached.first, false);
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

absl::Status TaskService::Checkpoint(const CallContext& context, const std::string& id,
                                     const shim::v1::CheckpointRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(auto reached, core_->Reach({context.ns, id}));
  return reached.second->client().Checkpoint(request,
                                             runtime::CallOptions{kRuntimeCall, context.cancel});
}

}  // namespace gantry::core
