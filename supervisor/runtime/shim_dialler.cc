#include "supervisor/runtime/shim_dialler.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel_posix.h"

#include "base/unique_fd.h"

namespace gantry::runtime {
namespace {

// gRPC's words for a connection that has ended, or for one that cannot be made. A client of ours
// that hears them would take them for its own connection to gantryd.
bool SaysThatTheShimIsGone(const grpc::Status& status) {
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return false;
  const std::string message = status.error_message();
  for (const absl::string_view words :
       {"Socket closed", "Connection reset", "Broken pipe", "GOAWAY", "failed to connect",
        "Transport closed", "Endpoint closing"}) {
    if (absl::StrContains(message, words)) return true;
  }
  return false;
}

// A connected, non-blocking socket; invalid, with errno set, when that cannot be had at once.
UniqueFd ConnectNow(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    return UniqueFd();
  }
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd.valid() &&
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    fd.reset();
    errno = error;
  }
  return fd;
}

}  // namespace

absl::Status ToAbsl(const grpc::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  if (SaysThatTheShimIsGone(status)) {
    return absl::UnavailableError(
        absl::StrCat(what, ": the shim has ended, and its container with it"));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(what, ": ", status.error_message()));
}

gpr_timespec After(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(absl::ToInt64Nanoseconds(duration), GPR_TIMESPAN));
}

bool SomebodyListens(const std::string& path) {
  // Other errors, no descriptors left here for one, say nothing of the other side.
  return ConnectNow(path).valid() ||
         (errno != ECONNREFUSED && errno != ENOENT && errno != ENAMETOOLONG);
}

std::shared_ptr<Link> ShimDialler::Get() {
  absl::MutexLock lock(&mu_);
  if (link_ == nullptr) link_ = std::make_shared<Link>(Dial());
  return link_;
}

void ShimDialler::Lost(const std::shared_ptr<Link>& link) {
  absl::MutexLock lock(&mu_);
  if (link_ == link) link_ = nullptr;
}

std::shared_ptr<grpc::Channel> ShimDialler::Dial() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_CHANNELZ, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  // How long a connect may take before the calls that wait for it fail, whatever their deadlines
  // say. On a machine with far more to do than cores, a shim that was just forked may need
  // seconds to its first answer.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  // Unless it is given, gRPC starts a timer for what it calls never.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, INT_MAX);
  arguments.SetInt(GRPC_ARG_TCP_READ_CHUNK_SIZE, 4096);
  arguments.SetInt(GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, 256);
  arguments.SetInt(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, 64 << 10);
  arguments.SetInt(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, 16 << 20);
  arguments.SetInt(GRPC_ARG_CLIENT_IDLE_TIMEOUT_MS, INT_MAX);
  // The path would be sent as :authority, which a proxyless unix socket has no use for.
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  // A shim listens before we know of it, so that a connection is there at once. Given to gRPC as
  // it is, it spares the resolver, the balancer and a round trip. Where it is not there, gRPC
  // tries in its own way, and finds the words for the failure.
  if (UniqueFd fd = ConnectNow(path_); fd.valid()) {
    return grpc::CreateCustomInsecureChannelFromFd("localhost", fd.release(), arguments);
  }
  return grpc::CreateCustomChannel("unix:" + path_, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace gantry::runtime
