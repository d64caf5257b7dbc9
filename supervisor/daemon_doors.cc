#include <grp.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/trace/otlp.h"
#include "base/trace/span.h"
#include "base/trace/span_exporter.h"
#include "base/unique_fd.h"
#include "supervisor/api/buildkit/buildkit_door.h"
#include "supervisor/api/containerd/containerd_door.h"
#include "supervisor/api/containerd/forward_event.h"
#include "supervisor/api/containerd/ttrpc_server.h"
#include "supervisor/api/cri/cri_door.h"
#include "supervisor/api/cri/stream_server.h"
#include "supervisor/api/cri/stream_targets.h"
#include "supervisor/api/docker/docker_door.h"
#include "supervisor/api/gantry/builds.h"
#include "supervisor/api/gantry/containers.h"
#include "supervisor/api/gantry/doctor.h"
#include "supervisor/api/gantry/images.h"
#include "supervisor/api/gantry/life.h"
#include "supervisor/api/gantry/manifests.h"
#include "supervisor/api/gantry/networks.h"
#include "supervisor/api/gantry/system.h"
#include "supervisor/api/gantry/volumes.h"
#include "supervisor/api/metrics/metrics_server.h"
#include "supervisor/api/trace/call_tracer.h"
#include "supervisor/core/build_cache.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_networks.h"
#include "supervisor/core/container_probe.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_recovery.h"
#include "supervisor/core/container_removal.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/container_view.h"
#include "supervisor/core/container_volumes.h"
#include "supervisor/core/container_wait.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/exec_runner.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/health_monitor.h"
#include "supervisor/core/image_services.h"
#include "supervisor/core/mount_activations.h"
#include "supervisor/core/network_service.h"
#include "supervisor/core/pod_figures.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/restart_monitor.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/sandbox_service.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/system_service.h"
#include "supervisor/core/task_service.h"
#include "supervisor/core/volume_content.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/daemon.h"
#include "supervisor/daemon_metrics.h"
#include "supervisor/daemon_parts.h"
#include "supervisor/daemon_places.h"
#include "supervisor/distribution/puller.h"
#include "supervisor/distribution/pusher.h"
#include "supervisor/distribution/unpacker.h"
#include "supervisor/gc/collector.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/metadata/network_store.h"
#include "supervisor/metadata/volume_store.h"
#include "supervisor/nri/plugins.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/socket_listener.h"
#include "supervisor/version.h"
#include "supervisor/volume/local_driver.h"

