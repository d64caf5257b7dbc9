// Containers with ids of their own: what they are on the host, what their files are on disk, what
// they share, and what is left of them.

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;

constexpr char kImage[] = "busybox:test";

// Words without runs of spaces, which is how /proc prints maps.
std::string Words(const std::string& text) {
  std::string out;
  for (const absl::string_view word :
       absl::StrSplit(text, absl::ByAnyChar(" \t\n"), absl::SkipEmpty()))
    absl::StrAppend(&out, out.empty() ? "" : " ", word);
  return out;
}

class UsernsTest : public testing::Test {
 protected:
  // The daemons of the test have their own /etc/subuid and /etc/subgid, in a mount namespace that
  // a process of ours keeps.
  void Start(const std::string& config = "") {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    const std::string script = absl::StrCat(
        "for f in subuid subgid; do printf 'dockremap:200000:65536\\nweb:300000:65536\\n"
        "containers:1000000:1000000\\n' > ",
        etc_.path(), "/$f; mount --bind ", etc_.path(), "/$f /etc/$f || exit 1; done; touch ",
        etc_.path(), "/done; exec sleep 3000 > /dev/null");
    const Outcome kept = RunProgram(
        {"/bin/sh", "-c", "unshare -m --propagation slave /bin/sh -c \"$0\" 2>/dev/null & echo $!",
         script});
    keeper_ = atoi(kept.out.c_str());
    ASSERT_GT(keeper_, 0) << kept.err;
    ASSERT_TRUE(Eventually([&] { return access(etc_.Join("done").c_str(), F_OK) == 0; }));
    Testbed::Options options;
    options.config = config;
    options.daemon_wrapper = {"/usr/bin/nsenter", "-m", "-t", absl::StrCat(keeper_)};
    bed_ = std::make_unique<Testbed>(options);
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  void TearDown() override {
    bed_.reset();
    if (keeper_ > 0) kill(keeper_, SIGKILL);
  }
  std::string Sh(std::vector<std::string> flags, const std::string& script) {
    flags.insert(flags.begin(), {"run", "--rm"});
    flags.insert(flags.end(), {kImage, "sh", "-c", script});
    return bed_->CtlOut(std::move(flags));
  }
  std::string Refusal(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", "--rm"});
    flags.insert(flags.end(), {kImage, "true"});
    const Outcome outcome = bed_->Ctl(std::move(flags));
    EXPECT_EQ(outcome.code, 125) << outcome.command;
    return outcome.err;
  }

  TempDir etc_;
  pid_t keeper_ = 0;
  std::unique_ptr<Testbed> bed_;
};

TEST_F(UsernsTest, RootInsideIsNobodyOutsideAndFilesKeepTheirIdsOnDisk) {
  Start();
  for (const char* runtime : {"crun", "runc"}) {
    const std::vector<std::string> flags = {"--userns", "remap", "--runtime", runtime};
    EXPECT_EQ(Words(Sh(flags, "cat /proc/self/uid_map /proc/self/gid_map")),
              "0 200000 65536 0 200000 65536")
        << runtime;
    EXPECT_EQ(Sh(flags, "touch /made && chown 33:44 /made && stat -c %u:%g /made /bin/busybox"),
              "33:44\n0:0")
        << runtime;
    // What else a container needs: its own network, its streams by name, files of the daemon's.
    EXPECT_EQ(Sh(flags,
                 "echo out > /dev/stdout; echo 10.9.9.9 x >> /etc/hosts; mv /bin/busybox /bin/b && "
                 "mv /bin/b /bin/busybox; "
                 "mkdir /d && echo ok; ls /sys/class/net"),
              "out\nok\nlo")
        << runtime;
  }
  const std::string id = bed_->CtlOut({"run", "-d", "--name", "web", "--userns", "remap:web",
                                       kImage, "sh", "-c", "touch /mine; sleep 600"});
  ASSERT_TRUE(Eventually([&] { return bed_->Ctl({"exec", "web", "test", "-e", "/mine"}).ok(); }));
  const std::string pid = bed_->Inspect("web", "{{.State.Pid}}");
  const std::string status = ReadFile("/proc/" + pid + "/status", 1 << 16).value_or("");
  EXPECT_THAT(status, HasSubstr("Uid:\t300000\t300000"));
  const std::string upper = bed_->Inspect("web", "{{.GraphDriver.Data.UpperDir}}");
  struct stat info = {};
  ASSERT_EQ(stat((upper + "/mine").c_str(), &info), 0) << upper;
  EXPECT_EQ(info.st_uid, 0u);
  EXPECT_EQ(bed_->CtlOut({"exec", "web", "id", "-u"}), "0");
  // No copy of the image: the layer above it has what was written and nothing else.
  EXPECT_EQ(RunProgram({"find", upper, "-type", "f", "-size", "+1k"}).out, "");
  // Out and in, of one that runs and of one that does not.
  for (const bool running : {true, false}) {
    if (!running) bed_->CtlOut({"stop", "-t", "0", "web"});
    const Outcome out = bed_->Ctl({"cp", "web:/mine", "-"});
    EXPECT_TRUE(Ok(out));
    EXPECT_EQ(RunProgram({"tar", "--numeric-owner", "-tvf", "-"}, out.out).out.find("0/0"), 11u)
        << RunProgram({"tar", "--numeric-owner", "-tvf", "-"}, out.out).out;
    const std::string file = bed_->scratch() + "/given";
    ASSERT_TRUE(WriteFile(file, "given").ok());
    ASSERT_EQ(chown(file.c_str(), 7, 8), 0);
    EXPECT_TRUE(Ok(bed_->Ctl({"cp", "-a", file, absl::StrCat("web:/given-", running)})));
    ASSERT_EQ(stat(absl::StrCat(upper, "/given-", running).c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, 7u);
    EXPECT_EQ(info.st_gid, 8u);
  }
  EXPECT_TRUE(Ok(bed_->Ctl({"commit", "web", "committed:test"})));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "committed:test", "stat", "-c", "%u", "/mine"}), "0");
  EXPECT_TRUE(Ok(bed_->Ctl({"start", "web"})));
  EXPECT_EQ(bed_->CtlOut({"exec", "web", "stat", "-c", "%u:%g", "/given-1"}), "7:8");
  bed_->CtlOut({"rm", "-f", "web"});
}

