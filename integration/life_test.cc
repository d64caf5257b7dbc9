// What a container sees, may do and keeps, with real containers, and changes of it while it runs.
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

class LifeTest : public testing::Test {
 protected:
  void Start(Testbed::Options options = {}) {
    bed_ = std::make_unique<Testbed>(std::move(options));
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  }
  // For daemons that make networks: nothing of them is seen outside.
  static void InOwnNetwork() {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    ASSERT_TRUE(Ok(RunProgram({"ip", "link", "set", "lo", "up"})));
  }
  std::string Exec(const std::string& name, const std::string& command) {
    return bed_->CtlOut({"exec", name, "sh", "-c", command});
  }
  std::unique_ptr<Testbed> bed_;
};

TEST_F(LifeTest, WhatIsMountedBelowAReadOnlyBindIsReadOnly) {
  Start();
  const std::string outer = bed_->scratch() + "/outer";
  ASSERT_TRUE(MakeDirectories(outer, 0755).ok());
  const auto touch = [&](const std::string& option) {
    return bed_
        ->Ctl({"run", "--rm", "--mount",
               absl::StrCat("type=bind,src=/sys,dst=/mnt,readonly", option), kImage, "sh", "-c",
               "grep ' /mnt/' /proc/self/mountinfo | grep -vc ' ro[, ]' || true"})
        .out;
  };
  EXPECT_EQ(touch(""), "0\n");
  EXPECT_NE(touch(",bind-recursive=writable"), "0\n");
}

TEST_F(LifeTest, MountsOfARunningContainerChange) {
  Start();
  const std::string directory = bed_->scratch() + "/shown";
  ASSERT_TRUE(MakeDirectories(directory, 0755).ok());
  ASSERT_TRUE(WriteFile(directory + "/note", "here\n", 0644).ok());
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "cm", kImage, "sleep", "1000"})));
  const Outcome set = bed_->Ctl({"set", "-v", absl::StrCat(directory, ":/shown:ro"), "-v",
                                 "kept:/kept", "--mount", "type=tmpfs,dst=/fast", "cm"});
  ASSERT_TRUE(Ok(set));
  EXPECT_EQ(set.out, "mount /shown: done\nmount /kept: done\nmount /fast: done\n");
  EXPECT_EQ(Exec("cm", "cat /shown/note; touch /shown/x 2>/dev/null || echo refused"),
            "here\nrefused");
  EXPECT_EQ(Exec("cm", "echo a > /kept/f; grep -c ' /fast tmpfs' /proc/mounts"), "1");
  ASSERT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "cm"})));
  EXPECT_EQ(Exec("cm", "cat /shown/note /kept/f"), "here\na");
  EXPECT_EQ(bed_->Ctl({"set", "--no-mount", "/shown", "cm"}).out, "no mount /shown: done\n");
  EXPECT_EQ(Exec("cm", "ls /shown"), "");
  EXPECT_EQ(bed_->Ctl({"volume", "rm", "kept"}).code, 1);
  EXPECT_EQ(bed_->Inspect("cm", "{{len .Mounts}}"), "2");
}

TEST_F(LifeTest, PartsOfVolumesAreShownToARunningContainer) {
  Start();
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "--rm", "-v", "data:/x", kImage, "sh", "-c",
                            "mkdir -p /x/a/b; echo in > /x/a/b/file; echo out > /x/top; "
                            "ln -s a /x/link; ln -s / /x/root"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "cp", kImage, "sleep", "1000"})));
  const auto set = [&](const std::string& part, const std::string& target) {
    return bed_->Ctl({"set", "--mount",
                      absl::StrCat("type=volume,src=data,dst=", target, ",volume-subpath=", part),
                      "cp"});
  };
  EXPECT_EQ(set("a", "/part").out, "mount /part: done\n");
  EXPECT_EQ(set("a/b/file", "/file").out, "mount /file: done\n");
  const std::string look = "ls /part; cat /part/b/file /file";
  EXPECT_EQ(Exec("cp", look), "b\nin\nin");
  // As at a start no link is followed, and a call that is refused leaves nothing.
  for (const char* bad : {"link", "link/b", "root", "root/etc", "gone"}) {
    const Outcome refused = set(bad, "/bad");
    EXPECT_NE(refused.code, 0) << bad;
    EXPECT_TRUE(absl::StrContains(refused.err, "cannot access path")) << refused.err;
  }
  EXPECT_EQ(Exec("cp", "ls -d /bad 2>/dev/null; grep -c ' /bad ' /proc/mounts || true"), "0");
  EXPECT_EQ(ListDirectory(bed_->state() + "/mounts").value_or(std::vector<std::string>()),
            std::vector<std::string>());
  ASSERT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "cp"})));
  EXPECT_EQ(Exec("cp", look), "b\nin\nin");
  EXPECT_EQ(bed_->Ctl({"set", "--no-mount", "/part", "cp"}).out, "no mount /part: done\n");
  EXPECT_EQ(Exec("cp", "ls /part; cat /file"), "in");
  ASSERT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "cp"})));
  EXPECT_EQ(Exec("cp", "cat /file"), "in");
}

