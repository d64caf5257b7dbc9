// `ctl why` on real containers that die in many ways, and `ctl doctor` on a real host.
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "deaths:test";
constexpr size_t kMachineAt = 18;  // of an ELF header
constexpr char kLoader[] = "/lib64/ld-linux-x86-64.so.2";

void Put(const std::string& path, const std::string& content, mode_t mode) {
  ASSERT_TRUE(WriteFile(path, content, mode).ok()) << path;
  ASSERT_EQ(chmod(path.c_str(), mode), 0) << path;
}

std::string Content(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, 64 << 20);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : "";
}

// Busybox, and programs that cannot be run for one reason each.
void MakeImageOfDeaths(const std::string& root) {
  ASSERT_TRUE(MakeBusyboxRoot(root).ok());
  const std::string dying = Content("integration/dying");
  Put(root + "/dying", dying, 0755);
  Put(root + "/not-executable", dying, 0644);
  Put(root + "/empty", "", 0755);
  Put(root + "/text", "echo no first line\n", 0755);
  Put(root + "/dos.sh", "#!/bin/sh\r\necho\r\n", 0755);
  Put(root + "/snake.py", "#!/usr/bin/python3\nprint()\n", 0755);
  std::string foreign = dying;
  foreign[kMachineAt] = '\xb7';  // EM_AARCH64
  foreign[kMachineAt + 1] = '\0';
  Put(root + "/foreign", foreign, 0755);
  // A dynamic program with a loader that is not there, and one with the loader and no library.
  const std::string dynamic = Content("/bin/ls");
  Put(root + "/no-loader", absl::StrReplaceAll(dynamic, {{kLoader, "/lib64/ld-linux-x86-64.so.9"}}),
      0755);
  Put(root + "/no-library", dynamic, 0755);
  ASSERT_TRUE(MakeDirectories(root + "/lib64", 0755).ok());
  std::filesystem::copy_file(kLoader, root + kLoader,
                             std::filesystem::copy_options::overwrite_existing);
  ASSERT_TRUE(MakeDirectories(root + "/locked", 0700).ok());
}

class WhyTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    // A test makes a network; nothing of it is seen outside.
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    ASSERT_TRUE(Ok(RunProgram({"ip", "link", "set", "lo", "up"})));
    bed_ = std::make_unique<Testbed>();
    const std::string root = bed_->scratch() + "/deaths";
    ASSERT_NO_FATAL_FAILURE(MakeImageOfDeaths(root));
    ImageOptions options;
    options.names = {kImage};
    const std::string archive = bed_->scratch() + "/deaths.tar";
    ASSERT_TRUE(WriteDockerArchive(archive, {root}, options).ok());
    ASSERT_TRUE(Ok(bed_->Ctl({"load", "-i", archive})));
  }
  // Starts it and waits for its end; a start that fails is an end, too.
  void Run(const std::string& name, std::vector<std::string> flags,
           const std::vector<std::string>& command) {
    std::vector<std::string> args = {"run", "-d", "--name", name, "--network", "none"};
    args.insert(args.end(), flags.begin(), flags.end());
    args.push_back(kImage);
    args.insert(args.end(), command.begin(), command.end());
    (void)bed_->Ctl(std::move(args));
  }
  // "CAUSE CAUSE ...", the most telling first.
  std::string Causes(const std::string& name) {
    return bed_->CtlOut({"why", "--format", "{{range .Findings}}{{.Cause}} {{end}}", name});
  }
  std::string Why(const std::string& name) { return bed_->Ctl({"why", name}).out; }
  pid_t Pid(const std::string& name) {
    int pid = 0;
    EXPECT_TRUE(absl::SimpleAtoi(bed_->Inspect(name, "{{.State.Pid}}"), &pid));
    return pid;
  }
  std::unique_ptr<Testbed> bed_;
};

struct Death {
  const char* cause;
  std::vector<std::string> flags;
  std::vector<std::string> command;
};

