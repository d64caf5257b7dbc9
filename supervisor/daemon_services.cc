#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "content-store/local_store.h"
#include "supervisor/build/build_executor.h"
#include "supervisor/core/build_cache.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_networks.h"
#include "supervisor/core/container_probe.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_recovery.h"
#include "supervisor/core/container_removal.h"
#include "supervisor/core/container_steps.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/container_volumes.h"
#include "supervisor/core/container_wait.h"
#include "supervisor/core/doctor.h"
#include "supervisor/core/end_report.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_journal.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/exec_runner.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/health_monitor.h"
#include "supervisor/core/id_choice.h"
#include "supervisor/core/image_build.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/network_names.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_service.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_figures.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/prepare_run.h"
#include "supervisor/core/run_end.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/sandbox_service.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/subordinate_ids.h"
#include "supervisor/core/system_service.h"
#include "supervisor/core/task_service.h"
#include "supervisor/core/task_supervision.h"
#include "supervisor/core/volume_content.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/daemon.h"
#include "supervisor/daemon_parts.h"
#include "supervisor/daemon_places.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/metadata/volume_store.h"
#include "supervisor/network/cni.h"
#include "supervisor/nri/plugins.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/cgroup_warmer.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_launcher.h"
#include "supervisor/runtime/shim_signal.h"
#include "supervisor/version.h"
#include "supervisor/volume/local_driver.h"
#include "supervisor/volume/plugin_driver.h"

namespace gantry {
namespace {

// Ceiling of the build cache.

// What follows from exits, and from tasks that are known again.
class ExitsOfContainers : public core::ExitObserver {
 public:
  ExitsOfContainers(core::ContainerRecovery& recovery, core::ExecService& execs,
                    core::HealthMonitor& health, core::RunEnds& ends,
                    const std::unique_ptr<core::PodService>& pods)
      : recovery_(recovery), execs_(execs), health_(health), ends_(ends), pods_(pods) {}
  void OnExit(const std::string& ns, const core::Process& process) override {
    if (!process.exec_id.empty()) execs_.OnExit(ns, process);
    ends_.NoteEnded(ns, process);  // before the end is settled, which removes the bundle
    recovery_.OnExit(ns, process);
    if (process.exec_id.empty() && pods_ != nullptr)
      pods_->containers().OnExit(ns, process.container_id);
  }
  void OnTakenUp(const std::string& ns, const core::Process& process) override {
    const bool paused = process.status == core::ProcessStatus::kPaused;
    if (paused || process.status == core::ProcessStatus::kRunning)
      health_.Adopt(ns, process.container_id, process.started_at, paused);
  }

