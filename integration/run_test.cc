// The life of a container, from image to nothing left, through ctl and with the real runtimes.

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

bool HaveRoot() { return geteuid() == 0; }

// Tests that need a daemon and an image, and share nothing else.
class RunTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HaveRoot()) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  Outcome Run(std::vector<std::string> args, const std::string& input = "") {
    args.insert(args.begin(), {"run", "--rm"});
    return bed_->Ctl(std::move(args), input);
  }
  std::string Detached(const std::string& name, std::vector<std::string> args) {
    args.insert(args.begin(), {"run", "-d", "--name", name, kImage});
    return bed_->CtlOut(std::move(args));
  }
  std::unique_ptr<Testbed> bed_;
};

TEST_F(RunTest, OutputAndExitStatusAreTheContainersOwn) {
  const Outcome outcome = Run({kImage, "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_EQ(outcome.code, 7);
  // Process 1 of its own namespace cannot kill itself; its child can.
  const Outcome killed = Run({kImage, "sh", "-c", "sh -c 'kill -9 $$'; exit $?"});
  EXPECT_EQ(killed.code, 137);
}

TEST_F(RunTest, WhatCannotBeStartedIsToldByDockersExitCodes) {
  const Outcome missing = Run({kImage, "no-such-program"});
  EXPECT_EQ(missing.code, 127) << missing.err;
  EXPECT_TRUE(absl::StrContains(missing.err, "no-such-program")) << missing.err;
  const Outcome not_executable = Run({kImage, "/etc/passwd"});
  EXPECT_EQ(not_executable.code, 126) << not_executable.err;
  EXPECT_TRUE(absl::StrContains(not_executable.err, "exec: \"/etc/passwd\": permission denied"))
      << not_executable.err;
  EXPECT_EQ(Run({"--no-such-flag", kImage}).code, 125);
  const Outcome no_image = Run({"--pull", "never", "no-such-image:x", "true"});
  EXPECT_EQ(no_image.code, 125) << no_image.err;
  EXPECT_TRUE(absl::StrContains(no_image.err, "no-such-image")) << no_image.err;
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "") << "a container that never ran was kept";
}

TEST_F(RunTest, StandardInputReachesTheContainerAndItsEnd) {
  std::string text;
  for (int i = 0; i < 20000; ++i) absl::StrAppend(&text, "line ", i, "\n");
  const Outcome outcome = Run({"-i", kImage, "cat"}, text);
  EXPECT_TRUE(Ok(outcome));
  EXPECT_EQ(outcome.out.size(), text.size());
  EXPECT_TRUE(outcome.out == text);
}

TEST_F(RunTest, LargeOutputArrivesWhole) {
  const Outcome outcome = Run({kImage, "sh", "-c", "seq 1 200000; echo end"});
  EXPECT_TRUE(Ok(outcome));
  std::string expected;
  for (int i = 1; i <= 200000; ++i) absl::StrAppend(&expected, i, "\n");
  EXPECT_TRUE(outcome.out == expected + "end\n")
      << outcome.out.size() << " of " << expected.size() + 4;
}

TEST_F(RunTest, FlagsShapeTheContainer) {
  EXPECT_EQ(
      Run({"-e", "COLOUR=blue", "-e", "EMPTY=", kImage, "sh", "-c", "echo $COLOUR,$EMPTY,"}).out,
      "blue,,\n");
  EXPECT_EQ(Run({"-w", "/var/lib", kImage, "pwd"}).out, "/var/lib\n");
  EXPECT_EQ(Run({"-u", "65534:65534", kImage, "id", "-u"}).out, "65534\n");
  EXPECT_EQ(Run({"--hostname", "lighthouse", kImage, "hostname"}).out, "lighthouse\n");
  EXPECT_EQ(Run({"--entrypoint", "/bin/echo", kImage, "a", "b"}).out, "a b\n");
  EXPECT_EQ(
      Run({"--tmpfs", "/scratch", kImage, "sh", "-c", "grep -c ' /scratch tmpfs' /proc/mounts"})
          .out,
      "1\n");
  const Outcome read_only = Run({"--read-only", kImage, "touch", "/x"});
  EXPECT_NE(read_only.code, 0);
  EXPECT_TRUE(absl::StrContains(read_only.err, "Read-only file system")) << read_only.err;
  EXPECT_EQ(Run({"--network", "none", kImage, "sh", "-c", "ls /sys/class/net"}).out, "lo\n");
}

TEST_F(RunTest, WhatCannotBeHadIsRefusedBeforeAnythingIsMade) {
  const std::vector<std::vector<std::string>> kRefused = {{"--network", "none", "-p", "80:80"},
                                                          {"--network", "none", "-P"},
                                                          {"--link", "db"},
                                                          {"--ip", "10.0.0.1"},
                                                          {"--network", "my net"},
                                                          {"--network-alias", "db"},
                                                          {"--userns", "private"},
                                                          {"--storage-opt", "size=1x"},
                                                          {"--storage-opt", "dm.size=1g"},
                                                          {"-v", "d:/data"},
                                                          {"--volumes-from", "db"},
                                                          {"--cpus", "100000"},
                                                          {"--cpuset-cpus", "0-4095"},
                                                          {"--add-host", "db:x"},
                                                          {"--dns", "example.com"},
                                                          {"--ipc", "nowhere"},
                                                          {"--pid", "container:nobody"},
                                                          {"--device", "/etc"},
                                                          {"--device-read-bps", "/dev/null:1mb"},
                                                          {"-m", "1k"},
                                                          {"--sysctl", "vm.swappiness=1"},
                                                          {"--cap-add", "NOPE"},
                                                          {"--cgroup-parent", "../../x"},
                                                          {"--stop-signal", "NO"},
                                                          {"--security-opt", "bogus=1"},
                                                          {"--log-opt", "bogus=1"},
                                                          {"--log-driver", "gelf"},
                                                          {"--runtime", "nosuch"},
                                                          {"--restart", "sometimes"},
                                                          {"--ulimit", "nofile=2:1"}};
  for (const std::vector<std::string>& flags : kRefused) {
    std::vector<std::string> command = {"create"};
    command.insert(command.end(), flags.begin(), flags.end());
    command.insert(command.end(), {"busybox:test", "true"});
    const Outcome outcome = bed_->Ctl(command);
    // As in docker, the status tells a command line that is wrong by itself from one that the
    // daemon refuses.
    const bool by_itself = flags[0] == "-m" || flags[0] == "--restart" || flags[0] == "--ulimit";
    EXPECT_EQ(outcome.code, by_itself ? 125 : 1) << Ok(outcome).message();
    EXPECT_FALSE(outcome.err.empty());
    EXPECT_EQ(outcome.out, "") << flags[0];
  }
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
}

TEST_F(RunTest, HostIpcAndLimitsOfDevicesWork) {
  EXPECT_TRUE(Ok(bed_->Ctl({"run", "--rm", "--ipc", "host", "busybox:test", "true"})));
  // A weight may be unknown to the host's schedulers; the container runs all the same.
  EXPECT_TRUE(Ok(bed_->Ctl({"run", "--rm", "--blkio-weight", "100", "busybox:test", "true"})));
}

TEST_F(RunTest, ExecTakesUsersByName) {
  bed_->CtlOut({"run", "-d", "--name", "users", "busybox:test", "sleep", "1000"});
  bed_->CtlOut({"exec", "users", "sh", "-c",
                "echo joe:x:1234:99::/:/bin/sh >> /etc/passwd; echo staff:x:50:joe >> /etc/group"});
  EXPECT_EQ(bed_->CtlOut({"exec", "-u", "joe", "users", "sh", "-c", "id -u; id -G"}),
            "1234\n99 50");
  EXPECT_EQ(bed_->CtlOut({"exec", "-u", "joe:staff", "users", "id", "-g"}), "50");
  const Outcome nobody = bed_->Ctl({"exec", "-u", "nosuchuser", "users", "id"});
  EXPECT_EQ(nobody.code, 126);
  EXPECT_NE(nobody.err.find("nosuchuser"), std::string::npos) << nobody.err;
}

TEST_F(RunTest, ExecFailuresAreInTheRuntimesWordsOnly) {
  bed_->CtlOut({"run", "-d", "--name", "words", "busybox:test", "sleep", "1000"});
  const Outcome missing = bed_->Ctl({"exec", "words", "nosuchprogram"});
  EXPECT_EQ(missing.code, 127);
  EXPECT_NE(missing.err.find("container words: OCI runtime exec failed: "), std::string::npos)
      << missing.err;
  EXPECT_EQ(bed_->Ctl({"exec", "words", "/etc"}).code, 126);
  EXPECT_EQ(bed_->Ctl({"run", "--rm", "busybox:test", "/etc"}).code, 126);
  const Outcome top = bed_->Ctl({"top", "nosuchcontainer"});
  EXPECT_EQ(top.code, 1);
}

// The pid that a shared namespace was found by is gone once the other container has been restarted,
// or belongs to another process.
TEST_F(RunTest, SharedNamespacesAreThoseOfTheOtherContainerAsItRunsNow) {
  const auto netns = [this](const std::string& container) {
    return bed_->CtlOut({"exec", container, "readlink", "/proc/self/ns/net"});
  };
  bed_->CtlOut(
      {"run", "-d", "--name", "owner", "--stop-timeout", "0", "busybox:test", "sleep", "1000"});
  bed_->CtlOut({"run", "-d", "--name", "guest", "--stop-timeout", "0", "--network",
                "container:owner", "busybox:test", "sleep", "1000"});
  EXPECT_EQ(netns("owner"), netns("guest"));
  bed_->CtlOut({"stop", "guest", "owner"});
  const Outcome alone = bed_->Ctl({"start", "guest"});
  EXPECT_EQ(alone.code, 1);
  EXPECT_NE(alone.err.find("does not run"), std::string::npos) << alone.err;
  // Names move on; whose namespace it is does not.
  bed_->CtlOut({"rename", "owner", "former"});
  bed_->CtlOut({"run", "-d", "--name", "owner", "busybox:test", "sleep", "1000"});
  bed_->CtlOut({"start", "former"});
  bed_->CtlOut({"start", "guest"});
  EXPECT_EQ(netns("former"), netns("guest"));
}

// The runtime would look for the home directory in a file that never ends.
TEST_F(RunTest, ImageWhoseUserFileIsAFifoHoldsNobodyUp) {
  bed_->CtlOut({"run", "--name", "trap", "busybox:test", "sh", "-c",
                "rm -f /etc/passwd && mkfifo /etc/passwd"});
  bed_->CtlOut({"commit", "trap", "trap:1"});
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "trap:1", "echo", "through"}), "through");
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "-u", "7", "trap:1", "echo", "through"}), "through");
  const Outcome named = bed_->Ctl({"run", "--rm", "-u", "joe", "trap:1", "true"});
  EXPECT_EQ(named.code, 125);
  EXPECT_TRUE(absl::StrContains(named.err, "/etc/passwd of the image is not a regular file"))
      << named.err;
}