TEST_F(LifeTest, PortsAndNetworksOfARunningContainerChange) {
  ASSERT_NO_FATAL_FAILURE(InOwnNetwork());
  Start();
  for (const char* network : {"first", "second"})
    ASSERT_TRUE(Ok(bed_->Ctl({"network", "create", network})));
  ASSERT_TRUE(
      Ok(bed_->Ctl({"run", "-d", "--name", "cn", "--network", "first", kImage, "sleep", "1000"})));
  const Outcome set = bed_->Ctl({"set", "-p", "127.0.0.1:0:80", "--network", "second", "cn"});
  ASSERT_TRUE(Ok(set));
  EXPECT_TRUE(absl::StrContains(set.out, "80/tcp: done\n")) << set.out;
  EXPECT_TRUE(absl::StrContains(set.out, "network second: done\n")) << set.out;
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"port", "cn"}), "80/tcp -> 127.0.0.1:"));
  EXPECT_EQ(Exec("cn", "ls /sys/class/net | grep -c eth"), "2");
  EXPECT_TRUE(Ok(bed_->Ctl({"set", "--unpublish", "80", "--no-network", "second", "cn"})));
  EXPECT_EQ(bed_->CtlOut({"port", "cn"}), "");
  EXPECT_EQ(Exec("cn", "ls /sys/class/net | grep -c eth"), "1");
  ASSERT_TRUE(Ok(bed_->Ctl({"rm", "-f", "cn"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"network", "rm", "first", "second"})));
}

// Each probe starts two processes, of which the shell waits for one.
TEST_F(LifeTest, AProbeThatTakesTooLongEndsWithAllThatItStarted) {
  Start();
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "ch", "--health-cmd", "sleep 777 & sleep 778",
                            "--health-interval", "500ms", "--health-timeout", "500ms", kImage,
                            "sleep", "1000"})));
  EXPECT_TRUE(Eventually([&] {
    int streak = 0;
    return absl::SimpleAtoi(bed_->Inspect("ch", "{{.State.Health.FailingStreak}}"), &streak) &&
           streak >= 4;
  }));
  int left = 99;
  EXPECT_TRUE(absl::SimpleAtoi(Exec("ch", "ps | grep -c '[s]leep 77' || true"), &left));
  EXPECT_LE(left, 3);  // of one probe that is under way
}

// Processes of the machine in the process namespace of `pid` that have not ended: the container's
// first process does not reap what is left to it.
int ProcessesBeside(const std::string& pid) {
  const auto link = [](const std::string& process, const char* name) {
    char text[4096];
    const ssize_t n = readlink(absl::StrCat("/proc/", process, name).c_str(), text, sizeof(text));
    return std::string(text, n > 0 ? static_cast<size_t>(n) : 0);
  };
  const std::string wanted = link(pid, "/ns/pid");
  int found = 0;
  for (const std::string& entry : ListDirectory("/proc").value_or(std::vector<std::string>()))
    found += !wanted.empty() && link(entry, "/ns/pid") == wanted && !link(entry, "/exe").empty();
  return found;
}

TEST_F(LifeTest, AProbeEndsInItsTimeThoughTheDaemonDied) {
  Start();
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "cl", "--health-cmd", "sleep 777 & sleep 778",
                            "--health-interval", "100ms", "--health-timeout", "2s", kImage, "sleep",
                            "1000"})));
  const std::string pid = bed_->Inspect("cl", "{{.State.Pid}}");
  // The container's own, the shell, which becomes the second command, and the first one.
  ASSERT_TRUE(Eventually([&] { return ProcessesBeside(pid) == 3; }));
  bed_->KillDaemon();
  EXPECT_TRUE(Eventually([&] { return ProcessesBeside(pid) == 1; })) << ProcessesBeside(pid);
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(bed_->Inspect("cl", "{{.State.Status}}"), "running");
}

TEST_F(LifeTest, ProcessesAreLimitedUnlessTheContainerSaysOtherwise) {
  Testbed::Options options;
  options.config = "[limits]\npids = 20\n";
  Start(std::move(options));
  // Beyond the limit a fork fails; the shell says so and goes on.
  const std::string forks = "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; echo end";
  const auto run = [&](std::vector<std::string> flags) {
    std::vector<std::string> args = {"run", "--rm"};
    args.insert(args.end(), flags.begin(), flags.end());
    args.insert(args.end(), {kImage, "sh", "-c", forks});
    return bed_->Ctl(std::move(args));
  };
  EXPECT_TRUE(absl::StrContains(run({}).err, "can't fork"));
  const Outcome unlimited = run({"--pids-limit", "-1"});
  EXPECT_EQ(unlimited.out, "end\n") << unlimited.err;
  EXPECT_EQ(run({"--pids-limit", "100"}).out, "end\n");
  ASSERT_TRUE(Ok(bed_->Ctl({"create", "--name", "cl", kImage, "true"})));
  EXPECT_EQ(bed_->Inspect("cl", "{{.HostConfig.PidsLimit}}"), "<nil>");
}

