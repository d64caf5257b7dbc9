#include "supervisor/nri/plugin_link.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/new_thread.h"
#include "base/status_macros.h"
#include "base/ttrpc_frame.h"
#include "proto/ttrpc/ttrpc.pb.h"

namespace gantry::nri {
namespace {

constexpr char kPluginService[] = "nri.pkg.api.v1alpha1.Plugin";
// Logical connections, by who serves.
constexpr uint32_t kPlugin = 1;
constexpr uint32_t kRuntime = 2;

constexpr size_t kPieceHeadBytes = 8;
constexpr size_t kMostFrameBytes = kTtrpcHeadBytes + kTtrpcMostPayloadBytes;
// Readers of the Go library take a frame's first piece into a buffer of this size, and the rest at
// once into one that fits. Whatever is cut otherwise they do not read.
constexpr size_t kFirstPieceBytes = 4096;
constexpr size_t kReadBytes = 64 << 10;
// Several messages of the largest size. A plugin that does not take them takes nothing.
constexpr size_t kMostOutBytes = 64 << 20;
constexpr int kMostServing = 16;

absl::Status StatusOf(const ttrpc::Response& response) {
  const int code = response.status().code();
  if (code == 0) return absl::OkStatus();
  // The numbers are gRPC's, which are absl's.
  const bool known = code > 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      response.status().message());
}

}  // namespace

PluginLink::PluginLink(UniqueFd socket)
    : socket_(std::move(socket)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

PluginLink::~PluginLink() {
  Close();
  if (thread_.joinable()) thread_.join();
  requests_.reset();
}

absl::Status PluginLink::Start(Hooks hooks) {
  if (!wake_.valid()) return absl::ResourceExhaustedError("no descriptor for an eventfd");
  hooks_ = std::move(hooks);
  requests_ = std::make_unique<Executor>("nri-request", 1);
  GANTRY_ASSIGN_OR_RETURN(thread_, NewThread([this] { Run(); }));
  return absl::OkStatus();
}

void PluginLink::Wake() {
  const uint64_t one = 1;
  // A counter that is full wakes as well.
  if (write(wake_.get(), &one, sizeof one) != sizeof one && errno != EAGAIN)
    PLOG(ERROR) << "nri: eventfd";
}

void PluginLink::Close() {
  {
    absl::MutexLock lock(&mu_);
    if (closed_) return;
    closed_ = true;
  }
  shutdown(socket_.get(), SHUT_RDWR);
  Wake();
}

bool PluginLink::closed() const {
  absl::MutexLock lock(&mu_);
  return closed_;
}

void PluginLink::Queue(uint32_t connection, const std::string& frame) {
  absl::MutexLock lock(&mu_);
  if (closed_) return;
  absl::string_view left = frame;
  for (size_t piece = std::min(left.size(), kFirstPieceBytes); !left.empty();
       left.remove_prefix(piece), piece = left.size()) {
    AppendBigEndian32(connection, out_);
    AppendBigEndian32(static_cast<uint32_t>(piece), out_);
    out_.append(left.data(), piece);
  }
}

PluginLink::Result PluginLink::Call(absl::string_view method, absl::string_view message,
                                    absl::Duration timeout) {
  ttrpc::Request request;
  request.set_service(kPluginService);
  request.set_method(std::string(method));
  request.set_payload(std::string(message));
  request.set_timeout_nano(absl::ToInt64Nanoseconds(timeout));
  Result result;
  const std::string payload = request.SerializeAsString();
  if (payload.size() > kTtrpcMostPayloadBytes) {
    result.answered = true;
    result.message = absl::ResourceExhaustedError(
        absl::StrCat(method, ": a message of ", payload.size(), " bytes"));
    return result;
  }
  uint32_t stream = 0;
  {
    absl::MutexLock lock(&mu_);
    if (closed_) return result;
    stream = next_stream_;
    next_stream_ += 2;
    waiting_[stream] = &result;
  }
  std::string frame;
  AppendTtrpcFrame(stream, TtrpcType::kRequest, payload, frame);
  Queue(kPlugin, frame);
  Wake();
  absl::MutexLock lock(&mu_);
  const auto over = [&]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return waiting_.count(stream) == 0; };
  if (!mu_.AwaitWithTimeout(absl::Condition(&over), timeout)) {
    waiting_.erase(stream);
    result.message = absl::DeadlineExceededError(
        absl::StrCat(method, ": no answer within ", absl::FormatDuration(timeout)));
  }
  return result;
}