TEST_F(RunTest, ImagesAreChangedByADockerfilesWords) {
  bed_->CtlOut({"run", "--name", "base", "busybox:test", "touch", "/made"});
  bed_->CtlOut({"commit", "-c", "ENV GREETING=\"good day\"", "-c", "CMD echo $GREETING; ls /made",
                "base", "changed:1"});
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "changed:1"}), "good day\n/made");
  const Outcome refused = bed_->Ctl({"commit", "-c", "RUN true", "base", "changed:2"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_EQ(bed_->CtlOut({"images", "-q", "changed:2"}), "");
}

TEST_F(RunTest, CapabilitiesAreDockersFourteenUnlessSaidOtherwise) {
  const auto effective = [&](std::vector<std::string> flags) {
    flags.insert(flags.end(), {kImage, "sh", "-c", "grep CapEff /proc/self/status | cut -f2"});
    const Outcome outcome = Run(flags);
    EXPECT_TRUE(Ok(outcome));
    return outcome.out;
  };
  EXPECT_EQ(effective({}), "00000000a80425fb\n");
  EXPECT_EQ(effective({"--cap-drop", "ALL"}), "0000000000000000\n");
  EXPECT_EQ(effective({"--cap-drop", "ALL", "--cap-add", "NET_ADMIN"}), "0000000000001000\n");
  const Outcome seccomp = Run({kImage, "sh", "-c", "grep Seccomp: /proc/self/status | cut -f2"});
  EXPECT_EQ(seccomp.out, "2\n");
}

TEST_F(RunTest, PrivilegedIsUnconfined) {
  const Outcome outcome = Run({"--privileged", kImage, "sh", "-c",
                               "grep Seccomp: /proc/self/status | cut -f2; ls /dev/null"});
  EXPECT_EQ(outcome.out, "0\n/dev/null\n") << outcome.err;
}

TEST_F(RunTest, BindMountsShareFilesAndReadOnlyOnesDoNotTakeAny) {
  const std::string host = bed_->scratch() + "/shared";
  ASSERT_TRUE(MakeDirectories(host, 0755).ok());
  ASSERT_TRUE(WriteFile(host + "/in", "from the host").ok());
  const Outcome outcome =
      Run({"-v", host + ":/mnt", kImage, "sh", "-c", "cat /mnt/in; echo back >/mnt/out"});
  EXPECT_TRUE(Ok(outcome));
  EXPECT_EQ(outcome.out, "from the host");
  EXPECT_EQ(ReadFile(host + "/out", 100).value(), "back\n");
  const Outcome read_only = Run(
      {"--mount", "type=bind,source=" + host + ",target=/mnt,readonly", kImage, "touch", "/mnt/x"});
  EXPECT_NE(read_only.code, 0);
  EXPECT_EQ(access((host + "/x").c_str(), F_OK), -1);
}

TEST_F(RunTest, InitReapsOrphansAndForwardsSignals) {
  const std::string id =
      bed_->CtlOut({"run", "-d", "--init", "--name", "web", kImage, "sleep", "1000"});
  EXPECT_FALSE(absl::StrContains(
      bed_->CtlOut({"exec", "web", "cat", "/proc/1/cmdline"}).substr(0, 5), "sleep"));
  EXPECT_TRUE(Ok(bed_->Ctl({"kill", "--signal", "TERM", "web"})));
  EXPECT_EQ(bed_->CtlOut({"wait", "web"}), "143");
}

TEST_F(RunTest, DetachedContainerGoesThroughItsWholeLife) {
  const std::string id = Detached(
      "web",
      {"sh", "-c", "echo started; trap 'echo stopping; exit 3' TERM; while :; do sleep 0.1; done"});
  EXPECT_EQ(id.size(), 64u);
  EXPECT_TRUE(bed_->StatusBecomes("web", "running"));
  EXPECT_EQ(bed_->CtlOut({"ps", "-q", "--no-trunc"}), id);
  EXPECT_TRUE(Eventually([&] { return bed_->CtlOut({"logs", "web"}) == "started"; }));

  EXPECT_EQ(bed_->CtlOut({"exec", "web", "echo", "inside"}), "inside");
  EXPECT_EQ(bed_->Ctl({"exec", "web", "sh", "-c", "exit 5"}).code, 5);
  EXPECT_EQ(bed_->Ctl({"exec", "web", "no-such-program"}).code, 127);
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"top", "web"}), "trap"));

  EXPECT_TRUE(Ok(bed_->Ctl({"pause", "web"})));
  EXPECT_EQ(bed_->Inspect("web", "{{.State.Status}}"), "paused");
  EXPECT_NE(bed_->Ctl({"exec", "web", "true"}).code, 0);
  EXPECT_TRUE(Ok(bed_->Ctl({"unpause", "web"})));
  EXPECT_EQ(bed_->Inspect("web", "{{.State.Status}}"), "running");

  EXPECT_TRUE(Ok(bed_->Ctl({"rename", "web", "site"})));
  const Outcome stats =
      bed_->Ctl({"stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "site"});
  EXPECT_TRUE(Ok(stats));
  EXPECT_TRUE(absl::StartsWith(stats.out, "site ")) << stats.out;

  EXPECT_NE(bed_->Ctl({"rm", "site"}).code, 0) << "a running container was removed without --force";
  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "site"})));
  EXPECT_EQ(bed_->Inspect("site", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
  EXPECT_EQ(bed_->CtlOut({"wait", "site"}), "3");
  EXPECT_EQ(bed_->CtlOut({"logs", "site"}), "started\nstopping");

  EXPECT_TRUE(Ok(bed_->Ctl({"start", "site"})));
  EXPECT_TRUE(bed_->StatusBecomes("site", "running"));
  EXPECT_TRUE(Ok(bed_->Ctl({"restart", "--time", "5", "site"})));
  EXPECT_TRUE(bed_->StatusBecomes("site", "running"));
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "--force", "site"})));
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}), "");
  EXPECT_TRUE(bed_->Bundles().empty());
}

