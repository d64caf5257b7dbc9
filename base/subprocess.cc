#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/errno_status.h"
#include "base/new_thread.h"
#include "base/status_macros.h"

namespace gantry {
namespace {

// How long a killed process may take to vanish before it is left to init.
constexpr absl::Duration kKillGrace = absl::Seconds(5);

// A child's process group outlives a caller that died, so poll() is retried with what is left of
// the time.
int PollTimeoutMillis(absl::Duration left) {
  if (left == absl::InfiniteDuration()) return -1;
  const int64_t millis = absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)));
  return static_cast<int>(std::clamp<int64_t>(millis, 0, 1 << 30));
}

absl::Duration MonotonicAfter(absl::Duration timeout) {
  return timeout == absl::InfiniteDuration() ? timeout : Clock::Real().Monotonic() + timeout;
}

absl::Duration LeftUntil(absl::Duration deadline) {
  return deadline == absl::InfiniteDuration() ? deadline : deadline - Clock::Real().Monotonic();
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const std::string& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
}

absl::Status CheckCommand(const Command& command) {
  if (command.argv.empty() || command.argv[0].empty())
    return absl::InvalidArgumentError("run: no program named");
  const auto has_nul = [](const std::string& s) { return s.find('\0') != std::string::npos; };
  if (std::any_of(command.argv.begin(), command.argv.end(), has_nul)) {
    return absl::InvalidArgumentError(
        absl::StrCat("run ", command.argv[0].c_str(), ": NUL byte in an argument"));
  }
  if (command.env && std::any_of(command.env->begin(), command.env->end(), has_nul)) {
    return absl::InvalidArgumentError(
        absl::StrCat("run ", command.argv[0], ": NUL byte in the environment"));
  }
  std::set<int> targets;
  for (const auto& [ours, theirs] : command.extra_fds) {
    if (theirs < 3 || ours < 0 || !targets.insert(theirs).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("run ", command.argv[0], ": bad descriptor ", theirs));
    }
  }
  return absl::OkStatus();
}

// What happens to descriptors between vfork and exec.
class FileActions {
 public:
  FileActions() { ::posix_spawn_file_actions_init(&actions_); }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }

  absl::Status Fill(const Command& command) {
    std::vector<std::pair<int, int>> plan = {
        {command.stdin_fd, 0}, {command.stdout_fd, 1}, {command.stderr_fd, 2}};
    plan.insert(plan.end(), command.extra_fds.begin(), command.extra_fds.end());
    int last = 2;
    for (const auto& [ours, theirs] : plan) last = std::max(last, theirs);

    for (auto& [ours, theirs] : plan) {
      if (ours < 0) continue;
      // dup2 in sequence would overwrite a source that is another one's target, so sources go above
      // all targets.
      if (ours <= last) {
        high_.emplace_back(::fcntl(ours, F_DUPFD_CLOEXEC, last + 1));
        if (!high_.back().valid()) return ErrnoToStatus(errno, "duplicate a descriptor");
        ours = high_.back().get();
      }
    }
    for (const auto& [ours, theirs] : plan) {
      if (ours < 0) {
        ::posix_spawn_file_actions_addopen(&actions_, theirs, "/dev/null", O_RDWR, 0);
      } else {
        ::posix_spawn_file_actions_adddup2(&actions_, ours, theirs);
      }
    }
    for (int fd = 3; fd < last; ++fd) {
      const bool wanted =
          std::any_of(plan.begin(), plan.end(), [fd](const auto& p) { return p.second == fd; });
      if (!wanted) ::posix_spawn_file_actions_addclose(&actions_, fd);
    }
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, last + 1);
    if (!command.cwd.empty())
      ::posix_spawn_file_actions_addchdir_np(&actions_, command.cwd.c_str());
    return absl::OkStatus();
  }

  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
  std::vector<UniqueFd> high_;
};

ExitStatus FromSiginfo(const siginfo_t& info) {
  ExitStatus status;
  if (info.si_code == CLD_EXITED) {
    status.code = info.si_status;
  } else {
    status.signal = info.si_status;
  }
  return status;
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe");
  Pipe result{UniqueFd(fds[0]), UniqueFd(fds[1])};
  // Only our end: non-blocking is a property of the open file, which the two ends do not share.
  ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return result;
}

// Takes what is there; closes `fd` at its end.
void Drain(UniqueFd& fd, std::string& into) {
  char buffer[16 << 10];
  while (fd.valid()) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof(buffer));
    if (got > 0) {
      into.append(buffer, static_cast<size_t>(got));
      return;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    fd.reset();
  }
}

void KeepFirst(std::string& text, size_t max, bool& truncated) {
  if (text.size() <= max) return;
  text.resize(max);
  truncated = true;
}

