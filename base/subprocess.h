// Programs run by argv, never by a shell.
//
// A child starts with default signal handling, nothing blocked, and no descriptor but those it is
// given. It is started by posix_spawn (vfork inside), so the size of this process does not matter.

#ifndef GANTRY_BASE_SUBPROCESS_H_
#define GANTRY_BASE_SUBPROCESS_H_

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry {

class CancelToken;

struct Command {
  std::vector<std::string> argv;  // argv[0] without a slash is looked up in our own PATH
  std::optional<std::vector<std::string>> env;  // "NAME=value"; nullopt: ours
  std::string cwd;                              // empty: ours
  // Borrowed for the call; -1 is /dev/null (in RunCommand: the pipe it reads or feeds).
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
  // More descriptors: {ours, the child's}. The child's are 3 and above.
  std::vector<std::pair<int, int>> extra_fds;
  // A session of its own (no controlling terminal). Otherwise a process group of its own in our
  // session.
  bool new_session = false;
  // RunCommand only: after it the whole process group is killed.
  absl::Duration timeout = absl::InfiniteDuration();
};

struct ExitStatus {
  int code = 0;    // valid if signal is 0
  int signal = 0;  // the signal that ended it

  bool ok() const { return code == 0 && signal == 0; }
  // "exit status 3", "killed by signal 9 (Killed)".
  std::string ToString() const;
  friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};

// A child of this process. Destroying one that has not been waited for kills its process group and
// reaps it; Detach() prevents that. A process that also reaps by waitid(P_ALL), as a subreaper
// might, must leave these children alone.
//
// Thread-compatible; Kill() may run beside Wait().
class Process {
 public:
  Process() = default;
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  // Readable once the process has ended.
  int pidfd() const { return pidfd_.get(); }

  // Waits and reaps; may be called again after success. kDeadlineExceeded: still running after
  // `timeout`.
  absl::StatusOr<ExitStatus> Wait(absl::Duration timeout = absl::InfiniteDuration());

  // Signals the process alone. OK if it has ended already.
  absl::Status Kill(int signal);
  // Signals its process group: children that did not leave the group, too.
  absl::Status KillGroup(int signal);

  // Gives the child away: it is neither killed nor reaped here any more. Returns its pid.
  pid_t Detach();

 private:
  friend absl::StatusOr<Process> Spawn(const Command&);
  void End();

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<ExitStatus> status_;
};

// Starts the command. Returns once the program is executing:
//   kNotFound          no such program, or cwd
//   kPermissionDenied  not executable
//   kInvalidArgument   empty argv, a NUL byte in it, or a descriptor below 3 in extra_fds
absl::StatusOr<Process> Spawn(const Command& command);

struct CommandResult {
  ExitStatus status;
  std::string out;  // standard output, the first max_output_bytes
  std::string err;  // standard error, the last max_output_bytes
  bool truncated = false;
};

// Starts the command, feeds `input`, collects what it prints and waits for its end. Output that
// comes after the end, from children left behind, is not waited for.
//   kDeadlineExceeded, kCancelled  the process group was killed; the message ends with what it
//                                  printed on stderr
// A command that ends with an error is OK here: look at `status`.
absl::StatusOr<CommandResult> RunCommand(const Command& command, const std::string& input = "",
                                         size_t max_output_bytes = 1 << 20,
                                         CancelToken* cancel = nullptr);

}  // namespace gantry

#endif  // GANTRY_BASE_SUBPROCESS_H_
