// All objects of a daemon, in the order in which they are made.
//
// Filled by the steps of Daemon::Start(): daemon.cc (places, runtimes, recovery), daemon_stores.cc,
// daemon_services.cc and daemon_doors.cc. Forward declarations only, so that each of those includes
// what it makes and nothing else. Not thread-safe; lives on the main thread.
#ifndef GANTRY_SUPERVISOR_DAEMON_PARTS_H_
#define GANTRY_SUPERVISOR_DAEMON_PARTS_H_

#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "base/clock.h"
#include "snapshotter/snapshotter.h"
#include "supervisor/config.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/mount_points.h"
#include "supervisor/core/removal_waits.h"
#include "supervisor/core/start_waits.h"
#include "supervisor/daemon.h"
#include "supervisor/metadata/snapshotters.h"
#include "supervisor/oci/cdi/device_files.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/service_manager.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc

namespace gantry {

namespace api::cri {
class StreamServer;
}  // namespace api::cri
namespace api {
class ContainerdDoor;
class BuildkitDoor;
class DockerDoor;
class MetricsServer;
class TtrpcServer;
}  // namespace api
namespace build {
class BuildExecutor;
}  // namespace build
namespace content {
class LocalStore;
}  // namespace content
namespace core {
class BuildCache;
class ContainerFiles;
class ContainerLifecycle;
class ContainerNetworks;
class ContainerProber;
class ContainerRecords;
class ContainerRecovery;
class ContainerRemoval;
class ContainerSteps;
class ContainerStreams;
class ContainerView;
class ContainerVolumes;
class ContainerWait;
class EventJournal;
class EventSubjects;
class ExecRunner;
class Doctor;
class EndReports;
class RunEnds;
class ExecService;
class ExitObserver;
class HealthMonitor;
class IdChoice;
class ImageBuild;
struct ImageServices;
class MountActivations;
class NetworkKernel;
class NetworkNames;
class NetworkPlaces;
class NetworkService;
class PodFigures;
class PodService;
class RestartMonitor;
class RunPreparer;
class RunVolumes;
class SandboxService;
struct Stores;
class SystemService;
class TaskService;
class VolumeContent;
class VolumeService;
}  // namespace core
namespace distribution {
class DockerConfigCredentials;
class HostsConfig;
class HttpClient;
class Puller;
class Pusher;
class RegistryClient;
class Resolver;
class Unpacker;
}  // namespace distribution
namespace gc {
class Collector;
class Scheduler;
}  // namespace gc
namespace metadata {
class BlobPool;
class ContainerStore;
class Database;
class ImageStore;
class LeaseStore;
class NameIndex;
class NamespaceStore;
class NetworkStore;
class SandboxStore;
class VolumeStore;
}  // namespace metadata
namespace network {
class Cni;
}  // namespace network
namespace nri {
class Plugins;
}  // namespace nri
namespace runtime {
class BundleStore;
class CgroupWarmer;
class RuntimeProbe;
class ShimLauncher;
}  // namespace runtime
namespace trace {
class SpanExporter;
}  // namespace trace
namespace volume {
class LocalDriver;
class PluginDrivers;
}  // namespace volume
class DaemonMetrics;
class Executor;
class SocketListener;

struct Daemon::Parts {
  explicit Parts(const Config& given);
  // Ends the members in the reverse order of their making.
  ~Parts();
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  // Of one step of the start for a later one.
  uint64_t usual_open_files = 0;
  int alive = 0;
  std::string uuid;

  Config config;
  InheritedSockets inherited;
  std::set<std::string> own_sockets;  // those whose files are removed at the end
  const Clock& clock = Clock::Real();
  oci::HostFacts host;
  const oci::cdi::DeviceFiles device_files;

  std::unique_ptr<runtime::BundleStore> bundles;
  std::unique_ptr<runtime::RuntimeProbe> runtimes;
  std::unique_ptr<runtime::ShimLauncher> launcher;
  std::unique_ptr<runtime::CgroupWarmer> warmer;
  // Begun by TakePlaces(). Their ends are waited for, also when the start fails.
  std::future<absl::StatusOr<std::vector<runtime::RecoveredTask>>> shims;
  std::future<absl::StatusOr<std::unique_ptr<metadata::Database>>> database;

  std::unique_ptr<metadata::Database> db;
  std::unique_ptr<content::LocalStore> blobs;
  std::unique_ptr<metadata::BlobPool> pool;
  std::unique_ptr<snapshot::Snapshotter> overlay;
  std::unique_ptr<snapshot::Snapshotter> native;
  metadata::Snapshotters snapshotters;
  std::unique_ptr<metadata::ImageStore> images;
  std::unique_ptr<metadata::ContainerStore> containers;
  std::unique_ptr<metadata::LeaseStore> leases;
  std::unique_ptr<metadata::NamespaceStore> namespaces;
  std::unique_ptr<metadata::SandboxStore> sandboxes;
  std::unique_ptr<metadata::NameIndex> names;
  std::unique_ptr<metadata::NetworkStore> network_records;
  std::unique_ptr<metadata::VolumeStore> volume_records;
  std::unique_ptr<volume::LocalDriver> local_volumes;
  std::unique_ptr<core::Stores> stores;

