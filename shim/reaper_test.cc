#include "shim/reaper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "shim/worker_threads.h"

namespace gantry::shim {
namespace {

class ReaperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, nullptr);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    loop_ = *EventLoop::Create();
    reaper_ = *Reaper::Create(loop_.get());
    thread_ = std::thread([this] { loop_->Run(); });
  }
  void TearDown() override {
    loop_->Stop();
    thread_.join();
  }
  static SpawnRequest Shell(const std::string& script) {
    SpawnRequest request;
    request.argv = {"/bin/sh", "-c", script};
    request.env = {"PATH=/bin:/usr/bin"};
    return request;
  }

  TempDir directory_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Reaper> reaper_;
  std::thread thread_;
};

TEST_F(ReaperTest, RunTellsHowAProgramEnded) {
  const auto exited = reaper_->Run(Shell("exit 3"), absl::Seconds(10));
  ASSERT_TRUE(exited.ok()) << exited.status();
  EXPECT_EQ(ExitStatusOf(*exited), 3u);
  EXPECT_EQ(ExitStatusOf(*reaper_->Run(Shell("kill -TERM $$"), absl::Seconds(10))), 143u);
}

TEST_F(ReaperTest, AChildHasTheOomScoreOfItsRequestAndWeKeepOurs) {
  const std::string before = *ReadFile("/proc/self/oom_score_adj", 64);
  SpawnRequest request = Shell("cat /proc/self/oom_score_adj >" + directory_.Join("score"));
  request.oom_score_adj = 321;
  ASSERT_TRUE(reaper_->Run(request, absl::Seconds(10)).ok());
  EXPECT_EQ(*ReadFile(directory_.Join("score"), 64), "321\n");
  EXPECT_EQ(*ReadFile("/proc/self/oom_score_adj", 64), before);
}

TEST_F(ReaperTest, AMissingProgramIsNamed) {
  SpawnRequest request;
  request.argv = {"/no/such/program"};
  const absl::Status status = reaper_->Run(request, absl::Seconds(10)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
}

TEST_F(ReaperTest, AProgramThatHangsIsKilledWithItsGroup) {
  const std::string pid_file = directory_.Join("pid");
  const absl::Status status =
      reaper_->Run(Shell("sleep 1000 & echo $! > " + pid_file + "; wait"), absl::Milliseconds(300))
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  const pid_t child = std::stoi(*ReadFile(pid_file, 100));
  for (int i = 0; i < 5000 && kill(child, 0) == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_NE(kill(child, 0), 0);
}

TEST_F(ReaperTest, AProgramGetsTheDescriptorsNamedAndNoOthers) {
  const std::string out = directory_.Join("out");
  UniqueFd file(open(out.c_str(), O_WRONLY | O_CREAT, 0600));  // inheritable, on purpose
  UniqueFd leak(open("/dev/null", O_RDONLY));
  SpawnRequest request = Shell("exec ls /proc/self/fd");
  request.fds = {{file.get(), 1}};
  ASSERT_TRUE(reaper_->Run(request, absl::Seconds(10)).ok());
  // The fourth is the directory that ls itself reads.
  EXPECT_EQ(*ReadFile(out, 100), "0\n1\n2\n3\n");
}

TEST_F(ReaperTest, StandardStreamsMayBeSwapped) {
  const std::string a = directory_.Join("a");
  const std::string b = directory_.Join("b");
  // Low numbers, so that source and target overlap.
  SpawnRequest request = Shell("echo to3 >&3; echo to4 >&4");
  UniqueFd first(open(a.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  UniqueFd second(open(b.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  request.fds = {{first.get(), 4}, {second.get(), 3}};
  ASSERT_TRUE(reaper_->Run(request, absl::Seconds(10)).ok());
  EXPECT_EQ(*ReadFile(a, 100), "to4\n");
  EXPECT_EQ(*ReadFile(b, 100), "to3\n");
}

TEST_F(ReaperTest, SignalsAreNotInheritedIgnored) {
  signal(SIGPIPE, SIG_IGN);
  const std::string out = directory_.Join("out");
  SpawnRequest request = Shell("exec grep -E 'SigIgn|SigBlk' /proc/self/status");
  UniqueFd file(open(out.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  request.fds = {{file.get(), 1}};
  ASSERT_TRUE(reaper_->Run(request, absl::Seconds(10)).ok());
  // 32 and 33 are glibc's own, which its posix_spawn always ignores.
  EXPECT_EQ(*ReadFile(out, 1000), "SigBlk:\t0000000000000000\nSigIgn:\t0000000180000000\n");
}

TEST_F(ReaperTest, UnderAHoldAnOrphanCanStillBeClaimed) {
  const std::string pid_file = directory_.Join("pid");
  absl::Mutex mu;
  int status = -1;
  {
    const Reaper::Hold hold(reaper_.get());
    // The inner shell ends as an orphan of ours, long before it is claimed.
    const std::string fifo = directory_.Join("fifo");
    ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
    ASSERT_TRUE(reaper_
                    ->Run(Shell("sh -c 'read line < " + fifo + "; exit 9' & echo $! > " + pid_file),
                          absl::Seconds(10))
                    .ok());
    const pid_t orphan = std::stoi(*ReadFile(pid_file, 100));
    ASSERT_TRUE(WriteFile(fifo, "go\n").ok());
    siginfo_t info = {};
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(orphan), &info, WEXITED | WNOWAIT), 0);
    reaper_->Claim(orphan, Reaper::Rank::kInit, [&](int wait_status, absl::Time) {
      absl::MutexLock lock(&mu);
      status = wait_status;
    });
  }
  absl::MutexLock lock(&mu);
  const auto told = [&] { return status != -1; };
  ASSERT_TRUE(mu.AwaitWithTimeout(absl::Condition(&told), absl::Seconds(10)));
  EXPECT_EQ(ExitStatusOf(status), 9u);
}

TEST(WorkerThreadsTest, RunsSideBySideUpToTheLimit) {
  absl::Mutex mu;
  int running = 0;
  int most = 0;
  int done = 0;
  {
    WorkerThreads workers(3);
    for (int i = 0; i < 9; ++i) {
      workers.Run([&] {
        absl::MutexLock lock(&mu);
        most = std::max(most, ++running);
        // Until all three that may run do, or the first three have.
        const auto full = [&] { return running == 3 || done >= 3; };
        mu.AwaitWithTimeout(absl::Condition(&full), absl::Seconds(10));
        ++done;
        --running;
      });
    }
  }
  EXPECT_EQ(done, 9);
  EXPECT_EQ(most, 3);
}

}  // namespace
}  // namespace gantry::shim
