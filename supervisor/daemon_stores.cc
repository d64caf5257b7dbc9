#include <malloc.h>
#include <unistd.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "content-store/local_store.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/overlay_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/api/containerd/containerd_door.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_volumes.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/mount_activations.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/core/volume_content.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/daemon.h"
#include "supervisor/daemon_metrics.h"
#include "supervisor/daemon_parts.h"
#include "supervisor/distribution/credentials.h"
#include "supervisor/distribution/hosts_config.h"
#include "supervisor/distribution/http_client.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/pusher.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_client.h"
#include "supervisor/distribution/resolver.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/gc/collector.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/metadata/volume_store.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/volume/local_driver.h"

namespace gantry {
namespace {

// Names as they are stored: "pause:3.9" is "docker.io/library/pause:3.9".
std::set<std::string> PinnedNames(const Config& config) {
  std::set<std::string> names;
  for (const std::string& name : config.pinned_images) {
    const absl::StatusOr<distribution::Reference> reference = distribution::Reference::Parse(name);
    LOG_IF(WARNING, !reference.ok()) << "pinned image: " << reference.status();
    if (reference.ok()) names.insert(reference->canonical());
  }
  return names;
}

}  // namespace

absl::Status Daemon::OpenStores(Parts& p) {
  const Config& config = p.config;
  GANTRY_ASSIGN_OR_RETURN(p.db, p.database.get());
  GANTRY_ASSIGN_OR_RETURN(p.blobs, content::LocalStore::Open(config.root + "/content"));
  p.pool = std::make_unique<metadata::BlobPool>(*p.blobs, *p.db);
  GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> lost, p.pool->DropRecordsWithoutFile());
  for (const std::string& blob : lost)
    LOG(WARNING) << "blob " << blob
                 << " did not survive the last power cut; it is fetched again when needed";
  GANTRY_RETURN_IF_ERROR(OpenSnapshotters(p));
  p.images = std::make_unique<metadata::ImageStore>(*p.db, p.clock, PinnedNames(config));
  p.containers = std::make_unique<metadata::ContainerStore>(*p.db, p.clock);
  p.leases = std::make_unique<metadata::LeaseStore>(*p.db, p.clock);
  p.namespaces = std::make_unique<metadata::NamespaceStore>(*p.db, p.snapshotters, p.clock);
  p.sandboxes = std::make_unique<metadata::SandboxStore>(*p.db, p.clock);
  p.network_records = std::make_unique<metadata::NetworkStore>(*p.db);
  p.volume_records = std::make_unique<metadata::VolumeStore>(*p.db);
  GANTRY_ASSIGN_OR_RETURN(p.local_volumes, volume::LocalDriver::Open(config.root));
  p.names = std::make_unique<metadata::NameIndex>(*p.db);
  p.stores.reset(new core::Stores{*p.db, *p.pool, p.snapshotters, p.clock, *p.images, *p.containers,
                                  *p.leases, *p.namespaces, *p.sandboxes, *p.names,
                                  config.snapshotter});
  return absl::OkStatus();
}

absl::Status Daemon::OpenSnapshotters(Parts& p) {
  const Config& config = p.config;
  {
    GANTRY_ASSIGN_OR_RETURN(
        std::unique_ptr<snapshot::SnapshotIndex> index,
        snapshot::SnapshotIndex::Open(p.db->rocks(), p.db->snapshot_family(), "overlayfs"));
    snapshot::OverlayOptions options;
    options.root = config.root + "/snapshots/overlayfs";
    absl::StatusOr<std::unique_ptr<snapshot::OverlaySnapshotter>> overlay =
        snapshot::OverlaySnapshotter::Open(options, std::move(index));
    if (overlay.ok()) {
      p.overlay = *std::move(overlay);
      p.snapshotters.Add("overlayfs", *p.overlay);
    } else if (config.snapshotter == "overlayfs") {
      return absl::Status(overlay.status().code(),
                          absl::StrCat(overlay.status().message(),
                                       "; use another --root or snapshotter = \"native\""));
    }
  }
  {
    GANTRY_ASSIGN_OR_RETURN(
        std::unique_ptr<snapshot::SnapshotIndex> index,
        snapshot::SnapshotIndex::Open(p.db->rocks(), p.db->snapshot_family(), "native"));
    GANTRY_ASSIGN_OR_RETURN(p.native, snapshot::NativeSnapshotter::Open(
                                          config.root + "/snapshots/native", std::move(index)));
    p.snapshotters.Add("native", *p.native);
  }
  core::MountActivations::Parts mounts;
  mounts.db = p.db.get();
  mounts.root_directory = config.root;
  mounts.state_directory = config.state;
  mounts.boot_id = p.bundles->boot_id();
  p.mounts = std::make_unique<core::MountActivations>(mounts);
  GANTRY_RETURN_IF_ERROR(p.mounts->Open());
  return absl::OkStatus();
}

