#include "ctl/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>

#include "base/errno_status.h"

namespace gantry::ctl {
namespace {

// What a signal handler restores.
std::atomic<int> g_raw_fd{-1};
termios g_cooked;

constexpr int kFatalSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGPIPE, SIGSYS};

void RestoreAndDie(int signal_number) {
  const int fd = g_raw_fd.exchange(-1);
  if (fd >= 0) ::tcsetattr(fd, TCSANOW, &g_cooked);
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

void SetFatalHandlers(bool on) {
  for (const int number : kFatalSignals) {
    struct sigaction action = {};
    action.sa_handler = on ? RestoreAndDie : SIG_DFL;
    ::sigaction(number, &action, nullptr);
  }
}

}  // namespace

bool IsTerminal(int fd) { return ::isatty(fd) == 1; }

std::optional<WindowSize> TerminalWindow(int fd) {
  winsize size = {};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return std::nullopt;
  }
  return WindowSize{size.ws_col, size.ws_row};
}

absl::Status RawTerminal::Enter() {
  if (active_) return absl::OkStatus();
  termios cooked;
  if (::tcgetattr(fd_, &cooked) != 0) return ErrnoToStatus(errno, "terminal attributes");
  g_cooked = cooked;
  g_raw_fd = fd_;
  SetFatalHandlers(true);
  termios raw = cooked;
  ::cfmakeraw(&raw);
  // The process behind the terminal already turned its newlines into CR LF; the terminal itself
  // must not do it twice.
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  if (::tcsetattr(fd_, TCSANOW, &raw) != 0) {
    const int error = errno;
    g_raw_fd = -1;
    SetFatalHandlers(false);
    return ErrnoToStatus(error, "raw terminal");
  }
  active_ = true;
  StartGuard();
  return absl::OkStatus();
}

void RawTerminal::StartGuard() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;  // then only without this last resort
  UniqueFd read_end(ends[0]);
  lifeline_.reset(ends[1]);
  // Other threads may hold locks: after this fork only system calls.
  guard_ = ::_Fork();
  if (guard_ == 0) {
    // Out of the session, so that neither its signals nor job control reach the guard, and with all
    // streams closed, so that no reader waits for them.
    ::setsid();
    ::prctl(PR_SET_NAME, "ctl-terminal");
    if (::dup2(fd_, 0) < 0 || ::dup2(read_end.get(), 1) < 0) ::_exit(1);
    ::close_range(2, ~0U, 0);
    char byte;
    ssize_t n;
    do {
      n = ::read(1, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 0) ::tcsetattr(0, TCSANOW, &g_cooked);
    ::_exit(0);
  }
}

void RawTerminal::EndGuard() {
  if (guard_ > 0) {
    const char done = 0;
    (void)!::write(lifeline_.get(), &done, 1);
    while (::waitpid(guard_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  guard_ = -1;
  lifeline_.reset();
}

void RawTerminal::Leave() {
  if (!active_) return;
  active_ = false;
  const int fd = g_raw_fd.exchange(-1);
  if (fd >= 0) ::tcsetattr(fd, TCSADRAIN, &g_cooked);
  EndGuard();
  SetFatalHandlers(false);
}

}  // namespace gantry::ctl
