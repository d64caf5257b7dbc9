// The unix socket that clients connect to.
//
// Accepting is ours and not gRPC's: gRPC 1.51 closes a listening socket when accept
// fails, so a daemon that ran out of descriptors once would be deaf until its restart. Here those
// who connect meanwhile wait in the backlog, and are taken in when there are descriptors again.
//
// Life: Listen() -> Start() -> destruction, which removes the file of a socket that it made.
// Thread-compatible; has one thread of its own.
#ifndef GANTRY_SUPERVISOR_SOCKET_LISTENER_H_
#define GANTRY_SUPERVISOR_SOCKET_LISTENER_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"

#include "base/unique_fd.h"

namespace gantry {

class SocketListener {
 public:
  // Connected and non-blocking.
  using OnConnection = std::function<void(UniqueFd connection)>;

  // Makes the socket, mode 0660 from its first moment; -1 leaves an owner as it is. Nothing may be
  // at `path`.
  //   kInvalidArgument  the path is too long for a socket
  //   others            the step that failed, named
  static absl::StatusOr<std::unique_ptr<SocketListener>> Listen(const std::string& path, uid_t uid,
                                                                gid_t gid);
  // For a socket that listens already and is not ours: its file stays when the listener ends.
  static absl::StatusOr<std::unique_ptr<SocketListener>> Adopt(const std::string& path,
                                                               UniqueFd socket);
  // The listening socket alone, for a server that accepts by itself.
  static absl::StatusOr<UniqueFd> Bind(const std::string& path, uid_t uid, gid_t gid);
  // No connection is being accepted any more when it returns.
  ~SocketListener();
  SocketListener(const SocketListener&) = delete;
  SocketListener& operator=(const SocketListener&) = delete;

  // Once. `on_connection` runs on the listener's thread and must not block.
  void Start(OnConnection on_connection);

 private:
  SocketListener(std::string path, bool owns_file, UniqueFd socket, UniqueFd stop)
      : path_(std::move(path)),
        owns_file_(owns_file),
        socket_(std::move(socket)),
        stop_(std::move(stop)) {}
  void Run(const OnConnection& on_connection);

  const std::string path_;
  const bool owns_file_;
  const UniqueFd socket_;
  const UniqueFd stop_;  // readable: end
  std::thread thread_;
};

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_SOCKET_LISTENER_H_
