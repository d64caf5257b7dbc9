// The socket over which an OCI runtime hands us the master side of a container's terminal.
//
// Thread-compatible. Spec: runc's "docs/terminals.md".
#ifndef GANTRY_SHIM_CONSOLE_SOCKET_H_
#define GANTRY_SHIM_CONSOLE_SOCKET_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry::shim {

class ConsoleSocket {
 public:
  // Listens at `path`, which is relative to the working directory and so is always short enough.
  // Replaces what is there.
  static absl::StatusOr<ConsoleSocket> Listen(const std::string& path);
  // Removes the socket file.
  ~ConsoleSocket();
  ConsoleSocket(ConsoleSocket&&) = default;
  ConsoleSocket& operator=(ConsoleSocket&&) = delete;

  const std::string& path() const { return path_; }

  // The terminal's master, non-blocking. Call when the runtime has returned.  kInternal: none came within `timeout`.
  absl::StatusOr<UniqueFd> ReceiveConsole(absl::Duration timeout);

 private:
  ConsoleSocket(UniqueFd listener, std::string path)
      : listener_(std::move(listener)), path_(std::move(path)) {}

  UniqueFd listener_;
  std::string path_;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_CONSOLE_SOCKET_H_
