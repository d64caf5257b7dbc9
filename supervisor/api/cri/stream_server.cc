#include "supervisor/api/cri/stream_server.h"

#include <sys/eventfd.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "supervisor/api/cri/forward_session.h"
#include "supervisor/api/cri/link_connection.h"
#include "supervisor/api/cri/process_session.h"
#include "supervisor/api/cri/stream_link.h"
#include "supervisor/http/server.h"

namespace gantry::api::cri {
namespace {

constexpr size_t kTokenBytes = 24;
constexpr size_t kMaxConnections = 1024;

absl::StatusOr<std::string> RandomToken() {
  char bytes[kTokenBytes];
  if (getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes))
    return ErrnoToStatus(errno, "streaming: random bytes");
  return absl::WebSafeBase64Escape(absl::string_view(bytes, sizeof bytes));
}

absl::Status CheckStreams(const std::string& container_id, const StreamChoice& streams) {
  if (container_id.empty()) return absl::InvalidArgumentError("streaming: no container is named");
  if (streams.tty && streams.err) {
    return absl::InvalidArgumentError(
        "streaming: with a terminal there is no stderr: it comes with stdout");
  }
  if (!streams.in && !streams.out && !streams.err)
    return absl::InvalidArgumentError("streaming: one of stdin, stdout and stderr is needed");
  return absl::OkStatus();
}

}  // namespace

class StreamServer::Work {
 public:
  struct Request {
    enum class Kind { kExec, kAttach, kForward };
    Kind kind = Kind::kExec;
    std::string id;  // of the container or the pod
    std::vector<std::string> command;
    StreamChoice streams;
    std::vector<int32_t> ports;
    absl::Duration until = absl::ZeroDuration();
  };

  Work(Options options, StreamTargets targets)
      : options_(std::move(options)), targets_(std::move(targets)) {}
  ~Work() {
    // Sessions wait for this beside their client, whom the server cannot reach any more.
    eventfd_write(stop_.get(), 1);
    server_.reset();
  }

  absl::Status Listen() {
    stop_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!stop_.valid()) return ErrnoToStatus(errno, "streaming: eventfd");
    GANTRY_ASSIGN_OR_RETURN(UniqueFd listener, http::ListenTcp(options_.address));
    http::Server::Options options;
    options.limits.head_bytes = 32 << 10;
    options.limits.body_bytes = 64 << 10;
    options.limits.connections = kMaxConnections;
    options.thread_name = "cri-stream";
    GANTRY_ASSIGN_OR_RETURN(
        server_, http::Server::Start(std::move(listener), std::move(options),
                                     [this](http::Exchange& exchange) { Serve(exchange); }));
    // Of port 0 the one that the kernel chose.
    std::string host = options_.address.substr(0, options_.address.rfind(':'));
    if (host.empty() || host == "localhost" || host == "0.0.0.0") host = "127.0.0.1";
    if (host == "[::]") host = "[::1]";
    base_ = absl::StrCat("http://", host, ":", server_->port());
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Url(Request request) {
    GANTRY_ASSIGN_OR_RETURN(const std::string token, RandomToken());
    const char* const path = PathOf(request.kind);
    request.until = Clock::Real().Monotonic() + options_.url_life;
    absl::MutexLock lock(&mu_);
    for (auto one = requests_.begin(); one != requests_.end();)
      one = one->second.until <= Clock::Real().Monotonic() ? requests_.erase(one) : std::next(one);
    if (requests_.size() >= options_.most_urls) {
      return absl::ResourceExhaustedError(
          absl::StrCat("streaming: ", requests_.size(),
                       " URLs wait for their clients; try again when some are used or over"));
    }
    requests_[token] = std::move(request);
    return absl::StrCat(base_, path, token);
  }

  int port() const { return server_->port(); }

 private:
  static const char* PathOf(Request::Kind kind) {
    switch (kind) {
      case Request::Kind::kExec:
        return "/exec/";
      case Request::Kind::kAttach:
        return "/attach/";
      case Request::Kind::kForward:
        return "/portforward/";
    }
    return "";
  }

  // The request of a URL, which is used up.
  std::optional<Request> Take(absl::string_view path) {
    const size_t slash = path.rfind('/');
    if (slash == absl::string_view::npos) return std::nullopt;
    absl::MutexLock lock(&mu_);
    const auto found = requests_.find(std::string(path.substr(slash + 1)));
    if (found == requests_.end() || path.substr(0, slash + 1) != PathOf(found->second.kind))
      return std::nullopt;
    Request request = std::move(found->second);
    requests_.erase(found);
    if (request.until <= Clock::Real().Monotonic()) return std::nullopt;
    return request;
  }