// What it writes to them is kept from the host's disk, and lasts over a restart as it did before.
TEST_F(LifeTest, GeneratedFilesAreBounded) {
  Testbed::Options options;
  options.config = "[limits]\ngenerated_files_bytes = 65536\n";
  ASSERT_NO_FATAL_FAILURE(InOwnNetwork());
  Start(std::move(options));
  for (const char* network : {"first", "later"})
    ASSERT_TRUE(Ok(bed_->Ctl({"network", "create", network})));
  ASSERT_TRUE(
      Ok(bed_->Ctl({"run", "-d", "--name", "cg", "--network", "first", kImage, "sleep", "1000"})));
  const std::string fill =
      "head -c 1000000 /dev/zero >> /etc/hosts 2>/dev/null && echo all; "
      "[ $(wc -c < /etc/hosts) -le 65536 ] && echo bounded";
  EXPECT_EQ(Exec("cg", fill), "bounded");
  EXPECT_EQ(Exec("cg",
                 "echo nameserver 192.0.2.7 > /etc/resolv.conf 2>/dev/null; "
                 "echo '192.0.2.1 note' > /etc/hosts; echo nameserver 192.0.2.7 > "
                 "/etc/resolv.conf; cat /etc/hosts /etc/resolv.conf"),
            "192.0.2.1 note\nnameserver 192.0.2.7");
  // The file on the host is as it was while the container runs, and what the container made of it
  // afterwards.
  const std::string id = bed_->Inspect("cg", "{{.Id}}");
  const std::string file =
      absl::StrCat(bed_->root(), "/containers/", bed_->ns(), "/", id, "/resolv.conf");
  absl::StatusOr<std::string> text = ReadFile(file, 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_FALSE(absl::StrContains(*text, "192.0.2.7"));
  ASSERT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "cg"})));
  EXPECT_EQ(Exec("cg", "cat /etc/resolv.conf"), "nameserver 192.0.2.7");
  // A daemon that was killed meanwhile makes no difference.
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  ASSERT_TRUE(Ok(bed_->Ctl({"network", "connect", "later", "cg"})));
  // Its name is at the addresses of both.
  EXPECT_EQ(Exec("cg", "grep -c $(hostname) /etc/hosts"), "2");
  ASSERT_TRUE(Ok(bed_->Ctl({"rm", "-f", "cg"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"network", "rm", "first", "later"})));
}

TEST_F(LifeTest, AnExecEndsWithItsClient) {
  Start();
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "ce", kImage, "sleep", "1000"})));
  // Of its processes one is in a session of its own, and one takes no notice of SIGTERM.
  const std::string work =
      "setsid sleep 701 & trap '' TERM; sh -c \"trap '' TERM; sleep 702; sleep 702\" & "
      "echo ready; wait; sleep 703; sleep 703";
  absl::StatusOr<Process> client = bed_->SpawnCtl({"exec", "ce", "sh", "-c", work});
  ASSERT_TRUE(client.ok()) << client.status();
  const std::string count = "ps | grep -c '[s]leep 70' || true";
  EXPECT_TRUE(Eventually([&] { return Exec("ce", count) == "3" || Exec("ce", count) == "4"; }));
  EXPECT_TRUE(client->Kill(SIGKILL).ok());
  EXPECT_TRUE(Eventually([&] { return Exec("ce", count) == "0"; })) << Exec("ce", "ps");
  EXPECT_EQ(Exec("ce", "ps | grep -c '[s]leep 1000'"), "1");

  // A detached one has no client.
  ASSERT_TRUE(Ok(bed_->Ctl({"exec", "-d", "ce", "sleep", "704"})));
  // Nor does the end of the daemon end any.
  absl::StatusOr<Process> other = bed_->SpawnCtl({"exec", "ce", "sleep", "705"});
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_TRUE(Eventually([&] { return Exec("ce", count) == "2"; }));
  bed_->StopDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(Exec("ce", count), "2");
}

TEST_F(LifeTest, AnExecGoesOnWithoutItsClientWhereThatIsConfigured) {
  Testbed::Options options;
  options.config = "[limits]\nexecs_end_with_client = false\n";
  Start(std::move(options));
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "ce", kImage, "sleep", "1000"})));
  absl::StatusOr<Process> client = bed_->SpawnCtl({"exec", "ce", "sleep", "701"});
  ASSERT_TRUE(client.ok()) << client.status();
  const std::string count = "ps | grep -c '[s]leep 701' || true";
  EXPECT_TRUE(Eventually([&] { return Exec("ce", count) == "1"; }));
  EXPECT_TRUE(client->Kill(SIGKILL).ok());
  // What would end it has been sent when a later exec has been served.
  EXPECT_EQ(Exec("ce", "sleep 1; " + count), "1");
}

}  // namespace
}  // namespace gantry::integration
