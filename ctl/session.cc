#include "ctl/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "base/errno_status.h"

namespace gantry::ctl {
namespace {

// Handled by every session.
constexpr int kOwnSignals[] = {SIGWINCH, SIGCONT, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP};
// Passed on as well when proxying. Left out: job control, signals of the C library, and those that
// end only ctl.
constexpr int kProxiedSignals[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF,
                                   SIGIO,   SIGPWR,  SIGXCPU, SIGXFSZ,   SIGTRAP};

std::vector<int> Watched(bool signal_proxy, bool raw_terminal) {
  std::vector<int> numbers;
  for (const int number : kOwnSignals) {
    // Without a raw terminal the session stops like any other job.
    if ((number == SIGTSTP || number == SIGCONT) && !raw_terminal) continue;
    numbers.push_back(number);
  }
  if (signal_proxy)
    numbers.insert(numbers.end(), std::begin(kProxiedSignals), std::end(kProxiedSignals));
  return numbers;
}

// Where the handler writes. A handler rather than a blocked mask and a signalfd: threads that gRPC
// makes at any time do not inherit our mask for sure, and a signal that finds one thread open for
// it would kill the process with the terminal raw.
std::atomic<int> g_signal_pipe{-1};

void OnSignal(int number) {
  const int saved = errno;
  const auto byte = static_cast<unsigned char>(number);
  const int fd = g_signal_pipe;
  if (fd >= 0) (void)!::write(fd, &byte, 1);
  errno = saved;
}

constexpr int kInterruptsToGiveUp = 3;

}  // namespace

std::string SignalName(int signal) {
  const char* name = sigabbrev_np(signal);
  return name == nullptr ? "" : name;
}

Session::Session(SessionOptions options, SessionCallbacks callbacks)
    : options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      detach_keys_(options_.detach_keys),
      terminal_(options_.in) {}

Session::~Session() { Stop(); }

absl::Status Session::Start() {
  wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return ErrnoToStatus(errno, "eventfd");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return ErrnoToStatus(errno, "pipe");
  signals_ = UniqueFd(ends[0]);
  signals_write_ = UniqueFd(ends[1]);
  CatchSignals();
  if (options_.raw_terminal) {
    if (const absl::Status status = terminal_.Enter(); !status.ok()) return status;
    Resize();
  }
  signal_thread_ = std::thread([this] { WatchSignals(); });
  if (options_.forward_stdin) input_thread_ = std::thread([this] { ReadInput(); });
  return absl::OkStatus();
}

void Session::CatchSignals() {
  g_signal_pipe = signals_write_.get();
  for (const int number :
       Watched(options_.signal_proxy && !options_.raw_terminal, options_.raw_terminal)) {
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    action.sa_flags = SA_RESTART;
    struct sigaction former;
    if (::sigaction(number, &action, &former) == 0) former_actions_.emplace_back(number, former);
  }
}

void Session::ReleaseSignals() {
  for (const auto& [number, former] : former_actions_) ::sigaction(number, &former, nullptr);
  former_actions_.clear();
  g_signal_pipe = -1;
}

void Session::Stop() {
  stopping_ = true;
  if (wake_.valid()) {
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof(one));
  }
  if (input_thread_.joinable()) input_thread_.join();
  if (signal_thread_.joinable()) signal_thread_.join();
  terminal_.Leave();
  ReleaseSignals();
}

void Session::Resize() {
  std::optional<WindowSize> size = TerminalWindow(options_.in);
  if (!size) size = TerminalWindow(options_.out);
  if (size && callbacks_.resize) callbacks_.resize(*size);
}

void Session::ReadInput() {
  std::vector<char> buffer(64 * 1024);
  while (!stopping_) {
    pollfd fds[2] = {{options_.in, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0) {
      if (errno == EINTR) continue;
      break;
    }
    if (fds[1].revents != 0) return;
    const ssize_t n = ::read(options_.in, buffer.data(), buffer.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) break;  // end of input; EIO: the terminal is gone
    absl::string_view data(buffer.data(), static_cast<size_t>(n));
    if (!options_.raw_terminal) {
      if (!callbacks_.send_stdin(data)) return;
      continue;
    }
    bool left = false;
    const std::string passed = detach_keys_.Filter(data, &left);
    if (!passed.empty() && !callbacks_.send_stdin(passed)) return;
    if (left) {
      detached_ = true;
      callbacks_.leave();
      return;
    }
  }
  if (!stopping_) callbacks_.close_stdin();
}

void Session::WatchSignals() {
  int interrupts = 0;
  while (!stopping_) {
    pollfd fds[2] = {{signals_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    unsigned char byte;
    if (::read(signals_.get(), &byte, 1) != 1) continue;
    const int number = byte;
    if (number == SIGWINCH) {
      if (options_.raw_terminal) Resize();
      continue;
    }
    if (number == SIGTSTP && options_.raw_terminal) {
      terminal_.Leave();
      ::kill(::getpid(), SIGSTOP);
      // Continues here. From the background, entering raw mode stops us again until we are in
      // front.
      if (terminal_.Enter().ok()) Resize();
      continue;
    }
    if (number == SIGCONT) {
      if (options_.raw_terminal && terminal_.Enter().ok()) Resize();
      continue;
    }
    if (options_.signal_proxy && !options_.raw_terminal) {
      if (number == SIGINT || number == SIGTERM) ++interrupts;
      if (interrupts < kInterruptsToGiveUp || (number != SIGINT && number != SIGTERM)) {
        callbacks_.send_signal(number);
        continue;
      }
    }
    ended_by_signal_ = number;
    callbacks_.leave();
    return;
  }
}

}  // namespace gantry::ctl