void KeepLast(std::string& text, size_t max, bool& truncated) {
  if (text.size() <= max) return;
  text.erase(0, text.size() - max);
  truncated = true;
}

}  // namespace

std::string ExitStatus::ToString() const {
  if (signal == 0) return absl::StrCat("exit status ", code);
  const char* name = ::sigdescr_np(signal);
  return absl::StrCat("killed by signal ", signal,
                      name == nullptr ? "" : absl::StrCat(" (", name, ")"));
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      status_(other.status_) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    End();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
    status_ = other.status_;
  }
  return *this;
}

Process::~Process() { End(); }

void Process::End() {
  if (pid_ < 0 || status_.has_value()) return;
  // A destructor cannot report an error. A process that cannot be killed or reaped within the grace
  // period is left to the kernel.
  KillGroup(SIGKILL).IgnoreError();
  Kill(SIGKILL).IgnoreError();
  Wait(kKillGrace).IgnoreError();
  pid_ = -1;
}

absl::StatusOr<ExitStatus> Process::Wait(absl::Duration timeout) {
  if (status_.has_value()) return *status_;
  if (pid_ < 0) return absl::FailedPreconditionError("wait: no process");
  const absl::Duration deadline = MonotonicAfter(timeout);
  for (;;) {
    struct pollfd poll_fd = {pidfd_.get(), POLLIN, 0};
    const int ready = ::poll(&poll_fd, 1, PollTimeoutMillis(LeftUntil(deadline)));
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR)
      return ErrnoToStatus(errno, absl::StrCat("wait for process ", pid_));
    if (LeftUntil(deadline) <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat("process ", pid_, " still runs"));
    }
  }
  siginfo_t info = {};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0) {
    if (errno != EINTR) return ErrnoToStatus(errno, absl::StrCat("wait for process ", pid_));
  }
  status_ = FromSiginfo(info);
  return *status_;
}

absl::Status Process::Kill(int signal) {
  if (!pidfd_.valid()) return absl::FailedPreconditionError("kill: no process");
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) == 0 || errno == ESRCH) {
    return absl::OkStatus();
  }
  return ErrnoToStatus(errno, absl::StrCat("kill process ", pid_));
}

absl::Status Process::KillGroup(int signal) {
  if (pid_ <= 0) return absl::FailedPreconditionError("kill: no process");
  if (::kill(-pid_, signal) == 0 || errno == ESRCH) return absl::OkStatus();
  return ErrnoToStatus(errno, absl::StrCat("kill process group ", pid_));
}

pid_t Process::Detach() {
  pidfd_.reset();
  return std::exchange(pid_, -1);
}

absl::StatusOr<Process> Spawn(const Command& command) {
  GANTRY_RETURN_IF_ERROR(CheckCommand(command));
  const std::string& program = command.argv[0];

  FileActions actions;
  GANTRY_RETURN_IF_ERROR(WithContext(actions.Fill(command), absl::StrCat("run ", program)));

  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  const auto destroy = absl::MakeCleanup([&attributes] { ::posix_spawnattr_destroy(&attributes); });
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  const int group = command.new_session ? POSIX_SPAWN_SETSID : POSIX_SPAWN_SETPGROUP;
  ::posix_spawnattr_setflags(
      &attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | group));

  std::vector<char*> argv = Pointers(command.argv);
  std::vector<char*> env;
  if (command.env) env = Pointers(*command.env);

  Process process;
  const int err = ::posix_spawnp(&process.pid_, program.c_str(), actions.get(), &attributes,
                                 argv.data(), command.env ? env.data() : environ);
  if (err != 0) {
    process.pid_ = -1;
    struct stat st;
    if (err == ENOENT && !command.cwd.empty() && ::stat(command.cwd.c_str(), &st) != 0) {
      return ErrnoToStatus(errno,
                           absl::StrCat("run ", program, ": working directory ", command.cwd));
    }
    if (err == EAGAIN)
      return absl::ResourceExhaustedError(absl::StrCat("run ", program, ": ", kNoMoreProcesses));
    return ErrnoToStatus(err, absl::StrCat("run ", program));
  }
  // The pid is ours until we reap it, so it cannot have been given to another process meanwhile.
  process.pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, process.pid_, 0)));
  if (!process.pidfd_.valid()) {
    const int open_error = errno;
    const pid_t pid = std::exchange(process.pid_, -1);
    ::kill(-pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return ErrnoToStatus(open_error, absl::StrCat("run ", program, ": pidfd_open"));
  }
  return process;
}