TEST_F(WhyTest, EveryStagedDeathIsExplained) {
  const std::vector<Death> deaths = {
      {"program-missing", {}, {"no-such-program"}},
      {"program-missing", {}, {"/opt/app"}},
      {"program-is-directory", {}, {"/tmp"}},
      {"wrong-architecture", {}, {"/foreign"}},
      {"missing-loader", {}, {"/no-loader"}},
      {"script-carriage-return", {}, {"/dos.sh"}},
      {"script-interpreter-missing", {}, {"/snake.py"}},
      {"no-execute-bit", {}, {"/not-executable"}},
      {"empty-program", {}, {"/empty"}},
      {"unknown-format", {}, {"/text"}},
      {"missing-library", {}, {"/no-library"}},
      {"segfault", {}, {"/dying", "segv"}},
      {"segfault", {}, {"sh", "-c", "/dying segv; exit $?"}},
      {"aborted", {}, {"sh", "-c", "/dying abort; exit $?"}},
      {"illegal-instruction", {}, {"/dying", "ill"}},
      {"arithmetic", {}, {"/dying", "fpe"}},
      {"seccomp", {}, {"/dying", "sys"}},
      {"oom-killed", {"--memory", "16m"}, {"/dying", "memory"}},
      {"command-not-found", {}, {"sh", "-c", "curl http://x"}},
      {"read-only", {"--read-only"}, {"touch", "/x"}},
      {"disk-full",
       {"--tmpfs", "/small:size=64k"},
       {"sh", "-c", "dd if=/dev/zero of=/small/x bs=1k count=100"}},
      {"address-in-use",
       {},
       {"sh", "-c",
        "ip link set lo up; nc -l -p 7 & sleep 0.3; echo 'bind: Address already in use' >&2; exit "
        "1"}},
      {"permission-denied", {"--user", "65534"}, {"sh", "-c", "cat /locked/x"}},
      {"not-permitted", {"--cap-drop", "ALL"}, {"chown", "1:1", "/text"}},
      {"file-missing", {}, {"cat", "/etc/app.conf"}},
      {"name-not-resolved", {}, {"wget", "http://no-such-host.invalid/"}},
      {"connection-refused", {}, {"sh", "-c", "ip link set lo up; wget http://127.0.0.1:9/"}},
      {"shell-without-input", {}, {"sh"}},
      {"finished", {}, {"true"}},
      {"failed", {}, {"/dying"}},
  };
  int number = 0;
  for (const Death& death : deaths)
    Run(absl::StrCat("death", number++), death.flags, death.command);
  number = 0;
  for (const Death& death : deaths) {
    const std::string name = absl::StrCat("death", number++);
    ASSERT_TRUE(Eventually([&] { return bed_->Inspect(name, "{{.State.Status}}") != "running"; }))
        << name;
    const std::string causes = Causes(name);
    EXPECT_TRUE(absl::StartsWith(causes, absl::StrCat(death.cause, " ")))
        << death.cause << ", but: " << causes << "\n"
        << Why(name);
  }
}

TEST_F(WhyTest, EndsThatPeopleBroughtAboutNameThem) {
  for (const char* name : {"killed", "stopped", "stubborn", "outside", "stays"})
    Run(name, {"--restart", std::string(name) == "stays" ? "always" : "no"},
        {"/dying", std::string(name) == "stubborn" ? "ignore" : "wait"});
  EXPECT_EQ(Causes("killed"), "running ");
  EXPECT_TRUE(Ok(bed_->Ctl({"kill", "killed"})));
  EXPECT_EQ(Causes("killed"), "killed ");
  EXPECT_TRUE(absl::StrContains(Why("killed"), "\"kill\" was called, which sent SIGKILL"))
      << Why("killed");

  // Process 1 without a handler ignores SIGTERM: so do both of these.
  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "-t", "0", "stubborn"})));
  EXPECT_EQ(Causes("stubborn"), "stop-timed-out ");

  EXPECT_TRUE(Ok(bed_->Ctl({"stop", "-s", "KILL", "stopped"})));
  EXPECT_EQ(Causes("stopped"), "stopped ");

  ASSERT_EQ(kill(Pid("outside"), SIGKILL), 0);
  EXPECT_TRUE(bed_->StatusBecomes("outside", "exited"));
  EXPECT_EQ(Causes("outside"), "killed-from-outside ");

  // The end before the run that goes on now.
  ASSERT_EQ(kill(Pid("stays"), SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return bed_->Inspect("stays", "{{.RestartCount}}") == "1"; }));
  EXPECT_TRUE(Eventually([&] { return Causes("stays") == "running killed-from-outside "; }))
      << Why("stays");
  EXPECT_TRUE(absl::StrContains(Why("stays"), "policy always")) << Why("stays");
}

TEST_F(WhyTest, TheReportOutlivesTheDaemon) {
  Run("gone", {"--memory", "16m"}, {"/dying", "memory"});
  EXPECT_TRUE(bed_->StatusBecomes("gone", "exited"));
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_TRUE(absl::StartsWith(Causes("gone"), "oom-killed ")) << Why("gone");
}

TEST_F(WhyTest, AContainerThatNeverRanIsTold) {
  EXPECT_TRUE(Ok(bed_->Ctl({"create", "--name", "new", kImage, "true"})));
  EXPECT_EQ(Causes("new"), "never-started ");
  EXPECT_EQ(bed_->Ctl({"why", "nobody"}).code, 1);
}

