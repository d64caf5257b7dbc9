// What the sources of ProcessIo share: one output stream, and pipes. Used by them only.
//
// An Output is the event loop's once the streams have begun; the functions may be called from any
// thread.
#ifndef GANTRY_SHIM_STDIO_PARTS_H_
#define GANTRY_SHIM_STDIO_PARTS_H_

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"

#include "base/errno_status.h"
#include "base/unique_fd.h"
#include "shim/output_sink.h"
#include "shim/stdio.h"

namespace gantry::shim {

inline constexpr uint32_t kReadable = EPOLLIN;

inline absl::Status MakePipe(UniqueFd& read_end, UniqueFd& write_end) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe");
  read_end.reset(fds[0]);
  write_end.reset(fds[1]);
  return absl::OkStatus();
}

inline void SetNonBlocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

// One stream on its way through the shim.
struct ProcessIo::Output {
  UniqueFd source;                   // read end of the process's pipe, or the terminal
  std::unique_ptr<OutputSink> sink;  // null: only log and clients
  bool ended = false;
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_STDIO_PARTS_H_