absl::StatusOr<CommandResult> RunCommand(const Command& command, const std::string& input,
                                         size_t max_output_bytes, CancelToken* cancel) {
  GANTRY_RETURN_IF_ERROR(CheckCommand(command));
  const std::string& program = command.argv[0];
  const absl::Duration deadline = MonotonicAfter(command.timeout);

  Command actual = command;
  // A file in memory instead of a pipe: nothing has to be pumped, and no SIGPIPE comes back.
  UniqueFd input_file;
  if (command.stdin_fd < 0 && !input.empty()) {
    input_file.reset(::memfd_create("stdin", MFD_CLOEXEC));
    if (!input_file.valid())
      return ErrnoToStatus(errno, absl::StrCat("run ", program, ": memfd_create"));
    for (size_t done = 0; done < input.size();) {
      const ssize_t put = ::pwrite(input_file.get(), input.data() + done, input.size() - done,
                                   static_cast<off_t>(done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return ErrnoToStatus(errno, absl::StrCat("run ", program, ": store its input"));
      done += static_cast<size_t>(put);
    }
    actual.stdin_fd = input_file.get();
  }
  Pipe out, err;
  if (command.stdout_fd < 0) {
    GANTRY_ASSIGN_OR_RETURN(out, MakePipe());
    actual.stdout_fd = out.write.get();
  }
  if (command.stderr_fd < 0) {
    GANTRY_ASSIGN_OR_RETURN(err, MakePipe());
    actual.stderr_fd = err.write.get();
  }

  // Cancel() may come from any thread: it wakes the poll below.
  UniqueFd wake;
  CancelToken::Registration registration;
  if (cancel != nullptr) {
    GANTRY_RETURN_IF_ERROR(cancel->Check());
    wake.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake.valid()) return ErrnoToStatus(errno, absl::StrCat("run ", program, ": eventfd"));
    registration = cancel->OnCancel([fd = wake.get()] { ::eventfd_write(fd, 1); });
  }

  GANTRY_ASSIGN_OR_RETURN(Process process, Spawn(actual));
  out.write.reset();
  err.write.reset();

  CommandResult result;
  absl::Status stopped;
  bool ended = false;
  while (!ended && stopped.ok()) {
    struct pollfd fds[4] = {{process.pidfd(), POLLIN, 0},
                            {out.read.get(), POLLIN, 0},
                            {err.read.get(), POLLIN, 0},
                            {wake.get(), POLLIN, 0}};
    absl::Duration left = LeftUntil(deadline);
    if (cancel != nullptr) left = std::min(left, cancel->remaining());
    const int ready = ::poll(fds, 4, PollTimeoutMillis(left));
    if (ready < 0 && errno != EINTR) stopped = ErrnoToStatus(errno, "poll");
    ended = ready > 0 && (fds[0].revents & POLLIN) != 0;
    Drain(out.read, result.out);
    Drain(err.read, result.err);
    KeepFirst(result.out, max_output_bytes, result.truncated);
    if (result.err.size() > 2 * max_output_bytes + (64 << 10))
      KeepLast(result.err, max_output_bytes, result.truncated);
    if (ended || !stopped.ok()) break;
    if (cancel != nullptr) stopped = cancel->Check();
    if (stopped.ok() && LeftUntil(deadline) <= absl::ZeroDuration()) {
      stopped = absl::DeadlineExceededError(
          absl::StrCat("still running after ", absl::FormatDuration(command.timeout)));
    }
  }

  if (!stopped.ok()) {
    // `stopped` is the error to tell; the destructor tries the same again.
    process.KillGroup(SIGKILL).IgnoreError();
    process.Wait(kKillGrace).IgnoreError();
  }
  // A pipe holds up to 64 KiB (or what an admin allowed) that was written before the end.
  for (size_t before = SIZE_MAX;
       before != result.out.size() && result.out.size() <= max_output_bytes;) {
    before = result.out.size();
    Drain(out.read, result.out);
  }
  for (size_t before = SIZE_MAX; before != result.err.size();) {
    before = result.err.size();
    Drain(err.read, result.err);
    if (result.err.size() > 2 * max_output_bytes + (1 << 20)) break;
  }
  KeepFirst(result.out, max_output_bytes, result.truncated);
  KeepLast(result.err, max_output_bytes, result.truncated);

  if (!stopped.ok()) {
    std::string message = absl::StrCat("run ", program, ": ", stopped.message());
    std::string said = result.err;
    bool cut = false;
    KeepLast(said, 1024, cut);
    while (!said.empty() && said.back() == '\n') said.pop_back();
    if (!said.empty()) absl::StrAppend(&message, "; it printed: ", said);
    return absl::Status(stopped.code(), message);
  }
  GANTRY_ASSIGN_OR_RETURN(result.status, process.Wait());
  return result;
}

}  // namespace gantry
