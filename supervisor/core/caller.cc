#include "supervisor/core/caller.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "base/utf8.h"

namespace gantry::core {

Caller CallerOfSocket(int socket, const char* door) {
  Caller caller;
  caller.door = door;
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return caller;
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_UNIX) {
    struct ucred peer = {};
    size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return caller;
    caller.pid = peer.pid;
    caller.uid = peer.uid;
  } else if (address.ss_family == AF_INET) {
    const auto& from = reinterpret_cast<const sockaddr_in&>(address);
    if (inet_ntop(AF_INET, &from.sin_addr, text, sizeof text) != nullptr)
      caller.address = absl::StrCat(text, ":", ntohs(from.sin_port));
  } else if (address.ss_family == AF_INET6) {
    const auto& from = reinterpret_cast<const sockaddr_in6&>(address);
    if (inet_ntop(AF_INET6, &from.sin6_addr, text, sizeof text) != nullptr)
      caller.address = absl::StrCat("[", text, "]:", ntohs(from.sin6_port));
  }
  return caller;
}

Caller CallerOfPeer(absl::string_view peer, const char* door) {
  int socket = -1;
  if (absl::ConsumePrefix(&peer, "fd:") && absl::SimpleAtoi(peer, &socket))
    return CallerOfSocket(socket, door);
  Caller caller;
  caller.door = door;
  return caller;
}

void FindProgram(Caller& caller) {
  if (caller.pid <= 0) return;
  char path[PATH_MAX];
  const ssize_t length =
      readlink(absl::StrCat("/proc/", caller.pid, "/exe").c_str(), path, sizeof path);
  // It goes into the container's record, of which one byte that is no text makes a damaged one.
  if (length > 0)
    caller.program = ToValidUtf8(absl::string_view(path, static_cast<size_t>(length)));
}

}  // namespace gantry::core
