#include "ctl/commands/interactive.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"

namespace gantry::ctl {
namespace {

// A signal or resize that could not be sent does not end the session.
constexpr absl::Duration kControlDeadline = absl::Seconds(10);
constexpr int kDaemonError = 125;

}  // namespace

int ExitStatus(Context& context, const InteractiveOutcome& outcome) {
  if (outcome.exit_code) {
    if (!outcome.error.empty()) context.Err(absl::StrCat("ctl: ", outcome.error, "\n"));
    return *outcome.exit_code;
  }
  if (outcome.detached) {
    context.Err("read escape sequence\n");
    return 0;
  }
  if (outcome.signal != 0) return 128 + outcome.signal;
  if (!outcome.status.ok()) context.Complain(outcome.status);
  return outcome.status.ok() ? 0 : kDaemonError;
}

absl::Status CheckTerminal(Context& context, bool tty, bool stdin_wanted) {
  if (!tty || !stdin_wanted || IsTerminal(context.in_fd())) return absl::OkStatus();
  return absl::InvalidArgumentError("the input device is not a TTY; leave -t out");
}

int StartFailureStatus(const absl::Status& status) {
  const std::string message = absl::AsciiStrToLower(status.message());
  // A missing mount or cgroup file does not count as a missing program.
  if (!absl::StrContains(message, "exec: \"") && !absl::StrContains(message, "exec failed") &&
      !absl::StrContains(message, "open executable")) {
    return kDaemonError;
  }
  if (absl::StrContains(message, "executable file not found") ||
      absl::StrContains(message, "executable file `") ||
      absl::StrContains(message, "no such file or directory")) {
    return 127;
  }
  if (absl::StrContains(message, "permission denied") ||
      absl::StrContains(message, "is a directory") ||
      absl::StrContains(message, "exec format error")) {
    return 126;
  }
  return kDaemonError;
}

absl::StatusOr<DetachKeys> DetachKeysFrom(const std::string& text, Context& context) {
  if (!text.empty()) return DetachKeys::Parse(text);
  return DetachKeys::Default();
}

void SendSignal(Context& context, const std::string& container, int signal) {
  auto client = context.client();
  if (!client.ok() || container.empty()) return;
  v1::KillContainerRequest request;
  request.set_container(container);
  const std::string name = SignalName(signal);
  request.set_signal(name.empty() ? absl::StrCat(signal) : name);
  v1::KillContainerResponse response;
  // The process may have ended already; its exit status arrives on the stream.
  (void)(*client)->Call(request, &response, kControlDeadline);
}

void SendResize(Context& context, const std::string& container, const std::string& exec_id,
                WindowSize size) {
  auto client = context.client();
  if (!client.ok() || container.empty()) return;
  v1::ResizeRequest request;
  request.set_container(container);
  request.set_exec_id(exec_id);
  request.mutable_size()->set_width(size.width);
  request.mutable_size()->set_height(size.height);
  v1::ResizeResponse response;
  (void)(*client)->Call(request, &response, kControlDeadline);
}

}  // namespace gantry::ctl
