#include "shim/logger_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

constexpr absl::Duration kReadyTimeout = absl::Seconds(10);

absl::Status MakePipe(UniqueFd& read_end, UniqueFd& write_end) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe to logger");
  read_end.reset(fds[0]);
  write_end.reset(fds[1]);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoggerPipes> StartLogger(const StdioUri& uri, const std::string& name_space,
                                        const std::string& container_id, Reaper* reaper,
                                        std::function<void()> on_exit) {
  LoggerPipes pipes;
  GANTRY_RETURN_IF_ERROR(MakePipe(pipes.stdout_read, pipes.stdout_write));
  GANTRY_RETURN_IF_ERROR(MakePipe(pipes.stderr_read, pipes.stderr_write));
  UniqueFd ready_read;
  UniqueFd ready_write;
  GANTRY_RETURN_IF_ERROR(MakePipe(ready_read, ready_write));

  SpawnRequest request;
  request.argv = {uri.path};
  request.argv.insert(request.argv.end(), uri.args.begin(), uri.args.end());
  request.env = {absl::StrCat("CONTAINER_ID=", container_id),
                 absl::StrCat("CONTAINER_NAMESPACE=", name_space),
                 "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  request.fds = {
      {pipes.stdout_read.get(), 3}, {pipes.stderr_read.get(), 4}, {ready_write.get(), 5}};
  GANTRY_ASSIGN_OR_RETURN(
      const pid_t pid,
      reaper->Spawn(request, [on_exit = std::move(on_exit)](int, absl::Time) { on_exit(); }));
  ready_write.reset();

  pollfd poll_fd = {ready_read.get(), POLLIN, 0};
  int ready;
  do {
    ready = poll(&poll_fd, 1, static_cast<int>(absl::ToInt64Milliseconds(kReadyTimeout)));
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) {
    kill(pid, SIGKILL);
    return absl::UnavailableError(absl::StrCat("logger ", uri.path, ": not ready within ",
                                               absl::FormatDuration(kReadyTimeout), ", killed"));
  }
  char byte;
  const ssize_t got = read(ready_read.get(), &byte, 1);
  if (uri.kind == StdioUri::Kind::kBinaryV2 && got != 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("logger ", uri.path, ": ended before it was ready"));
  }
  return pipes;
}

}  // namespace gantry::shim
