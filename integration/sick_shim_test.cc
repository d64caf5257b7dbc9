// Shims that hang, answer late or are killed at a bad moment. Removals end, exits are reported, and
// nothing is left behind.
#include <signal.h>
#include <unistd.h>

#include <random>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/file.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

class SickShimTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  std::string Detached(const std::string& name, const std::vector<std::string>& command) {
    std::vector<std::string> args = {"run", "-d", "--name", name, kImage};
    args.insert(args.end(), command.begin(), command.end());
    return bed_->CtlOut(args);
  }
  // Processes with this argument, of the whole machine.
  static std::vector<pid_t> WithArgument(const std::string& argument) {
    std::vector<pid_t> found;
    const absl::StatusOr<std::vector<std::string>> names = ListDirectory("/proc");
    for (const std::string& name : *names) {
      pid_t pid = 0;
      if (!absl::SimpleAtoi(name, &pid)) continue;
      const absl::StatusOr<std::string> line =
          ReadFile(absl::StrCat("/proc/", pid, "/cmdline"), 1 << 16);
      if (line.ok() && absl::StrContains(*line, argument)) found.push_back(pid);
    }
    return found;
  }

  std::unique_ptr<Testbed> bed_;
};

TEST_F(SickShimTest, AForcedRemovalDoesNotWaitForAStoppedShim) {
  const std::string id = Detached("sick", {"sleep", "98761"});
  const pid_t shim = bed_->ShimPid(id);
  ASSERT_GT(shim, 0);
  ASSERT_EQ(kill(shim, SIGSTOP), 0);
  const absl::Duration begin = Clock::Real().Monotonic();
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", "sick"})));
  EXPECT_LT(Clock::Real().Monotonic() - begin, absl::Seconds(30));  // it was 60 and a failure
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
  EXPECT_TRUE(WithArgument("98761").empty());
  EXPECT_TRUE(bed_->Bundles().empty());
}

TEST_F(SickShimTest, AStoppingDaemonWaitsNeitherForAShimNorForAStop) {
  const std::string sick = Detached("sick", {"sleep", "98763"});
  Detached("stubborn", {"sh", "-c", "trap 'echo asked' TERM; while :; do sleep 0.05; done"});
  const pid_t shim = bed_->ShimPid(sick);
  ASSERT_EQ(kill(shim, SIGSTOP), 0);
  absl::Cleanup go_on = [&] { kill(shim, SIGCONT); };
  // Neither is answered before the daemon stops.
  absl::StatusOr<Process> hangs = bed_->SpawnCtl({"kill", "sick"});
  absl::StatusOr<Process> stop = bed_->SpawnCtl({"stop", "-t", "60", "stubborn"});
  ASSERT_TRUE(hangs.ok() && stop.ok());
  ASSERT_TRUE(Eventually([&] {
    return absl::StrContains(bed_->Ctl({"logs", "stubborn"}).out, "asked");
  }));
  const absl::Duration begin = Clock::Real().Monotonic();
  bed_->StopDaemon();
  EXPECT_LT(Clock::Real().Monotonic() - begin, absl::Seconds(5));
  hangs->Kill(SIGKILL).IgnoreError();
  stop->Kill(SIGKILL).IgnoreError();
  EXPECT_TRUE(hangs->Wait(absl::Seconds(30)).ok());
  EXPECT_TRUE(stop->Wait(absl::Seconds(30)).ok());
  std::move(go_on).Invoke();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(bed_->Inspect("stubborn", "{{.State.Status}}"), "running");
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", "sick", "stubborn"})));
  EXPECT_TRUE(WithArgument("98763").empty());
}

TEST_F(SickShimTest, OneStoppedShimDoesNotHoldUpStatistics) {
  const std::string sick = Detached("sick", {"sleep", "1000"});
  Detached("well", {"sleep", "1000"});
  const pid_t shim = bed_->ShimPid(sick);
  ASSERT_EQ(kill(shim, SIGSTOP), 0);
  absl::Cleanup go_on = [&] { kill(shim, SIGCONT); };
  const Outcome stats =
      bed_->Ctl({"stats", "--no-stream", "--format", "{{.Name}}"}, "", absl::Seconds(30));
  EXPECT_TRUE(Ok(stats));
  EXPECT_TRUE(absl::StrContains(stats.out, "well")) << stats.out;
}

TEST_F(SickShimTest, AnExitIsToldThoughTheShimWasStoppedWhileTheDaemonStarted) {
  const std::string gate = bed_->scratch() + "/gate";
  ASSERT_TRUE(MakeDirectories(gate, 0755).ok());
  const std::string id =
      bed_->CtlOut({"run", "-d", "--name", "late", "-v", gate + ":/gate", kImage, "sh", "-c",
                    "while [ ! -e /gate/go ]; do sleep 0.05; done; exit 7"});
  // Adopted once, so that the shim has let go of its first events.
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  const pid_t shim = bed_->ShimPid(id);
  bed_->KillDaemon();
  ASSERT_EQ(kill(shim, SIGSTOP), 0);
  absl::Cleanup go_on = [&] { kill(shim, SIGCONT); };
  ASSERT_TRUE(bed_->StartDaemon());
  std::move(go_on).Invoke();
  ASSERT_TRUE(WriteFile(gate + "/go", "").ok());
  EXPECT_EQ(bed_->CtlOut({"wait", "late"}), "7");
  EXPECT_TRUE(bed_->StatusBecomes("late", "exited"));
  EXPECT_EQ(bed_->Inspect("late", "{{.State.ExitCode}}"), "7");
}

TEST_F(SickShimTest, ExecsWhoseClientsWereKilledCostARemovalNothing) {
  Detached("web", {"sleep", "1000"});
  for (int i = 0; i < 8; ++i) {
    absl::StatusOr<Process> client = bed_->SpawnCtl({"exec", "web", "sleep", "1000"});
    ASSERT_TRUE(client.ok());
    absl::SleepFor(absl::Milliseconds(5 * i));
    ASSERT_TRUE(client->Kill(SIGKILL).ok());
    EXPECT_TRUE(client->Wait(absl::Seconds(30)).ok());
  }
  const absl::Duration begin = Clock::Real().Monotonic();
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", "web"})));
  EXPECT_LT(Clock::Real().Monotonic() - begin, absl::Seconds(10));
}

// A shim is killed at a random moment of its start. Whatever its runtime was doing then: after the
// removal nothing lives on.
TEST_F(SickShimTest, NothingOutlivesARemovalWheneverTheShimWasKilled) {
  const uint32_t seed = std::random_device()();
  RecordProperty("seed", static_cast<int>(seed));
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    absl::StatusOr<Process> client =
        bed_->SpawnCtl({"run", "-d", "--name", "victim", kImage, "sleep", "98762"});
    ASSERT_TRUE(client.ok());
    std::vector<std::string> bundles;
    pid_t shim = 0;
    const absl::Duration limit = Clock::Real().Monotonic() + absl::Seconds(10);
    while (shim <= 0 && Clock::Real().Monotonic() < limit) {
      bundles = bed_->Bundles();
      if (!bundles.empty()) shim = bed_->ShimPid(bundles[0]);
    }
    absl::SleepFor(absl::Microseconds(random() % 12000));
    if (shim > 0) kill(shim, SIGKILL);
    EXPECT_TRUE(client->Wait(absl::Seconds(30)).ok());
    (void)bed_->Ctl({"rm", "-f", "victim"});
    EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
    ASSERT_TRUE(Eventually([&] { return WithArgument("98762").empty(); }, absl::Seconds(5)))
        << "a process outlives the removal";
  }
}

}  // namespace
}  // namespace gantry::integration