TEST_F(RunTest, StopKillsWhoDoesNotListen) {
  Detached("deaf", {"sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"});
  ASSERT_TRUE(Eventually([&] { return bed_->CtlOut({"logs", "deaf"}) == "ready"; }));
  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "--time", "1", "deaf"})));
  EXPECT_EQ(bed_->Inspect("deaf", "{{.State.ExitCode}}"), "137");
}

TEST_F(RunTest, CreateThenStartIsRun) {
  const std::string id = bed_->CtlOut({"create", "--name", "later", kImage, "echo", "hello"});
  EXPECT_EQ(bed_->Inspect("later", "{{.State.Status}}"), "created");
  const Outcome started = bed_->Ctl({"start", "--attach", "later"});
  EXPECT_TRUE(Ok(started));
  EXPECT_EQ(started.out, "hello\n");
}

TEST_F(RunTest, NameInUseIsRefusedAndNamesTheHolder) {
  const std::string id = Detached("web", {"sleep", "1000"});
  const Outcome second = bed_->Ctl({"run", "-d", "--name", "web", kImage, "true"});
  EXPECT_EQ(second.code, 125);
  EXPECT_TRUE(absl::StrContains(second.err, "web")) << second.err;
  EXPECT_TRUE(absl::StrContains(second.err, id.substr(0, 12))) << second.err;
}

TEST_F(RunTest, FilesAreCopiedBothWaysAlsoWhenStopped) {
  Detached("web", {"sleep", "1000"});
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/note", "carried in").ok());
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", bed_->scratch() + "/note", "web:/root/note"})));
  EXPECT_EQ(bed_->CtlOut({"exec", "web", "cat", "/root/note"}), "carried in");
  EXPECT_TRUE(Ok(bed_->Ctl({"exec", "web", "sh", "-c", "echo made >/root/made; rm /etc/group"})));
  const std::string diff = bed_->CtlOut({"diff", "web"});
  EXPECT_TRUE(absl::StrContains(diff, "A /root/made")) << diff;
  EXPECT_TRUE(absl::StrContains(diff, "D /etc/group")) << diff;
  EXPECT_TRUE(Ok(bed_->Ctl({"kill", "web"})));
  EXPECT_TRUE(bed_->StatusBecomes("web", "exited"));
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "web:/root/made", bed_->scratch() + "/made"})));
  EXPECT_EQ(ReadFile(bed_->scratch() + "/made", 100).value(), "made\n");
}

TEST_F(RunTest, FilesOfAContainerThatDoesNotRunAreSeenWithItsMounts) {
  const std::string data = bed_->scratch() + "/data";
  const std::string fixed = bed_->scratch() + "/fixed";
  const std::string note = bed_->scratch() + "/note";
  ASSERT_TRUE(MakeDirectories(data, 0755).ok());
  ASSERT_TRUE(MakeDirectories(fixed, 0755).ok());
  ASSERT_TRUE(WriteFile(note, "carried in").ok());
  const std::vector<std::string> mounts = {"-v", data + ":/data", "-v", fixed + ":/fixed:ro"};
  const auto create = [&](std::vector<std::string> command) {
    command.insert(command.end(), mounts.begin(), mounts.end());
    command.insert(command.end(), {kImage, "true"});
    bed_->CtlOut(command);
  };
  create({"create", "--name", "web"});
  for (const std::string name : {"created", "stopped"}) {
    EXPECT_TRUE(Ok(bed_->Ctl({"cp", note, "web:/data/" + name})));
    EXPECT_EQ(ReadFile(data + "/" + name, 100).value_or(""), "carried in") << name;
    EXPECT_TRUE(Ok(bed_->Ctl({"cp", "web:/data/" + name, bed_->scratch() + "/back"})));
    EXPECT_EQ(ReadFile(bed_->scratch() + "/back", 100).value_or(""), "carried in") << name;
    const Outcome refused = bed_->Ctl({"cp", note, "web:/fixed/" + name});
    EXPECT_NE(refused.code, 0);
    EXPECT_TRUE(absl::StrContains(refused.err, "ead-only")) << refused.err;
    EXPECT_EQ(ListDirectory(fixed).value(), std::vector<std::string>());
    EXPECT_TRUE(Ok(bed_->Ctl({"start", "--attach", "web"})));
  }
  create({"create", "--name", "tight", "--read-only"});
  EXPECT_NE(bed_->Ctl({"cp", note, "tight:/root/note"}).code, 0);
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", note, "tight:/data/note"})));
  EXPECT_EQ(ReadFile(data + "/note", 100).value_or(""), "carried in");
  const std::string mounted = ReadFile("/proc/self/mountinfo", 4 << 20).value_or("");
  EXPECT_FALSE(absl::StrContains(mounted, bed_->state() + "/mounts/")) << mounted;
}

