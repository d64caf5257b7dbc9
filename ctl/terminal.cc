#include "ctl/terminal.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
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
  // The process behind the terminal already turned its newlines into CR LF; the terminal itself must not do it twice.
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  if (::tcsetattr(fd_, TCSANOW, &raw) != 0) {
    const int error = errno;
    g_raw_fd = -1;
    SetFatalHandlers(false);
    return ErrnoToStatus(error, "raw terminal");
  }
  active_ = true;
  return absl::OkStatus();
}

void RawTerminal::Leave() {
  if (!active_) return;
  active_ = false;
  const int fd = g_raw_fd.exchange(-1);
  if (fd >= 0) ::tcsetattr(fd, TCSADRAIN, &g_cooked);
  SetFatalHandlers(false);
}

}  // namespace gantry::ctl
