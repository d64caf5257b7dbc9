// The daemon is killed in the middle of everything, and so are shims and the zygote. No container
// may notice; no line of log and no exit status may be lost; what was half done finishes or is
// undone.

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/file.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

class RestartTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
    gate_ = bed_->scratch() + "/gate";
    ASSERT_TRUE(MakeDirectories(gate_, 0755).ok());
  }
  // A detached container that sees the gate directory.
  std::string Detached(const std::string& name, const std::string& script) {
    return bed_->CtlOut(
        {"run", "-d", "--name", name, "-v", gate_ + ":/gate", kImage, "sh", "-c", script});
  }
  void Open(const std::string& gate) { ASSERT_TRUE(WriteFile(gate_ + "/" + gate, "").ok()); }
  std::vector<std::string> Listed(std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"ps", "--format", "{{.Names}}"});
    std::vector<std::string> names = absl::StrSplit(bed_->CtlOut(flags), '\n', absl::SkipEmpty());
    std::sort(names.begin(), names.end());
    return names;
  }
  static bool Alive(const std::string& pid) {
    return access(absl::StrCat("/proc/", pid).c_str(), F_OK) == 0;
  }

  std::unique_ptr<Testbed> bed_;
  std::string gate_;
};

// Prints numbers as fast as it can, then what it was asked for.
constexpr char kFastPrinter[] =
    "i=0; while [ ! -e /gate/stop ]; do i=$((i+1)); echo $i; done; echo last $i; exit 21";

TEST_F(RestartTest, FiftyContainersAreAllInTheirTrueStateAfterAKill) {
  std::vector<std::thread> starters;
  for (int lane = 0; lane < 2; ++lane) {
    starters.emplace_back([&, lane] {
      for (int i = lane; i < 44; i += 2) {
        EXPECT_TRUE(Ok(bed_->Ctl(
            {"run", "-d", "--name", absl::StrCat("still-", i), kImage, "sleep", "1000"})));
      }
    });
  }
  for (std::thread& starter : starters) starter.join();
  for (int i = 0; i < 4; ++i) Detached(absl::StrCat("loud-", i), kFastPrinter);
  Detached("early", "while [ ! -e /gate/early ]; do sleep 0.05; done; echo gone early; exit 33");
  Detached("paused", "sleep 1000");
  ASSERT_TRUE(Ok(bed_->Ctl({"pause", "paused"})));
  ASSERT_EQ(Listed().size(), 50u);

  bed_->KillDaemon();
  // While no daemon runs: one ends, the others go on printing.
  Open("early");
  const std::string early = bed_->state();
  ASSERT_TRUE(Eventually([&] {
    for (const std::string& id : bed_->Bundles()) {
      if (access(absl::StrCat(bed_->state(), "/tasks/", bed_->ns(), "/", id, "/exit.json").c_str(),
                 F_OK) == 0)
        return true;
    }
    return false;
  }));

  ASSERT_TRUE(bed_->StartDaemon());
  const absl::Duration begin = Clock::Real().Monotonic();
  const std::vector<std::string> running = Listed();
  RecordProperty("start_millis", static_cast<int>(bed_->start_took() / absl::Milliseconds(1)));
  RecordProperty("list_millis",
                 static_cast<int>((Clock::Real().Monotonic() - begin) / absl::Milliseconds(1)));
  EXPECT_EQ(running.size(), 49u);
  EXPECT_EQ(bed_->Inspect("early", "{{.State.Status}} {{.State.ExitCode}}"), "exited 33");
  EXPECT_EQ(bed_->CtlOut({"wait", "early"}), "33");
  EXPECT_EQ(bed_->CtlOut({"logs", "early"}), "gone early");
  EXPECT_EQ(bed_->Inspect("paused", "{{.State.Status}}"), "paused");
  ASSERT_TRUE(Ok(bed_->Ctl({"unpause", "paused"})));
  EXPECT_EQ(bed_->CtlOut({"exec", "still-7", "echo", "alive"}), "alive");

  Open("stop");
  for (int i = 0; i < 4; ++i) {
    const std::string name = absl::StrCat("loud-", i);
    EXPECT_EQ(bed_->CtlOut({"wait", name}), "21");
    const Outcome logs = bed_->Ctl({"logs", name});
    ASSERT_TRUE(Ok(logs));
    int64_t expected = 1;
    std::vector<absl::string_view> lines = absl::StrSplit(logs.out, '\n', absl::SkipEmpty());
    ASSERT_GT(lines.size(), 1u);
    for (size_t n = 0; n + 1 < lines.size(); ++n) {
      int64_t number = 0;
      ASSERT_TRUE(absl::SimpleAtoi(lines[n], &number)) << name << ": " << lines[n];
      ASSERT_EQ(number, expected) << name << ": a line is lost or doubled";
      ++expected;
    }
    EXPECT_EQ(lines.back(), absl::StrCat("last ", expected - 1));
  }
}

