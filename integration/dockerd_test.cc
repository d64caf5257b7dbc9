// Debian's dockerd, a client we did not write, with gantryd in the place of its containerd: what
// people do with docker.
//
// dockerd has directories, a socket and a network namespace of its own, so that its bridge and its
// firewall rules are its own and go with it. It sees the machine's mounts, as gantryd does:
// that is where it mounts its root file systems.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kImage[] = "busybox:dockerd";
constexpr char kDockerd[] = "/usr/sbin/dockerd";
constexpr char kDocker[] = "/usr/bin/docker";

class DockerdTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    for (const char* program : {kDockerd, kDocker}) {
      ASSERT_EQ(access(program, X_OK), 0) << program << " is missing: install docker.io";
    }
    bed_ = std::make_unique<Testbed>();
    base_ = absl::StrCat(bed_->scratch(), "/docker");
    ASSERT_TRUE(MakeDirectories(base_ + "/client", 0755).ok());
    ASSERT_TRUE(StartDockerd());
    const std::string archive = base_ + "/image.tar";
    ASSERT_TRUE(WriteBusyboxArchive(archive, kImage).ok());
    ASSERT_TRUE(Ok(Docker({"load", "-i", archive})));
  }

  void TearDown() override {
    if (dockerd_.pid() > 0) {
      const std::vector<std::string> ids =
          absl::StrSplit(Docker({"ps", "-aq"}).out, '\n', absl::SkipEmpty());
      for (const std::string& id : ids) EXPECT_TRUE(Ok(Docker({"rm", "--force", "--volumes", id})));
      StopDockerd();
    }
    if (HasFailure() && !base_.empty()) {
      const absl::StatusOr<std::string> log = ReadFile(base_ + "/log", 64 << 20);
      if (log.ok())
        std::fprintf(stderr, "--- dockerd, last of its log ---\n%s\n",
                     log->substr(log->size() > 8000 ? log->size() - 8000 : 0).c_str());
    }
    // dockerd leaves its handle on the host's network mounted; it is no container's.
    if (!base_.empty()) (void)umount2((base_ + "/exec/netns/default").c_str(), MNT_DETACH);
    bed_.reset();
  }

  testing::AssertionResult StartDockerd() {
    absl::StatusOr<UniqueFd> log = OpenLog();
    if (!log.ok()) return testing::AssertionFailure() << log.status();
    Command command;
    // exec all the way: what is spawned is dockerd itself, in a network namespace that ends with
    // it.
    command.argv = {"unshare",
                    "--net",
                    "sh",
                    "-c",
                    "PATH=$PATH:/usr/sbin:/sbin; export PATH; ip link set lo up && exec \"$@\"",
                    "sh",
                    kDockerd,
                    "--containerd",
                    bed_->address(),
                    "--data-root",
                    base_ + "/data",
                    "--exec-root",
                    base_ + "/exec",
                    "--pidfile",
                    base_ + "/pid",
                    "--host",
                    Host(),
                    "--config-file",
                    base_ + "/none.json",
                    "--cgroup-parent",
                    "/gantry",
                    "--storage-driver",
                    "overlay2"};
    if (absl::Status written = WriteFile(base_ + "/none.json", "{}"); !written.ok())
      return testing::AssertionFailure() << written;
    command.stdout_fd = log->get();
    command.stderr_fd = log->get();
    command.new_session = true;
    absl::StatusOr<Process> started = Spawn(command);
    if (!started.ok()) return testing::AssertionFailure() << started.status();
    dockerd_ = *std::move(started);
    bool answers = false;
    pollfd end = {dockerd_.pidfd(), POLLIN, 0};
    Eventually([&] { return (answers = Docker({"version"}).ok()) || poll(&end, 1, 0) != 0; },
               absl::Seconds(60));
    if (!answers) return testing::AssertionFailure() << "dockerd does not answer";
    return testing::AssertionSuccess();
  }

  void StopDockerd() {
    EXPECT_TRUE(dockerd_.Kill(SIGTERM).ok());
    EXPECT_TRUE(dockerd_.Wait(absl::Seconds(60)).ok()) << "dockerd does not stop";
    dockerd_ = Process();
  }

  Outcome Docker(std::vector<std::string> args, const std::string& input = "",
                 absl::Duration timeout = absl::Seconds(120)) const {
    std::vector<std::string> argv = {kDocker, "--host", Host()};
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv), input, timeout,
                      {{"DOCKER_CONFIG", base_ + "/client"}, {"DOCKER_BUILDKIT", "0"}});
  }
  // Expects exit status 0; standard output without the last newline.
  std::string Out(std::vector<std::string> args) const {
    const Outcome outcome = Docker(std::move(args));
    EXPECT_TRUE(Ok(outcome));
    return std::string(absl::StripSuffix(outcome.out, "\n"));
  }
  std::string Start(const std::string& name, std::vector<std::string> words,
                    std::vector<std::string> flags = {}) const {
    std::vector<std::string> args = {"run", "-d", "--name", name};
    args.insert(args.end(), flags.begin(), flags.end());
    args.push_back(kImage);
    args.insert(args.end(), words.begin(), words.end());
    return Out(std::move(args));
  }
  // Types nothing; gives the client a terminal.
  Outcome OnTerminal(const std::string& words) const {
    return RunProgram(
        {"script", "-qec", absl::StrCat(kDocker, " --host ", Host(), " ", words), "/dev/null"}, "",
        absl::Seconds(120), {{"DOCKER_CONFIG", base_ + "/client"}});
  }

  std::string Host() const { return absl::StrCat("unix://", base_, "/docker.sock"); }

  std::unique_ptr<Testbed> bed_;
  std::string base_;
  Process dockerd_;

 private:
  absl::StatusOr<UniqueFd> OpenLog() const {
    UniqueFd log(open((base_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!log.valid()) return absl::InternalError(base_ + "/log cannot be opened");
    return log;
  }
};

TEST_F(DockerdTest, RunsContainersAndGivesTheirOutputAndStatus) {
  EXPECT_THAT(Out({"info", "--format", "{{.ContainerdCommit.ID}} {{.Driver}}"}),
              HasSubstr("overlay2"));
  const Outcome ran = Docker({"run", "--rm", kImage, "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(ran.code, 7) << ran.err;
  EXPECT_EQ(ran.out, "out\n");
  EXPECT_EQ(ran.err, "err\n");
  EXPECT_EQ(Docker({"run", "--rm", "-i", kImage, "cat"}, "typed\n").out, "typed\n");
  // What dockerd makes of the runtime's words: not found, and not executable.
  EXPECT_EQ(Docker({"run", "--rm", kImage, "/no/such/program"}).code, 127);
  EXPECT_EQ(Docker({"run", "--rm", kImage, "/etc/passwd"}).code, 126);
  EXPECT_EQ(Out({"ps", "-aq"}), "");
}

TEST_F(DockerdTest, GivesATerminal) {
  const Outcome outcome =
      OnTerminal(absl::StrCat("run --rm -it ", kImage, " sh -c 'tty; stty size; exit 5'"));
  EXPECT_EQ(outcome.code, 5) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("/dev/pts/0"));
}

TEST_F(DockerdTest, ARunningContainerIsExecdLoggedMeasuredPausedAndStopped) {
  Start("web", {"sh", "-c", "trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.1; done"},
        {"--memory", "64m", "--cpus", "0.5"});
  EXPECT_TRUE(Eventually([&] { return Docker({"logs", "web"}).out == "up\n"; }));
  EXPECT_EQ(Out({"exec", "web", "echo", "inside"}), "inside");
  EXPECT_EQ(Docker({"exec", "web", "sh", "-c", "exit 9"}).code, 9);
  EXPECT_EQ(Docker({"exec", "-i", "web", "cat"}, "in and out").out, "in and out");
  EXPECT_EQ(Docker({"exec", "web", "/no/such/program"}).code, 126);
  EXPECT_THAT(OnTerminal("exec -it web tty").out, HasSubstr("/dev/pts/"));
  EXPECT_THAT(Out({"top", "web"}), HasSubstr("sleep"));
  const std::string stats = Out({"stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}"});
  EXPECT_THAT(stats, HasSubstr("64MiB"));
  EXPECT_THAT(stats, Not(HasSubstr("0B /")));
  EXPECT_TRUE(Ok(Docker({"update", "--memory", "128m", "--memory-swap", "256m", "web"})));
  EXPECT_THAT(Out({"stats", "--no-stream", "--format", "{{.MemUsage}}"}), HasSubstr("128MiB"));
  EXPECT_TRUE(Ok(Docker({"pause", "web"})));
  EXPECT_EQ(Out({"inspect", "--format", "{{.State.Status}}", "web"}), "paused");
  EXPECT_TRUE(Ok(Docker({"unpause", "web"})));
  EXPECT_TRUE(Ok(Docker({"stop", "web"})));
  EXPECT_EQ(Out({"inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "web"}),
            "exited 3");
  EXPECT_EQ(Out({"logs", "web"}), "up\nasked");
  EXPECT_TRUE(Ok(Docker({"start", "web"})));
  EXPECT_TRUE(Ok(Docker({"kill", "web"})));
  EXPECT_EQ(Out({"wait", "web"}), "137");
}

TEST_F(DockerdTest, AnOutOfMemoryKillIsToldAsSuch) {
  EXPECT_EQ(Docker({"run", "--name", "greedy", "--memory", "16m", "--memory-swap", "16m", kImage,
                    "sh", "-c", "dd if=/dev/zero of=/dev/null bs=256M count=1"})
                .code,
            137);
  EXPECT_TRUE(Eventually([&] {
    return Out({"inspect", "--format", "{{.State.OOMKilled}}", "greedy"}) == "true";
  }));
}

TEST_F(DockerdTest, CopiesCommitsAndRestartsByPolicy) {
  Start("copied", {"sleep", "1000"});
  ASSERT_TRUE(WriteFile(base_ + "/file", "copied").ok());
  EXPECT_TRUE(Ok(Docker({"cp", base_ + "/file", "copied:/file"})));
  EXPECT_EQ(Out({"exec", "copied", "cat", "/file"}), "copied");
  EXPECT_TRUE(Ok(Docker({"commit", "copied", "changed:1"})));
  EXPECT_EQ(Out({"run", "--rm", "changed:1", "cat", "/file"}), "copied");
  Start("again", {"sh", "-c", "exit 1"}, {"--restart", "on-failure:2"});
  EXPECT_TRUE(Eventually([&] {
    return Out({"inspect", "--format", "{{.RestartCount}} {{.State.Status}}", "again"}) ==
           "2 exited";
  }));
}

TEST_F(DockerdTest, BuildsWithTheClassicBuilder) {
  const std::string context = base_ + "/context";
  ASSERT_TRUE(MakeDirectories(context, 0755).ok());
  ASSERT_TRUE(
      WriteFile(context + "/Dockerfile",
                absl::StrCat("FROM ", kImage,
                             "\nCOPY word /word\nRUN tr a-z A-Z < /word > /WORD\n"
                             "ENV WHO=me\nCMD [\"sh\", \"-c\", \"cat /WORD; echo $WHO\"]\n"))
          .ok());
  ASSERT_TRUE(WriteFile(context + "/word", "built\n").ok());
  ASSERT_TRUE(Ok(Docker({"build", "-t", "built:1", context})));
  EXPECT_EQ(Out({"run", "--rm", "built:1"}), "BUILT\nme");
  // A step that fails says with which status.
  ASSERT_TRUE(
      WriteFile(context + "/Dockerfile", absl::StrCat("FROM ", kImage, "\nRUN exit 4\n")).ok());
  EXPECT_THAT(Docker({"build", context}).err, HasSubstr("non-zero code: 4"));
}

TEST_F(DockerdTest, ContainersOfANetworkReachEachOtherByName) {
  ASSERT_TRUE(Ok(Docker({"network", "create", "back"})));
  Start("server", {"sh", "-c", "mkdir /www && echo served > /www/page && httpd -f -h /www"},
        {"--network", "back"});
  EXPECT_TRUE(Eventually([&] {
    return Docker(
               {"run", "--rm", "--network", "back", kImage, "wget", "-qO-", "http://server/page"})
               .out == "served\n";
  }));
  // On docker's own bridge, and with no network at all.
  EXPECT_THAT(Out({"run", "--rm", kImage, "ip", "addr", "show", "eth0"}), HasSubstr("inet 172."));
  EXPECT_THAT(Out({"run", "--rm", "--network", "none", kImage, "ip", "addr"}),
              Not(HasSubstr("eth0")));
  EXPECT_TRUE(Ok(Docker({"rm", "--force", "server"})));
  EXPECT_TRUE(Ok(Docker({"network", "rm", "back"})));
}

TEST_F(DockerdTest, VolumesOutliveContainers) {
  ASSERT_TRUE(Ok(Docker({"volume", "create", "kept"})));
  EXPECT_TRUE(Ok(
      Docker({"run", "--rm", "-v", "kept:/data", kImage, "sh", "-c", "echo stays > /data/file"})));
  EXPECT_EQ(Out({"run", "--rm", "-v", "kept:/data:ro", kImage, "cat", "/data/file"}), "stays");
  EXPECT_EQ(Out({"run", "--rm", "--tmpfs", "/t", kImage, "sh", "-c", "mount | grep -c ' /t '"}),
            "1");
  EXPECT_TRUE(Ok(Docker({"volume", "rm", "kept"})));
}

TEST_F(DockerdTest, ContainersAndTheirExitsSurviveOurRestart) {
  ASSERT_TRUE(MakeDirectories(base_ + "/gate", 0755).ok());
  const std::vector<std::string> gate = {"-v", base_ + "/gate:/gate"};
  Start("long", {"sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"});
  const std::string ends = Start(
      "ends", {"sh", "-c", "while [ ! -e /gate/open ]; do sleep 0.05; done; echo bye; exit 12"},
      gate);
  // Ends as well, and then its shim is killed: what is known of its end is on disk alone.
  const std::string alone =
      Start("alone", {"sh", "-c", "while [ ! -e /gate/open ]; do sleep 0.05; done; exit 13"}, gate);
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(Docker({"logs", "long"}).out, "line 3");
  }));
  const pid_t shim = bed_->ShimPid(alone, "moby");
  ASSERT_GT(shim, 0);

  bed_->KillDaemon();
  ASSERT_TRUE(WriteFile(base_ + "/gate/open", "").ok());
  for (const std::string& id : {ends, alone}) {
    ASSERT_TRUE(Eventually([&] {
      return access(absl::StrCat(bed_->state(), "/tasks/moby/", id, "/exit.json").c_str(), F_OK) ==
             0;
    })) << id;
  }
  ASSERT_EQ(kill(shim, SIGKILL), 0) << strerror(errno);
  ASSERT_TRUE(bed_->StartDaemon());

  EXPECT_EQ(Out({"wait", "ends"}), "12");
  EXPECT_EQ(Out({"wait", "alone"}), "13");
  EXPECT_TRUE(Eventually([&] { return Docker({"logs", "ends"}).out == "bye\n"; }));
  EXPECT_EQ(Out({"inspect", "--format", "{{.State.Status}}", "long"}), "running");
  EXPECT_EQ(Out({"exec", "long", "echo", "still"}), "still");
  EXPECT_EQ(Out({"run", "--rm", kImage, "echo", "new"}), "new");
  EXPECT_TRUE(Ok(Docker({"stop", "-t", "0", "long"})));
  // No line was lost and none came twice while no daemon ran.
  const std::vector<std::string> lines =
      absl::StrSplit(Docker({"logs", "long"}).out, '\n', absl::SkipEmpty());
  ASSERT_GT(lines.size(), 3u);
  for (size_t i = 0; i < lines.size(); ++i) ASSERT_EQ(lines[i], absl::StrCat("line ", i + 1));
  EXPECT_TRUE(Ok(Docker({"start", "long"})));
}

}  // namespace
}  // namespace gantry::integration