void PluginLink::Run() {
  pthread_setname_np(pthread_self(), "nri-plugin");
  while (true) {
    bool more = false;
    {
      absl::MutexLock lock(&mu_);
      if (closed_ || out_.size() > kMostOutBytes) break;
      more = !out_.empty();
    }
    pollfd fds[] = {{socket_.get(), static_cast<int16_t>(more ? POLLIN | POLLOUT : POLLIN), 0},
                    {wake_.get(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
    uint64_t count = 0;
    if (fds[1].revents != 0 && read(wake_.get(), &count, sizeof count) < 0 && errno != EAGAIN)
      break;
    if ((fds[0].revents & POLLOUT) != 0 && !Send()) break;
    if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !Receive()) break;
  }
  Close();
  {
    absl::MutexLock lock(&mu_);
    waiting_.clear();
    out_.clear();
  }
  if (hooks_.closed) hooks_.closed();
}

bool PluginLink::Send() {
  // Only this thread takes bytes away, so what stands in front stays there.
  std::string piece;
  {
    absl::MutexLock lock(&mu_);
    piece = out_.substr(0, kReadBytes);
  }
  const ssize_t sent = send(socket_.get(), piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  absl::MutexLock lock(&mu_);
  out_.erase(0, static_cast<size_t>(sent));
  return true;
}

bool PluginLink::Receive() {
  char buffer[kReadBytes];
  const ssize_t got = recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  in_.append(buffer, static_cast<size_t>(got));
  return TakePieces();
}

bool PluginLink::TakePieces() {
  absl::string_view in = in_;
  while (in.size() >= kPieceHeadBytes) {
    const uint32_t connection = ReadBigEndian32(in);
    const size_t length = ReadBigEndian32(in.substr(4));
    if (length > kMostFrameBytes) return false;
    if (in.size() < kPieceHeadBytes + length) break;
    const absl::string_view piece = in.substr(kPieceHeadBytes, length);
    in.remove_prefix(kPieceHeadBytes + length);
    // Of logical connections that do not exist nothing is expected.
    if (connection != kPlugin && connection != kRuntime) continue;
    std::string& bytes = pieces_[connection];
    bytes.append(piece.data(), piece.size());
    if (!TakeFrames(connection, bytes)) return false;
  }
  in_.erase(0, in_.size() - in.size());
  return true;
}

bool PluginLink::TakeFrames(uint32_t connection, std::string& bytes) {
  absl::string_view left = bytes;
  while (const std::optional<TtrpcHead> head = ReadTtrpcHead(left)) {
    if (head->length > kTtrpcMostPayloadBytes) return false;
    if (left.size() < kTtrpcHeadBytes + head->length) break;
    const absl::string_view payload = left.substr(kTtrpcHeadBytes, head->length);
    if (connection == kPlugin && head->Is(TtrpcType::kResponse)) {
      ttrpc::Response response;
      if (!response.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) return false;
      absl::MutexLock lock(&mu_);
      // Absent: its caller has given up.
      if (const auto waits = waiting_.find(head->stream); waits != waiting_.end()) {
        waits->second->answered = true;
        const absl::Status status = StatusOf(response);
        if (status.ok()) {
          waits->second->message = std::move(*response.mutable_payload());
        } else {
          waits->second->message = status;
        }
        waiting_.erase(waits);
      }
    } else if (connection == kRuntime && head->Is(TtrpcType::kRequest)) {
      {
        absl::MutexLock lock(&mu_);
        if (serving_ >= kMostServing) return false;
        ++serving_;
      }
      requests_->Schedule(
          [this, stream = head->stream, copy = std::string(payload)] { Answer(stream, copy); });
    }
    left.remove_prefix(kTtrpcHeadBytes + head->length);
  }
  bytes.erase(0, bytes.size() - left.size());
  return true;
}

void PluginLink::Answer(uint32_t stream, absl::string_view payload) {
  absl::StatusOr<std::string> result = absl::InvalidArgumentError("the request does not parse");
  ttrpc::Request request;
  if (request.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    const std::string name = absl::StrCat(request.service(), "/", request.method());
    const auto method = hooks_.methods.find(name);
    result = method == hooks_.methods.end() ? absl::UnimplementedError(name)
                                            : method->second(request.payload());
  }
  ttrpc::Response response;
  if (result.ok()) {
    response.set_payload(*std::move(result));
  } else {
    response.mutable_status()->set_code(static_cast<int>(result.status().code()));
    response.mutable_status()->set_message(std::string(result.status().message()));
  }
  std::string frame;
  AppendTtrpcFrame(stream, TtrpcType::kResponse, response.SerializeAsString(), frame);
  {
    absl::MutexLock lock(&mu_);
    --serving_;
  }
  Queue(kRuntime, frame);
  Wake();
}

}  // namespace gantry::nri
