#include "supervisor/api/buildkit/session_call.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/unique_fd.h"
#include "supervisor/api/grpc/outgoing.h"

namespace gantry::api::buildkit {
namespace {

using moby::buildkit::v1::BytesMessage;

constexpr size_t kCallPieceBytes = 64 << 10;

void AwaitReady(int fd, short events) {
  pollfd one = {fd, events, 0};
  while (poll(&one, 1, -1) < 0 && errno == EINTR) {
  }
}

SessionOffer OfferOf(const grpc::CallbackServerContext& context) {
  SessionOffer offer;
  for (const auto& [key, value] : context.client_metadata()) {
    const std::string text(value.data(), value.size());
    if (key == "x-docker-expose-session-uuid") offer.id = text;
    if (key == "x-docker-expose-session-name") offer.name = text;
    if (key == "x-docker-expose-session-sharedkey") offer.shared_key = text;
    if (key == "x-docker-expose-session-grpc-method") offer.methods.push_back(text);
  }
  return offer;
}

class SessionCall final : public OutgoingCall<SessionReactor, BytesMessage>,
                          public std::enable_shared_from_this<SessionCall> {
 public:
  SessionCall(grpc::CallbackServerContext& context, Lane& lane, Sessions& sessions)
      : OutgoingCall(&context, lane, kPatience), sessions_(sessions), offer_(OfferOf(context)) {}

  void Open() {
    Owned(shared_from_this());
    int ends[2];
    if (offer_.id.empty() || offer_.id.size() > 256)
      return End(absl::InvalidArgumentError("the call names no session"));
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
      return End(ErrnoToStatus(errno, "session: socketpair"));
    own_.reset(ends[0]);
    theirs_.reset(ends[1]);
    const std::shared_ptr<SessionCall> self = shared_from_this();
    if (!Later([self] { self->Outgoing(); })) return End(DaemonStopping());
    StartRead(&incoming_);
    // Ends the call, which the client sees.
    Enter([self] {
      const absl::Status served = self->sessions_.Serve(self->offer_, std::move(self->theirs_));
      self->Cut();
      self->End(served);
    });
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Cut();
    const std::shared_ptr<SessionCall> self = shared_from_this();
    // The session's side may be slow: nothing waits on gRPC's thread.
    if (!Later([self] { self->Incoming(); })) Cut();
  }

  void OnCancel() override {
    OutgoingCall::OnCancel();
    Cut();
  }

 private:
  // Ends both directions, and thereby the threads that wait on them.
  void Cut() {
    if (own_.valid()) shutdown(own_.get(), SHUT_RDWR);
  }

  void Incoming() {
    absl::string_view left = incoming_.data();
    while (!left.empty()) {
      const ssize_t sent = send(own_.get(), left.data(), left.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        left.remove_prefix(static_cast<size_t>(sent));
      } else if (errno == EAGAIN) {
        AwaitReady(own_.get(), POLLOUT);
      } else if (errno != EINTR) {
        return Cut();
      }
    }
    absl::MutexLock lock(&mu_);
    if (!finished()) StartRead(&incoming_);
  }

  void Outgoing() {
    std::string buffer(kCallPieceBytes, '\0');
    while (true) {
      const ssize_t got = recv(own_.get(), buffer.data(), buffer.size(), 0);
      if (got < 0 && errno == EAGAIN) {
        AwaitReady(own_.get(), POLLIN);
      } else if (got < 0 && errno == EINTR) {
        continue;
      } else if (got <= 0) {
        return;
      } else {
        BytesMessage message;
        message.set_data(buffer.data(), static_cast<size_t>(got));
        if (!Send(std::move(message)).ok()) return Cut();
      }
    }
  }

  Sessions& sessions_;
  const SessionOffer offer_;
  UniqueFd own_;           // set in Open()
  UniqueFd theirs_;        // the session's
  BytesMessage incoming_;  // gRPC's while a read is under way
};

}  // namespace

SessionReactor* StartSessionCall(Lane& lane, grpc::CallbackServerContext& context,
                                 Sessions& sessions) {
  const auto call = std::make_shared<SessionCall>(context, lane, sessions);
  call->Open();
  return call.get();
}

}  // namespace gantry::api::buildkit
