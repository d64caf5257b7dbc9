#include "supervisor/daemon.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>
#include <malloc.h>
#include <unistd.h>

#include <future>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "content-store/local_store.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/overlay_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/api/containerd/containerd_door.h"
#include "supervisor/api/containerd/ttrpc_server.h"
#include "supervisor/api/docker/docker_door.h"
#include "supervisor/api/metrics/metrics_server.h"
#include "supervisor/build/build_executor.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_probe.h"
#include "supervisor/core/container_recovery.h"
#include "supervisor/core/container_removal.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/container_volumes.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/exec_runner.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/health_monitor.h"
#include "supervisor/core/image_build.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/mount_activations.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/network_names.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_service.h"
#include "supervisor/core/pod_figures.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/restart_monitor.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/sandbox_service.h"
#include "supervisor/core/task_service.h"
#include "supervisor/core/task_supervision.h"
#include "supervisor/core/volume_content.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/daemon_parts.h"
#include "supervisor/daemon_places.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/pusher.h"
#include "supervisor/distribution/registry_client.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/gc/collector.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/metadata/volume_store.h"
#include "supervisor/nri/plugins.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/runtime/apparmor.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/cgroup_warmer.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_launcher.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/socket_listener.h"
#include "supervisor/version.h"
#include "supervisor/volume/local_driver.h"

namespace gantry {
namespace {

// How long a shim may take to say what became of its container before it is listed as unknown,
// until it answers.
constexpr absl::Duration kRecoverEach = absl::Seconds(1);
// A stop that takes longer ends the process. Everything that was acknowledged is on disk by then,
// as after a crash.
constexpr absl::Duration kStopLimit = absl::Milliseconds(4500);

std::map<std::string, runtime::RuntimeSettings> Runtimes(const Config& config) {
  std::map<std::string, runtime::RuntimeSettings> settings;
  for (const auto& [name, one] : config.runtimes) {
    runtime::RuntimeSettings& out = settings[name];
    out.path = one.path;
    out.systemd_cgroup = one.systemd_cgroup;
    out.no_pivot_root = one.no_pivot_root;
    out.no_new_keyring = one.no_new_keyring;
    out.state_root = one.state_root;
  }
  return settings;
}

void SetLogLevel(const std::string& level) {
  FLAGS_minloglevel = level == "error" || level == "fatal" || level == "panic" ? google::GLOG_ERROR
                      : level == "warn" ? google::GLOG_WARNING
                                        : google::GLOG_INFO;
  FLAGS_v = level == "trace" ? 2 : level == "debug" ? 1 : 0;
}

// Ends the process when this lives longer than `limit`.
class EndInTime {
 public:
  explicit EndInTime(absl::Duration limit)
      : thread_([this, limit] {
          if (over_.WaitForNotificationWithTimeout(limit)) return;
          LOG(WARNING) << "the stop takes more than " << absl::FormatDuration(limit)
                       << "; gantryd ends without it";
          google::FlushLogFiles(google::GLOG_INFO);
          _exit(0);
        }) {}
  ~EndInTime() {
    over_.Notify();
    thread_.join();
  }