TEST_F(RestartTest, StartsUnderWayWhenTheDaemonIsKilledFinishOrAreUndone) {
  for (int round = 0; round < 4; ++round) {
    std::vector<Process> clients;
    for (int i = 0; i < 6; ++i) {
      absl::StatusOr<Process> client = bed_->SpawnCtl(
          {"run", "-d", "--name", absl::StrCat("r", round, "-", i), kImage, "sleep", "1000"});
      ASSERT_TRUE(client.ok());
      clients.push_back(*std::move(client));
    }
    // Killed at another moment of the starts each time: as soon as so many bundles are there.
    const size_t before = bed_->Bundles().size();
    (void)Eventually([&] { return bed_->Bundles().size() >= before + static_cast<size_t>(round); },
                     absl::Seconds(5));
    bed_->KillDaemon();
    for (Process& client : clients)
      EXPECT_TRUE(client.Wait(absl::Seconds(30)).ok()) << "a client hangs on a dead daemon";
    ASSERT_TRUE(bed_->StartDaemon());
    // Whatever is listed is true: running ones run, the others can be started or removed.
    for (const std::string& name : Listed({"-a"})) {
      const std::string status = bed_->Inspect(name, "{{.State.Status}}");
      if (status == "running") {
        EXPECT_EQ(bed_->CtlOut({"exec", name, "echo", "yes"}), "yes") << name;
      } else {
        EXPECT_TRUE(status == "created" || status == "exited") << name << " is " << status;
      }
      EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", name})));
    }
    EXPECT_TRUE(bed_->Bundles().empty());
    EXPECT_TRUE(
        Ok(bed_->Ctl({"run", "--rm", "--name", absl::StrCat("r", round, "-0"), kImage, "true"})))
        << "the name is still taken";
  }
}

TEST_F(RestartTest, RemovalsUnderWayWhenTheDaemonIsKilledEnd) {
  for (int i = 0; i < 8; ++i) Detached(absl::StrCat("c", i), "sleep 1000");
  std::vector<Process> clients;
  for (int i = 0; i < 8; ++i) {
    absl::StatusOr<Process> client = bed_->SpawnCtl({"rm", "-f", absl::StrCat("c", i)});
    ASSERT_TRUE(client.ok());
    clients.push_back(*std::move(client));
  }
  (void)Eventually([&] { return bed_->Bundles().size() <= 5; }, absl::Seconds(10));
  bed_->KillDaemon();
  for (Process& client : clients) EXPECT_TRUE(client.Wait(absl::Seconds(30)).ok());
  ASSERT_TRUE(bed_->StartDaemon());
  // Removals that were written down are finished while the doors are open already: until then a
  // container is listed as one that goes.
  const auto removals_ended = [&] {
    for (const std::string& name : Listed({"-a"})) {
      if (bed_->Inspect(name, "{{.State.Status}}") == "removing") return false;
    }
    return true;
  };
  EXPECT_TRUE(Eventually(removals_ended));
  for (const std::string& name : Listed({"-a"})) {
    const std::string status = bed_->Inspect(name, "{{.State.Status}}");
    EXPECT_TRUE(status == "running" || status == "exited" || status == "dead")
        << name << " is " << status;
    EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", name})));
  }
  EXPECT_TRUE(Eventually([&] { return bed_->Bundles().empty(); }));
}