  void Serve(http::Exchange& exchange) {
    exchange.CloseAfter();
    const std::optional<Request> request = Take(exchange.head().path);
    if (!request.has_value()) {
      // A client that does not take its answer gets none.
      exchange
          .Respond(404, {{"Content-Type", "text/plain"}},
                   "no such URL: each is good for one connection and for a short time\n")
          .IgnoreError();
      return;
    }
    LinkPurpose purpose;
    purpose.forward = request->kind == Request::Kind::kForward;
    purpose.tty = request->streams.tty;
    purpose.in = request->streams.in;
    purpose.out = request->streams.out;
    purpose.err = request->streams.err;
    purpose.ports = request->ports;
    LinkAnswer answer = NegotiateLink(exchange.head(), purpose);
    if (!exchange.ReadAll(64 << 10).ok()) return;
    if (!exchange.Respond(answer.status, answer.fields, answer.body).ok()) return;
    if (answer.link == nullptr) return;
    absl::StatusOr<http::Hijacked> taken = exchange.Hijack();
    if (!taken.ok()) return;
    LinkConnection connection(std::move(taken->fd), std::move(taken->read_already),
                              std::move(answer.link), stop_.get(), options_.idle_time);
    switch (request->kind) {
      case Request::Kind::kExec:
        ServeProcess(connection, purpose, options_.creation_time, /*is_exec=*/true,
                     [&](runtime::AttachStream::Handler* handler) {
                       return targets_.exec(request->id, request->command, request->streams,
                                            handler);
                     });
        break;
      case Request::Kind::kAttach:
        ServeProcess(connection, purpose, options_.creation_time, /*is_exec=*/false,
                     [&](runtime::AttachStream::Handler* handler) {
                       return targets_.attach(request->id, request->streams, handler);
                     });
        break;
      case Request::Kind::kForward:
        ServeForwards(connection, request->id, options_.creation_time, targets_.netns);
        break;
    }
    connection.Close();
  }

  const Options options_;
  const StreamTargets targets_;
  std::string base_;
  UniqueFd stop_;

  absl::Mutex mu_;
  std::map<std::string, Request> requests_ ABSL_GUARDED_BY(mu_);  // by token

  std::unique_ptr<http::Server> server_;
};

absl::StatusOr<std::unique_ptr<StreamServer>> StreamServer::Start(Options options,
                                                                  StreamTargets targets) {
  auto work = std::make_unique<Work>(std::move(options), std::move(targets));
  GANTRY_RETURN_IF_ERROR(work->Listen());
  return std::unique_ptr<StreamServer>(new StreamServer(std::move(work)));
}

StreamServer::StreamServer(std::unique_ptr<Work> work) : work_(std::move(work)) {}
StreamServer::~StreamServer() = default;

absl::StatusOr<std::string> StreamServer::ExecUrl(const std::string& container_id,
                                                  const std::vector<std::string>& command,
                                                  const StreamChoice& streams) {
  GANTRY_RETURN_IF_ERROR(CheckStreams(container_id, streams));
  if (command.empty()) return absl::InvalidArgumentError("streaming: exec needs a command");
  Work::Request request;
  request.kind = Work::Request::Kind::kExec;
  request.id = container_id;
  request.command = command;
  request.streams = streams;
  return work_->Url(std::move(request));
}

absl::StatusOr<std::string> StreamServer::AttachUrl(const std::string& container_id,
                                                    const StreamChoice& streams) {
  GANTRY_RETURN_IF_ERROR(CheckStreams(container_id, streams));
  Work::Request request;
  request.kind = Work::Request::Kind::kAttach;
  request.id = container_id;
  request.streams = streams;
  return work_->Url(std::move(request));
}

absl::StatusOr<std::string> StreamServer::PortForwardUrl(const std::string& pod_id,
                                                         const std::vector<int32_t>& ports) {
  if (pod_id.empty()) return absl::InvalidArgumentError("streaming: no pod is named");
  for (const int32_t port : ports) {
    if (port < 1 || port > 65535)
      return absl::InvalidArgumentError(absl::StrCat("streaming: port ", port, " does not exist"));
  }
  Work::Request request;
  request.kind = Work::Request::Kind::kForward;
  request.id = pod_id;
  request.ports = ports;
  return work_->Url(std::move(request));
}

int StreamServer::port() const { return work_->port(); }

}  // namespace gantry::api::cri
