#include "supervisor/daemon.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <future>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "content-store/local_store.h"
#include "snapshotter/mount.h"
#include "snapshotter/native_snapshotter.h"
#include "snapshotter/overlay_snapshotter.h"
#include "snapshotter/snapshot_index.h"
#include "supervisor/api/containerd/containerd_door.h"
#include "supervisor/api/containerd/forward_event.h"
#include "supervisor/api/containerd/ttrpc_server.h"
#include "supervisor/api/gantry/containers.h"
#include "supervisor/api/gantry/images.h"
#include "supervisor/api/gantry/networks.h"
#include "supervisor/api/gantry/system.h"
#include "supervisor/api/metrics/metrics_server.h"
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
#include "supervisor/core/container_wait.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/exec_runner.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/health_monitor.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/mount_activations.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/network_names.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_service.h"
#include "supervisor/core/prepare_run.h"
#include "supervisor/core/removal_waits.h"
#include "supervisor/core/restart_monitor.h"
#include "supervisor/core/sandbox_service.h"
#include "supervisor/core/start_waits.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/system_service.h"
#include "supervisor/core/task_service.h"
#include "supervisor/daemon_metrics.h"
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
#include "supervisor/oci/host_facts.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/cgroup_warmer.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_launcher.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/socket_listener.h"
#include "supervisor/version.h"

namespace gantry {
namespace {

// How long a shim may take to say what became of its container before it is listed as unknown,
// until it answers.
constexpr absl::Duration kRecoverEach = absl::Seconds(1);
// A stop that takes longer ends the process. Everything that was acknowledged is on disk by then,
// as after a crash.
constexpr absl::Duration kStopLimit = absl::Milliseconds(4500);

// containerd's second socket is the first one's path with this.
constexpr char kTtrpcSuffix[] = ".ttrpc";

// A client has a stream per container that it waits for.
constexpr int kStreamsPerConnection = 8192;
constexpr int kMetadataBytes = 16 << 10;
// What one connection has to say at most before the next one's turn: some thousand requests.
constexpr int kReadChunkBytes = 64 << 10;
// What gRPC may hold of all connections' calls and messages before it ends calls. Far above what
// clients need.
constexpr size_t kTransportBytes = size_t{512} << 20;

std::string ProgramDirectory() {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0) return "";
  std::string text(path, static_cast<size_t>(n));
  return text.substr(0, text.rfind('/'));
}

// A program of ours: where it was said to be, beside this one, one room over (a build tree), or in
// PATH.
std::string FindProgram(const std::string& given, const std::string& name,
                        const std::string& room) {
  if (!given.empty()) return given;
  const std::string here = ProgramDirectory();
  for (const std::string& path :
       {absl::StrCat(here, "/", name), absl::StrCat(here, "/../", room, "/", name),
        absl::StrCat("/usr/libexec/gantry/", name), absl::StrCat("/usr/bin/", name)}) {
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

// Each container and each client takes a descriptor or two, so the daemon takes all it may have.
// What it was given at first is for what it starts: many programs walk through all numbers up to
// the limit. Returns that, or the usual limit where it is less.
uint64_t TakeAllDescriptors() {
  constexpr rlim_t kUsual = 1024;
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t given = std::max(limit.rlim_cur, std::min(limit.rlim_max, kUsual));
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
    PLOG(WARNING) << "the limit of open files stays at " << given;
  return given;
}

// A socket file that does not answer is left from a daemon that was killed. One that answers is
// in use.
absl::Status TakeOverSocket(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoToStatus(errno, absl::StrCat("socket ", path));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "socket ", path,
        ": there is something else by that name; remove it or choose another --address"));
  }
  UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int connected =
      connect(probe.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address);
  if (connected == 0 || errno == EAGAIN || errno == EINPROGRESS) {
    return absl::UnavailableError(absl::StrCat(
        "socket ", path, ": another daemon answers there; stop it or choose another --address"));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT)
    return ErrnoToStatus(errno, absl::StrCat("socket ", path));
  return absl::OkStatus();
}

absl::StatusOr<std::string> PersistentUuid(const std::string& root) {
  const std::string path = root + "/uuid";
  GANTRY_RETURN_IF_ERROR(RemoveAbandonedTemporaries(path));
  absl::StatusOr<std::string> stored = ReadFile(path, 64);
  if (stored.ok() && stored->size() == 36) return stored;
  absl::StatusOr<std::string> fresh = ReadFile("/proc/sys/kernel/random/uuid", 64);
  GANTRY_RETURN_IF_ERROR(fresh.status());
  fresh->resize(36);
  GANTRY_RETURN_IF_ERROR(WriteFileAtomic(path, *fresh, 0600));
  return fresh;
}

