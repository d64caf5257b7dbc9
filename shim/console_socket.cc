#include "shim/console_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

absl::Status PollIn(int fd, absl::Duration timeout) {
  pollfd poll_fd = {fd, POLLIN, 0};
  int ready;
  do {
    ready = poll(&poll_fd, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  } while (ready < 0 && errno == EINTR);
  if (ready > 0) return absl::OkStatus();
  return absl::InternalError("the runtime sent no terminal");
}

}  // namespace

absl::StatusOr<ConsoleSocket> ConsoleSocket::Listen(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("console socket ", path, ": name too long"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return ErrnoToStatus(errno, "console socket");
  unlink(path.c_str());
  // The bundle directory is ours alone; the mode of the socket itself comes from the umask.
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener.get(), 1) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("console socket ", path));
  }
  return ConsoleSocket(std::move(listener), path);
}

ConsoleSocket::~ConsoleSocket() {
  if (listener_.valid()) unlink(path_.c_str());
}

absl::StatusOr<UniqueFd> ConsoleSocket::ReceiveConsole(absl::Duration timeout) {
  GANTRY_RETURN_IF_ERROR(PollIn(listener_.get(), timeout));
  UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection.valid()) return ErrnoToStatus(errno, "console socket: accept");
  GANTRY_RETURN_IF_ERROR(PollIn(connection.get(), timeout));

  std::array<char, 4096> name;  // of the terminal, or of the container: of no interest
  iovec iov = {name.data(), name.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  if (recvmsg(connection.get(), &message, MSG_CMSG_CLOEXEC) < 0) {
    return ErrnoToStatus(errno, "console socket: receive");
  }
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return absl::InternalError("the runtime sent no terminal");
  }
  int fd;
  std::memcpy(&fd, CMSG_DATA(header), sizeof(int));
  UniqueFd console(fd);
  // The runtime may be led by the container's file system (a planted /dev/ptmx): take a terminal
  // and nothing else.
  termios settings;
  if (tcgetattr(console.get(), &settings) != 0) {
    return absl::InternalError("what the runtime sent as terminal is none");
  }
  if (fcntl(console.get(), F_SETFL, O_NONBLOCK | O_RDWR) != 0) {
    return ErrnoToStatus(errno, "console: non-blocking");
  }
  return console;
}

}  // namespace gantry::shim
