#include "ctl/session.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "ctl/terminal.h"

namespace gantry::ctl {
namespace {

constexpr absl::Duration kDeadline = absl::Seconds(20);

struct Pty {
  UniqueFd master, slave;
  Pty() {
    master = UniqueFd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    EXPECT_TRUE(master.valid());
    ::grantpt(master.get());
    ::unlockpt(master.get());
    slave = UniqueFd(::open(::ptsname(master.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    EXPECT_TRUE(slave.valid());
    SetSize(24, 80);
  }
  void SetSize(uint16_t rows, uint16_t columns) {
    winsize size = {rows, columns, 0, 0};
    ::ioctl(master.get(), TIOCSWINSZ, &size);
  }
  bool Raw() const {
    termios attributes;
    ::tcgetattr(slave.get(), &attributes);
    return (attributes.c_lflag & (ICANON | ECHO)) == 0;
  }
  void Type(absl::string_view text) {
    ASSERT_EQ(::write(master.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
};

// What a session said to its callbacks.
class Recorder {
 public:
  SessionCallbacks Callbacks() {
    SessionCallbacks callbacks;
    callbacks.send_stdin = [this](absl::string_view data) {
      absl::MutexLock lock(&mu_);
      input_.append(data.data(), data.size());
      return true;
    };
    callbacks.close_stdin = [this] { Set(&closed_); };
    callbacks.leave = [this] { Set(&left_); };
    callbacks.resize = [this](WindowSize size) {
      absl::MutexLock lock(&mu_);
      sizes_.push_back(size);
    };
    callbacks.send_signal = [this](int number) {
      absl::MutexLock lock(&mu_);
      signals_.push_back(number);
    };
    return callbacks;
  }
  bool WaitInput(const std::string& text) {
    return Wait([&, this] { return input_ == text; });
  }
  bool WaitClosed() {
    return Wait([this] { return closed_; });
  }
  bool WaitLeft() {
    return Wait([this] { return left_; });
  }
  bool WaitWidth(uint32_t width) {
    return Wait([&, this] { return !sizes_.empty() && sizes_.back().width == width; });
  }
  bool WaitSignal(int number) {
    return Wait([&, this] { return !signals_.empty() && signals_.back() == number; });
  }

 private:
  template <class Condition>
  bool Wait(Condition condition) {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(&condition), kDeadline);
  }
  void Set(bool* flag) {
    absl::MutexLock lock(&mu_);
    *flag = true;
  }

  absl::Mutex mu_;
  std::string input_;
  std::vector<WindowSize> sizes_;
  std::vector<int> signals_;
  bool closed_ = false, left_ = false;
};

SessionOptions Interactive(const Pty& pty) {
  SessionOptions options;
  options.in = pty.slave.get();
  options.out = pty.slave.get();
  options.forward_stdin = true;
  options.raw_terminal = true;
  options.detach_keys = DetachKeys::Default();
  return options;
}

TEST(SessionTest, TerminalIsRawWhileItRunsAndRestoredAfter) {
  Pty pty;
  Recorder recorder;
  ASSERT_FALSE(pty.Raw());
  Session session(Interactive(pty), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  EXPECT_TRUE(pty.Raw());
  pty.Type("\x03 x");  // control-C is a byte like any other
  EXPECT_TRUE(recorder.WaitInput("\x03 x"));
  session.Stop();
  EXPECT_FALSE(pty.Raw());
}

TEST(SessionTest, TerminalIsRestoredAfterAKillThatLeavesNoTime) {
  Pty pty;
  const pid_t victim = ::fork();
  ASSERT_GE(victim, 0);
  if (victim == 0) {
    RawTerminal terminal(pty.slave.get());
    if (terminal.Enter().ok() && pty.Raw()) ::kill(::getpid(), SIGKILL);
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(victim, &status, 0), victim);
  ASSERT_TRUE(WIFSIGNALED(status)) << status;
  const absl::Time deadline = absl::Now() + kDeadline;
  while (pty.Raw() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_FALSE(pty.Raw());
}

TEST(SessionTest, DetachKeysEndTheSession) {
  Pty pty;
  Recorder recorder;
  Session session(Interactive(pty), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  pty.Type("ls\x10\x11");
  EXPECT_TRUE(recorder.WaitLeft());
  EXPECT_TRUE(recorder.WaitInput("ls"));
  EXPECT_TRUE(session.detached());
}

TEST(SessionTest, WindowSizeIsSentAtTheStartAndWhenItChanges) {
  Pty pty;
  Recorder recorder;
  Session session(Interactive(pty), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  EXPECT_TRUE(recorder.WaitWidth(80));
  pty.SetSize(50, 132);
  ::kill(::getpid(), SIGWINCH);
  EXPECT_TRUE(recorder.WaitWidth(132));
}

TEST(SessionTest, TermSignalEndsASessionWithATerminal) {
  Pty pty;
  Recorder recorder;
  Session session(Interactive(pty), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  ::kill(::getpid(), SIGTERM);
  EXPECT_TRUE(recorder.WaitLeft());
  EXPECT_EQ(session.ended_by_signal(), SIGTERM);
  session.Stop();
  EXPECT_FALSE(pty.Raw());
}

TEST(SessionTest, PipeIsForwardedAndItsEndToo) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  Recorder recorder;
  SessionOptions options;
  options.in = read_end.get();
  options.forward_stdin = true;
  Session session(std::move(options), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  ASSERT_EQ(::write(write_end.get(), "\x10\x11", 2), 2);
  EXPECT_TRUE(recorder.WaitInput("\x10\x11"));  // keys mean nothing without a terminal
  write_end.reset();
  EXPECT_TRUE(recorder.WaitClosed());
}

TEST(SessionTest, StopDoesNotWaitForASilentPipe) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  Recorder recorder;
  SessionOptions options;
  options.in = read_end.get();
  options.forward_stdin = true;
  Session session(std::move(options), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  session.Stop();
  EXPECT_FALSE(session.detached());
}

TEST(SessionTest, SignalsArePassedOnWithoutATerminal) {
  Recorder recorder;
  SessionOptions options;
  options.signal_proxy = true;
  Session session(std::move(options), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  ::kill(::getpid(), SIGUSR1);
  EXPECT_TRUE(recorder.WaitSignal(SIGUSR1));
  ::kill(::getpid(), SIGHUP);
  EXPECT_TRUE(recorder.WaitSignal(SIGHUP));
}

TEST(SessionTest, ThirdInterruptGivesUp) {
  Recorder recorder;
  SessionOptions options;
  options.signal_proxy = true;
  Session session(std::move(options), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  ::kill(::getpid(), SIGINT);
  EXPECT_TRUE(recorder.WaitSignal(SIGINT));
  ::kill(::getpid(), SIGTERM);
  EXPECT_TRUE(recorder.WaitSignal(SIGTERM));
  ::kill(::getpid(), SIGINT);
  EXPECT_TRUE(recorder.WaitLeft());
  EXPECT_EQ(session.ended_by_signal(), SIGINT);
}

TEST(SessionTest, SignalsAreCaughtWhicheverThreadTheyMeet) {
  Pty pty;
  Recorder recorder;
  int over[2];
  ASSERT_EQ(::pipe2(over, O_CLOEXEC), 0);
  UniqueFd read_end(over[0]), write_end(over[1]);
  // Exists before the session and blocks no signal, as gRPC's threads do. It waits in a call that a
  // signal interrupts, because ThreadSanitizer calls the handler only when such a call is over.
  std::thread bystander([&read_end] {
    pollfd closed = {read_end.get(), POLLIN, 0};
    while (::poll(&closed, 1, -1) < 0) continue;
  });
  Session session(Interactive(pty), recorder.Callbacks());
  ASSERT_TRUE(session.Start().ok());
  ::pthread_kill(bystander.native_handle(), SIGTERM);
  EXPECT_TRUE(recorder.WaitLeft());
  session.Stop();
  write_end.reset();
  bystander.join();
  EXPECT_FALSE(pty.Raw());
}

TEST(SessionTest, SignalsDoWhatTheyDidAfterwards) {
  Pty pty;
  Recorder recorder;
  {
    Session session(Interactive(pty), recorder.Callbacks());
    ASSERT_TRUE(session.Start().ok());
  }
  struct sigaction action;
  ASSERT_EQ(::sigaction(SIGTERM, nullptr, &action), 0);
  EXPECT_EQ(action.sa_handler, SIG_DFL);
}

TEST(RawTerminalTest, CrashRestoresTheTerminal) {
  Pty pty;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    RawTerminal terminal(pty.slave.get());
    if (!terminal.Enter().ok() || !pty.Raw()) ::_exit(3);
    ::abort();
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
  EXPECT_FALSE(pty.Raw());
}

TEST(SignalNameTest, NamesHaveNoPrefix) {
  EXPECT_EQ(SignalName(SIGTERM), "TERM");
  EXPECT_EQ(SignalName(SIGRTMIN + 3), "");
}

}  // namespace
}  // namespace gantry::ctl
