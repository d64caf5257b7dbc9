#include "shim/zygote_protocol.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr absl::string_view kRequestMagic = "GZQ3";
constexpr absl::string_view kReplyMagic = "GZR1";
constexpr size_t kMaxDatagram = 16 * 1024;
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxPathBytes = 4096;
constexpr size_t kMaxControllers = 32;
constexpr size_t kMaxSocketPathBytes = sizeof(sockaddr_un::sun_path) - 1;
constexpr size_t kMaxReport = 2048;  // below PIPE_BUF, so that one write is one piece
constexpr absl::string_view kReadyWord = "ready\n";

void PutU32(std::string& out, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(value >> shift));
}

void PutString(std::string& out, absl::string_view text) {
  PutU32(out, static_cast<uint32_t>(text.size()));
  out.append(text.data(), text.size());
}

// Takes fields off the front; after the first failure every later one fails too.
class FieldReader {
 public:
  explicit FieldReader(absl::string_view bytes) : rest_(bytes) {}

  bool Magic(absl::string_view magic) {
    ok_ = ok_ && absl::ConsumePrefix(&rest_, magic);
    return ok_;
  }
  uint32_t U32() {
    if (!ok_ || rest_.size() < 4) {
      ok_ = false;
      return 0;
    }
    uint32_t value = 0;
    for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(rest_[i]);
    rest_.remove_prefix(4);
    return value;
  }
  std::string String() {
    const uint32_t size = U32();
    if (!ok_ || rest_.size() < size) {
      ok_ = false;
      return "";
    }
    std::string text(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return text;
  }
  bool Finished() const { return ok_ && rest_.empty(); }

 private:
  absl::string_view rest_;
  bool ok_ = true;
};

absl::Status CheckText(absl::string_view what, absl::string_view text, size_t max_bytes) {
  if (text.empty())
    return absl::InvalidArgumentError(absl::StrCat("launch request: ", what, " is empty"));
  if (text.size() > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("launch request: ", what, " is ", text.size(),
                                                   " bytes long, at most ", max_bytes, " fit"));
  }
  if (absl::StrContains(text, '\0')) {
    return absl::InvalidArgumentError(absl::StrCat("launch request: ", what, " contains NUL"));
  }
  return absl::OkStatus();
}

constexpr size_t kMaxFds = 8;

// Sends `bytes` as one datagram, with the descriptors beside it.
absl::Status SendWithFds(int socket, absl::string_view bytes, absl::Span<const int> fds,
                         absl::string_view what) {
  iovec iov = {const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control = {};
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  for (;;) {
    if (sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) {
      return absl::UnavailableError(absl::StrCat(what, ": the other end is gone"));
    }
    return gantry::ErrnoToStatus(errno, what);
  }
}

struct Datagram {
  std::string bytes;
  std::vector<UniqueFd> fds;
  bool truncated = false;
};

// kUnavailable: end of the socket.
absl::StatusOr<Datagram> ReceiveWithFds(int socket, absl::string_view what) {
  Datagram datagram;
  datagram.bytes.resize(kMaxDatagram);
  iovec iov = {datagram.bytes.data(), datagram.bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control = {};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got == 0 || (got < 0 && errno == ECONNRESET)) {
    return absl::UnavailableError(absl::StrCat(what, ": the other end is gone"));
  }
  if (got < 0) return gantry::ErrnoToStatus(errno, what);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      datagram.fds.emplace_back(fd);
    }
  }
  datagram.truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  datagram.bytes.resize(static_cast<size_t>(got));
  return datagram;
}

SteadyClock::time_point Deadline(absl::Duration timeout) {
  const absl::Duration bounded = std::clamp(timeout, absl::ZeroDuration(), absl::Hours(24));
  return SteadyClock::now() + absl::ToChronoNanoseconds(bounded);
}

