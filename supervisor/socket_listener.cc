#include "supervisor/socket_listener.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry {
namespace {

constexpr mode_t kNotOthers = 0117;
// While descriptors or memory are short.
constexpr int kRetryMillis = 100;

}  // namespace

absl::StatusOr<UniqueFd> SocketListener::Bind(const std::string& path, uid_t uid, gid_t gid) {
  const std::string what = absl::StrCat("socket ", path);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": ", path.size(), " characters; the kernel takes ", sizeof(address.sun_path) - 1));
  }
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoToStatus(errno, what);
  const mode_t before = umask(kNotOthers);
  const int bound = bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  umask(before);
  if (bound != 0) return ErrnoToStatus(error, absl::StrCat(what, ": bind"));
  absl::Cleanup unlinked = [&path] { unlink(path.c_str()); };
  if (chown(path.c_str(), uid, gid) != 0) {
    return ErrnoToStatus(errno, absl::StrCat(what, ": chown"));
  }
  if (listen(fd.get(), SOMAXCONN) != 0) {
    return ErrnoToStatus(errno, absl::StrCat(what, ": listen"));
  }
  std::move(unlinked).Cancel();
  return fd;
}

absl::StatusOr<std::unique_ptr<SocketListener>> SocketListener::Listen(const std::string& path,
                                                                       uid_t uid, gid_t gid) {
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return ErrnoToStatus(errno, absl::StrCat("socket ", path));
  GANTRY_ASSIGN_OR_RETURN(UniqueFd fd, Bind(path, uid, gid));
  return std::unique_ptr<SocketListener>(
      new SocketListener(path, /*owns_file=*/true, std::move(fd), std::move(stop)));
}

absl::StatusOr<std::unique_ptr<SocketListener>> SocketListener::Adopt(const std::string& path,
                                                                      UniqueFd socket) {
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return ErrnoToStatus(errno, absl::StrCat("socket ", path));
  return std::unique_ptr<SocketListener>(
      new SocketListener(path, /*owns_file=*/false, std::move(socket), std::move(stop)));
}

SocketListener::~SocketListener() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    PCHECK(write(stop_.get(), &one, sizeof(one)) == sizeof(one));
    thread_.join();
  }
  if (owns_file_) unlink(path_.c_str());
}

void SocketListener::Start(OnConnection on_connection) {
  // A thread inherits the mask it is made under: signals belong to the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this, on_connection = std::move(on_connection)] { Run(on_connection); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void SocketListener::Run(const OnConnection& on_connection) {
  pthread_setname_np(pthread_self(), "accept");
  bool short_of = false;
  while (true) {
    pollfd fds[2] = {{stop_.get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
    // What waits in the backlog would wake us at once.
    if (poll(fds, short_of ? 1 : 2, short_of ? kRetryMillis : -1) < 0 && errno != EINTR) {
      PLOG(ERROR) << "socket " << path_ << ": poll";
      return;
    }
    if (fds[0].revents != 0) return;
    while (true) {
      UniqueFd connection(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (connection.valid()) {
        if (short_of) LOG(INFO) << "socket " << path_ << ": connections are taken in again";
        short_of = false;
        on_connection(std::move(connection));
        continue;
      }
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN) {
        short_of = false;
        break;
      }
      if (!short_of) {
        PLOG(ERROR) << "socket " << path_
                    << ": connections wait until there is room (raise LimitNOFILE of the service "
                       "if descriptors are short)";
      }
      short_of = true;
      break;
    }
  }
}

}  // namespace gantry