 private:
  absl::Notification over_;
  std::thread thread_;
};

}  // namespace

Daemon::Daemon() = default;

Daemon::~Daemon() {
  if (parts_ == nullptr) return;
  std::optional<EndInTime> watch;
  if (parts_->server != nullptr) watch.emplace(kStopLimit);
  StopServing(*parts_);
  StopServices(*parts_);
  Close(*parts_);
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& config,
                                                      InheritedSockets sockets) {
  SetLogLevel(config.log_level);
  std::unique_ptr<Daemon> daemon(new Daemon);
  daemon->parts_ = std::make_unique<Parts>(config);
  Parts& p = *daemon->parts_;
  p.inherited = std::move(sockets);
  const absl::Duration begin = p.clock.Monotonic();
  p.usual_open_files = TakeAllDescriptors();
  for (const std::string& keys : IgnoredByTable(config))
    LOG(WARNING) << "configuration " << (config.source.empty() ? "by flags" : config.source)
                 << ": no effect here: " << keys;

  GANTRY_RETURN_IF_ERROR(TakePlaces(p));
  PrepareRuntimes(p);
  GANTRY_RETURN_IF_ERROR(OpenStores(p));
  GANTRY_RETURN_IF_ERROR(OpenRegistries(p));
  MakeCollector(p);
  GANTRY_RETURN_IF_ERROR(MakeServices(p));
  GANTRY_RETURN_IF_ERROR(Recover(p));
  GANTRY_RETURN_IF_ERROR(MakeDoors(p));
  GANTRY_RETURN_IF_ERROR(Serve(p));
  core::TaskSupervision(*p.tasks).Follow();
  p.restarts->Start();
  malloc_trim(0);
  LOG(INFO) << "gantryd " << kVersion << " ready on " << config.address << " with root "
            << config.root << ", " << p.alive << " tasks alive, after "
            << absl::FormatDuration(p.clock.Monotonic() - begin);
  return daemon;
}

absl::Status Daemon::TakePlaces(Parts& p) {
  const Config& config = p.config;
  GANTRY_RETURN_IF_ERROR(MakeDirectories(config.root, 0711));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(config.state, 0711));
  GANTRY_RETURN_IF_ERROR(
      MakeDirectories(config.address.substr(0, config.address.rfind('/')), 0711));
  GANTRY_ASSIGN_OR_RETURN(UniqueFd lock, metadata::LockRoot(config.root));
  if (!p.inherited.Has(config.address)) GANTRY_RETURN_IF_ERROR(TakeOverSocket(config.address));
  GANTRY_ASSIGN_OR_RETURN(p.bundles, runtime::BundleStore::Open(config.state));
  // The database waits for the disk and the shims take their time to answer: both while the rest
  // gets on.
  p.shims = std::async(std::launch::async, [bundles = p.bundles.get()] {
    return runtime::RecoverShims(*bundles, kRecoverEach);
  });
  p.database =
      std::async(std::launch::async, [root = config.root, held = std::move(lock)]() mutable {
        return metadata::Database::Open(root, std::move(held));
      });
  GANTRY_RETURN_IF_ERROR(SweepMounts(config.state + "/mounts"));
  GANTRY_RETURN_IF_ERROR(RemoveTree(config.root + "/checkpoints"));
  return absl::OkStatus();
}

void Daemon::PrepareRuntimes(Parts& p) {
  const Config& config = p.config;
  // Before the probe, which looks for it.
  const absl::Status confined = runtime::LoadDefaultAppArmorProfile();
  LOG_IF(WARNING, !confined.ok()) << confined;
  p.host = oci::HostFacts::Probe();
  if (config.restrict_oom_score_adj) p.host.may_lower_oom_score = false;
  p.runtimes = std::make_unique<runtime::RuntimeProbe>(Runtimes(config), config.state,
                                                       config.default_runtime);
  p.runtimes->Warm();
  runtime::ShimLauncher::Options launch;
  launch.shim_path = FindProgram(config.shim_path, "gantry-shim", "shim");
  launch.log_level = config.log_level;
  launch.open_files = p.usual_open_files;
  if (launch.shim_path.empty())
    LOG(ERROR) << "the program gantry-shim is not beside gantryd nor in /usr/bin: no container can "
                  "start; name it with --shim";
  p.launcher = std::make_unique<runtime::ShimLauncher>(launch);
  if (absl::Status warm = p.launcher->WarmUp(); !warm.ok())
    LOG(WARNING) << "shims will start slowly: " << warm;
  p.warmer = std::make_unique<runtime::CgroupWarmer>();
}