TEST_F(RunTest, CopiesFollowAWholeChainOfLinks) {
  Detached("web", {"sleep", "1000"});
  const std::string here = bed_->scratch();
  EXPECT_TRUE(Ok(bed_->Ctl({"exec", "web", "sh", "-c",
                            "cd /root; echo old >real; ln -s real one; ln -s /root/one two; "
                            "ln -s new away; mkdir dir; ln -s dir d1; ln -s d1 d2"})));
  ASSERT_TRUE(WriteFile(here + "/note", "carried in").ok());
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", here + "/note", "web:/root/two"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", here + "/note", "web:/root/away"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", here + "/note", "web:/root/d2"})));
  EXPECT_EQ(bed_->CtlOut({"exec", "web", "sh", "-c",
                          "cd /root; readlink two; readlink one; cat real new dir/note"}),
            "/root/one\nreal\ncarried incarried incarried in");
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "-L", "web:/root/two", here + "/out"})));
  EXPECT_EQ(ReadFile(here + "/out", 100).value_or(""), "carried in");
  EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(here + "/out")));

  std::filesystem::create_symlink("second", here + "/first");
  std::filesystem::create_symlink("third", here + "/second");
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "web:/root/real", here + "/first"})));
  EXPECT_EQ(ReadFile(here + "/third", 100).value_or(""), "carried in");
  EXPECT_TRUE(std::filesystem::is_symlink(here + "/first"));
}

TEST_F(RunTest, NamesThatAreNoTextDoNotStopADiff) {
  Detached("web", {"sleep", "1000"});
  EXPECT_TRUE(Ok(bed_->Ctl({"exec", "web", "sh", "-c", "touch /root/caf$(printf '\\351')"})));
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"diff", "web"}), "A /root/caf\xef\xbf\xbd"));
}

TEST_F(RunTest, ContainersThatRemoveThemselvesAreNotSyncedAndOtherwiseLikeAnyOther) {
  const auto root_mount = [&](const std::string& name) {
    const std::string pid = bed_->Inspect(name, "{{.State.Pid}}");
    const auto mounts = ReadFile(absl::StrCat("/proc/", pid, "/mountinfo"), 1 << 20);
    for (absl::string_view line : absl::StrSplit(mounts.ok() ? *mounts : "", '\n')) {
      if (absl::StrContains(line, " / / ")) return std::string(line);
    }
    return std::string(mounts.status().message());
  };
  Detached("kept", {"sleep", "1000"});
  bed_->CtlOut({"run", "-d", "--rm", "--name", "gone", kImage, "sleep", "1000"});
  EXPECT_TRUE(absl::StrContains(root_mount("kept"), " overlay ")) << root_mount("kept");
  EXPECT_FALSE(absl::StrContains(root_mount("kept"), "volatile")) << root_mount("kept");
  EXPECT_TRUE(absl::StrContains(root_mount("gone"), "volatile")) << root_mount("gone");

  EXPECT_TRUE(Ok(bed_->Ctl({"exec", "gone", "sh", "-c", "echo written >/root/file; sync"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"restart", "--time", "0", "gone"})));
  EXPECT_EQ(bed_->CtlOut({"exec", "gone", "cat", "/root/file"}), "written");
  EXPECT_TRUE(absl::StrContains(root_mount("gone"), "volatile")) << root_mount("gone");
  EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"diff", "gone"}), "A /root/file"));
  EXPECT_TRUE(Ok(bed_->Ctl({"commit", "gone", "committed"})));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "committed", "cat", "/root/file"}), "written");
}

TEST_F(RunTest, WhatIsMountedInAContainerIsNoChangeOfItsOwn) {
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "--name", "web", kImage, "cat", "/etc/hosts"})));
  EXPECT_EQ(bed_->CtlOut({"diff", "web"}), "");
  const std::string upper =
      bed_->CtlOut({"inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "web"});
  EXPECT_EQ(ListDirectory(upper).value(), std::vector<std::string>()) << upper;
  // The files are as ever to be had, and gone with a container that removes itself.
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "web:/etc/hosts", bed_->scratch() + "/hosts"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "--rm", kImage, "cat", "/etc/hosts"})));
  EXPECT_TRUE(Eventually(
      [&] {
        return ListDirectory(absl::StrCat(bed_->state(), "/containers/", bed_->ns())).value() ==
               std::vector<std::string>();
      },
      absl::Seconds(30)));
}

TEST_F(RunTest, AttachSeesWhatComesAndTheExit) {
  const std::string fifo_dir = bed_->scratch() + "/gate";
  ASSERT_TRUE(MakeDirectories(fifo_dir, 0755).ok());
  bed_->CtlOut({"run", "-d", "--name", "web", "-v", fifo_dir + ":/gate", kImage, "sh", "-c",
                "while [ ! -e /gate/open ]; do sleep 0.05; done; echo through; exit 4"});
  const std::string out_path = bed_->scratch() + "/attached";
  const UniqueFd out(open(out_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  absl::StatusOr<Process> attach = bed_->SpawnCtl({"attach", "--no-stdin", "web"}, out.get());
  ASSERT_TRUE(attach.ok());
  // Attached once the container has one reader more; nothing tells, so the gate opens only after
  // the client has had its time to dial.
  ASSERT_TRUE(Eventually([&] {
    std::ifstream net(absl::StrCat("/proc/", attach->pid(), "/net/unix"));
    const std::string text((std::istreambuf_iterator<char>(net)), std::istreambuf_iterator<char>());
    return absl::StrContains(text, bed_->address());
  }));
  ASSERT_TRUE(WriteFile(fifo_dir + "/open", "").ok());
  const absl::StatusOr<ExitStatus> ended = attach->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->code, 4);
  EXPECT_EQ(bed_->CtlOut({"logs", "web"}), "through");
}

TEST_F(RunTest, SizesAreOfWhatItWroteAndOfAllItSees) {
  bed_->CtlOut(
      {"run", "--name", "writer", kImage, "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3"});
  int64_t written = 0;
  int64_t all = 0;
  ASSERT_TRUE(
      absl::SimpleAtoi(bed_->CtlOut({"inspect", "-s", "-f", "{{.SizeRw}}", "writer"}), &written));
  ASSERT_TRUE(
      absl::SimpleAtoi(bed_->CtlOut({"inspect", "-s", "-f", "{{.SizeRootFs}}", "writer"}), &all));
  EXPECT_GE(written, 3 << 20);
  EXPECT_LT(written, 4 << 20);
  EXPECT_GT(all, written + (1 << 20)) << "busybox is larger than a MiB";
}

// Paths of cgroups below `group` ("/x"), in any hierarchy.
std::vector<std::string> GroupsAt(const std::string& group) {
  std::vector<std::string> found;
  for (const char* hierarchy : {"", "/cpu", "/cpuset", "/memory", "/pids", "/devices", "/freezer",
                                "/systemd", "/unified", "/blkio"}) {
    const std::string path = absl::StrCat("/sys/fs/cgroup", hierarchy, group);
    if (access(path.c_str(), F_OK) == 0) found.push_back(path);
  }
  return found;
}

TEST_F(RunTest, GroupsMadeForACgroupParentGoWithTheLastContainer) {
  const std::string top = absl::StrCat("/", bed_->ns(), "-shop");
  const std::string parent = absl::StrCat(top, "/front");
  for (const char* name : {"one", "two", "three"}) {
    bed_->CtlOut({"run", "-d", "--name", name, "--cgroup-parent", parent, "--runtime",
                  std::string(name) == "two" ? "runc" : "crun", kImage, "sleep", "1000"});
  }
  EXPECT_FALSE(GroupsAt(parent).empty());
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", "one"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"kill", "two"})));
  EXPECT_TRUE(bed_->StatusBecomes("two", "exited"));
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "two"})));
  EXPECT_FALSE(GroupsAt(parent).empty()) << "the third is in there";
  // The shim that knows of them is killed: its daemon cleans up.
  kill(bed_->ShimPid(bed_->Inspect("three", "{{.Id}}")), SIGKILL);
  EXPECT_TRUE(bed_->StatusBecomes("three", "exited"));
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "three"})));
  EXPECT_THAT(GroupsAt(top), testing::IsEmpty());
}

