// The calls. What they work on is in task_core.h, what follows from a restart of the daemon in
// task_recovery.cc.
#include "supervisor/core/task_service.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/containerd/types/runc/options/oci.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/task_core.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/seccomp_filter.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/cgroup_warmer.h"
#include "supervisor/runtime/dead_task.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_launcher.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

using runtime::TaskKey;

constexpr absl::Duration kStatsCall = absl::Seconds(2);  // shims that do not answer are left out
constexpr uint32_t kNeverStartedStatus = 255;
constexpr char kCreationFailed[] = "its creation failed";
constexpr char kCheckpoint[] = "/checkpoint";  // in a bundle: what its task is restored from

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

namespace {

// What containerd's runc options say, as far as we act on it.
struct ChosenRuntime {
  runtime::RuntimeInfo info;
  shim::v1::Runtime for_shim;
  std::string shim_cgroup;  // "" for where shims are
};

absl::StatusOr<ChosenRuntime> ChooseRuntime(runtime::RuntimeProbe& probe, const CreateTask& create,
                                            const std::string& ns, shim::v1::Stdio& stdio) {
  containerd::runc::v1::Options options;
  const absl::string_view type = absl::string_view(create.runtime_options_type_url);
  const bool runc_options =
      type == "containerd.runc.v1.Options" || absl::EndsWith(type, "/containerd.runc.v1.Options");
  if (runc_options && !options.ParseFromString(create.runtime_options)) {
    return absl::InvalidArgumentError("runtime options: malformed containerd.runc.v1.Options");
  }
  ChosenRuntime chosen;
  GANTRY_ASSIGN_OR_RETURN(chosen.info,
                          probe.ResolveForContainerd(create.runtime, options.binary_name()));
  chosen.for_shim = chosen.info.ForShim(ns);
  if (!options.root().empty())
    chosen.for_shim.set_state_root(absl::StrCat(options.root(), "/", ns));
  if (options.systemd_cgroup()) chosen.for_shim.set_systemd_cgroup(true);
  if (options.no_pivot_root()) chosen.for_shim.set_no_pivot_root(true);
  if (options.no_new_keyring()) chosen.for_shim.set_no_new_keyring(true);
  if (options.io_uid() != 0) stdio.set_owner_uid(options.io_uid());
  if (options.io_gid() != 0) stdio.set_owner_gid(options.io_gid());
  chosen.shim_cgroup = options.shim_cgroup();
  return chosen;
}

// The cgroup is the client's: it makes it, and removes it in the end.
absl::Status MoveShim(pid_t shim, const std::string& cgroup) {
  const std::string what = absl::StrCat("runtime option shim_cgroup \"", cgroup, "\"");
  if (cgroup[0] != '/') return absl::InvalidArgumentError(what + ": not an absolute path");
  const std::vector<std::string> directories = runtime::FindCgroups(cgroup, "", "/sys/fs/cgroup");
  if (directories.empty())
    return absl::NotFoundError(what + ": no such cgroup, make it before the task");
  for (const std::string& directory : directories) {
    if (absl::Status moved = WriteFile(directory + "/cgroup.procs", absl::StrCat(shim), 0644);
        !moved.ok())
      return WithContext(moved, what);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int32_t> TaskService::Create(const CallContext& context, const CreateTask& create) {
  const TaskKey key{context.ns, create.container_id};
  const Parts& parts = core_->parts;
  auto task = std::make_shared<Task>(key);
  GANTRY_ASSIGN_OR_RETURN(const Core::Operation operation,
                          core_->Begin(task, "its creation", nullptr, absl::ZeroDuration()));
  {
    absl::MutexLock lock(&core_->map_mu);
    if (!core_->tasks.emplace(key, task).second) {
      return absl::AlreadyExistsError(absl::StrCat(ProcessText(key, ""), ": already exists"));
    }
  }
  // Set when what a failed creation made cannot be removed yet: the task stays until it is.
  bool left_behind = false;
  absl::Cleanup unreserve = [this, &task, &left_behind] {
    if (left_behind) return;
    core_->Forget(task);
    core_->Abandon(*task);
  };

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
  if (!create.resolver.empty()) {
    request.mutable_resolver()->set_netns(create.netns);
    request.mutable_resolver()->set_file(create.resolver);
  }
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

  // A spec is written once, for the driver of its day. Runtimes refuse the one's path with the
  // other, and settings change.
  chosen.for_shim.set_systemd_cgroup(spec.systemd_makes_cgroup(chosen.for_shim.systemd_cgroup()));
  *request.mutable_runtime() = chosen.for_shim;

  runtime::LaunchRecord launch;
  launch.create = request;
  launch.cgroup_path = spec.cgroups_path();
  launch.private_pid_namespace = spec.has_namespace("pid") && spec.namespace_path("pid").empty();
  launch.root_gid = spec.root_gid_on_host();
  launch.created_at = absl::Now();
  // What the client wrote goes to the runtime byte for byte unless something had to be fitted.
  GANTRY_ASSIGN_OR_RETURN(
      runtime::Bundle bundle,
      parts.bundles->Create(
          key, changed.empty() && !prebuilt && !set_late ? create.spec_json : spec.Print(),
          launch));
  absl::Cleanup remove_bundle = [&parts, &key, &left_behind] {
    if (left_behind) return;
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
  absl::Cleanup end_shim = [this, &key, &task, &left_behind, shim] {
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
          runtime::ReapDeadTask(shim->bundle(), kCreationFailed, kReapCall);
      // kUnavailable: the runtime did not answer, and nothing of it is left all the same.
      if (!reaped.ok() && !absl::IsUnavailable(reaped.status())) {
        LOG(ERROR) << "ns=" << key.ns << " id=" << key.container_id << " " << reaped.status();
        left_behind = true;
        core_->ReapSoon(task, shim->bundle(), kCreationFailed, absl::Seconds(1));
      }
    }
  };
  GANTRY_RETURN_IF_ERROR(core_->registry->Add(shim));
  if (!chosen.shim_cgroup.empty())
    GANTRY_RETURN_IF_ERROR(MoveShim(launched.process.pid, chosen.shim_cgroup));
  {
    absl::MutexLock lock(&task->mu);
    task->shim = shim;
    task->bundle = bundle;
    task->bundle_path = bundle.path();
    task->seen.Open(bundle.path());
    TaskSetup setup;
    setup.bundle = bundle.path();
    setup.rootfs = create.rootfs;
    setup.stdin_uri = create.stdio.stdin();
    setup.stdout_uri = create.stdio.stdout();
    setup.stderr_uri = create.stdio.stderr();
    setup.terminal = create.stdio.terminal();
    setup.checkpoint = request.restore_image_path();
    task->setup = std::make_shared<const TaskSetup>(std::move(setup));
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
                                          const shim::v1::Stdio& stdio, bool start) {
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
