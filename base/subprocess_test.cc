#include "base/subprocess.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

Command Shell(const std::string& script) {
  Command command;
  command.argv = {"/bin/sh", "-c", script};
  return command;
}

// Until `done` or too late; the caller checks again.
template <typename F>
void WaitUntil(F done) {
  CancelToken deadline(absl::Seconds(20));
  while (!done() && deadline.Sleep(absl::Milliseconds(2)).ok()) {
  }
}

bool Alive(pid_t pid) {
  const auto stat = ReadFile(absl::StrCat("/proc/", pid, "/stat"), 4096);
  return stat.ok() && stat->find(") Z ") == std::string::npos;
}

TEST(RunCommandTest, CollectsOutputAndExitStatus) {
  const auto result = RunCommand(Shell("echo out; echo err >&2; exit 3"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "out\n");
  EXPECT_EQ(result->err, "err\n");
  EXPECT_EQ(result->status.code, 3);
  EXPECT_EQ(result->status.ToString(), "exit status 3");
  EXPECT_FALSE(result->status.ok());
}

TEST(RunCommandTest, ReportsTheSignal) {
  const auto result = RunCommand(Shell("kill -9 $$"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status.signal, 9);
  EXPECT_EQ(result->status.ToString(), "killed by signal 9 (Killed)");
}

TEST(RunCommandTest, FeedsInputLargerThanAPipe) {
  Command command;
  command.argv = {"wc", "-c"};
  const auto result = RunCommand(command, std::string(1 << 20, 'x'));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "1048576\n");
}

TEST(RunCommandTest, UnreadInputIsNoError) {
  const auto result = RunCommand(Shell("exec true"), std::string(1 << 20, 'x'));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->status.ok());
}

TEST(RunCommandTest, KeepsTheStartOfOutAndTheEndOfErr) {
  const auto result =
      RunCommand(Shell("echo start; seq 1 20000; seq 1 20000 >&2; echo end >&2"), "", 100);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->truncated);
  EXPECT_EQ(result->out.size(), 100u);
  EXPECT_EQ(result->out.substr(0, 6), "start\n");
  EXPECT_EQ(result->err.size(), 100u);
  EXPECT_EQ(result->err.substr(96), "end\n");
}

TEST(RunCommandTest, TimeoutKillsTheWholeGroupAndTellsWhatItSaid) {
  TempDir dir;
  Command command =
      Shell(absl::StrCat("echo stuck >&2; sleep 600 & echo $! > ", dir.Join("pid"), "; wait"));
  command.timeout = absl::Seconds(1);
  const auto result = RunCommand(command);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(result.status().message(), "run /bin/sh: still running after 1s; it printed: stuck");
  const int child = std::stoi(*ReadFile(dir.Join("pid"), 100));
  WaitUntil([child] { return !Alive(child); });
  EXPECT_FALSE(Alive(child));
}

TEST(RunCommandTest, CancelStopsIt) {
  CancelToken cancel;
  std::thread canceller([&cancel] { cancel.Cancel("client went away"); });
  const auto result = RunCommand(Shell("sleep 600"), "", 1000, &cancel);
  canceller.join();
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled) << result.status();
}

TEST(RunCommandTest, DoesNotWaitForOutputOfOrphans) {
  TempDir dir;
  // The orphan keeps the pipe open after the end of the command.
  const auto result =
      RunCommand(Shell(absl::StrCat("sleep 600 & echo $! > ", dir.Join("pid"), "; echo done")));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "done\n");
  ::kill(std::stoi(*ReadFile(dir.Join("pid"), 100)), SIGKILL);
}

TEST(SpawnTest, MissingProgramIsNotFound) {
  Command command;
  command.argv = {"/nonexistent/program"};
  EXPECT_EQ(Spawn(command).status(),
            absl::NotFoundError("run /nonexistent/program: No such file or directory"));
}

TEST(SpawnTest, MissingDirectoryIsNamed) {
  Command command = Shell("true");
  command.cwd = "/nonexistent";
  EXPECT_EQ(Spawn(command).status(),
            absl::NotFoundError(
                "run /bin/sh: working directory /nonexistent: No such file or directory"));
}