TEST_F(RunTest, AGroupThatWasThereStays) {
  const std::string top = absl::StrCat("/", bed_->ns(), "-own");
  const std::string made = absl::StrCat("/sys/fs/cgroup/memory", top);
  const std::string path =
      access("/sys/fs/cgroup/memory", F_OK) == 0 ? made : absl::StrCat("/sys/fs/cgroup", top);
  ASSERT_EQ(mkdir(path.c_str(), 0755), 0);
  EXPECT_TRUE(Ok(Run({"--cgroup-parent", top + "/below", kImage, "true"})));
  EXPECT_THAT(GroupsAt(top), testing::ElementsAre(path));
  EXPECT_EQ(rmdir(path.c_str()), 0);
}

TEST_F(RunTest, AHealthCheckTellsHowAContainerFaresAlsoAfterARestart) {
  bed_->CtlOut({"run", "-d", "--name", "web", "--health-cmd", "echo looking; test ! -e /sick",
                "--health-interval", "100ms", "--health-retries", "2", kImage, "sleep", "1000"});
  const auto health = [&](const std::string& container) {
    return bed_->Inspect(container, "{{.State.Health.Status}}");
  };
  ASSERT_TRUE(Eventually([&] { return health("web") == "healthy"; })) << health("web");
  const std::string status = bed_->CtlOut({"ps", "--format", "{{.Status}}"});
  EXPECT_TRUE(absl::EndsWith(status, "(healthy)")) << status;
  EXPECT_EQ(bed_->CtlOut({"ps", "-q", "--filter", "health=unhealthy"}), "");
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_EQ(health("web"), "healthy");
  EXPECT_TRUE(Ok(bed_->Ctl({"exec", "web", "touch", "/sick"})));
  ASSERT_TRUE(Eventually([&] { return health("web") == "unhealthy"; })) << health("web");
  ASSERT_TRUE(Eventually([&] {
    return bed_->Inspect("web", "{{range .State.Health.Log}}{{.ExitCode}}{{.Output}}{{end}}") ==
           "1looking\n1looking\n1looking\n1looking\n1looking\n";
  }));
  const std::string events =
      bed_->CtlOut({"events", "--since", "10m", "--until", "0s", "--filter", "type=container",
                    "--format", "{{.Action}} {{.Actor.Attributes.name}}"});
  EXPECT_TRUE(absl::StrContains(events, "health_status: unhealthy web")) << events;
  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "-t", "0", "web"})));
}

TEST_F(RunTest, AHealthCheckThatHangsIsEnded) {
  bed_->CtlOut({"run", "-d", "--name", "web", "--health-cmd", "exec sleep 4321",
                "--health-interval", "100ms", "--health-timeout", "200ms", "--health-retries", "1",
                kImage, "sleep", "1000"});
  ASSERT_TRUE(
      Eventually([&] { return bed_->Inspect("web", "{{.State.Health.Status}}") == "unhealthy"; }));
  EXPECT_TRUE(absl::StrContains(bed_->Inspect("web", "{{(index .State.Health.Log 0).Output}}"),
                                "exceeded timeout"));
  EXPECT_TRUE(Ok(bed_->Ctl({"pause", "web"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"unpause", "web"})));
  // One probe at a time: at most the present one is there.
  const std::string processes = bed_->CtlOut({"top", "web", "-o", "pid,args"});
  const std::vector<std::string> around = absl::StrSplit(processes, "sleep 4321");
  EXPECT_LE(around.size(), 2u) << processes;
}

TEST_F(RunTest, AnImagesHealthCheckIsTakenUnlessItIsNotWanted) {
  bed_->CtlOut({"create", "--name", "base", kImage, "sleep", "1000"});
  EXPECT_TRUE(Ok(bed_->Ctl(
      {"commit", "-c", "HEALTHCHECK --interval=100ms CMD test -e /well", "base", "checked:test"})));
  bed_->CtlOut({"run", "-d", "--name", "web", "--health-retries", "1", "checked:test"});
  EXPECT_TRUE(
      Eventually([&] { return bed_->Inspect("web", "{{.State.Health.Status}}") == "unhealthy"; }));
  EXPECT_TRUE(Ok(bed_->Ctl({"exec", "web", "touch", "/well"})));
  EXPECT_TRUE(
      Eventually([&] { return bed_->Inspect("web", "{{.State.Health.Status}}") == "healthy"; }));
  bed_->CtlOut({"run", "-d", "--name", "plain", "--no-healthcheck", "checked:test"});
  EXPECT_EQ(bed_->Inspect("plain", "{{json .State}}").find("Health"), std::string::npos);
}

// Fewer open files than a runtime needs itself: the limit is there when the program runs, not
// before.
TEST_F(RunTest, AContainerMayHaveVeryFewOpenFiles) {
  for (const std::string runtime : {"crun", "runc"}) {
    for (const std::string most : {"5", "10", "20", "1023"}) {
      const Outcome run = Run({"--runtime", runtime, "--ulimit", "nofile=" + most, kImage, "sh",
                               "-c", "ulimit -Sn; ulimit -Hn"});
      EXPECT_TRUE(Ok(run)) << runtime;
      EXPECT_EQ(run.out, most + "\n" + most + "\n") << runtime;
    }
    const Outcome terminal = Run({"-t", "--runtime", runtime, "--ulimit", "nofile=10:12", kImage,
                                  "sh", "-c", "ulimit -Sn; ulimit -Hn"});
    EXPECT_EQ(terminal.out, "10\r\n12\r\n") << runtime;
    EXPECT_EQ(Run({"--runtime", runtime, "--ulimit", "nofile=10", kImage, "/no-such"}).code, 127);

    const Outcome less = Run({"--runtime", runtime, "--ulimit", "nofile=3", kImage, "true"});
    EXPECT_EQ(less.code, 125) << runtime;
    EXPECT_TRUE(absl::StrContains(less.err, "may have no more than 3 open files")) << less.err;
    EXPECT_TRUE(absl::StrContains(less.err, "limit \"nofile\"")) << less.err;
  }
  // An exec has the container's limit from the runtime, which says so when it is too little for
  // that.
  bed_->CtlOut({"run", "-d", "--name", "web", "--ulimit", "nofile=10", kImage, "sleep", "1000"});
  const Outcome exec = bed_->Ctl({"exec", "web", "sh", "-c", "ulimit -n"});
  if (exec.ok()) {
    EXPECT_EQ(exec.out, "10\n");
  } else {
    EXPECT_TRUE(absl::StrContains(exec.err, "container web: OCI runtime exec failed")) << exec.err;
    EXPECT_TRUE(absl::StrContains(exec.err, "limit \"nofile\"")) << exec.err;
  }
}

