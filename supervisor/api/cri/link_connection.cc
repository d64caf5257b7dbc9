#include "supervisor/api/cri/link_connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::api::cri {
namespace {

constexpr size_t kReadBytes = 64 << 10;
// How long a client may take for the last of what it is sent, and to close its side after it.
constexpr absl::Duration kLastSend = absl::Seconds(30);
constexpr absl::Duration kLinger = absl::Seconds(5);

int PollTimeout(absl::Duration deadline) {
  if (deadline == absl::InfiniteDuration()) return -1;
  const int64_t left = absl::ToInt64Milliseconds(deadline - Clock::Real().Monotonic()) + 1;
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

absl::Status Gone() { return absl::CancelledError("the client has gone"); }

}  // namespace

absl::Status LinkConnection::Wait(bool read, absl::Duration deadline, std::vector<pollfd>& more,
                                  std::vector<LinkEvent>& events) {
  if (!std::exchange(begun_, true)) {
    active_ = Clock::Real().Monotonic();
    events = link_->Begin();
    GANTRY_RETURN_IF_ERROR(Feed(std::exchange(read_already_, {}), events));
    if (!events.empty()) return absl::OkStatus();
  }
  GANTRY_RETURN_IF_ERROR(Send());
  const bool unsent = sent_ < unsent_.size();
  read = read && !full();
  // A client that is not read from now is at least seen to hang up.
  const short from_client =
      static_cast<short>((read ? POLLIN : POLLRDHUP) | (unsent ? POLLOUT : 0));
  std::vector<pollfd> all = {{socket_.get(), from_client, 0}, {stop_, POLLIN, 0}};
  all.insert(all.end(), more.begin(), more.end());
  const absl::Duration idle = active_ + idle_time_;
  const int ready = poll(all.data(), all.size(), PollTimeout(std::min(deadline, idle)));
  if (ready < 0 && errno != EINTR) return ErrnoToStatus(errno, "poll");
  for (size_t i = 0; i < more.size(); ++i)
    more[i].revents = ready > 0 ? all[i + 2].revents : short{0};
  if (ready <= 0) {
    if (Clock::Real().Monotonic() >= idle)
      return absl::DeadlineExceededError("the connection was idle for too long");
    return absl::OkStatus();
  }
  if (all[1].revents != 0) return absl::UnavailableError("the daemon stops");
  if ((all[0].revents & POLLOUT) != 0) GANTRY_RETURN_IF_ERROR(Send());
  if (read && (all[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) return Receive(events);
  if ((all[0].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) return Gone();
  return absl::OkStatus();
}

absl::Status LinkConnection::Receive(std::vector<LinkEvent>& events) {
  char buffer[kReadBytes];
  const ssize_t got = recv(socket_.get(), buffer, sizeof buffer, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return absl::OkStatus();
  if (got <= 0) return Gone();
  active_ = Clock::Real().Monotonic();
  return Feed(absl::string_view(buffer, static_cast<size_t>(got)), events);
}

absl::Status LinkConnection::Feed(absl::string_view bytes, std::vector<LinkEvent>& events) {
  if (bytes.empty()) return absl::OkStatus();
  absl::StatusOr<std::vector<LinkEvent>> fed = link_->Feed(bytes);
  if (!fed.ok()) {
    // It is best effort: the client may not take it.
    Send().IgnoreError();
    return fed.status();
  }
  std::move(fed->begin(), fed->end(), std::back_inserter(events));
  return absl::OkStatus();
}

absl::Status LinkConnection::Send() {
  while (true) {
    if (sent_ == unsent_.size()) {
      unsent_ = link_->TakeOutput();
      sent_ = 0;
      if (unsent_.empty()) return absl::OkStatus();
    }
    const ssize_t sent =
        send(socket_.get(), unsent_.data() + sent_, unsent_.size() - sent_, MSG_NOSIGNAL);
    if (sent >= 0) {
      sent_ += static_cast<size_t>(sent);
      active_ = Clock::Real().Monotonic();
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return absl::OkStatus();
    return Gone();
  }
}

void LinkConnection::Close() {
  link_->End();
  const absl::Duration send_until = Clock::Real().Monotonic() + kLastSend;
  while (Send().ok() && sent_ < unsent_.size()) {
    pollfd waits[2] = {{socket_.get(), POLLOUT, 0}, {stop_, POLLIN, 0}};
    if (poll(waits, 2, PollTimeout(send_until)) <= 0 || waits[1].revents != 0) return;
  }
  // A socket that is closed while bytes wait in it sends a reset, which may overtake what was sent.
  // So what the client still sends is read and dropped until it closes.
  shutdown(socket_.get(), SHUT_WR);
  const absl::Duration linger_until = Clock::Real().Monotonic() + kLinger;
  char dropped[4096];
  while (Clock::Real().Monotonic() < linger_until) {
    pollfd waits[2] = {{socket_.get(), POLLIN, 0}, {stop_, POLLIN, 0}};
    if (poll(waits, 2, PollTimeout(linger_until)) <= 0 || waits[1].revents != 0) return;
    const ssize_t got = recv(socket_.get(), dropped, sizeof dropped, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return;
  }
}

}  // namespace gantry::api::cri