// Waits for input or end. kDeadlineExceeded.
absl::Status WaitReadable(int fd, SteadyClock::time_point deadline, absl::string_view what) {
  for (;;) {
    const int64_t left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now()).count();
    if (left <= 0) return absl::DeadlineExceededError(absl::StrCat(what, ": nothing came in time"));
    pollfd poll_fd = {fd, POLLIN, 0};
    const int ready = poll(&poll_fd, 1, static_cast<int>(std::min<int64_t>(left, 1 << 30)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return gantry::ErrnoToStatus(errno, what);
  }
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(absl::string_view word) {
  const std::string lower = absl::AsciiStrToLower(word);
  if (lower == "debug" || lower == "trace") return LogLevel::kDebug;
  if (lower == "info") return LogLevel::kInfo;
  if (lower == "warning" || lower == "warn") return LogLevel::kWarning;
  if (lower == "error" || lower == "fatal" || lower == "panic") return LogLevel::kError;
  return absl::InvalidArgumentError(
      absl::StrCat("log level \"", word, "\": not one of debug, info, warning, error"));
}

absl::Status CheckLaunchRequest(const LaunchRequest& request) {
  GANTRY_RETURN_IF_ERROR(CheckText("namespace", request.name_space, kMaxNameBytes));
  GANTRY_RETURN_IF_ERROR(CheckText("container id", request.id, kMaxNameBytes));
  GANTRY_RETURN_IF_ERROR(CheckText("bundle", request.bundle, kMaxPathBytes));
  GANTRY_RETURN_IF_ERROR(CheckText("socket path", request.socket_path, kMaxSocketPathBytes));
  if (!request.runtime_path.empty()) {
    GANTRY_RETURN_IF_ERROR(CheckText("runtime path", request.runtime_path, kMaxPathBytes));
    if (request.runtime_path[0] != '/') {
      return absl::InvalidArgumentError("launch request: the runtime's path must be absolute");
    }
  }
  if (request.bundle[0] != '/' || request.socket_path[0] != '/') {
    return absl::InvalidArgumentError("launch request: bundle and socket path must be absolute");
  }
  if (request.log_level > LogLevel::kError) {
    return absl::InvalidArgumentError("launch request: unknown log level");
  }
  if (request.v1_controllers.size() > kMaxControllers) {
    return absl::InvalidArgumentError("launch request: too many cgroup controllers");
  }
  for (const std::string& controller : request.v1_controllers) {
    GANTRY_RETURN_IF_ERROR(CheckText("cgroup controller", controller, kMaxNameBytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> EncodeLaunchRequest(const LaunchRequest& request) {
  GANTRY_RETURN_IF_ERROR(CheckLaunchRequest(request));
  std::string out(kRequestMagic);
  PutString(out, request.name_space);
  PutString(out, request.id);
  PutString(out, request.bundle);
  PutString(out, request.socket_path);
  PutString(out, request.runtime_path);
  PutU32(out, static_cast<uint32_t>(request.log_level));
  PutU32(out, request.idle_exit_seconds);
  PutU32(out, static_cast<uint32_t>(request.v1_controllers.size()));
  for (const std::string& controller : request.v1_controllers) PutString(out, controller);
  return out;
}

absl::StatusOr<LaunchRequest> DecodeLaunchRequest(absl::string_view datagram) {
  FieldReader in(datagram);
  if (!in.Magic(kRequestMagic)) {
    return absl::InvalidArgumentError("launch request: not of this version");
  }
  LaunchRequest request;
  request.name_space = in.String();
  request.id = in.String();
  request.bundle = in.String();
  request.socket_path = in.String();
  request.runtime_path = in.String();
  const uint32_t level = in.U32();
  request.idle_exit_seconds = in.U32();
  const uint32_t controllers = in.U32();
  for (uint32_t i = 0; i < std::min<uint32_t>(controllers, kMaxControllers + 1); ++i) {
    request.v1_controllers.push_back(in.String());
  }
  if (!in.Finished() || level > static_cast<uint32_t>(LogLevel::kError)) {
    return absl::InvalidArgumentError("launch request: malformed");
  }
  request.log_level = static_cast<LogLevel>(level);
  GANTRY_RETURN_IF_ERROR(CheckLaunchRequest(request));
  return request;
}

std::string EncodeLaunchReply(const LaunchReply& reply) {
  std::string out(kReplyMagic);
  PutU32(out, static_cast<uint32_t>(reply.pid));
  PutString(out, absl::string_view(reply.error).substr(0, kMaxReport));
  return out;
}

absl::StatusOr<LaunchReply> DecodeLaunchReply(absl::string_view datagram) {
  FieldReader in(datagram);
  if (!in.Magic(kReplyMagic))
    return absl::InvalidArgumentError("launch reply: not of this version");
  LaunchReply reply;
  const uint32_t pid = in.U32();
  reply.error = in.String();
  if (!in.Finished() || pid > 1u << 30 || (pid == 0) == reply.error.empty()) {
    return absl::InvalidArgumentError("launch reply: malformed");
  }
  reply.pid = static_cast<pid_t>(pid);
  return reply;
}

absl::StatusOr<ZygoteSockets> MakeZygoteSockets() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    return ErrnoToStatus(errno, "zygote socket pair");
  }
  return ZygoteSockets{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

absl::StatusOr<ReadyPipe> MakeReadyPipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "readiness pipe");
  return ReadyPipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

absl::Status SendLaunchRequest(int socket, const LaunchRequest& request, int ready_write,
                               int sealed_runtime) {
  GANTRY_ASSIGN_OR_RETURN(const std::string bytes, EncodeLaunchRequest(request));
  std::vector<int> fds;
  if (ready_write >= 0) fds.push_back(ready_write);
  if (sealed_runtime >= 0) fds.push_back(sealed_runtime);
  return SendWithFds(socket, bytes, fds, "launch request");
}

absl::StatusOr<LaunchReply> ReceiveLaunchReply(int socket, absl::Duration timeout) {
  constexpr absl::string_view kWhat = "launch reply from the zygote";
  GANTRY_RETURN_IF_ERROR(WaitReadable(socket, Deadline(timeout), kWhat));
  GANTRY_ASSIGN_OR_RETURN(Datagram datagram, ReceiveWithFds(socket, kWhat));
  GANTRY_ASSIGN_OR_RETURN(LaunchReply reply, DecodeLaunchReply(datagram.bytes));
  if (reply.pid != 0 && datagram.fds.empty()) {
    // The kernel drops descriptors that the receiver has no room for. The shim could not be watched
    // without one, so it is killed; the pid is still its own, because it was forked a moment ago.
    kill(reply.pid, SIGKILL);
    reply.pid = 0;
    reply.error = "no descriptor is left for its pidfd (raise the daemon's limit of open files)";
  }
  if (reply.pid != 0) reply.pidfd = std::move(datagram.fds.front());
  return reply;
}

absl::Status ReadReadyReport(int ready_read, absl::Duration timeout) {
  constexpr absl::string_view kWhat = "start of the shim";
  const SteadyClock::time_point deadline = Deadline(timeout);
  std::string report;
  for (;;) {
    GANTRY_RETURN_IF_ERROR(WaitReadable(ready_read, deadline, kWhat));
    std::array<char, kMaxReport> buffer;
    const ssize_t got = read(ready_read, buffer.data(), buffer.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return gantry::ErrnoToStatus(errno, kWhat);
    if (got > 0) report.append(buffer.data(), static_cast<size_t>(got));
    // Another process may have inherited the pipe and keep it open, so a whole line counts as the
    // end.
    if (got > 0 && report.back() != '\n' && report.size() < 2 * kMaxReport) continue;
    break;
  }
  if (report == kReadyWord) return absl::OkStatus();
  if (report.empty())
    return absl::UnavailableError(absl::StrCat(kWhat, ": it died without a word"));
  return absl::InternalError(absl::StrCat(kWhat, ": ", absl::StripAsciiWhitespace(report)));
}

absl::StatusOr<ReceivedLaunchRequest> ReceiveLaunchRequest(int socket) {
  GANTRY_ASSIGN_OR_RETURN(Datagram datagram, ReceiveWithFds(socket, "launch request"));
  ReceivedLaunchRequest received;
  received.request = DecodeLaunchRequest(datagram.bytes);
  if (!datagram.fds.empty()) received.ready_write = std::move(datagram.fds[0]);
  if (datagram.fds.size() > 1) received.sealed_runtime = std::move(datagram.fds[1]);
  if (datagram.truncated) received.request = absl::InvalidArgumentError("launch request: too long");
  if (received.request.ok() && !received.ready_write.valid()) {
    received.request = absl::InvalidArgumentError("launch request: no readiness pipe came with it");
  }
  return received;
}

absl::Status SendLaunchReply(int socket, const LaunchReply& reply) {
  std::vector<int> fds;
  if (reply.pid != 0) fds.push_back(reply.pidfd.get());
  return SendWithFds(socket, EncodeLaunchReply(reply), fds, "launch reply");
}

void WriteReadyReport(int ready_write, const absl::Status& status) {
  std::string report(kReadyWord);
  if (!status.ok()) {
    // One line, and never one that reads as readiness.
    report =
        absl::StrCat("error: ", absl::string_view(status.message()).substr(0, kMaxReport - 16));
    for (char& c : report) {
      if (c == '\n') c = ' ';
    }
    report += '\n';
  }
  ssize_t written;
  do {
    written = write(ready_write, report.data(), report.size());
  } while (written < 0 && errno == EINTR);
}

}  // namespace gantry::shim