TEST_F(RunTest, OomIsToldAsSuch) {
  const Outcome outcome =
      bed_->Ctl({"run", "--name", "hungry", "--memory", "16m", kImage, "sh", "-c",
                 "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}"});
  EXPECT_EQ(outcome.code, 137) << outcome.out << outcome.err;
  EXPECT_EQ(bed_->Inspect("hungry", "{{.State.OOMKilled}}"), "true");
}

TEST_F(RunTest, LogsHaveTailSinceAndTimestamps) {
  Detached("web", {"sh", "-c", "seq 1 100"});
  ASSERT_TRUE(bed_->StatusBecomes("web", "exited"));
  EXPECT_EQ(bed_->CtlOut({"logs", "--tail", "3", "web"}), "98\n99\n100");
  EXPECT_EQ(bed_->CtlOut({"logs", "--since", "2000-01-01T00:00:00Z", "--tail", "1", "web"}), "100");
  EXPECT_EQ(bed_->CtlOut({"logs", "--until", "2000-01-01T00:00:00Z", "web"}), "");
  const std::string stamped = bed_->CtlOut({"logs", "-t", "--tail", "1", "web"});
  EXPECT_TRUE(absl::EndsWith(stamped, "Z 100")) << stamped;
}

TEST_F(RunTest, LogsHaveTheAttributesThatOptionsChoose) {
  bed_->CtlOut({"run", "-d", "--name", "web", "--label", "tier=fr ont", "--label", "other=x", "-e",
                "E=1", "--log-opt", "labels=tier,absent", "--log-opt", "env=E", kImage, "echo",
                "hi"});
  bed_->CtlOut({"wait", "web"});
  EXPECT_EQ(bed_->CtlOut({"logs", "--details", "web"}), "E=1,tier=fr+ont hi");
  EXPECT_EQ(bed_->CtlOut({"logs", "web"}), "hi");
  bed_->CtlOut({"run", "-d", "--name", "plain", kImage, "echo", "hi"});
  bed_->CtlOut({"wait", "plain"});
  EXPECT_EQ(bed_->CtlOut({"logs", "--details", "plain"}), " hi");
  EXPECT_THAT(bed_->Ctl({"run", "--rm", "--log-opt", "env-regex=(", kImage, "true"}).err,
              testing::HasSubstr("--log-opt env-regex"));
}

TEST_F(RunTest, ACollectionTakesContainerDirectoriesThatNoRecordNames) {
  const std::string id = Detached("web", {"sleep", "1000"});
  const std::string top = bed_->root() + "/containers/" + bed_->ns() + "/";
  const std::string left = top + "0123456789abcdef";
  ASSERT_TRUE(MakeDirectories(left, 0710).ok());
  ASSERT_TRUE(WriteFile(left + "/hosts", "", 0644).ok());
  bed_->CtlOut({"gc"});
  EXPECT_NE(access(left.c_str(), F_OK), 0);
  EXPECT_EQ(access((top + id).c_str(), F_OK), 0);
  EXPECT_EQ(bed_->CtlOut({"exec", "web", "echo", "well"}), "well");
  bed_->CtlOut({"rm", "-f", "web"});
}

TEST_F(RunTest, LogsFollowToTheEnd) {
  Detached("web", {"sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done"});
  const Outcome followed = bed_->Ctl({"logs", "--follow", "web"});
  EXPECT_TRUE(Ok(followed));
  EXPECT_EQ(followed.out, "1\n2\n3\n4\n5\n");
}

TEST_F(RunTest, EventsTellTheLifeOfAContainer) {
  EXPECT_TRUE(Ok(Run({"--name", "brief", kImage, "true"})));
  const Outcome events =
      bed_->Ctl({"events", "--since", "10m", "--until", "0s", "--format", "{{.Action}}"});
  EXPECT_TRUE(Ok(events));
  const std::vector<std::string> seen = absl::StrSplit(events.out, '\n');
  size_t next = 0;
  const std::vector<std::string> wanted = {"create", "start", "die", "destroy"};
  for (const std::string& action : seen) {
    if (next < wanted.size() && action == wanted[next]) ++next;
  }
  EXPECT_EQ(next, wanted.size()) << events.out;
}

TEST_F(RunTest, EventsOfAContainerThatIsGoneSayWhatItWas) {
  EXPECT_EQ(Run({"--name", "brief", "--label", "tier=front", kImage, "sh", "-c", "exit 3"}).code,
            3);
  const Outcome events = bed_->Ctl({"events", "--since", "10m", "--until", "0s", "--filter",
                                    "container=brief", "--format",
                                    "{{.Action}} {{.Actor.Attributes.name}} "
                                    "{{.Actor.Attributes.image}} {{.Actor.Attributes.tier}}"});
  EXPECT_EQ(events.out,
            "create brief busybox:test front\nattach brief busybox:test front\n"
            "start brief busybox:test front\n"
            "die brief busybox:test front\ndestroy brief busybox:test front\n");
}

// In docker's words and order.
TEST_F(RunTest, EventsTellWhatWasDoneToAContainer) {
  const auto events = [this](const std::string& container) {
    return bed_->CtlOut(
        {"events", "--since", "10m", "--until", "0s", "--filter", "container=" + container,
         "--format",
         "{{.Action}}{{with index .Actor.Attributes \"signal\"}} {{.}}{{end}}{{with index "
         ".Actor.Attributes \"exitCode\"}} {{.}}{{end}}"});
  };
  Detached("polite", {"sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"});
  ASSERT_TRUE(Eventually([&] { return bed_->CtlOut({"logs", "polite"}) == "up"; }));
  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "polite"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "polite"})));
  EXPECT_EQ(events("polite"), "create\nstart\nkill 15\ndie 3\nstop");

  Detached("stubborn", {"sleep", "1000"});
  EXPECT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "-s", "WINCH", "stubborn"})));
  EXPECT_EQ(events("stubborn"), "create\nstart\nkill 28\nkill 9\ndie 137\nstop\nstart\nrestart");

  bed_->CtlOut({"run", "-d", "--rm", "--name", "killed", kImage, "sleep", "1000"});
  EXPECT_TRUE(Ok(bed_->Ctl({"kill", "-s", "WINCH", "killed"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"kill", "killed"})));
  ASSERT_TRUE(Eventually([&] { return absl::EndsWith(events("killed"), "destroy"); }));
  EXPECT_EQ(events("killed"), "create\nstart\nkill 28\nkill 9\ndie 137\ndestroy");

  Detached("removed", {"sleep", "1000"});
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", "removed"})));
  EXPECT_EQ(events("removed"), "create\nstart\nkill 9\ndie 137\ndestroy");

  EXPECT_EQ(bed_->CtlOut({"events", "--since", "10m", "--until", "0s", "--filter", "event=restart",
                          "--format", "{{.Actor.Attributes.name}}"}),
            "stubborn");
}