// Mounts of a moment that a killed daemon left.
absl::Status SweepMoments(const std::string& directory) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  absl::StatusOr<std::string> mounts = ReadFile("/proc/self/mountinfo", 64 << 20);
  GANTRY_RETURN_IF_ERROR(mounts.status());
  if (absl::StrContains(*mounts, absl::StrCat(" ", directory, "/"))) {
    for (size_t at = 0;
         (at = mounts->find(absl::StrCat(" ", directory, "/"), at)) != std::string::npos;) {
      const size_t end = mounts->find(' ', at + 1);
      const std::string path = mounts->substr(at + 1, end - at - 1);
      GANTRY_RETURN_IF_ERROR(snapshot::UnmountAll(path, /*lazy=*/true));
      at = end;
    }
  }
  GANTRY_RETURN_IF_ERROR(RemoveTree(directory));
  return MakeDirectories(directory, 0700);
}

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

// What follows from exits, and from tasks that are known again.
class ExitsOfContainers : public core::ExitObserver {
 public:
  ExitsOfContainers(core::ContainerRecovery& recovery, core::ExecService& execs,
                    core::HealthMonitor& health)
      : recovery_(recovery), execs_(execs), health_(health) {}
  void OnExit(const std::string& ns, const core::Process& process) override {
    if (!process.exec_id.empty()) execs_.OnExit(ns, process);
    recovery_.OnExit(ns, process);
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
};

}  // namespace

// In the order of construction: each member may use those above it, and is destroyed before them.
struct Daemon::Parts {
  explicit Parts(const Config& given) : config(given) {}

  // Of one step of the start for a later one.
  uint64_t usual_open_files = 0;
  int alive = 0;
  std::string uuid;

  Config config;
  const Clock& clock = Clock::Real();
  oci::HostFacts host;

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
  std::unique_ptr<core::Stores> stores;

  core::EventBus events;
  std::unique_ptr<core::EventSubjects> subjects;
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
  std::unique_ptr<core::NetworkKernel> network_kernel;
  std::unique_ptr<core::NetworkNames> network_names;
  std::unique_ptr<core::NetworkService> networks;
  std::unique_ptr<core::NetworkPlaces> network_places;
  std::unique_ptr<core::ContainerNetworks> container_networks;
  std::unique_ptr<core::ContainerRemoval> container_removal;
  std::unique_ptr<core::RunPreparer> run_preparer;
  std::unique_ptr<core::ContainerSteps> container_steps;
  std::unique_ptr<core::ContainerView> container_view;
  std::unique_ptr<core::ContainerLifecycle> container_lifecycle;
  std::unique_ptr<core::ContainerStreams> container_streams;
  std::unique_ptr<core::ContainerFiles> container_files;
  std::unique_ptr<core::ContainerWait> container_wait;
  std::unique_ptr<core::ExecService> execs;
  std::unique_ptr<core::ContainerRecovery> container_recovery;
  std::unique_ptr<core::SystemService> system_service;
  std::unique_ptr<core::ExecRunner> exec_runner;
  std::unique_ptr<core::ContainerProber> prober;
  std::unique_ptr<core::HealthMonitor> health_monitor;
  std::unique_ptr<core::ExitObserver> exits;
  std::unique_ptr<core::RestartMonitor> restarts;
  // Runs what the services hand it; ends, with everything queued done, before they do.
  std::unique_ptr<Executor> workers;

  // Calls that take their time, off gRPC's threads; and those that follow a log for as long as
  // their client reads.
  std::unique_ptr<Executor> calls;
  std::unique_ptr<Executor> followers;
  std::vector<std::unique_ptr<grpc::Service>> gantry_door;
  std::unique_ptr<api::ContainerdDoor> containerd_door;
  // Null unless asked for.
  std::unique_ptr<DaemonMetrics> metrics;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<api::TtrpcServer> ttrpc_server;
  std::unique_ptr<SocketListener> ttrpc_listener;
  std::unique_ptr<SocketListener> listener;
  std::unique_ptr<api::MetricsServer> metrics_server;
};

