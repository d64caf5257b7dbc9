// The creation of a task: bundle, shim, container, each undone when a later step fails.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/containerd/types/runc/options/oci.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/task_core.h"
#include "supervisor/core/task_service.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/seccomp_filter.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/dead_task.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_launcher.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::core {
namespace {

using runtime::TaskKey;

constexpr char kCreationFailed[] = "its creation failed";

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

// The spec, with the files whose size is bounded mounted from where the shim puts their copies. As
// a text: a path behind a quote can be nothing else, and taking a spec apart takes its time.
std::string WithCopies(const CreateTask& create, const std::string& bundle) {
  if (create.bounded_bytes == 0) return create.spec_json;
  return absl::StrReplaceAll(create.spec_json, {{absl::StrCat("\"", create.bounded_directory, "/"),
                                                 absl::StrCat("\"", bundle, "/files/")}});
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
  GANTRY_ASSIGN_OR_RETURN(const TaskCore::Operation operation,
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
    core_->changes.Abandon(*task);
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
  if (create.bounded_bytes > 0) {
    request.mutable_bounded_files()->set_directory(create.bounded_directory);
    request.mutable_bounded_files()->set_max_bytes(create.bounded_bytes);
  }
  request.set_restore_image_path(create.restore_image_path);

  const std::string spec_json = WithCopies(create, parts.bundles->PathOf(key));
  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec, oci::RuntimeSpec::Parse(spec_json));
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
  const bool fitted = !changed.empty() || prebuilt || set_late || spec_json != create.spec_json;
  GANTRY_ASSIGN_OR_RETURN(
      runtime::Bundle bundle,
      parts.bundles->Create(key, fitted ? spec.Print() : create.spec_json, launch));
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
        core_->removal.ReapSoon(task, shim->bundle(), kCreationFailed, absl::Seconds(1));
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
  core_->changes.Listen(task, *shim, 0);
  absl::Cleanup stop_listening = [&task] {
    std::unique_ptr<runtime::EventStream> stream;
    absl::MutexLock lock(&task->mu);
    stream = std::move(task->stream);
    task->mu.Unlock();  // the stream's end waits for a running callback, which takes this lock
    stream.reset();
    task->mu.Lock();
  };

  if (create.ready) GANTRY_RETURN_IF_ERROR(create.ready());
  if (create.before_create) create.before_create(*shim);
  GANTRY_ASSIGN_OR_RETURN(
      shim::v1::CreateResponse created,
      shim->client().Create(request, runtime::CallOptions{kRuntimeCall, context.cancel}));
  CrashPoint("task.created");
  {
    absl::MutexLock lock(&task->mu);
    task->ready = true;
    core_->changes.ApplyCreated(*task, created.pid(), false);
    if (create.start) core_->changes.ApplyStarted(*task, "", created.pid(), absl::Now(), false);
  }
  std::move(stop_listening).Cancel();
  std::move(end_shim).Cancel();
  std::move(remove_bundle).Cancel();
  std::move(unreserve).Cancel();
  return created.pid();
}

}  // namespace gantry::core