 private:
  core::ContainerRecovery& recovery_;
  core::ExecService& execs_;
  core::HealthMonitor& health_;
  core::RunEnds& ends_;
  const std::unique_ptr<core::PodService>& pods_;
};

}  // namespace

absl::Status Daemon::MakeServices(Parts& p) {
  const Config& config = p.config;
  p.workers = std::make_unique<Executor>("worker", 16);
  p.subjects = std::make_unique<core::EventSubjects>(*p.containers, *p.names);
  absl::StatusOr<std::unique_ptr<core::EventJournal>> journal =
      core::EventJournal::Open(p.config.root + "/events", p.events, *p.subjects);
  LOG_IF(WARNING, !journal.ok()) << "events are not kept for after a restart: " << journal.status();
  if (journal.ok()) p.journal = *std::move(journal);
  core::TaskService::Parts task_parts;
  task_parts.bundles = p.bundles.get();
  task_parts.runtimes = p.runtimes.get();
  task_parts.launcher = p.launcher.get();
  task_parts.warmer = p.warmer.get();
  task_parts.events = &p.events;
  task_parts.workers = p.workers.get();
  task_parts.host = &p.host;
  p.tasks = std::make_unique<core::TaskService>(task_parts);
  p.sandbox_service = std::make_unique<core::SandboxService>(*p.sandboxes, p.events, p.clock);

  core::ImageServices::Parts image_parts;
  image_parts.stores = p.stores.get();
  image_parts.events = &p.events;
  image_parts.unpacker = p.unpacker.get();
  image_parts.puller = p.puller.get();
  image_parts.pusher = p.pusher.get();
  image_parts.resolver = p.resolver.get();
  image_parts.credentials = p.credentials.get();
  image_parts.hosts = p.hosts.get();
  image_parts.gc = p.scheduler.get();
  image_parts.max_parallel_blobs = config.max_concurrent_downloads;
  image_parts.discard_blobs = config.compressed_blobs == "discard";
  image_parts.sync_blobs = [blobs = p.blobs.get()] { return blobs->Sync(); };
  p.image_services = std::make_unique<core::ImageServices>(image_parts);

  GANTRY_ASSIGN_OR_RETURN(p.mount_points, core::MountPoints::Open(config.root));
  // Before anything is made that a daemon with a wrong setting would leave behind.
  if (!config.userns_remap.empty()) {
    if (const absl::Status usable = core::RemapOf("/etc", config.userns_remap).status();
        !usable.ok()) {
      return WithContext(
          usable, absl::StrCat("setting user_namespaces.remap = \"", config.userns_remap, "\""));
    }
  }
  MakeNetworks(p);
  MakeContainerLife(p);
  MakeContainerUse(p);

  GANTRY_RETURN_IF_ERROR(MakeSystemService(p));
  MakeHealthMonitor(p);
  return MakePodService(p);
}

void Daemon::MakeNetworks(Parts& p) {
  core::NetworkService::Parts networks;
  networks.store = p.network_records.get();
  networks.clock = &p.clock;
  networks.events = &p.events;
  p.network_kernel = std::make_unique<core::NetworkKernel>(p.network_records.get(), p.config.state,
                                                           p.workers.get());
  networks.kernel = p.network_kernel.get();
  if (!p.config.default_address_pools.empty()) networks.pools.clear();
  for (const std::string& text : p.config.default_address_pools) {
    // Checked with the configuration.
    const absl::StatusOr<network::PoolSource> pool = network::ParsePoolSource(text);
    if (pool.ok()) networks.pools.push_back(*pool);
  }
  networks.host_id = PersistentUuid(p.config.root).value_or("");
  p.network_names = std::make_unique<core::NetworkNames>(p.network_records.get(), p.config.state);
  networks.names = p.network_names.get();
  p.networks = std::make_unique<core::NetworkService>(std::move(networks));
  p.network_places = std::make_unique<core::NetworkPlaces>(core::NetworkPlaces::Parts{
      p.network_records.get(), p.networks.get(), p.network_kernel.get(), &p.events, p.config.state,
      p.network_names.get(), p.config.default_bind,
      [&p](const std::string& ns, const std::string& id) {
        return runtime::SignalPortsChanged(*p.bundles, {ns, id});
      }});
}

// What puts the steps of a container's life in order.
void Daemon::MakeContainerLife(Parts& p) {
  core::ContainerRecords::Parts records;
  records.stores = p.stores.get();
  records.events = &p.events;
  records.root_directory = p.config.root;
  records.state_directory = p.config.state;
  p.container_records = std::make_unique<core::ContainerRecords>(records);

  p.volume_plugins = std::make_unique<volume::PluginDrivers>(
      volume::PluginPlaces{p.config.volume_plugin_sockets, p.config.volume_plugin_specs});
  core::VolumeService::Parts volumes;
  volumes.plugins = p.volume_plugins.get();
  volumes.store = p.volume_records.get();
  volumes.local = p.local_volumes.get();
  volumes.stores = p.stores.get();
  volumes.clock = &p.clock;
  volumes.events = &p.events;
  p.volumes = std::make_unique<core::VolumeService>(volumes);
  p.run_volumes = std::make_unique<core::RunVolumes>(
      core::RunVolumes::Parts{p.volume_records.get(), p.local_volumes.get(), p.volumes.get(),
                              p.config.state, p.volume_plugins.get(), p.workers.get()});
  p.volume_content = std::make_unique<core::VolumeContent>(
      core::VolumeContent::Parts{p.volumes.get(), p.run_volumes.get(), p.local_volumes.get()});
  core::IdChoice::Parts ids;
  ids.remap = p.config.userns_remap;
  ids.auto_user = p.config.userns_auto_user;
  ids.in_use = [&p] { return core::IdsInUse(*p.stores); };
  p.id_choice = std::make_unique<core::IdChoice>(std::move(ids));
  p.container_volumes = std::make_unique<core::ContainerVolumes>(
      core::ContainerVolumes::Parts{p.volumes.get(), p.container_records.get(), p.run_volumes.get(),
                                    p.config.state, p.id_choice.get()});

  core::ContainerRemoval::Parts removal;
  removal.records = p.container_records.get();
  removal.stores = p.stores.get();
  removal.events = &p.events;
  removal.subjects = p.subjects.get();
  removal.tasks = p.tasks.get();
  removal.workers = p.workers.get();
  removal.waits = &p.removals;
  removal.starts = &p.starts;
  removal.networks = p.network_places.get();
  removal.volumes = p.volumes.get();
  removal.run_volumes = p.run_volumes.get();
  p.container_removal = std::make_unique<core::ContainerRemoval>(removal);

  core::RunPreparer::Parts runs;
  runs.records = p.container_records.get();
  runs.stores = p.stores.get();
  runs.tasks = &p.tasks->view();
  runs.mount_points = &*p.mount_points;
  runs.networks = p.network_places.get();
  runs.volumes = p.run_volumes.get();
  runs.log_max_size_bytes = p.config.log_max_size_bytes;
  runs.log_max_files = p.config.log_max_files;
  runs.devices = &p.device_files;
  runs.generated_files_bytes = p.config.generated_files_bytes;
  p.run_preparer = std::make_unique<core::RunPreparer>(runs);

  p.run_ends = std::make_unique<core::RunEnds>(
      core::RunEnds::Parts{p.container_records.get(), &p.tasks->view(), &p.events});
  core::ContainerSteps::Parts steps;
  steps.records = p.container_records.get();
  steps.stores = p.stores.get();
  steps.tasks = p.tasks.get();
  steps.removal = p.container_removal.get();
  steps.runs = p.run_preparer.get();
  steps.starts = &p.starts;
  steps.before_self_removal = [&p](const core::LoadedContainer& loaded,
                                   const core::Process* ended) {
    if (p.end_reports) p.end_reports->NoteRemoval(loaded, ended);
  };
  p.container_steps = std::make_unique<core::ContainerSteps>(steps);

  core::ContainerView::Parts view;
  view.records = p.container_records.get();
  view.stores = p.stores.get();
  view.health = &p.health;
  view.tasks = &p.tasks->view();
  view.runtimes = p.runtimes.get();
  view.networks = p.network_places.get();
  view.volumes = p.volumes.get();
  p.container_view = std::make_unique<core::ContainerView>(view);

  core::ContainerLifecycle::Parts lifecycle;
  lifecycle.records = p.container_records.get();
  lifecycle.steps = p.container_steps.get();
  lifecycle.runs = p.run_preparer.get();
  lifecycle.removal = p.container_removal.get();
  lifecycle.view = p.container_view.get();
  lifecycle.stores = p.stores.get();
  lifecycle.events = &p.events;
  lifecycle.tasks = p.tasks.get();
  lifecycle.images = &p.image_services->catalog;
  lifecycle.unpack = &p.image_services->unpack;
  lifecycle.host = &p.host;
  lifecycle.runtimes = p.runtimes.get();
  lifecycle.state_directory = p.config.state;
  lifecycle.volumes = p.container_volumes.get();
  lifecycle.networks = p.network_places.get();
  lifecycle.default_network = p.config.default_network;
  lifecycle.devices = &p.device_files;
  lifecycle.default_pids_limit = p.config.default_pids_limit;
  lifecycle.init_path = FindProgram("", "gantry-init", "shim");
  p.container_lifecycle = std::make_unique<core::ContainerLifecycle>(lifecycle);
}

// What uses containers that the classes of their life have made.
void Daemon::MakeContainerUse(Parts& p) {
  p.container_networks = std::make_unique<core::ContainerNetworks>(
      core::ContainerNetworks::Parts{p.container_records.get(), p.stores.get(), &p.tasks->view(),
                                     p.networks.get(), p.network_places.get()});
  p.container_streams = std::make_unique<core::ContainerStreams>(core::ContainerStreams::Parts{
      p.container_records.get(), p.container_steps.get(), p.tasks.get(), &p.starts});

  core::ContainerFiles::Parts files;
  files.records = p.container_records.get();
  files.stores = p.stores.get();
  files.tasks = p.tasks.get();
  files.images = &p.image_services->catalog;
  files.mount_points = &*p.mount_points;
  files.state_directory = p.config.state;
  p.container_files = std::make_unique<core::ContainerFiles>(files);

  core::ContainerWait::Parts wait;
  wait.records = p.container_records.get();
  wait.steps = p.container_steps.get();
  wait.tasks = p.tasks.get();
  wait.workers = p.workers.get();
  wait.removals = &p.removals;
  p.container_wait = std::make_unique<core::ContainerWait>(wait);

  p.execs = std::make_unique<core::ExecService>(
      core::ExecService::Parts{p.container_records.get(), p.container_files.get(), p.tasks.get(),
                               &p.host, &p.clock, p.config.execs_end_with_client});

  p.end_reports = std::make_unique<core::EndReports>(core::EndReports::Parts{
      p.container_records.get(), p.container_streams.get(), p.container_files.get(),
      &p.tasks->view(), &p.health, p.run_ends.get()});
  p.doctor = std::make_unique<core::Doctor>(core::Doctor::Parts{
      p.stores.get(), &p.tasks->view(), p.runtimes.get(), p.config.root, p.config.state,
      p.config.address, p.network_records.get(), p.volume_records.get()});

  core::ContainerRecovery::Parts recovery;
  recovery.records = p.container_records.get();
  recovery.steps = p.container_steps.get();
  recovery.removal = p.container_removal.get();
  recovery.stores = p.stores.get();
  recovery.tasks = p.tasks.get();
  recovery.workers = p.workers.get();
  recovery.root_directory = p.config.root;
  recovery.state_directory = p.config.state;
  p.container_recovery = std::make_unique<core::ContainerRecovery>(recovery);

  core::ImageBuild::Parts images;
  images.stores = p.stores.get();
  images.catalog = &p.image_services->catalog;
  images.unpack = &p.image_services->unpack;
  images.pull = &p.image_services->pull;
  images.assembly = &p.image_services->assembly;
  images.records = p.container_records.get();
  images.containers = p.container_lifecycle.get();
  images.streams = p.container_streams.get();
  images.waits = p.container_wait.get();
  images.state_directory = p.config.state;
  images.sync_blobs = [blobs = p.blobs.get()] { return blobs->Sync(); };
  images.push = &p.image_services->push;
  images.puller = p.puller.get();
  images.resolver = p.resolver.get();
  images.unpacker = p.unpacker.get();
  images.credentials = p.credentials.get();
  images.hosts = p.hosts.get();
  p.image_build = std::make_unique<core::ImageBuild>(images);
  p.build_cache = std::make_unique<core::BuildCache>(
      core::BuildCache::Parts{p.stores.get(), p.scheduler.get(), p.config.build_cache_bytes});
  p.builder = std::make_unique<build::BuildExecutor>(build::BuildExecutor::Parts{
      p.image_build.get(), p.build_cache.get(), p.config.root + "/builds",
      p.config.state + "/builds", p.config.root + "/build-caches", p.http.get(),
      p.config.root + "/build-contexts", FindProgram("", "gantry-init", "shim")});
}

absl::Status Daemon::MakeSystemService(Parts& p) {
  const Config& config = p.config;
  core::SystemService::Parts system_parts;
  system_parts.stores = p.stores.get();
  system_parts.events = &p.events;
  system_parts.subjects = p.subjects.get();
  system_parts.journal = p.journal.get();
  system_parts.tasks = &p.tasks->view();
  system_parts.runtimes = p.runtimes.get();
  system_parts.gc = p.scheduler.get();
  system_parts.volumes = p.volumes.get();
  GANTRY_ASSIGN_OR_RETURN(system_parts.facts.uuid, PersistentUuid(config.root));
  system_parts.facts.version = kVersion;
  system_parts.facts.root_directory = config.root;
  system_parts.facts.state_directory = config.state;
  system_parts.facts.config_file = config.source;
  system_parts.facts.address = config.address;
  system_parts.facts.docker_address = absl::StrJoin(DockerAddresses(config), " ");
  system_parts.facts.default_runtime = config.default_runtime;
  system_parts.facts.userns_remap = config.userns_remap;
  system_parts.facts.started_at = p.clock.Now();
  p.uuid = system_parts.facts.uuid;
  system_parts.devices = &p.device_files;
  system_parts.forward_drops = [&p] { return p.network_kernel->ForwardDrops(); };
  p.system_service = std::make_unique<core::SystemService>(std::move(system_parts));
  return absl::OkStatus();
}

absl::Status Daemon::MakePodService(Parts& p) {
  network::Cni::Options cni;
  cni.conf_dir = p.config.cni_conf_dir;
  cni.bin_dirs = p.config.cni_bin_dirs;
  cni.record_dir = p.config.root + "/cni";
  GANTRY_ASSIGN_OR_RETURN(p.cni, network::Cni::Open(std::move(cni)));
  core::PodService::Parts pods;
  pods.stores = p.stores.get();
  pods.sandboxes = p.sandbox_service.get();
  pods.records = p.container_records.get();
  pods.lifecycle = p.container_lifecycle.get();
  pods.tasks = p.tasks.get();
  pods.images = &p.image_services->catalog;
  pods.unpack = &p.image_services->unpack;
  pods.runtimes = p.runtimes.get();
  pods.host = &p.host;
  pods.events = &p.events;
  pods.workers = p.workers.get();
  pods.state_directory = p.config.state;
  pods.init_path = FindProgram("", "gantry-init", "shim");
  pods.cni = p.cni.get();
  if (p.config.nri_enabled) {
    nri::Plugins::Options options;
    options.plugin_directory = p.config.nri_plugin_directory;
    options.config_directory = p.config.nri_config_directory;
    options.registration_timeout = p.config.nri_registration_timeout;
    options.request_timeout = p.config.nri_request_timeout;
    options.runtime_version = kVersion;
    p.nri = std::make_unique<nri::Plugins>(options);
    pods.plugins = p.nri.get();
  }
  p.pods = std::make_unique<core::PodService>(pods);
  p.pod_figures =
      std::make_unique<core::PodFigures>(core::PodFigures::Parts{p.stores.get(), p.tasks.get()});
  return absl::OkStatus();
}

void Daemon::MakeHealthMonitor(Parts& p) {
  p.exec_runner = std::make_unique<core::ExecRunner>(*p.execs, *p.tasks, *p.workers, p.clock);
  p.prober = std::make_unique<core::ContainerProber>(*p.exec_runner);
  core::HealthMonitor::Parts health_parts;
  health_parts.containers = p.containers.get();
  health_parts.events = &p.events;
  health_parts.board = &p.health;
  health_parts.prober = p.prober.get();
  health_parts.workers = p.workers.get();
  health_parts.clock = &p.clock;
  health_parts.task_directory = [tasks = p.tasks.get()](const std::string& ns,
                                                        const std::string& id) {
    return tasks->view().BundleDirectory(ns, id);
  };
  p.health_monitor = std::make_unique<core::HealthMonitor>(std::move(health_parts));
  p.exits = std::make_unique<ExitsOfContainers>(*p.container_recovery, *p.execs, *p.health_monitor,
                                                *p.run_ends, p.pods);
  core::TaskSupervision(*p.tasks).SetExitObserver(p.exits.get());
}

}  // namespace gantry