TEST_F(RunTest, EventsTellOfAllThatIsDoneThroughADoor) {
  const auto events = [this](const std::string& filter, const std::string& format) {
    return bed_->CtlOut(
        {"events", "--since", "10m", "--until", "0s", "--filter", filter, "--format", format});
  };
  Detached("web", {"sleep", "1000"});
  EXPECT_EQ(bed_->Ctl({"exec", "web", "sh", "-c", "exit 4"}).code, 4);
  EXPECT_TRUE(Ok(bed_->Ctl({"top", "web"})));
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/given", "x").ok());
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", bed_->scratch() + "/given", "web:/given"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"cp", "web:/given", bed_->scratch() + "/got"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"pause", "web"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"unpause", "web"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"export", "-o", bed_->scratch() + "/tree.tar", "web"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"commit", "--pause=false", "-m", "why", "web", "made:1"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"update", "--restart", "no", "web"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"rename", "web", "shop"})));
  EXPECT_EQ(events("container=shop", "{{.Action}}"),
            "create\nstart\nexec_create: sh -c exit 4\nexec_start: sh -c exit 4\nexec_die\ntop\n"
            "extract-to-dir\narchive-path\npause\nunpause\nexport\ncommit\nupdate\nrename");
  EXPECT_EQ(events("event=exec_die", "{{.Actor.Attributes.exitCode}}"), "4");
  EXPECT_EQ(events("event=rename", "{{.Actor.Attributes.oldName}}"), "/web");
  EXPECT_EQ(events("event=commit", "{{.Actor.Attributes.comment}} {{.Actor.Attributes.imageRef}}"),
            "why made:1");
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "-f", "shop"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"container", "prune", "-f"})));
  EXPECT_EQ(events("event=prune", "{{.Type}} {{.Actor.Attributes.reclaimed}}"), "container 0");

  EXPECT_TRUE(Ok(bed_->Ctl({"tag", "made:1", "made:2"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"save", "-o", bed_->scratch() + "/made.tar", "made:2"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"rmi", "made:1"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"rmi", "made:2"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"load", "-i", bed_->scratch() + "/made.tar"})));
  EXPECT_TRUE(Ok(bed_->Ctl({"import", bed_->scratch() + "/tree.tar", "flat:1"})));
  const std::string images = events("type=image", "{{.Action}} {{.Actor.Attributes.name}}");
  size_t from = 0;
  for (const char* line : {"tag made:1", "tag made:2", "save sha256:", "untag made:1",
                           "untag made:2", "delete sha256:", "load made:2", "import flat:1"}) {
    from = images.find(line, from);
    ASSERT_NE(from, std::string::npos) << line << " in\n" << images;
  }
}