  core::EventBus events;
  std::unique_ptr<core::EventSubjects> subjects;
  std::unique_ptr<core::EventJournal> journal;
  std::unique_ptr<distribution::HttpClient> http;
  std::unique_ptr<distribution::HostsConfig> hosts;
  std::unique_ptr<distribution::DockerConfigCredentials> credentials;
  std::unique_ptr<distribution::RegistryClient> registry;
  std::unique_ptr<distribution::Puller> puller;
  std::unique_ptr<distribution::Pusher> pusher;
  std::unique_ptr<distribution::Resolver> resolver;
  std::unique_ptr<distribution::Unpacker> unpacker;
  std::unique_ptr<core::MountActivations> mounts;
  std::unique_ptr<gc::Collector> collector;
  std::unique_ptr<gc::Scheduler> scheduler;

  std::optional<core::MountPoints> mount_points;
  std::unique_ptr<core::TaskService> tasks;
  std::unique_ptr<core::SandboxService> sandbox_service;
  std::unique_ptr<core::ImageServices> image_services;
  core::HealthBoard health;
  core::RemovalWaits removals;
  core::StartWaits starts;
  std::unique_ptr<core::ContainerRecords> container_records;
  std::unique_ptr<core::VolumeService> volumes;
  std::unique_ptr<core::RunVolumes> run_volumes;
  std::unique_ptr<core::VolumeContent> volume_content;
  std::unique_ptr<core::ContainerVolumes> container_volumes;
  std::unique_ptr<core::NetworkKernel> network_kernel;
  std::unique_ptr<core::NetworkNames> network_names;
  std::unique_ptr<core::NetworkService> networks;
  std::unique_ptr<core::NetworkPlaces> network_places;
  std::unique_ptr<core::ContainerNetworks> container_networks;
  std::unique_ptr<core::ContainerRemoval> container_removal;
  std::unique_ptr<core::RunPreparer> run_preparer;
  std::unique_ptr<core::RunEnds> run_ends;
  std::unique_ptr<core::ContainerSteps> container_steps;
  std::unique_ptr<core::ContainerView> container_view;
  std::unique_ptr<core::IdChoice> id_choice;
  std::unique_ptr<volume::PluginDrivers> volume_plugins;
  std::unique_ptr<core::ContainerLifecycle> container_lifecycle;
  std::unique_ptr<core::ContainerStreams> container_streams;
  std::unique_ptr<core::ContainerFiles> container_files;
  std::unique_ptr<core::ContainerWait> container_wait;
  std::unique_ptr<core::ExecService> execs;
  std::unique_ptr<core::EndReports> end_reports;
  std::unique_ptr<core::Doctor> doctor;
  std::unique_ptr<core::ContainerRecovery> container_recovery;
  std::unique_ptr<core::ImageBuild> image_build;
  std::unique_ptr<core::BuildCache> build_cache;
  std::unique_ptr<build::BuildExecutor> builder;
  std::unique_ptr<core::SystemService> system_service;
  std::unique_ptr<core::ExecRunner> exec_runner;
  std::unique_ptr<core::ContainerProber> prober;
  std::unique_ptr<core::HealthMonitor> health_monitor;
  std::unique_ptr<network::Cni> cni;
  std::unique_ptr<nri::Plugins> nri;  // null: off
  std::unique_ptr<core::PodService> pods;
  std::unique_ptr<core::PodFigures> pod_figures;
  std::unique_ptr<core::ExitObserver> exits;
  std::unique_ptr<core::RestartMonitor> restarts;
  // Runs what the services hand it; ends, with everything queued done, before they do.
  std::unique_ptr<Executor> workers;

  // Calls that take their time, off gRPC's threads; and those that follow a log for as long as
  // their client reads.
  std::unique_ptr<Executor> calls;
  std::unique_ptr<Executor> followers;
  std::vector<std::unique_ptr<grpc::Service>> gantry_door;
  // Calls of the kubelet, which waits in them for as long as its probes and stops take.
  std::unique_ptr<Executor> cri_calls;
  std::unique_ptr<api::cri::StreamServer> cri_streams;
  std::vector<std::unique_ptr<grpc::Service>> cri_door;
  std::unique_ptr<api::ContainerdDoor> containerd_door;
  // Null unless asked for.
  std::unique_ptr<DaemonMetrics> metrics;
  std::unique_ptr<trace::SpanExporter> spans;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<api::TtrpcServer> ttrpc_server;
  std::unique_ptr<SocketListener> ttrpc_listener;
  std::unique_ptr<SocketListener> nri_listener;
  std::unique_ptr<SocketListener> listener;
  std::unique_ptr<api::MetricsServer> metrics_server;
  std::unique_ptr<api::BuildkitDoor> buildkit_door;
  std::unique_ptr<api::DockerDoor> docker_door;
};

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_DAEMON_PARTS_H_