absl::Status Daemon::OpenRegistries(Parts& p) {
  const Config& config = p.config;
  p.http = distribution::NewCurlHttpClient(distribution::CurlHttpClientOptions());
  distribution::HostsConfigOptions hosts;
  if (!ConfigPaths(config).empty()) hosts.directories = ConfigPaths(config);
  hosts.insecure_registries = config.insecure_registries;
  p.hosts = std::make_unique<distribution::HostsConfig>(hosts);
  p.credentials = std::make_unique<distribution::DockerConfigCredentials>(
      distribution::DockerConfigCredentials::Options());
  distribution::RegistryClientOptions registry;
  registry.http = p.http.get();
  registry.hosts = p.hosts.get();
  registry.credentials = p.credentials.get();
  p.registry = std::make_unique<distribution::RegistryClient>(registry);
  distribution::FetcherOptions fetcher;
  fetcher.spool_directory = config.root + "/spool";
  GANTRY_RETURN_IF_ERROR(MakeDirectories(fetcher.spool_directory, 0700));
  p.puller = std::make_unique<distribution::Puller>(p.registry.get(), fetcher);
  if (absl::Status swept = p.puller->fetcher().SweepSpool(absl::Hours(24 * 7)); !swept.ok())
    LOG(WARNING) << swept;
  p.pusher = std::make_unique<distribution::Pusher>(p.registry.get(), fetcher.spool_directory);
  p.resolver = std::make_unique<distribution::Resolver>(p.registry.get());
  p.unpacker = std::make_unique<distribution::Unpacker>(distribution::UnpackerOptions());
  return absl::OkStatus();
}

void Daemon::MakeCollector(Parts& p) {
  const Config& config = p.config;
  p.collector = std::make_unique<gc::Collector>(*p.db, *p.pool, p.snapshotters, p.clock);
  p.collector->CollectMounts(*p.mounts);
  // What could not be removed when its time was, for want of a descriptor, say.
  p.collector->AlsoSweep([parts = &p] { return parts->blobs->RemoveHalfMade(); });
  p.collector->AlsoSweep([parts = &p] { return parts->bundles->SweepLeftovers(); });
  p.collector->AlsoSweep([parts = &p] {
    return parts->container_records ? parts->container_records->directories().Sweep()
                                    : absl::OkStatus();
  });
  gc::SchedulerOptions schedule;
  schedule.pause_threshold = config.gc_pause_threshold;
  schedule.deletion_threshold = config.gc_deletion_threshold;
  schedule.mutation_threshold = config.gc_mutation_threshold;
  schedule.schedule_delay = config.gc_schedule_delay;
  schedule.startup_delay = config.gc_startup_delay;
  p.scheduler = std::make_unique<gc::Scheduler>(
      *p.collector, schedule, [parts = &p](const absl::StatusOr<gc::Collection>& run) {
        if (parts->metrics) parts->metrics->NoteCollection(run);
        if (!run.ok()) {
          LOG(WARNING) << "garbage collection: " << run.status();
          return;
        }
        for (const absl::Status& leftover : run->leftovers) {
          if (absl::IsCancelled(leftover)) continue;  // we are stopping
          LOG(WARNING) << "garbage collection: " << leftover << " (tried again next time)";
        }
        if (parts->containerd_door) parts->containerd_door->PublishCollected(*run);
        malloc_trim(0);
      });
  p.db->SetLossObserver([](const absl::Status& why) {
    LOG(ERROR)
        << why
        << "; how much the disk has is not known any more. gantryd ends, so that nothing more is "
           "acknowledged, and reads it again when it is started, which systemd does at once. "
           "Containers run on";
    google::FlushLogFiles(google::GLOG_INFO);
    _exit(1);
  });
  p.db->SetCommitObserver(
      [scheduler = p.scheduler.get()](bool deletion) { scheduler->NoteChange(deletion); });
}

}  // namespace gantry