namespace gantry {
namespace {

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

// Who may use docker's sockets beside their owner: the group docker, where the host has one and the
// configuration names no other.
gid_t DockerGroup(const Config& config) {
  if (config.socket_gid == 0) {
    struct group entry;
    struct group* found = nullptr;
    char buffer[16 << 10];
    if (getgrnam_r("docker", &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr)
      return found->gr_gid;
  }
  return static_cast<gid_t>(config.socket_gid);
}

}  // namespace

absl::Status Daemon::MakeDoors(Parts& p) {
  const Config& config = p.config;
  p.calls = std::make_unique<Executor>("call", 256);
  p.followers = std::make_unique<Executor>("follow", 256);
  p.gantry_door.push_back(api::gantry_v1::NewContainersDoor(
      {p.container_records.get(), p.container_lifecycle.get(), p.container_streams.get(),
       p.container_view.get(), p.container_files.get(), p.container_wait.get(), p.execs.get()},
      *p.calls, *p.followers));
  p.gantry_door.push_back(api::gantry_v1::NewImagesDoor(*p.image_services, *p.calls));
  p.gantry_door.push_back(api::gantry_v1::NewManifestsDoor(p.image_services->manifests, *p.calls));
  p.gantry_door.push_back(api::gantry_v1::NewBuildsDoor(*p.builder, *p.build_cache, *p.calls));
  p.gantry_door.push_back(
      api::gantry_v1::NewNetworksDoor(*p.networks, *p.container_networks, *p.calls));
  p.gantry_door.push_back(api::gantry_v1::NewVolumesDoor(*p.volumes, *p.volume_content, *p.calls));
  p.gantry_door.push_back(api::gantry_v1::NewLifeDoor(
      *p.end_reports,
      {p.container_records.get(), p.stores.get(), p.tasks.get(), p.container_lifecycle.get(),
       p.container_networks.get(), p.container_volumes.get(), p.runtimes.get(),
       p.run_volumes.get()},
      *p.calls));
  p.gantry_door.push_back(api::gantry_v1::NewDoctorDoor(*p.doctor, *p.calls));
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

  api::docker::Parts docker_parts;
  docker_parts.records = p.container_records.get();
  docker_parts.lifecycle = p.container_lifecycle.get();
  docker_parts.streams = p.container_streams.get();
  docker_parts.view = p.container_view.get();
  docker_parts.files = p.container_files.get();
  docker_parts.wait = p.container_wait.get();
  docker_parts.execs = p.execs.get();
  docker_parts.images = p.image_services.get();
  docker_parts.networks = p.networks.get();
  docker_parts.container_networks = p.container_networks.get();
  docker_parts.system = p.system_service.get();
  docker_parts.volumes = p.volumes.get();
  p.buildkit_door = std::make_unique<api::BuildkitDoor>(api::BuildkitDoor::Parts{
      p.builder.get(), p.build_cache.get(), config.root + "/builds", kVersion});
  p.docker_door = std::make_unique<api::DockerDoor>(
      docker_parts,
      api::docker::BuildParts{p.builder.get(), p.build_cache.get(), p.buildkit_door.get()});

  p.cri_calls = std::make_unique<Executor>("cri-call", 512);
  api::cri::StreamServer::Options stream_options;
  stream_options.address = config.cri_stream_address;
  stream_options.idle_time = config.cri_stream_idle_time;
  absl::StatusOr<std::unique_ptr<api::cri::StreamServer>> cri_streams =
      api::cri::StreamServer::Start(
          stream_options,
          api::cri::CoreStreamTargets(api::cri::kNamespace, *p.execs, *p.container_streams,
                                      [pods = p.pods.get()](const std::string& pod) {
                                        core::CallContext context;
                                        context.ns = api::cri::kNamespace;
                                        return pods->NetnsPath(context, pod);
                                      }));
  GANTRY_RETURN_IF_ERROR(cri_streams.status());
  p.cri_streams = *std::move(cri_streams);
  api::cri::CriParts cri;
  cri.streams = p.cri_streams.get();
  cri.pods = p.pods.get();
  cri.pod_containers = &p.pods->containers();
  cri.pod_figures = p.pod_figures.get();
  cri.records = p.container_records.get();
  cri.lifecycle = p.container_lifecycle.get();
  cri.tasks = p.tasks.get();
  cri.exec_runner = p.exec_runner.get();
  cri.images = &p.image_services->catalog;
  cri.pull = &p.image_services->pull;
  cri.events = &p.events;
  cri.root_directory = config.root;
  cri.version = kVersion;
  p.cri_door.push_back(api::cri::NewRuntimeService(cri, *p.cri_calls));
  p.cri_door.push_back(api::cri::NewImageService(cri, *p.cri_calls));

  StartTracing(p);
  if (!config.metrics_address.empty())
    p.metrics = std::make_unique<DaemonMetrics>(*p.stores, p.tasks->view(), p.image_services->pull,
                                                p.events, kVersion);
  p.scheduler->Start();
  p.restarts = std::make_unique<core::RestartMonitor>(core::RestartMonitor::Parts{
      p.stores.get(), p.tasks.get(), &p.events, p.workers.get(), config.restart_interval});
  return absl::OkStatus();
}

// A collector that is named wrongly is no reason not to start.
void Daemon::StartTracing(Parts& p) {
  const auto variable = [](const std::string& name) {
    const char* value = getenv(name.c_str());
    return std::string(value == nullptr ? "" : value);
  };
  absl::StatusOr<std::optional<trace::OtlpTarget>> target =
      trace::TargetFromEnvironment(variable, "gantryd");
  LOG_IF(ERROR, !target.ok()) << "no traces: " << target.status();
  if (!target.ok() || !target->has_value()) return;
  LOG(INFO) << "traces go to " << (*target)->host << ":" << (*target)->port << (*target)->path;
  p.spans = std::make_unique<trace::SpanExporter>(**std::move(target));
  trace::SetSink(p.spans.get());
}

absl::Status Daemon::Serve(Parts& p) {
  const Config& config = p.config;
  grpc::ServerBuilder builder;
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  if (p.metrics) interceptors = p.metrics->calls().NewInterceptors();
  if (p.spans) interceptors.push_back(api::NewCallTracer(*p.spans));
  if (!interceptors.empty()) builder.experimental().SetInterceptorCreators(std::move(interceptors));
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
  for (const auto& service : p.cri_door) builder.RegisterService(service.get());
  for (grpc::Service* service : p.containerd_door->services()) builder.RegisterService(service);
  p.server = builder.BuildAndStart();
  if (!p.server) return absl::InternalError("the gRPC server does not start");
  if (std::optional<UniqueFd> inherited = p.inherited.Take(config.address)) {
    GANTRY_ASSIGN_OR_RETURN(p.listener,
                            SocketListener::Adopt(config.address, *std::move(inherited)));
  } else {
    GANTRY_ASSIGN_OR_RETURN(
        p.listener, SocketListener::Listen(config.address, static_cast<uid_t>(config.socket_uid),
                                           static_cast<gid_t>(config.socket_gid)));
    p.own_sockets.insert(config.address);
  }
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
  ServeNri(p);
  if (p.metrics) {
    GANTRY_ASSIGN_OR_RETURN(
        p.metrics_server,
        api::MetricsServer::Start(config.metrics_address,
                                  [metrics = p.metrics.get()] { return metrics->Text(); }));
    LOG(INFO) << "metrics on port " << p.metrics_server->port() << ", path /metrics";
  }
  return ServeDocker(p);
}

// A socket that cannot be had is no reason not to start: most hosts have no plugins.
void Daemon::ServeNri(Parts& p) {
  const std::string path = NriSocket(p.config);
  if (p.nri == nullptr || path.empty()) return;
  absl::Status served = MakeDirectories(path.substr(0, path.rfind('/')), 0700);
  if (served.ok()) served = TakeOverSocket(path);
  if (served.ok()) {
    absl::StatusOr<std::unique_ptr<SocketListener>> listener =
        SocketListener::Listen(path, /*uid=*/0, /*gid=*/0);
    served = listener.status();
    if (listener.ok()) p.nri_listener = *std::move(listener);
  }
  if (!served.ok()) {
    LOG(WARNING) << "plugins of NRI cannot connect: " << served;
    return;
  }
  p.nri_listener->Start(
      [plugins = p.nri.get()](UniqueFd connection) { plugins->Adopt(std::move(connection)); });
}

absl::Status Daemon::ServeDocker(Parts& p) {
  const bool chosen = !p.config.docker_addresses.empty();
  for (const std::string& path : DockerAddresses(p.config)) {
    if (const std::optional<std::string> tcp = TcpAddress(path); tcp.has_value()) {
      GANTRY_RETURN_IF_ERROR(p.docker_door->ServeTcp(
          *tcp,
          {p.config.docker_tls_ca, p.config.docker_tls_certificate, p.config.docker_tls_key}));
      continue;
    }
    const absl::Status served = ServeDockerAt(p, path);
    // A default that does not fit here, because its path is too long, is no reason not to start.
    if (!served.ok() && chosen) return served;
    LOG_IF(WARNING, !served.ok()) << "docker's clients are not served: " << served;
  }
  const bool off = chosen && DockerAddresses(p.config).empty();
  for (InheritedSockets::Socket& socket :
       off ? std::vector<InheritedSockets::Socket>() : p.inherited.TakeNamed("docker")) {
    GANTRY_RETURN_IF_ERROR(p.docker_door->Serve(std::move(socket.fd)));
    LOG(INFO) << "docker's clients are served on " << socket.path << " too";
  }
  for (const InheritedSockets::Socket& socket : p.inherited.left()) {
    LOG(WARNING) << "socket " << socket.path << " from the service manager (" << socket.name
                 << ") is none of address and docker_address; nothing answers there";
  }
  return absl::OkStatus();
}

absl::Status Daemon::ServeDockerAt(Parts& p, const std::string& path) {
  if (std::optional<UniqueFd> inherited = p.inherited.Take(path))
    return p.docker_door->Serve(*std::move(inherited));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(path.substr(0, path.rfind('/')), 0711));
  GANTRY_RETURN_IF_ERROR(TakeOverSocket(path));
  GANTRY_ASSIGN_OR_RETURN(
      UniqueFd listener,
      SocketListener::Bind(path, static_cast<uid_t>(p.config.socket_uid), DockerGroup(p.config)));
  p.own_sockets.insert(path);
  return p.docker_door->Serve(std::move(listener));
}

// The reverse of Serve(), MakeDoors() up to what calls still use, and what begins work by itself.
// Any of it may be missing: a start that failed ends here too.
void Daemon::StopServing(Parts& p) {
  if (p.execs) p.execs->Stop();
  p.cri_streams.reset();
  p.metrics_server.reset();
  p.listener.reset();
  p.ttrpc_listener.reset();
  p.ttrpc_server.reset();
  p.nri_listener.reset();
  // What waits for a container (a stop with patience, its turn, an end) is answered now, so that
  // the server does not have to cancel it; the next daemon goes on where it matters.
  if (p.container_records) p.container_records->locks().Stop("gantryd is stopping");
  p.removals.Close(absl::UnavailableError("gantryd stops; the container stays"));
  p.starts.Close(absl::UnavailableError("gantryd stops; the container was not started"));
  if (p.tasks) p.tasks->waits().EndWaits();
  if (p.sandbox_service) p.sandbox_service->EndWaits();
  if (p.containerd_door) p.containerd_door->Stop();
  if (p.docker_door) {
    p.docker_door->Stop();
    if (p.server) {
      for (const std::string& path : DockerAddresses(p.config)) {
        if (p.own_sockets.count(path) != 0) unlink(path.c_str());
      }
    }
  }
  if (p.buildkit_door) p.buildkit_door->Stop();
  if (p.server) {
    p.server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
    p.server->Wait();
    if (p.own_sockets.count(p.config.address) != 0) unlink(p.config.address.c_str());
  }
  trace::SetSink(nullptr);
}

}  // namespace gantry