TEST(SpawnTest, RefusesNulAndEmptyCommands) {
  Command command;
  EXPECT_EQ(Spawn(command).status().code(), absl::StatusCode::kInvalidArgument);
  command.argv = {"echo", std::string("a\0b", 3)};
  EXPECT_EQ(Spawn(command).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpawnTest, EnvironmentAndDirectoryAreThoseGiven) {
  Command command = Shell("pwd; echo $A-$HOME");
  command.env = {"A=1"};
  command.cwd = "/usr";
  const auto result = RunCommand(command);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "/usr\n1-\n");
}

TEST(SpawnTest, ChildHasOnlyTheDescriptorsItWasGiven) {
  // Not close-on-exec, as a careless library would leave it.
  UniqueFd leaked(::open("/dev/null", O_RDONLY));
  TempDir dir;
  UniqueFd extra(::open(dir.Join("extra").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  Command command = Shell(
      "echo hello >&5; cd /proc/self/fd && for f in *; do readlink $f > /dev/null && echo $f; "
      "done");
  command.extra_fds = {{extra.get(), 5}};
  const auto result = RunCommand(command);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "0\n1\n2\n5\n");
  EXPECT_EQ(*ReadFile(dir.Join("extra"), 100), "hello\n");
}

TEST(SpawnTest, DescriptorsMayTradePlaces) {
  TempDir dir;
  // Lowest numbers first, so that each is the other's target.
  std::vector<UniqueFd> fds;
  for (const char* name : {"a", "b"}) {
    fds.emplace_back(::open(dir.Join(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  }
  Command command =
      Shell(absl::StrCat("echo to-b >&", fds[0].get(), "; echo to-a >&", fds[1].get()));
  ASSERT_LT(fds[1].get(), 10);  // what the shell's syntax can name
  command.extra_fds = {{fds[0].get(), fds[1].get()}, {fds[1].get(), fds[0].get()}};
  const auto result = RunCommand(command);
  ASSERT_TRUE(result.ok() && result->status.ok());
  EXPECT_EQ(*ReadFile(dir.Join("a"), 100), "to-a\n");
  EXPECT_EQ(*ReadFile(dir.Join("b"), 100), "to-b\n");
}

TEST(SpawnTest, SignalsAreAsAtTheStartOfAProgram) {
  sigset_t block, before;
  sigemptyset(&block);
  sigaddset(&block, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &block, &before);
  ::signal(SIGPIPE, SIG_IGN);
  const auto result = RunCommand(Shell("grep -E 'SigBlk|SigIgn' /proc/self/status"));
  ::signal(SIGPIPE, SIG_DFL);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(result.ok()) << result.status();
  const std::string& out = result->out;
  EXPECT_EQ(out.substr(0, 25), "SigBlk:\t0000000000000000\n");
  // glibc's own two real-time signals, 32 and 33, are left ignored by its posix_spawn.
  EXPECT_EQ(std::stoull(out.substr(33), nullptr, 16) & 0x7fffffff, 0u) << out;
}

TEST(ProcessTest, WaitTimesOutAndWorksAgain) {
  auto process = Spawn(Shell("exec sleep 600"));
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_EQ(process->Wait(absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(process->Kill(SIGTERM).ok());
  EXPECT_EQ(process->Wait()->signal, SIGTERM);
  EXPECT_EQ(process->Wait()->signal, SIGTERM);
  EXPECT_TRUE(process->Kill(SIGTERM).ok());
}

TEST(ProcessTest, DestructionLeavesNoProcess) {
  pid_t pid;
  {
    auto process = Spawn(Shell("sleep 600"));
    ASSERT_TRUE(process.ok()) << process.status();
    pid = process->pid();
    EXPECT_TRUE(Alive(pid));
  }
  EXPECT_FALSE(Alive(pid));
}

TEST(ProcessTest, DetachedProcessLivesOn) {
  pid_t pid;
  {
    auto process = Spawn(Shell("exec sleep 600"));
    ASSERT_TRUE(process.ok()) << process.status();
    pid = process->Detach();
  }
  EXPECT_TRUE(Alive(pid));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

TEST(ProcessTest, OwnGroupOrOwnSession) {
  for (const bool session : {false, true}) {
    Command command = Shell("exec sleep 600");
    command.new_session = session;
    auto process = Spawn(command);
    ASSERT_TRUE(process.ok()) << process.status();
    EXPECT_EQ(::getpgid(process->pid()), process->pid());
    EXPECT_EQ(::getsid(process->pid()) == process->pid(), session);
  }
}

}  // namespace
}  // namespace gantry