TEST_F(WhyTest, TheCallerOfAnEndIsNamed) {
  Run("stopped", {}, {"sleep", "1000"});
  ASSERT_TRUE(Ok(bed_->Ctl({"stop", "-t", "0", "stopped"})));
  const auto caller = [&](const std::string& name, const std::string& field) {
    return bed_->CtlOut({"why", "--format", absl::StrCat("{{.Caller.", field, "}}"), name});
  };
  EXPECT_EQ(caller("stopped", "Door"), "gantry");
  EXPECT_EQ(caller("stopped", "UID"), "0");
  EXPECT_TRUE(absl::EndsWith(caller("stopped", "Program"), "/ctl")) << caller("stopped", "Program");
  EXPECT_TRUE(absl::StrContains(Why("stopped"), "of user 0, at the door gantry")) << Why("stopped");

  Run("killed", {}, {"sleep", "1000"});
  ASSERT_TRUE(Ok(bed_->Ctl({"kill", "killed"})));
  EXPECT_EQ(caller("killed", "Door"), "gantry");

  // An end that nobody asked for has no caller.
  Run("alone", {}, {"sh", "-c", "exit 3"});
  EXPECT_EQ(bed_->CtlOut({"why", "--format", "{{json .Caller}}", "alone"}), "null");
}

TEST_F(WhyTest, AContainerThatRemovedItselfIsExplainedForAWhile) {
  Run("gone", {"--rm"}, {"sh", "-c", "echo last words; exit 7"});
  EXPECT_TRUE(Eventually([&] { return bed_->CtlOut({"ps", "-aq"}).empty(); }));
  EXPECT_EQ(bed_->CtlOut({"why", "--format", "{{.ExitCode}} {{.Removed}} {{.LogTail}}", "gone"}),
            "7 true [last words]");
  EXPECT_TRUE(absl::StrContains(Why("gone"), "has removed itself")) << Why("gone");

  Run("asked", {"--rm"}, {"sleep", "1000"});
  ASSERT_TRUE(Ok(bed_->Ctl({"kill", "asked"})));
  EXPECT_TRUE(Eventually([&] { return bed_->CtlOut({"ps", "-aq"}).empty(); }));
  EXPECT_EQ(Causes("asked"), "killed ");
  EXPECT_EQ(bed_->CtlOut({"why", "--format", "{{.Caller.Door}}", "asked"}), "gantry");

  Run("never", {"--rm"}, {"/no/such/program"});
  EXPECT_TRUE(absl::StartsWith(Causes("never"), "program-missing ")) << Causes("never");

  // A container that is there goes before one that is gone.
  Run("gone", {}, {"sh", "-c", "exit 8"});
  EXPECT_TRUE(bed_->StatusBecomes("gone", "exited"));
  EXPECT_EQ(bed_->CtlOut({"why", "--format", "{{.ExitCode}} {{.Removed}}", "gone"}), "8 false");
}

TEST_F(WhyTest, DoctorKnowsWhatIsNeeded) {
  ASSERT_TRUE(Ok(bed_->Ctl({"network", "create", "--ipv6", "six"})));
  Run("six", {"--network", "six"}, {"sleep", "1000"});
  const absl::StatusOr<std::string> forwarding =
      ReadFile("/proc/sys/net/ipv6/conf/all/forwarding", 16);
  const std::string found = bed_->Ctl({"doctor", "--format", "{{.Severity}} {{.Check}}"}).out;
  if (forwarding.ok()) {
    EXPECT_EQ(absl::StrContains(found, "forwarding6"), absl::StartsWith(*forwarding, "0")) << found;
  }
  EXPECT_FALSE(absl::StrContains(found, "project-quotas")) << found;
  ASSERT_TRUE(Ok(bed_->Ctl({"rm", "-f", "six"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"network", "rm", "six"})));
}

TEST_F(WhyTest, DoctorSaysWhatItFindsAndWhyTheDaemonIsSilent) {
  const Outcome well = bed_->Ctl({"doctor", "--format", "{{.Severity}} {{.Check}}"});
  // What this machine lacks is its own matter; nothing that a daemon leaves behind is there.
  EXPECT_FALSE(absl::StrContains(well.out, "leaked")) << well.out << well.err;
  EXPECT_FALSE(absl::StrContains(well.out, "daemon-")) << well.out;
  EXPECT_EQ(well.code != 0,
            absl::StrContains(well.out, "warning ") || absl::StrContains(well.out, "error "))
      << well.out;
  bed_->KillDaemon();
  const Outcome silent =
      bed_->Ctl({"doctor", "--root", bed_->root(), "--format", "{{.Severity}} {{.Check}}"});
  EXPECT_EQ(silent.code, 1);
  EXPECT_TRUE(absl::StrContains(silent.out, "error daemon-not-running")) << silent.out;
  ASSERT_TRUE(bed_->StartDaemon());
}

}  // namespace
}  // namespace gantry::integration