TEST_F(RunTest, ALateFollowerMissesNoLineThoughFilesAreRotatedAwayAllTheTime) {
  constexpr int kLast = 30000;
  ASSERT_TRUE(MakeDirectories(bed_->scratch() + "/gate", 0755).ok());
  bed_->CtlOut(
      {"run", "-d", "--name", "chatty", "--log-opt", "max-size=2k", "--log-opt", "max-file=2", "-v",
       bed_->scratch() + "/gate:/gate", kImage, "sh", "-c",
       absl::StrCat("seq 1 1000; while [ ! -e /gate/open ]; do sleep 0.05; done; seq 1001 ",
                    kLast)});
  ASSERT_TRUE(Eventually([&] {
    return bed_->CtlOut({"logs", "--tail", "1", "chatty"}) == "1000";
  }));
  const std::string before = bed_->CtlOut({"logs", "chatty"});
  EXPECT_FALSE(absl::StartsWith(before, "1\n")) << "nothing was rotated away";

  const std::string path = bed_->scratch() + "/followed";
  const UniqueFd out(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  absl::StatusOr<Process> follower = bed_->SpawnCtl({"logs", "-f", "chatty"}, out.get());
  ASSERT_TRUE(follower.ok());
  ASSERT_TRUE(
      Eventually([&] { return absl::EndsWith(ReadFile(path, 1 << 20).value_or(""), "\n1000\n"); }));
  ASSERT_TRUE(WriteFile(bed_->scratch() + "/gate/open", "").ok());
  const absl::StatusOr<ExitStatus> ended = follower->Wait(absl::Seconds(120));
  ASSERT_TRUE(ended.ok()) << ended.status();
  std::string expected = before + "\n";
  for (int i = 1001; i <= kLast; ++i) absl::StrAppend(&expected, i, "\n");
  EXPECT_TRUE(ReadFile(path, 1 << 24).value() == expected)
      << ReadFile(path, 1 << 24).value().size() << " of " << expected.size();
}

TEST_F(RunTest, ContainersLeaveNothingInTheHostsMountTable) {
  const std::string id = Detached("web", {"sleep", "1000"});
  const std::string mounts = ReadFile("/proc/self/mountinfo", 16 << 20).value();
  EXPECT_FALSE(absl::StrContains(mounts, id)) << "the root file system is visible on the host";
}

TEST_F(RunTest, ExecSeesOnlyItsThreeDescriptors) {
  Detached("web", {"sleep", "1000"});
  EXPECT_EQ(bed_->CtlOut({"exec", "web", "sh", "-c", "ls /proc/1/fd | tr '\\n' ' '"}), "0 1 2 ");
  // The shell's own directory stream is the one more.
  EXPECT_EQ(bed_->CtlOut({"exec", "web", "sh", "-c", "echo /proc/self/fd/*"}),
            "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3");
}

// Both runtimes must carry the same life.
class RuntimeTest : public testing::TestWithParam<const char*> {};

TEST_P(RuntimeTest, RunExecPauseStatsKill) {
  if (!HaveRoot()) GTEST_SKIP() << "containers need root";
  Testbed bed;
  ASSERT_TRUE(bed.LoadBusybox(kImage));
  const std::string runtime = GetParam();
  const Outcome hello =
      bed.Ctl({"run", "--rm", "--runtime", runtime, kImage, "sh", "-c", "echo hello; exit 9"});
  EXPECT_EQ(hello.out, "hello\n") << hello.err;
  EXPECT_EQ(hello.code, 9);
  bed.CtlOut({"run", "-d", "--runtime", runtime, "--name", "web", kImage, "sleep", "1000"});
  EXPECT_EQ(bed.CtlOut({"exec", "web", "echo", "in"}), "in");
  EXPECT_TRUE(Ok(bed.Ctl({"pause", "web"})));
  EXPECT_TRUE(Ok(bed.Ctl({"unpause", "web"})));
  const Outcome stats = bed.Ctl({"stats", "--no-stream", "--format", "{{.PIDs}}", "web"});
  EXPECT_EQ(stats.out, "1\n") << stats.err;
  EXPECT_TRUE(Ok(bed.Ctl({"kill", "web"})));
  EXPECT_EQ(bed.CtlOut({"wait", "web"}), "137");
}

INSTANTIATE_TEST_SUITE_P(All, RuntimeTest, testing::Values("crun", "runc"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

// The driver is a setting of the runtime that "auto" comes to, not of the word "auto". This host
// needs no systemd: what the spec says is decided when a container is made.
TEST(CgroupDriverTest, IsThatOfTheRuntimeWhichWasChosen) {
  if (!HaveRoot()) GTEST_SKIP() << "containers need root";
  Testbed::Options options;
  options.config = "default_runtime = \"auto\"\n[runtimes.crun]\nsystemd_cgroup = true\n";
  Testbed bed(options);
  ASSERT_TRUE(bed.LoadBusybox(kImage));
  const std::string by_systemd = bed.CtlOut({"create", "--name", "auto", kImage, "true"});
  EXPECT_TRUE(absl::StrContains(bed.Ctr({"containers", "info", by_systemd}).out,
                                absl::StrCat("system.slice:gantry:", by_systemd)));
  EXPECT_TRUE(absl::StrContains(bed.CtlOut({"info"}), "Cgroup Driver: systemd"));
  const std::string by_path =
      bed.CtlOut({"create", "--name", "other", "--runtime", "runc", kImage, "true"});
  EXPECT_TRUE(absl::StrContains(bed.Ctr({"containers", "info", by_path}).out,
                                absl::StrCat("/gantry/", by_path)));
  EXPECT_TRUE(Ok(bed.Ctl({"start", "-a", "other"})));
}

// Archives of every kind.
struct ArchiveCase {
  const char* name;
  bool oci;
  const char* compression;
};
class ArchiveTest : public testing::TestWithParam<ArchiveCase> {};

TEST_P(ArchiveTest, LoadsAndRuns) {
  if (!HaveRoot()) GTEST_SKIP() << "containers need root";
  Testbed bed;
  const std::string base = bed.scratch() + "/base";
  const std::string top = bed.scratch() + "/top";
  ASSERT_TRUE(MakeBusyboxRoot(base).ok());
  ASSERT_TRUE(MakeDirectories(top + "/etc", 0755).ok());
  ASSERT_TRUE(WriteFile(top + "/etc/motd", "from the upper layer\n").ok());
  // A whiteout: the lower layer's file is gone.
  ASSERT_TRUE(WriteFile(top + "/etc/.wh.group", "").ok());
  ImageOptions options;
  options.names = {"layered:one", "layered:two"};
  options.layer_compression = GetParam().compression;
  const std::string archive = bed.scratch() + "/image.tar";
  const absl::Status made = GetParam().oci ? WriteOciArchive(archive, {base, top}, options)
                                           : WriteDockerArchive(archive, {base, top}, options);
  ASSERT_TRUE(made.ok()) << made;
  ASSERT_TRUE(Ok(bed.Ctl({"load", "-i", archive})));
  for (const char* name : {"layered:one", "layered:two"}) {
    const Outcome outcome =
        bed.Ctl({"run", "--rm", name, "sh", "-c", "cat /etc/motd; ls /etc/group"});
    EXPECT_EQ(outcome.out, "from the upper layer\n") << name << ": " << outcome.err;
    EXPECT_EQ(outcome.code, 1);
  }
  EXPECT_TRUE(Ok(bed.Ctl({"rmi", "layered:one"})));
  EXPECT_TRUE(Ok(bed.Ctl({"run", "--rm", "layered:two", "true"})));
  // Saved and loaded again it is the same image.
  const std::string saved = bed.scratch() + "/saved.tar";
  const std::string id = bed.CtlOut({"images", "-q", "--no-trunc", "layered:two"});
  ASSERT_TRUE(Ok(bed.Ctl({"save", "-o", saved, "layered:two"})));
  EXPECT_TRUE(Ok(bed.Ctl({"rmi", "layered:two"})));
  EXPECT_EQ(bed.CtlOut({"images", "-q"}), "");
  ASSERT_TRUE(Ok(bed.Ctl({"load", "-i", saved})));
  EXPECT_EQ(bed.CtlOut({"images", "-q", "--no-trunc", "layered:two"}), id);
}

INSTANTIATE_TEST_SUITE_P(
    All, ArchiveTest,
    testing::Values(ArchiveCase{"docker", false, ""}, ArchiveCase{"oci", true, ""},
                    ArchiveCase{"oci_gzip", true, "gzip"}, ArchiveCase{"oci_zstd", true, "zstd"}),
    [](const testing::TestParamInfo<ArchiveCase>& info) { return std::string(info.param.name); });

TEST(DebianTest, DebootstrappedRootRunsWithItsHardLinksAndModes) {
  if (!HaveRoot()) GTEST_SKIP() << "containers need root";
  const absl::StatusOr<std::string> root = DebianRoot();
  if (!root.ok()) GTEST_SKIP() << root.status();
  Testbed bed;
  ImageOptions options;
  options.names = {"debian:test"};
  options.layer_compression = "gzip";
  const std::string archive = bed.scratch() + "/debian.tar";
  ASSERT_TRUE(WriteOciArchive(archive, {*root}, options).ok());
  ASSERT_TRUE(Ok(bed.Ctl({"load", "-i", archive}, "", absl::Minutes(3))));
  const std::string version = ReadFile(*root + "/etc/debian_version", 100).value();
  const Outcome outcome = bed.Ctl({"run", "--rm", "debian:test", "cat", "/etc/debian_version"});
  EXPECT_EQ(outcome.out, version) << outcome.err;
  // perl and perl5.x are one file; su keeps its setuid bit.
  const Outcome facts = bed.Ctl(
      {"run", "--rm", "debian:test", "sh", "-c",
       "stat -c %h /usr/bin/perl; stat -c %a /bin/su; dpkg --verify | grep -v '^.......T' | head"});
  EXPECT_EQ(facts.out, "2\n4755\n") << facts.err;
}

TEST(DaemonTest, TwoSupervisorsSideBySideAndASecondOnOneRootRefused) {
  if (!HaveRoot()) GTEST_SKIP() << "containers need root";
  Testbed one;
  Testbed two;
  ASSERT_TRUE(one.LoadBusybox(kImage));
  ASSERT_TRUE(two.LoadBusybox(kImage));
  one.CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
  two.CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
  EXPECT_NE(one.Inspect("web", "{{.Id}}"), two.Inspect("web", "{{.Id}}"));

  const std::string daemon =
      ReadFile(absl::StrCat("/proc/", one.daemon_pid(), "/cmdline"), 65536).value();
  std::vector<std::string> same = absl::StrSplit(daemon, '\0', absl::SkipEmpty());
  const Outcome refused = RunProgram(same, "", absl::Seconds(20));
  EXPECT_NE(refused.code, 0);
  EXPECT_NE(refused.code, -1) << "the second daemon did not end";
  EXPECT_TRUE(absl::StrContains(refused.err, one.root())) << refused.err;
  EXPECT_EQ(one.Inspect("web", "{{.State.Status}}"), "running") << "the first one was harmed";
}

TEST(DaemonTest, GracefulStopLeavesContainersRunningAndPicksThemUpAgain) {
  if (!HaveRoot()) GTEST_SKIP() << "containers need root";
  Testbed bed;
  ASSERT_TRUE(bed.LoadBusybox(kImage));
  const std::string id = bed.CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
  const std::string pid = bed.Inspect("web", "{{.State.Pid}}");
  bed.StopDaemon();
  EXPECT_EQ(access(absl::StrCat("/proc/", pid).c_str(), F_OK), 0)
      << "the container did not survive";
  ASSERT_TRUE(bed.StartDaemon());
  EXPECT_EQ(bed.Inspect("web", "{{.State.Status}} {{.State.Pid}}"), "running " + pid);
  EXPECT_EQ(bed.CtlOut({"exec", "web", "echo", "here"}), "here");
}

}  // namespace
}  // namespace gantry::integration