void Daemon::MakeContainerClasses(Parts& p) {
  core::ContainerRecords::Parts records;
  records.stores = p.stores.get();
  records.events = &p.events;
  records.root_directory = p.config.root;
  records.state_directory = p.config.state;
  p.container_records = std::make_unique<core::ContainerRecords>(records);

  core::ContainerRemoval::Parts removal;
  removal.records = p.container_records.get();
  removal.stores = p.stores.get();
  removal.events = &p.events;
  removal.subjects = p.subjects.get();
  removal.tasks = p.tasks.get();
  removal.workers = p.workers.get();
  removal.waits = &p.removals;
  removal.starts = &p.starts;
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
      p.network_names.get(), p.config.default_bind});
  removal.networks = p.network_places.get();
  p.container_removal = std::make_unique<core::ContainerRemoval>(removal);

  core::RunPreparer::Parts runs;
  runs.records = p.container_records.get();
  runs.stores = p.stores.get();
  runs.tasks = p.tasks.get();
  runs.mount_points = &*p.mount_points;
  runs.networks = p.network_places.get();
  runs.log_max_size_bytes = p.config.log_max_size_bytes;
  runs.log_max_files = p.config.log_max_files;
  p.run_preparer = std::make_unique<core::RunPreparer>(runs);

  core::ContainerSteps::Parts steps;
  steps.records = p.container_records.get();
  steps.stores = p.stores.get();
  steps.tasks = p.tasks.get();
  steps.removal = p.container_removal.get();
  steps.runs = p.run_preparer.get();
  steps.starts = &p.starts;
  p.container_steps = std::make_unique<core::ContainerSteps>(steps);

  core::ContainerView::Parts view;
  view.records = p.container_records.get();
  view.stores = p.stores.get();
  view.health = &p.health;
  view.tasks = p.tasks.get();
  view.runtimes = p.runtimes.get();
  view.networks = p.network_places.get();
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
  lifecycle.networks = p.network_places.get();
  lifecycle.default_network = p.config.default_network;
  lifecycle.init_path = FindProgram("", "gantry-init", "shim");
  p.container_lifecycle = std::make_unique<core::ContainerLifecycle>(lifecycle);

  p.container_networks = std::make_unique<core::ContainerNetworks>(
      core::ContainerNetworks::Parts{p.container_records.get(), p.stores.get(), p.tasks.get(),
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

  p.execs = std::make_unique<core::ExecService>(core::ExecService::Parts{
      p.container_records.get(), p.container_files.get(), p.tasks.get(), &p.host});

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
}

Daemon::Daemon() = default;

Daemon::~Daemon() {
  if (parts_ == nullptr) return;
  std::optional<EndInTime> watch;
  if (parts_->server != nullptr) watch.emplace(kStopLimit);
  StopServing(*parts_);
  StopServices(*parts_);
  Close(*parts_);
}

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Start(const Config& config) {
  SetLogLevel(config.log_level);
  std::unique_ptr<Daemon> daemon(new Daemon);
  daemon->parts_ = std::make_unique<Parts>(config);
  Parts& p = *daemon->parts_;
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
  MakeDoors(p);
  GANTRY_RETURN_IF_ERROR(Serve(p));
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
  GANTRY_RETURN_IF_ERROR(TakeOverSocket(config.address));
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
  GANTRY_RETURN_IF_ERROR(SweepMoments(config.state + "/mounts"));
  GANTRY_RETURN_IF_ERROR(RemoveTree(config.root + "/checkpoints"));
  return absl::OkStatus();
}

void Daemon::PrepareRuntimes(Parts& p) {
  const Config& config = p.config;
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

absl::Status Daemon::MakeServices(Parts& p) {
  const Config& config = p.config;
  p.workers = std::make_unique<Executor>("worker", 16);
  p.subjects = std::make_unique<core::EventSubjects>(*p.containers, *p.names);
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
  MakeContainerClasses(p);

  GANTRY_RETURN_IF_ERROR(MakeSystemService(p));
  MakeHealthMonitor(p);
  return absl::OkStatus();
}

absl::Status Daemon::MakeSystemService(Parts& p) {
  const Config& config = p.config;
  core::SystemService::Parts system_parts;
  system_parts.stores = p.stores.get();
  system_parts.events = &p.events;
  system_parts.subjects = p.subjects.get();
  system_parts.tasks = p.tasks.get();
  system_parts.runtimes = p.runtimes.get();
  system_parts.gc = p.scheduler.get();
  GANTRY_ASSIGN_OR_RETURN(system_parts.facts.uuid, PersistentUuid(config.root));
  system_parts.facts.version = kVersion;
  system_parts.facts.root_directory = config.root;
  system_parts.facts.state_directory = config.state;
  system_parts.facts.config_file = config.source;
  system_parts.facts.address = config.address;
  system_parts.facts.default_runtime = config.default_runtime;
  system_parts.facts.started_at = p.clock.Now();
  p.uuid = system_parts.facts.uuid;
  p.system_service = std::make_unique<core::SystemService>(std::move(system_parts));
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
    return tasks->BundleDirectory(ns, id);
  };
  p.health_monitor = std::make_unique<core::HealthMonitor>(std::move(health_parts));
  p.exits = std::make_unique<ExitsOfContainers>(*p.container_recovery, *p.execs, *p.health_monitor);
  p.tasks->SetExitObserver(p.exits.get());
}

// Tasks first: records are brought in line with them.
absl::Status Daemon::Recover(Parts& p) {
  p.events.BeginRecovery();
  GANTRY_ASSIGN_OR_RETURN(std::vector<runtime::RecoveredTask> found, p.shims.get());
  p.alive = p.tasks->Recover(std::move(found));
  // Exits found on the way are in the records before anything is made of what the records say.
  p.workers->WaitIdle();
  GANTRY_RETURN_IF_ERROR(p.image_services->pull.Recover());
  p.health_monitor->Start();
  // Before containers are started again. A host whose rules cannot be written still runs those
  // without a network.
  const absl::Status networks =
      p.network_places->Reconcile([&p](absl::string_view ns, absl::string_view id) {
        const absl::StatusOr<core::Process> task =
            p.tasks->Get(std::string(ns), std::string(id), "");
        return task.ok() && task->status != core::ProcessStatus::kStopped;
      });
  LOG_IF(ERROR, !networks.ok()) << "networks: " << networks;
  GANTRY_RETURN_IF_ERROR(p.container_recovery->Reconcile());
  for (const auto& [ns, process] : p.tasks->List("")) {
    const bool paused = process.status == core::ProcessStatus::kPaused;
    if (paused || process.status == core::ProcessStatus::kRunning)
      p.health_monitor->Adopt(ns, process.container_id, process.started_at, paused);
  }
  p.events.EndRecovery();
  return absl::OkStatus();
}

void Daemon::MakeDoors(Parts& p) {
  const Config& config = p.config;
  p.calls = std::make_unique<Executor>("call", 256);
  p.followers = std::make_unique<Executor>("follow", 256);
  p.gantry_door.push_back(api::gantry_v1::NewContainersDoor(
      {p.container_records.get(), p.container_lifecycle.get(), p.container_streams.get(),
       p.container_view.get(), p.container_files.get(), p.container_wait.get(), p.execs.get()},
      *p.calls, *p.followers));
  p.gantry_door.push_back(api::gantry_v1::NewImagesDoor(*p.image_services, *p.calls));
  p.gantry_door.push_back(
      api::gantry_v1::NewNetworksDoor(*p.networks, *p.container_networks, *p.calls));
  p.gantry_door.push_back(api::gantry_v1::NewSystemDoor(*p.system_service, *p.calls));
  api::ContainerdDoor::Parts containerd_parts;
  containerd_parts.stores = p.stores.get();
  containerd_parts.tasks = p.tasks.get();
  containerd_parts.execs = p.execs.get();
  containerd_parts.sandboxes = p.sandbox_service.get();
  containerd_parts.events = &p.events;
  containerd_parts.subjects = p.subjects.get();
  containerd_parts.images = p.image_services.get();
  containerd_parts.mounts = p.mounts.get();
  containerd_parts.gc = p.scheduler.get();
  containerd_parts.runtimes = p.runtimes.get();
  containerd_parts.workers = p.workers.get();
  containerd_parts.uuid = p.uuid;
  containerd_parts.root_directory = config.root;
  containerd_parts.version = kContainerdApiVersion;
  p.containerd_door = std::make_unique<api::ContainerdDoor>(containerd_parts);

  if (!config.metrics_address.empty())
    p.metrics = std::make_unique<DaemonMetrics>(*p.stores, *p.tasks, p.image_services->pull,
                                                p.events, kVersion);
  p.scheduler->Start();
  p.restarts = std::make_unique<core::RestartMonitor>(core::RestartMonitor::Parts{
      p.stores.get(), p.tasks.get(), &p.events, p.workers.get(), config.restart_interval});
}

absl::Status Daemon::Serve(Parts& p) {
  const Config& config = p.config;
  grpc::ServerBuilder builder;
  if (p.metrics)
    builder.experimental().SetInterceptorCreators(p.metrics->calls().NewInterceptors());
  builder.SetMaxReceiveMessageSize(static_cast<int>(config.max_receive_bytes));
  builder.SetMaxSendMessageSize(static_cast<int>(config.max_send_bytes));
  // Clients stream us blobs: windows of megabytes, not the protocol's 64 KiB.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4 << 20);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  // Clients ping as they were configured to, often every ten seconds to the millisecond and with no
  // call open; a count of those that come a little early would cut the connection off in the end.
  // A process that may open this socket may do worse things than ping.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // One client's flood is bounded, and leaves the others their turn. third_party/grpc_limits.cc
  // holds those to it that do not hold themselves.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kReadChunkBytes);
  grpc::ResourceQuota quota("gantryd");
  quota.Resize(kTransportBytes);
  builder.SetResourceQuota(quota);
  // gRPC's own statistics, kept call by call, are not used.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  for (const auto& service : p.gantry_door) builder.RegisterService(service.get());
  for (grpc::Service* service : p.containerd_door->services()) builder.RegisterService(service);
  p.server = builder.BuildAndStart();
  if (!p.server) return absl::InternalError("the gRPC server does not start");
  GANTRY_ASSIGN_OR_RETURN(
      p.listener, SocketListener::Listen(config.address, static_cast<uid_t>(config.socket_uid),
                                         static_cast<gid_t>(config.socket_gid)));
  p.listener->Start([server = p.server.get()](UniqueFd connection) {
    grpc::AddInsecureChannelFromFd(server, connection.release());
  });
  // A path that has no room for the suffix is no reason to refuse to start: few publish events
  // there.
  const std::string ttrpc_address = config.address + kTtrpcSuffix;
  absl::Status ttrpc = TakeOverSocket(ttrpc_address);
  if (ttrpc.ok()) {
    absl::StatusOr<std::unique_ptr<SocketListener>> listener =
        SocketListener::Listen(ttrpc_address, static_cast<uid_t>(config.socket_uid),
                               static_cast<gid_t>(config.socket_gid));
    ttrpc = listener.status();
    if (listener.ok()) p.ttrpc_listener = *std::move(listener);
  }
  LOG_IF(WARNING, !ttrpc.ok()) << "the ttrpc socket is not served: " << ttrpc;
  if (p.ttrpc_listener) {
    p.ttrpc_server = std::make_unique<api::TtrpcServer>(api::TtrpcMethods(p.events));
    p.ttrpc_listener->Start([server = p.ttrpc_server.get()](UniqueFd connection) {
      server->Adopt(std::move(connection));
    });
  }
  if (p.metrics) {
    GANTRY_ASSIGN_OR_RETURN(
        p.metrics_server,
        api::MetricsServer::Start(config.metrics_address,
                                  [metrics = p.metrics.get()] { return metrics->Text(); }));
    LOG(INFO) << "metrics on port " << p.metrics_server->port() << ", path /metrics";
  }
  return absl::OkStatus();
}

// The reverse of Serve(), MakeDoors() up to what calls still use, and what begins work by itself.
// Any of it may be missing: a start that failed ends here too.
void Daemon::StopServing(Parts& p) {
  p.metrics_server.reset();
  p.listener.reset();
  p.ttrpc_listener.reset();
  p.ttrpc_server.reset();
  // What waits for a container (a stop with patience, its turn, an end) is answered now, so that
  // the server does not have to cancel it; the next daemon goes on where it matters.
  if (p.container_records) p.container_records->locks().Stop("gantryd is stopping");
  p.removals.Close(absl::UnavailableError("gantryd stops; the container stays"));
  p.starts.Close(absl::UnavailableError("gantryd stops; the container was not started"));
  if (p.tasks) p.tasks->EndWaits();
  if (p.sandbox_service) p.sandbox_service->EndWaits();
  if (p.containerd_door) p.containerd_door->Stop();
  if (p.server) {
    p.server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
    p.server->Wait();
    unlink(p.config.address.c_str());
  }
}

void Daemon::StopServices(Parts& p) {
  if (p.restarts) p.restarts->Stop();
  if (p.scheduler) p.scheduler->Stop();
  if (p.health_monitor) p.health_monitor->Stop();
  if (p.container_recovery) p.container_recovery->Stop();
  if (p.container_removal) p.container_removal->Stop();
  if (p.tasks) p.tasks->Stop();
  p.followers.reset();
  p.calls.reset();
  p.server.reset();
  p.containerd_door.reset();
  p.gantry_door.clear();
  // With everything queued done: the services are all there.
  p.workers.reset();
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
