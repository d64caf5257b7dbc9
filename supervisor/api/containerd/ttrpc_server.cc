#include "supervisor/api/containerd/ttrpc_server.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/ttrpc_frame.h"
#include "proto/ttrpc/ttrpc.pb.h"
#include "supervisor/api/grpc_status.h"

namespace gantry::api {
namespace {

constexpr size_t kMostConnections = 256;
// Answers are small: a client with so many that it does not take takes none.
constexpr size_t kMostOutBytes = 1 << 20;
constexpr size_t kReadBytes = 64 << 10;

std::string Frame(uint32_t stream, const absl::StatusOr<std::string>& result) {
  ttrpc::Response response;
  if (result.ok()) {
    response.set_payload(*result);
  } else {
    const grpc::Status status = ToGrpcWithClass(result.status());
    response.mutable_status()->set_code(status.error_code());
    response.mutable_status()->set_message(status.error_message());
  }
  std::string frame;
  AppendTtrpcFrame(stream, TtrpcType::kResponse, response.SerializeAsString(), frame);
  return frame;
}

}  // namespace

TtrpcServer::TtrpcServer(Methods methods)
    : methods_(std::move(methods)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  PCHECK(wake_.valid()) << "eventfd";
  // A thread inherits the mask it is made under: signals belong to the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TtrpcServer::~TtrpcServer() {
  {
    absl::MutexLock lock(&mu_);
    ending_ = true;
  }
  const uint64_t one = 1;
  PCHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
  thread_.join();
}

void TtrpcServer::Adopt(UniqueFd connection) {
  {
    absl::MutexLock lock(&mu_);
    adopted_.push_back(std::move(connection));
  }
  const uint64_t one = 1;
  PCHECK(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
}

void TtrpcServer::Run() {
  pthread_setname_np(pthread_self(), "ttrpc");
  std::list<Connection> connections;
  while (true) {
    std::vector<pollfd> fds = {{wake_.get(), POLLIN, 0}};
    for (const Connection& one : connections) {
      const int events = one.out.empty() ? POLLIN : POLLIN | POLLOUT;
      fds.push_back({one.fd.get(), static_cast<int16_t>(events), 0});
    }
    if (poll(fds.data(), fds.size(), -1) < 0) {
      if (errno == EINTR) continue;
      PLOG(ERROR) << "ttrpc: poll";
      return;
    }
    size_t i = 1;
    for (auto it = connections.begin(); it != connections.end(); ++i) {
      const int16_t events = fds[i].revents;
      bool good = (events & POLLOUT) == 0 || Flush(*it);
      if (good && (events & (POLLIN | POLLHUP | POLLERR)) != 0) good = Receive(*it);
      it = good ? std::next(it) : connections.erase(it);
    }
    if (fds[0].revents == 0) continue;
    uint64_t count = 0;
    PCHECK(read(wake_.get(), &count, sizeof(count)) == sizeof(count));
    absl::MutexLock lock(&mu_);
    if (ending_) return;
    for (UniqueFd& fd : adopted_) {
      if (connections.size() >= kMostConnections) break;
      connections.emplace_back().fd = std::move(fd);
    }
    adopted_.clear();
  }
}

// One read, so that no connection keeps the others from their turn.
bool TtrpcServer::Receive(Connection& connection) {
  char buffer[kReadBytes];
  const ssize_t got = recv(connection.fd.get(), buffer, sizeof(buffer), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  absl::string_view bytes(buffer, static_cast<size_t>(got));
  const size_t skipped = std::min<size_t>(connection.skip, bytes.size());
  connection.skip -= skipped;
  bytes.remove_prefix(skipped);
  connection.in.append(bytes.data(), bytes.size());
  return TakeFrames(connection) && Flush(connection);
}

bool TtrpcServer::TakeFrames(Connection& connection) {
  absl::string_view in = connection.in;
  while (const std::optional<TtrpcHead> head = ReadTtrpcHead(in)) {
    if (head->length > kTtrpcMostPayloadBytes) {
      const size_t here = std::min(head->length, in.size() - kTtrpcHeadBytes);
      connection.skip = head->length - here;
      in.remove_prefix(kTtrpcHeadBytes + here);
      connection.out +=
          Frame(head->stream,
                absl::ResourceExhaustedError(absl::StrCat("a message of ", head->length, " bytes; ",
                                                          kTtrpcMostPayloadBytes, " are allowed")));
      continue;
    }
    if (in.size() < kTtrpcHeadBytes + head->length) break;
    // Data of streams, which no method here has, is passed over.
    if (head->Is(TtrpcType::kRequest))
      connection.out += Answer(head->stream, in.substr(kTtrpcHeadBytes, head->length));
    in.remove_prefix(kTtrpcHeadBytes + head->length);
  }
  connection.in.erase(0, connection.in.size() - in.size());
  return connection.out.size() <= kMostOutBytes;
}

std::string TtrpcServer::Answer(uint32_t stream, absl::string_view payload) const {
  // Even ones are the server's.
  if (stream % 2 == 0) {
    return Frame(stream, absl::InvalidArgumentError(
                             absl::StrCat("stream ", stream, ": a client's streams are odd")));
  }
  ttrpc::Request request;
  if (!request.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
    return Frame(stream, absl::InvalidArgumentError("the request does not parse"));
  const std::string name = absl::StrCat(request.service(), "/", request.method());
  const auto method = methods_.find(name);
  if (method == methods_.end()) return Frame(stream, absl::UnimplementedError(name));
  return Frame(stream, method->second(request.payload()));
}

bool TtrpcServer::Flush(Connection& connection) {
  while (!connection.out.empty()) {
    const ssize_t sent =
        send(connection.fd.get(), connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    connection.out.erase(0, static_cast<size_t>(sent));
  }
  return true;
}

}  // namespace gantry::api
