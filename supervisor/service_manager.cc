#include "supervisor/service_manager.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

namespace gantry {
namespace {

constexpr int kFirstSocket = 3;  // SD_LISTEN_FDS_START
constexpr int kMostSockets = 64;

std::string TakeVariable(const char* name) {
  const char* value = getenv(name);
  std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

// The path that a listening unix socket is bound to; "" for every other descriptor.
std::string ListeningPath(int fd) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) {
    return "";
  }
  sockaddr_un address = {};
  size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      address.sun_family != AF_UNIX || address.sun_path[0] != '/') {
    return "";
  }
  return std::string(address.sun_path, strnlen(address.sun_path, sizeof address.sun_path));
}

InheritedSockets TakeSockets() {
  const std::string pid = TakeVariable("LISTEN_PID");
  const std::string count = TakeVariable("LISTEN_FDS");
  const std::vector<std::string> names = absl::StrSplit(TakeVariable("LISTEN_FDNAMES"), ':');
  int64_t owner = 0;
  int sockets = 0;
  if (!absl::SimpleAtoi(pid, &owner) || owner != getpid() || !absl::SimpleAtoi(count, &sockets)) {
    return {};
  }
  std::vector<InheritedSockets::Socket> taken;
  for (int i = 0; i < std::min(sockets, kMostSockets); ++i) {
    UniqueFd fd(kFirstSocket + i);
    std::string path = ListeningPath(fd.get());
    if (path.empty() || fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0 ||
        fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) {
      LOG(WARNING) << "descriptor " << kFirstSocket + i
                   << " from the service manager is no listening unix socket; it is closed";
      continue;
    }
    const auto at = static_cast<size_t>(i);
    taken.push_back({std::move(path), at < names.size() ? names[at] : "", std::move(fd)});
  }
  return InheritedSockets(std::move(taken));
}

// False: `path` does not fit.
bool FillAddress(const std::string& path, sockaddr_un& address, socklen_t& size) {
  if (path.empty() || path.size() >= sizeof address.sun_path) return false;
  address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  return true;
}

}  // namespace

bool InheritedSockets::Has(absl::string_view path) const {
  return std::any_of(sockets_.begin(), sockets_.end(),
                     [path](const Socket& socket) { return socket.path == path; });
}

std::optional<UniqueFd> InheritedSockets::Take(absl::string_view path) {
  for (auto it = sockets_.begin(); it != sockets_.end(); ++it) {
    if (it->path != path) continue;
    UniqueFd fd = std::move(it->fd);
    sockets_.erase(it);
    return fd;
  }
  return std::nullopt;
}

std::vector<InheritedSockets::Socket> InheritedSockets::TakeNamed(absl::string_view name) {
  std::vector<Socket> taken;
  for (auto it = sockets_.begin(); it != sockets_.end();) {
    if (it->name == name) {
      taken.push_back(std::move(*it));
      it = sockets_.erase(it);
    } else {
      ++it;
    }
  }
  return taken;
}

ServiceManager ServiceManager::FromEnvironment() {
  ServiceManager manager;
  manager.notify_socket_ = TakeVariable("NOTIFY_SOCKET");
  const std::string pid = TakeVariable("WATCHDOG_PID");
  int64_t micros = 0;
  int64_t owner = getpid();
  if (absl::SimpleAtoi(TakeVariable("WATCHDOG_USEC"), &micros) && micros > 0 &&
      (pid.empty() || absl::SimpleAtoi(pid, &owner)) && owner == getpid()) {
    manager.watchdog_ = absl::Microseconds(micros);
  }
  manager.sockets_ = TakeSockets();
  return manager;
}

void ServiceManager::Notify(const std::string& state) const {
  sockaddr_un address;
  socklen_t size = 0;
  if (notify_socket_.empty() || (notify_socket_[0] != '/' && notify_socket_[0] != '@') ||
      !FillAddress(notify_socket_, address, size)) {
    return;
  }
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() || sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL,
                            reinterpret_cast<const sockaddr*>(&address), size) < 0) {
    PLOG(WARNING) << "reporting " << state << " to the service manager";
  }
}

bool SelfCheck::Answered() {
  if (!connection_.valid()) {
    sockaddr_un address;
    socklen_t size = 0;
    if (!FillAddress(path_, address, size)) return false;
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid() || connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
      return false;
    }
    connection_ = std::move(fd);
    return false;
  }
  // A gRPC server sends its HTTP/2 settings without being asked.
  char byte;
  const ssize_t got = recv(connection_.get(), &byte, 1, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  connection_.reset();
  return got == 1;
}

void Watchdog::Tick(absl::Duration now) {
  if (now < next_ || !answers_()) return;
  report_();
  next_ = now + period_;
}

}  // namespace gantry