TEST_F(RestartTest, FilesOfContainersThatNobodyKnowsAreSweptAndNoOthers) {
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "--name", "kept", kImage, "echo", "its log"})));
  bed_->KillDaemon();
  const std::string strays[] = {
      absl::StrCat(bed_->root(), "/containers/", bed_->ns(), "/0123"),
      absl::StrCat(bed_->state(), "/containers/", bed_->ns(), "/4567"),
      bed_->root() + "/containers/namespace-that-went/89ab",
  };
  for (const std::string& stray : strays) {
    ASSERT_TRUE(MakeDirectories(stray).ok());
    ASSERT_TRUE(WriteFile(stray + "/hosts", "").ok());
  }
  ASSERT_TRUE(bed_->StartDaemon());
  for (const std::string& stray : strays) EXPECT_NE(access(stray.c_str(), F_OK), 0) << stray;
  EXPECT_EQ(bed_->CtlOut({"logs", "kept"}), "its log");
}

TEST_F(RestartTest, ExecsUnderWayGoOnAndTheContainerStaysUsable) {
  Detached("web", "sleep 1000");
  absl::StatusOr<Process> exec =
      bed_->SpawnCtl({"exec", "web", "sh", "-c", "while :; do sleep 0.1; done"});
  ASSERT_TRUE(exec.ok());
  ASSERT_TRUE(Eventually([&] { return absl::StrContains(bed_->CtlOut({"top", "web"}), "while"); }));
  bed_->KillDaemon();
  ASSERT_TRUE(exec->Wait(absl::Seconds(30)).ok()) << "the client hangs on a dead daemon";
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(bed_->Inspect("web", "{{.State.Status}}"), "running");
  EXPECT_EQ(bed_->CtlOut({"exec", "web", "echo", "again"}), "again");
  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "--time", "1", "web"})));
}

TEST_F(RestartTest, KilledShimMakesItsContainerDeadWithAReasonAndNothingIsLeft) {
  const std::string id = Detached("web", "sleep 1000");
  Detached("other", "sleep 1000");
  const std::string init = bed_->Inspect("web", "{{.State.Pid}}");
  const pid_t shim = bed_->ShimPid(id);
  ASSERT_GT(shim, 0);
  ASSERT_EQ(kill(shim, SIGKILL), 0);
  // The container is "dead" as soon as its shim is missed. The exit code follows when what the shim
  // left has been cleaned up.
  ASSERT_TRUE(Eventually([&] { return bed_->Inspect("web", "{{.State.ExitCode}}") == "137"; }));
  EXPECT_NE(bed_->Inspect("web", "{{.State.Status}}"), "running");
  EXPECT_NE(bed_->Inspect("web", "{{.State.Error}}"), "") << "no reason is given";
  EXPECT_TRUE(Eventually([&] { return !Alive(init); }))
      << "the container's process outlived its shim";
  EXPECT_EQ(bed_->CtlOut({"exec", "other", "echo", "well"}), "well");
  EXPECT_TRUE(Ok(bed_->Ctl({"start", "web"})))
      << "a container whose shim died cannot be started again";
  EXPECT_TRUE(bed_->StatusBecomes("web", "running"));
}

