#include "ctl/client.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "ctl/client_wire.h"
#include "ctl/dial.h"
#include "ctl/trace/command_trace.h"
#include "proto/gantry/v1/containers.grpc.pb.h"
#include "proto/gantry/v1/images.grpc.pb.h"
#include "proto/gantry/v1/networks.grpc.pb.h"
#include "proto/gantry/v1/system.grpc.pb.h"
#include "proto/gantry/v1/volumes.grpc.pb.h"

namespace gantry::ctl {
namespace {

// What the user typed for a field of the API. A field that is not here is named as it is.
std::string FlagOfField(absl::string_view field) {
  static constexpr std::pair<absl::string_view, absl::string_view> kFlags[] = {
      {"aliases", "--network-alias"},
      {"auto_remove", "--rm"},
      {"blkio_device_read_bps", "--device-read-bps"},
      {"blkio_device_read_iops", "--device-read-iops"},
      {"blkio_device_write_bps", "--device-write-bps"},
      {"blkio_device_write_iops", "--device-write-iops"},
      {"blkio_weight_device", "--blkio-weight-device"},
      {"cgroup_parent", "--cgroup-parent"},
      {"cgroupns_mode", "--cgroupns"},
      {"device_requests", "--gpus"},
      {"dns", "--dns"},
      {"dns_options", "--dns-option"},
      {"dns_search", "--dns-search"},
      {"env", "--env"},
      {"extra_hosts", "--add-host"},
      {"health_check.interval", "--health-interval"},
      {"health_check.retries", "--health-retries"},
      {"health_check.start_interval", "--health-start-interval"},
      {"health_check.start_period", "--health-start-period"},
      {"health_check.test", "--health-cmd"},
      {"health_check.timeout", "--health-timeout"},
      {"hostname", "--hostname"},
      {"ipc_mode", "--ipc"},
      {"ipv4_address", "--ip"},
      {"ipv6_address", "--ip6"},
      {"configuration_from", "--config-from"},
      {"driver", "--driver"},
      {"ipv4", "--ipv4"},
      {"driver_options", "--driver-opt"},
      {"link_local_addresses", "--link-local-ip"},
      {"links", "--link"},
      {"networks", "--network"},
      {"publish_all_ports", "--publish-all"},
      {"log.driver", "--log-driver"},
      {"log.options", "--log-opt"},
      {"mac_address", "--mac-address"},
      {"memory_bytes", "--memory"},
      {"nano_cpus", "--cpus"},
      {"aux_address", "--aux-address"},
      {"gateway", "--gateway"},
      {"ip_address", "--ip"},
      {"ip_range", "--ip-range"},
      {"options", "--opt"},
      {"subnet", "--subnet"},
      {"mounts", "--mount"},
      {"network_mode", "--network"},
      {"pid_mode", "--pid"},
      {"port_bindings", "--publish"},
      {"privileged", "--privileged"},
      {"restart_policy", "--restart"},
      {"signal", "--signal"},
      {"storage_options", "--storage-opt"},
      {"ulimits", "--ulimit"},
      {"userns_mode", "--userns"},
      {"uts_mode", "--uts"},
      {"volumes_from", "--volumes-from"},
      {"working_dir", "--workdir"},
  };
  for (const auto& [name, flag] : kFlags) {
    if (name == field) return std::string(flag);
  }
  if (absl::ConsumePrefix(&field, "log.options.")) return absl::StrCat("--log-opt ", field);
  if (absl::ConsumePrefix(&field, "changes.")) return absl::StrCat("--change ", field);
  return std::string(field);
}

constexpr absl::string_view kDaemonErrorUrl = "gantry.v1/daemon-error";

// Whether another kind of server is at a socket, such as docker's: it answers a request of HTTP/1,
// which ours drops.
bool AnswersHttp1(const std::string& address) {
  constexpr absl::string_view kRequest = "GET /_ping HTTP/1.0\r\n\r\n";
  constexpr absl::string_view kAnswer = "HTTP/1.";
  const auto fd = Dial(address);
  if (!fd.ok()) return false;
  const timeval patience = {1, 0};
  ::setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  if (::send(fd->get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kRequest.size()))
    return false;
  char answer[kAnswer.size()];
  const ssize_t n = ::recv(fd->get(), answer, sizeof(answer), MSG_WAITALL);
  return n == static_cast<ssize_t>(kAnswer.size()) &&
         absl::string_view(answer, kAnswer.size()) == kAnswer;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectedChannel(const std::string& address) {
  GANTRY_ASSIGN_OR_RETURN(UniqueFd fd, Dial(address));
  ::fcntl(fd.get(), F_SETFL, ::fcntl(fd.get(), F_GETFL) | O_NONBLOCK);

  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // Loads of gigabytes go over this socket.
  arguments.SetInt(GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, 1 << 20);
  // Unless it is given, gRPC starts a timer for what it calls never, and so a thread
  // (third_party/grpc_few_threads.cc). Its pings, which find the size of windows, stay on: without
  // them what is received comes at two thirds of the speed.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, INT_MAX);
  return grpc::CreateCustomInsecureChannelFromFd("gantryd", fd.release(), arguments);
}

// What gRPC says of a call that ends because its server does.
bool IsBrokenOff(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::CANCELLED &&
         (status.error_message().empty() || status.error_message() == "CANCELLED");
}

// Whether a server that stops has not begun with a call. Those that it has begun with have two
// seconds before they are broken off, so one that ended sooner was none of them.
bool WasNotTaken(const grpc::Status& status, absl::Duration took) {
  return IsBrokenOff(status) && took < absl::Milliseconds(1900);
}

}  // namespace

bool IsDaemonError(const absl::Status& status) {
  return status.GetPayload(kDaemonErrorUrl).has_value();
}

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::~Client() = default;

const std::string& Client::address() const { return state_->address; }
const std::string& Client::name_space() const { return state_->name_space; }

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& address,
                                                        const std::string& name_space) {
  auto state = std::make_unique<State>();
  state->address = std::string(absl::StripPrefix(address, "unix://"));
  state->name_space = name_space;
  GANTRY_ASSIGN_OR_RETURN(auto channel, ConnectedChannel(address));
  {
    absl::MutexLock lock(&state->mu);
    state->channel = std::move(channel);
  }
  return std::unique_ptr<Client>(new Client(std::move(state)));
}

absl::Status Wire::Unary(const Client& client, absl::Duration timeout, const UnaryCall& call) {
  constexpr int kTries = 3;
  for (int attempt = 1;; ++attempt) {
    const std::shared_ptr<grpc::Channel> channel = Channel(client);
    grpc::ClientContext context;
    Prepare(client, timeout, &context);
    const absl::Time begun = absl::Now();
    const grpc::Status status = call(&context, channel);
    if (!WasNotTaken(status, absl::Now() - begun) || attempt == kTries ||
        IsSshAddress(client.address()))
      return ToStatus(client, status);
    auto again = ConnectedChannel(client.address());
    if (!again.ok()) return ToStatus(client, status);
    absl::MutexLock lock(&client.state_->mu);
    // Another thread may have connected already.
    if (client.state_->channel == channel) client.state_->channel = *std::move(again);
  }
}

void Wire::Prepare(const Client& client, absl::Duration timeout, grpc::ClientContext* context) {
  context->AddMetadata("containerd-namespace", client.name_space());
  if (!CommandTrace::Traceparent().empty())
    context->AddMetadata("traceparent", CommandTrace::Traceparent());
  if (timeout != absl::InfiniteDuration()) {
    context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
}

absl::Status Wire::ToStatus(const Client& client, const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  std::string message = status.error_message();
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  const auto says = [&](absl::string_view part) { return absl::StrContains(message, part); };
  if (IsSshAddress(client.address()) && code == absl::StatusCode::kUnavailable) {
    return absl::UnavailableError(
        absl::StrCat("lost the connection through ", client.address(), ": it runs `ctl system ",
                     "dial-stdio` there. Is ctl installed there, and gantryd running?"));
  }
  const bool lost =
      code == absl::StatusCode::kUnavailable &&
      (says("Socket closed") || says("Connection reset") || says("closed") || says("Broken pipe"));
  // What is not HTTP/2 at all: another program's socket. gRPC does not always see that before the
  // socket is closed.
  if (says("http1.x server") || (lost && AnswersHttp1(client.address()))) {
    return absl::UnavailableError(
        absl::StrCat(client.address(),
                     " does not speak Gantry's API; is it docker's socket? --address or "
                     "GANTRY_ADDRESS names gantryd's"));
  }
  if (lost) {
    return absl::UnavailableError(
        absl::StrCat("lost the connection to gantryd at ", client.address(),
                     ". Containers go on running; ask again once it is back"));
  }
  // A daemon that stops gives calls two seconds; what takes longer it breaks off.
  if (IsBrokenOff(status)) {
    message = absl::StrCat("gantryd at ", client.address(),
                           " broke the call off, as it does when it stops. Containers go on "
                           "running; ask again once it is back");
  }
  if (code == absl::StatusCode::kUnimplemented && message.empty()) {
    message = absl::StrCat("gantryd at ", client.address(), " does not know this call");
  }
  if (message.empty()) message = absl::StatusCodeToString(code);
  const absl::Status typed = DecodeFieldError(absl::Status(code, message), status.error_details());
  if (const std::string field = FieldOf(typed); !field.empty()) {
    message = absl::StrCat(FlagOfField(field), ": ", FieldReason(typed));
  }
  absl::Status out(code, message);
  out.SetPayload(kDaemonErrorUrl, absl::Cord(""));
  return out;
}

GANTRY_CTL_UNARY(v1::Containers, Create, v1::CreateContainerRequest, v1::CreateContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Start, v1::StartContainerRequest, v1::StartContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Stop, v1::StopContainerRequest, v1::StopContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Kill, v1::KillContainerRequest, v1::KillContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Restart, v1::RestartContainerRequest, v1::RestartContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Pause, v1::PauseContainerRequest, v1::PauseContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Unpause, v1::UnpauseContainerRequest, v1::UnpauseContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Wait, v1::WaitContainerRequest, v1::WaitContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Remove, v1::RemoveContainerRequest, v1::RemoveContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Rename, v1::RenameContainerRequest, v1::RenameContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Update, v1::UpdateContainerRequest, v1::UpdateContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Prune, v1::PruneContainersRequest, v1::PruneContainersResponse)
GANTRY_CTL_UNARY(v1::Containers, List, v1::ListContainersRequest, v1::ListContainersResponse)
GANTRY_CTL_UNARY(v1::Containers, Inspect, v1::InspectContainerRequest, v1::InspectContainerResponse)
GANTRY_CTL_UNARY(v1::Containers, Top, v1::TopRequest, v1::TopResponse)
GANTRY_CTL_UNARY(v1::Containers, Diff, v1::DiffRequest, v1::DiffResponse)
GANTRY_CTL_UNARY(v1::Containers, Resize, v1::ResizeRequest, v1::ResizeResponse)
GANTRY_CTL_UNARY(v1::Containers, StatPath, v1::StatPathRequest, v1::StatPathResponse)
GANTRY_CTL_UNARY(v1::Containers, Commit, v1::CommitRequest, v1::CommitResponse)
GANTRY_CTL_READ(v1::Containers, Stats, v1::StatsRequest, v1::StatsResponse)
GANTRY_CTL_READ(v1::Containers, Logs, v1::LogsRequest, v1::LogsResponse)
GANTRY_CTL_READ(v1::Containers, CopyFrom, v1::CopyFromRequest, v1::CopyFromResponse)
GANTRY_CTL_READ(v1::Containers, Export, v1::ExportRequest, v1::ExportResponse)
GANTRY_CTL_WRITE(v1::Containers, CopyTo, v1::CopyToRequest, v1::CopyToResponse)
GANTRY_CTL_DUPLEX(v1::Containers, Run, v1::RunInput, v1::RunOutput)
GANTRY_CTL_DUPLEX(v1::Containers, Attach, v1::AttachInput, v1::AttachOutput)
GANTRY_CTL_DUPLEX(v1::Containers, Exec, v1::ExecInput, v1::ExecOutput)

GANTRY_CTL_UNARY(v1::Networks, Create, v1::CreateNetworkRequest, v1::CreateNetworkResponse)
GANTRY_CTL_UNARY(v1::Networks, List, v1::ListNetworksRequest, v1::ListNetworksResponse)
GANTRY_CTL_UNARY(v1::Networks, Inspect, v1::InspectNetworkRequest, v1::InspectNetworkResponse)
GANTRY_CTL_UNARY(v1::Networks, Remove, v1::RemoveNetworkRequest, v1::RemoveNetworkResponse)
GANTRY_CTL_UNARY(v1::Networks, Connect, v1::ConnectNetworkRequest, v1::ConnectNetworkResponse)
GANTRY_CTL_UNARY(v1::Networks, Disconnect, v1::DisconnectNetworkRequest,
                 v1::DisconnectNetworkResponse)
GANTRY_CTL_UNARY(v1::Networks, ListPorts, v1::ListPortsRequest, v1::ListPortsResponse)
GANTRY_CTL_UNARY(v1::Networks, Prune, v1::PruneNetworksRequest, v1::PruneNetworksResponse)
GANTRY_CTL_UNARY(v1::Volumes, Create, v1::CreateVolumeRequest, v1::CreateVolumeResponse)
GANTRY_CTL_UNARY(v1::Volumes, List, v1::ListVolumesRequest, v1::ListVolumesResponse)
GANTRY_CTL_UNARY(v1::Volumes, Inspect, v1::InspectVolumeRequest, v1::InspectVolumeResponse)
GANTRY_CTL_UNARY(v1::Volumes, Remove, v1::RemoveVolumeRequest, v1::RemoveVolumeResponse)
GANTRY_CTL_UNARY(v1::Volumes, Prune, v1::PruneVolumesRequest, v1::PruneVolumesResponse)
GANTRY_CTL_UNARY(v1::Volumes, Rename, v1::RenameVolumeRequest, v1::RenameVolumeResponse)
GANTRY_CTL_UNARY(v1::Volumes, Clone, v1::CloneVolumeRequest, v1::CloneVolumeResponse)
GANTRY_CTL_READ(v1::Volumes, Export, v1::ExportVolumeRequest, v1::ExportVolumeResponse)
GANTRY_CTL_WRITE(v1::Volumes, Import, v1::ImportVolumeRequest, v1::ImportVolumeResponse)
GANTRY_CTL_UNARY(v1::Images, List, v1::ListImagesRequest, v1::ListImagesResponse)
GANTRY_CTL_UNARY(v1::Images, Inspect, v1::InspectImageRequest, v1::InspectImageResponse)
GANTRY_CTL_UNARY(v1::Images, History, v1::ImageHistoryRequest, v1::ImageHistoryResponse)
GANTRY_CTL_UNARY(v1::Images, Tag, v1::TagImageRequest, v1::TagImageResponse)
GANTRY_CTL_UNARY(v1::Images, Remove, v1::RemoveImageRequest, v1::RemoveImageResponse)
GANTRY_CTL_UNARY(v1::Images, Prune, v1::PruneImagesRequest, v1::PruneImagesResponse)
GANTRY_CTL_UNARY(v1::Images, Login, v1::LoginRequest, v1::LoginResponse)
GANTRY_CTL_UNARY(v1::Images, ExplainRegistry, v1::ExplainRegistryRequest,
                 v1::ExplainRegistryResponse)
GANTRY_CTL_UNARY(v1::Images, Search, v1::SearchImagesRequest, v1::SearchImagesResponse)
GANTRY_CTL_READ(v1::Images, Pull, v1::PullRequest, v1::PullResponse)
GANTRY_CTL_READ(v1::Images, Push, v1::PushRequest, v1::PushResponse)
GANTRY_CTL_READ(v1::Images, Save, v1::SaveRequest, v1::SaveResponse)
GANTRY_CTL_READ(v1::Images, Verify, v1::VerifyRequest, v1::VerifyResponse)
GANTRY_CTL_DUPLEX(v1::Images, Load, v1::LoadRequest, v1::LoadResponse)
GANTRY_CTL_DUPLEX(v1::Images, Import, v1::ImportRequest, v1::ImportResponse)

GANTRY_CTL_UNARY(v1::System, Ping, v1::PingRequest, v1::PingResponse)
GANTRY_CTL_UNARY(v1::System, Version, v1::VersionRequest, v1::VersionResponse)
GANTRY_CTL_UNARY(v1::System, Info, v1::InfoRequest, v1::InfoResponse)
GANTRY_CTL_UNARY(v1::System, DiskUsage, v1::DiskUsageRequest, v1::DiskUsageResponse)
GANTRY_CTL_UNARY(v1::System, Gc, v1::GcRequest, v1::GcResponse)
GANTRY_CTL_READ(v1::System, Events, v1::EventsRequest, v1::Event)

}  // namespace gantry::ctl