TEST_F(UsernsTest, AVolumeIsSharedByContainersWithOtherIds) {
  Start();
  EXPECT_EQ(Sh({"-v", "data:/d"}, "touch /d/a && chown 5:6 /d/a && stat -c %u /d/a"), "5");
  for (const char* mode : {"remap", "remap:web", "auto", "host"}) {
    for (const char* runtime : {"crun", "runc"}) {
      EXPECT_EQ(Sh({"--userns", mode, "--runtime", runtime, "-v", "data:/d"},
                   "stat -c %u:%g /d /d/a; touch /d/b && stat -c %u /d/b && rm /d/b"),
                "0:0\n5:6\n0")
          << mode << " " << runtime;
    }
  }
  // Of the host's directories owners are the host's, unless asked otherwise.
  const std::string host = bed_->scratch() + "/host";
  ASSERT_TRUE(MakeDirectories(host, 0755).ok());
  EXPECT_EQ(Sh({"--userns", "remap", "-v", host + ":/h"}, "stat -c %u /h"), "65534");
  EXPECT_EQ(Sh({"--userns", "remap", "-v", host + ":/h:idmap"}, "stat -c %u /h; touch /h/f"), "0");
  struct stat info = {};
  ASSERT_EQ(stat((host + "/f").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 0u);
  EXPECT_THAT(Refusal({"-v", host + ":/h:idmap"}), HasSubstr("the container has the host's ids"));
  // procfs can be shown by no other ids: said, not passed over.
  EXPECT_THAT(Refusal({"--userns", "remap", "-v", "/proc:/h:idmap"}),
              HasSubstr("does not know id-mapped mounts"));
  bed_->CtlOut({"volume", "rm", "data"});
}

TEST_F(UsernsTest, AutoGivesIdsThatNoOtherContainerHas) {
  Start();
  const auto first_id = [&](const std::string& name) {
    const std::string pid = bed_->Inspect(name, "{{.State.Pid}}");
    return Words(ReadFile("/proc/" + pid + "/uid_map", 1000).value_or(""));
  };
  for (const char* name : {"one", "two"})
    bed_->CtlOut(
        {"run", "-d", "--name", name, "--userns", "auto:size=70000", kImage, "sleep", "600"});
  EXPECT_EQ(first_id("one"), "0 1000000 70000");
  EXPECT_EQ(first_id("two"), "0 1070000 70000");
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  bed_->CtlOut({"rm", "-f", "one"});
  bed_->CtlOut({"run", "-d", "--name", "three", "--userns", "auto", kImage, "sleep", "600"});
  EXPECT_EQ(first_id("three"), "0 1000000 65536");
  // A container that joins another one's namespaces has its ids.
  EXPECT_EQ(Words(Sh({"--network", "container:two"}, "cat /proc/self/uid_map")), "0 1070000 70000");
  EXPECT_THAT(Refusal({"--network", "container:two", "--userns", "host"}), HasSubstr("other ids"));
  bed_->CtlOut({"rm", "-f", "two", "three"});
}

TEST_F(UsernsTest, TheDaemonsSettingIsForAllThatDoNotChoose) {
  Start("[user_namespaces]\nremap = \"default\"\n");
  EXPECT_EQ(Words(Sh({}, "cat /proc/self/uid_map")), "0 200000 65536");
  EXPECT_EQ(Words(Sh({"--userns", "host"}, "cat /proc/self/uid_map")), "0 0 4294967295");
  EXPECT_THAT(bed_->CtlOut({"info", "--format", "{{.SecurityOptions}}"}), HasSubstr("name=userns"));
  EXPECT_THAT(Refusal({"--privileged"}),
              HasSubstr("privileged mode is incompatible with user namespaces"));
  EXPECT_THAT(Refusal({"--network", "host"}),
              HasSubstr("cannot share the host's network namespace when user namespaces are "
                        "enabled"));
  EXPECT_THAT(Refusal({"--pid", "host"}), HasSubstr("host PID namespace"));
  EXPECT_TRUE(Ok(bed_->Ctl({"run", "--rm", "--privileged", "--userns", "host", kImage, "true"})));
}

// Numbers that a careless reader takes for root, or for nobody's: CVE-2024-40635 and its kin.
TEST_F(UsernsTest, AUserOutsideOfTheMapIsRefusedAndNeverRoot) {
  Start();
  for (const char* user : {"65536", "70000", "2147483647", "0:65536"}) {
    EXPECT_THAT(Refusal({"--userns", "remap", "--user", user}), HasSubstr("does not have it"))
        << user;
  }
  EXPECT_THAT(Refusal({"--userns", "remap", "--group-add", "70000"}), HasSubstr("group 70000"));
  EXPECT_EQ(Sh({"--userns", "remap", "--user", "65535:65535"}, "id -u"), "65535");
  EXPECT_THAT(Refusal({"--userns", "remap:nobody-has-this"}),
              HasSubstr("/etc/subuid gives no ids to nobody-has-this"));
}

// A setuid program that the container's root makes is its own user's on the host, in the root file
// system and in a volume; and the host's kernel settings are not the container's to change.
TEST_F(UsernsTest, RootInsideGainsNothingOutside) {
  Start();
  EXPECT_EQ(Sh({"--userns", "remap", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined",
                "--security-opt", "systempaths=unconfined"},
               "mknod /disk b 8 0 2>/dev/null && echo made; "
               "echo x > /proc/sys/kernel/core_pattern 2>/dev/null && echo wrote; "
               "echo h > /proc/sysrq-trigger 2>/dev/null && echo sysrq; "
               "mount -o remount,rw / 2>/dev/null; cat /proc/kcore 2>/dev/null | head -c 1; "
               "cat /etc/shadow-of-host 2>/dev/null; true"),
            "");
}

// A container with ids of its own is in the group of its limits all the same, and cannot leave it.
TEST_F(UsernsTest, LimitsHoldWithIdsOfItsOwn) {
  Start();
  const std::string id = bed_->CtlOut({"run", "-d", "--name", "box", "--userns", "remap",
                                       "--pids-limit", "20", kImage, "sleep", "600"});
  const std::string pid = bed_->Inspect("box", "{{.State.Pid}}");
  EXPECT_THAT(ReadFile("/proc/" + pid + "/cgroup", 1 << 16).value_or(""), HasSubstr(id));
  // As its root: neither another group, nor another limit.
  EXPECT_EQ(bed_->CtlOut({"exec", "box", "sh", "-c",
                          "for f in $(find /sys/fs/cgroup -name tasks -o -name cgroup.procs -o "
                          "-name 'pids.max'); do (echo $$ > $f) 2>/dev/null && echo $f; done; "
                          "echo tried"}),
            "tried");
  EXPECT_THAT(bed_->Ctl({"exec", "box", "sh", "-c",
                         "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do "
                         "sleep 5 & done"})
                  .err,
              HasSubstr("can't fork"));
  bed_->CtlOut({"rm", "-f", "box"});
}

}  // namespace
}  // namespace gantry::integration