// Tasks first: records are brought in line with them.
absl::Status Daemon::Recover(Parts& p) {
  p.events.BeginRecovery();
  GANTRY_ASSIGN_OR_RETURN(std::vector<runtime::RecoveredTask> found, p.shims.get());
  p.alive = core::TaskSupervision(*p.tasks).Recover(std::move(found));
  // Exits found on the way are in the records before anything is made of what the records say.
  p.workers->WaitIdle();
  GANTRY_RETURN_IF_ERROR(p.image_services->pull.Recover());
  p.health_monitor->Start();
  // Before containers are started again. A host whose rules cannot be written still runs those
  // without a network.
  const absl::Status networks =
      p.network_places->Reconcile([&p](absl::string_view ns, absl::string_view id) {
        const absl::StatusOr<core::Process> task =
            p.tasks->view().Get(std::string(ns), std::string(id), "");
        return task.ok() && task->status != core::ProcessStatus::kStopped;
      });
  LOG_IF(ERROR, !networks.ok()) << "networks: " << networks;
  // Before containers are made or removed.
  absl::Status volumes = p.volumes->Reconcile();
  std::vector<core::LoadedContainer> running;
  for (const auto& [ns, process] : p.tasks->view().List("")) {
    core::CallContext context;
    context.ns = ns;
    absl::StatusOr<core::LoadedContainer> loaded =
        p.container_records->Load(context, process.container_id);
    if (loaded.ok()) running.push_back(*std::move(loaded));
  }
  volumes.Update(p.run_volumes->Reconcile(running));
  LOG_IF(ERROR, !volumes.ok()) << "volumes: " << volumes;
  GANTRY_RETURN_IF_ERROR(p.container_recovery->Reconcile());
  GANTRY_RETURN_IF_ERROR(p.pods->Recover());
  p.pods->StartPlugins();
  GANTRY_RETURN_IF_ERROR(p.image_build->Recover());
  if (const absl::Status builds = p.builder->Recover(); !builds.ok())
    LOG(WARNING) << "files of former builds: " << builds;
  for (const auto& [ns, process] : p.tasks->view().List("")) {
    const bool paused = process.status == core::ProcessStatus::kPaused;
    if (paused || process.status == core::ProcessStatus::kRunning)
      p.health_monitor->Adopt(ns, process.container_id, process.started_at, paused);
  }
  p.events.EndRecovery();
  return absl::OkStatus();
}

void Daemon::StopServices(Parts& p) {
  if (p.restarts) p.restarts->Stop();
  if (p.scheduler) p.scheduler->Stop();
  if (p.health_monitor) p.health_monitor->Stop();
  if (p.container_recovery) p.container_recovery->Stop();
  if (p.container_removal) p.container_removal->Stop();
  if (p.tasks) core::TaskSupervision(*p.tasks).Stop();
  p.followers.reset();
  p.cri_calls.reset();
  p.calls.reset();
  p.server.reset();
  p.containerd_door.reset();
  p.gantry_door.clear();
  p.cri_door.clear();
  // With everything queued done: the services are all there.
  p.workers.reset();
  p.nri.reset();
}

void Daemon::Close(Parts& p) {
  if (p.bundles) {
    absl::Status released = p.bundles->ReleaseMount();
    if (!released.ok()) LOG(WARNING) << released;
  }
  // The members end in the reverse order of their making.
  parts_.reset();
}

void Daemon::Reload(const Config& config) {
  Parts& p = *parts_;
  SetLogLevel(config.log_level);
  p.runtimes->Reconfigure(Runtimes(config), config.default_runtime);
  std::vector<std::string> later;
  if (config.root != p.config.root) later.push_back("root");
  if (config.state != p.config.state) later.push_back("state");
  if (config.address != p.config.address) later.push_back("address");
  if (config.snapshotter != p.config.snapshotter) later.push_back("snapshotter");
  LOG(INFO) << "configuration read again: runtimes and log level are in force"
            << (later.empty() ? ""
                              : absl::StrCat("; ", absl::StrJoin(later, ", "), " take a restart"));
}

}  // namespace gantry
