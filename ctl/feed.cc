#include "ctl/feed.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "base/errno_status.h"

namespace gantry::ctl {
namespace {

constexpr size_t kPieceBytes = 1 << 20;

}  // namespace

Feed::Feed(int fd, std::function<bool(std::string&&)> take,
           std::function<void(const absl::Status&)> end)
    : fd_(fd),
      take_(std::move(take)),
      end_(std::move(end)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Run(); }) {}

void Feed::Stop() {
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof(one));
  if (thread_.joinable()) thread_.join();
}

void Feed::Run() {
  while (true) {
    pollfd fds[2] = {{fd_, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return end_(ErrnoToStatus(errno, "poll"));
    }
    if (fds[1].revents != 0) return;
    std::string piece(kPieceBytes, '\0');
    const ssize_t n = ::read(fd_, piece.data(), piece.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return end_(ErrnoToStatus(errno, "read"));
    if (n == 0) return end_(absl::OkStatus());
    piece.resize(static_cast<size_t>(n));
    if (!take_(std::move(piece))) return;
  }
}

}  // namespace gantry::ctl