TEST_F(RestartTest, ShimKilledWhileTheDaemonIsAwayIsNoticedAtStart) {
  const std::string id = Detached("web", "sleep 1000");
  const std::string init = bed_->Inspect("web", "{{.State.Pid}}");
  const pid_t shim = bed_->ShimPid(id);
  ASSERT_GT(shim, 0);
  bed_->KillDaemon();
  ASSERT_EQ(kill(shim, SIGKILL), 0);
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(bed_->Inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
  EXPECT_TRUE(Eventually([&] { return !Alive(init); }));
}

// After a reboot nothing runs and the state directory is empty: what is to run by its restart
// policy runs, the rest has ended.
TEST_F(RestartTest, ARebootStartsWhatIsToRun) {
  const auto run = [&](const std::string& name, std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", "-d", "--name", name});
    flags.insert(flags.end(), {kImage, "sh", "-c", "echo up >> /kept; sleep 1000"});
    ASSERT_TRUE(Ok(bed_->Ctl(std::move(flags))));
  };
  run("never", {});
  run("always", {"--restart", "always"});
  run("unless-stopped", {"--restart", "unless-stopped"});
  run("was-stopped", {"--restart", "unless-stopped", "--stop-timeout", "0"});
  ASSERT_TRUE(Ok(bed_->Ctl({"stop", "was-stopped"})));

  std::vector<pid_t> ends;
  for (const std::string& name : Listed()) {
    int pid = 0;
    ASSERT_TRUE(absl::SimpleAtoi(bed_->Inspect(name, "{{.State.Pid}}"), &pid));
    ends.push_back(pid);
    ends.push_back(bed_->ShimPid(bed_->Inspect(name, "{{.Id}}")));
  }
  if (const pid_t zygote = bed_->ZygotePid(); zygote > 0) ends.push_back(zygote);
  bed_->KillDaemon();
  for (const pid_t pid : ends) {
    ASSERT_GT(pid, 1);
    kill(pid, SIGKILL);
  }
  ASSERT_TRUE(Eventually([&] {
    return std::none_of(ends.begin(), ends.end(),
                        [](pid_t pid) { return Alive(absl::StrCat(pid)); });
  }));
  for (const absl::string_view line :
       absl::StrSplit(ReadFile("/proc/self/mountinfo", 4 << 20).value(), '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words.size() < 5 || !absl::StartsWith(words[4], bed_->state() + "/")) continue;
    EXPECT_EQ(umount2(words[4].c_str(), MNT_DETACH), 0) << words[4];
  }
  const absl::Status removed = RemoveTree(bed_->state());
  ASSERT_TRUE(removed.ok()) << removed;
  ASSERT_TRUE(bed_->StartDaemon());

  EXPECT_TRUE(bed_->StatusBecomes("always", "running"));
  EXPECT_TRUE(bed_->StatusBecomes("unless-stopped", "running"));
  EXPECT_TRUE(bed_->StatusBecomes("never", "exited"));
  EXPECT_EQ(bed_->Inspect("was-stopped", "{{.State.Status}}"), "exited");
  // Their files are as they were.
  EXPECT_TRUE(Eventually([&] {
    return bed_->Ctl({"exec", "always", "cat", "/kept"}).out == "up\nup\n";
  }));
  EXPECT_TRUE(Ok(bed_->Ctl({"start", "never"})));
}

// A shim without a state record is asked and listened to before the doors open. The exit may arrive
// after the container's record was read and before it is reconciled.
TEST_F(RestartTest, ExitDuringTheStartKeepsItsStatus) {
  const std::string id = Detached("web", "while [ ! -e /gate/end ]; do sleep 0.05; done; exit 5");
  bed_->KillDaemon();
  const std::string recorded =
      absl::StrCat(bed_->state(), "/tasks/", bed_->ns(), "/", id, "/state");
  ASSERT_EQ(unlink(recorded.c_str()), 0) << recorded;
  const std::string settled = bed_->scratch() + "/settled";
  ASSERT_TRUE(
      bed_->SpawnDaemon({{"GANTRY_CRASH_POINT", absl::StrCat("reconcile.listed@", settled)}}));
  ASSERT_TRUE(Eventually([&] { return access((settled + ".reached").c_str(), F_OK) == 0; }));
  Open("end");
  ASSERT_TRUE(Eventually([&] { return bed_->Bundles().empty(); }));
  ASSERT_TRUE(WriteFile(settled, "").ok());
  ASSERT_TRUE(Eventually([&] { return bed_->Ctl({"version"}).ok(); }));
  EXPECT_EQ(bed_->Inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 5");
}

// A shim with a state record is listened to once the doors are open. It then reports the exit.
TEST_F(RestartTest, ExitBeforeAnybodyListensIsKnownOnceTheDoorsAreOpen) {
  Detached("web", "while [ ! -e /gate/end ]; do sleep 0.05; done; exit 5");
  bed_->KillDaemon();
  const std::string settled = bed_->scratch() + "/settled";
  ASSERT_TRUE(
      bed_->SpawnDaemon({{"GANTRY_CRASH_POINT", absl::StrCat("reconcile.listed@", settled)}}));
  ASSERT_TRUE(Eventually([&] { return access((settled + ".reached").c_str(), F_OK) == 0; }));
  Open("end");
  ASSERT_TRUE(WriteFile(settled, "").ok());
  ASSERT_TRUE(Eventually([&] { return bed_->Ctl({"version"}).ok(); }));
  EXPECT_TRUE(bed_->StatusBecomes("web", "exited"));
  EXPECT_EQ(bed_->Inspect("web", "{{.State.ExitCode}}"), "5");
}

TEST_F(RestartTest, KilledZygoteIsReplacedByTheNextStart) {
  Detached("before", "sleep 1000");
  const pid_t zygote = bed_->ZygotePid();
  ASSERT_GT(zygote, 0);
  ASSERT_EQ(kill(zygote, SIGKILL), 0);
  EXPECT_TRUE(Ok(bed_->Ctl({"run", "--rm", kImage, "true"})));
  EXPECT_EQ(bed_->CtlOut({"exec", "before", "echo", "well"}), "well");
  const pid_t next = bed_->ZygotePid();
  EXPECT_GT(next, 0);
  EXPECT_NE(next, zygote);
}

TEST_F(RestartTest, StoppedShimDoesNotHoldUpTheListNorTheStart) {
  const std::string id = Detached("stuck", "sleep 1000");
  Detached("well", "sleep 1000");
  const pid_t shim = bed_->ShimPid(id);
  ASSERT_GT(shim, 0);
  ASSERT_EQ(kill(shim, SIGSTOP), 0);
  EXPECT_EQ(Listed(), (std::vector<std::string>{"stuck", "well"}));
  EXPECT_EQ(bed_->CtlOut({"exec", "well", "echo", "yes"}), "yes");
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(Listed({"-a"}), (std::vector<std::string>{"stuck", "well"}));
  EXPECT_EQ(bed_->CtlOut({"exec", "well", "echo", "yes"}), "yes");
  ASSERT_EQ(kill(shim, SIGCONT), 0);
  EXPECT_TRUE(bed_->StatusBecomes("stuck", "running"));
  EXPECT_TRUE(Eventually([&] { return bed_->Ctl({"exec", "stuck", "true"}).ok(); }));
}

TEST_F(RestartTest, OutputOfAMinuteWithoutADaemonIsNotLost) {
  // A short minute: as long as the pipe and every buffer on the way are filled many times over.
  Detached("loud",
           "i=0; while [ ! -e /gate/stop ]; do i=$((i+1)); echo $i $(printf %0200d 0); done; echo "
           "last $i");
  bed_->KillDaemon();
  const std::string bundle = bed_->Bundles().at(0);
  const auto printed = [&] {
    const Outcome size = RunProgram({"du", "-sb", bed_->root()});
    int64_t bytes = 0;
    (void)absl::SimpleAtoi(size.out.substr(0, size.out.find('\t')), &bytes);
    return bytes;
  };
  const int64_t before = printed();
  ASSERT_TRUE(Eventually([&] { return printed() > before + (8 << 20); }, absl::Seconds(60)))
      << "the container stalls";
  ASSERT_TRUE(bed_->StartDaemon());
  Open("stop");
  EXPECT_EQ(bed_->CtlOut({"wait", "loud"}), "0");
  const Outcome logs = bed_->Ctl({"logs", "loud"});
  int64_t expected = 0;
  for (const absl::string_view line : absl::StrSplit(logs.out, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, "last ")) {
      EXPECT_EQ(line, absl::StrCat("last ", expected));
      break;
    }
    ++expected;
    ASSERT_TRUE(absl::StartsWith(line, absl::StrCat(expected, " ")))
        << line.substr(0, 20) << " is not line " << expected;
  }
}

}  // namespace
}  // namespace gantry::integration
