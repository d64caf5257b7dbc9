#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/dial.h"

namespace gantry::ctl {
namespace {

// Connects our stdin and stdout with the daemon's socket until the daemon has nothing more to say.
class DialStdioAction final : public Action {
 public:
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const std::string address, context.UsableAddress());
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd daemon, Dial(address));
    const int in = context.in_fd();
    const int out = context.out_fd();
    pollfd fds[] = {{in, POLLIN, 0}, {daemon.get(), POLLIN, 0}};
    char buffer[1 << 16];
    while (true) {
      if (::poll(fds, 2, -1) < 0) {
        if (errno == EINTR) continue;
        return ErrnoToStatus(errno, "poll");
      }
      if (fds[0].fd >= 0 && fds[0].revents != 0) {
        const ssize_t got = ::read(in, buffer, sizeof(buffer));
        if (got > 0) {
          GANTRY_RETURN_IF_ERROR(WriteAll(daemon.get(), {buffer, static_cast<size_t>(got)}));
        } else if (got == 0 || errno != EINTR) {
          ::shutdown(daemon.get(), SHUT_WR);
          fds[0].fd = -1;
        }
      }
      if (fds[1].revents != 0) {
        const ssize_t got = ::read(daemon.get(), buffer, sizeof(buffer));
        if (got == 0) return 0;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ErrnoToStatus(errno, "read from the daemon");
        GANTRY_RETURN_IF_ERROR(WriteAll(out, {buffer, static_cast<size_t>(got)}));
      }
    }
  }
};

}  // namespace

Verb DialStdioVerb() {
  return {.name = "dial-stdio",
          .summary = "Connect stdin and stdout with the daemon's socket (what ssh:// runs)",
          .max_args = 0,
          .hidden = true,
          .make = [] { return std::make_unique<DialStdioAction>(); }};
}

}  // namespace gantry::ctl
