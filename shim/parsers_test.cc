// The shim's readers of other programs' texts: stdio strings, specs, runtime logs, cgroup files.

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "shim/cgroup.h"
#include "shim/kernel_log.h"
#include "shim/oci_runtime.h"
#include "shim/service_group.h"
#include "shim/spec_facts.h"
#include "shim/stdio_uri.h"

namespace gantry::shim {
namespace {

using Kind = StdioUri::Kind;

TEST(StdioUriTest, EachFormIsKnown) {
  EXPECT_EQ(ParseStdioUri("")->kind, Kind::kNone);
  EXPECT_EQ(ParseStdioUri("/run/x")->kind, Kind::kPath);
  EXPECT_EQ(ParseStdioUri("fifo:///run/x")->path, "/run/x");
  EXPECT_EQ(ParseStdioUri("file:///var/log/a%20b")->path, "/var/log/a b");
  EXPECT_EQ(ParseStdioUri("file:///var/log/x")->kind, Kind::kFile);
  EXPECT_EQ(ParseStdioUri("binary-v2:///bin/l")->kind, Kind::kBinaryV2);
}

TEST(StdioUriTest, LoggerArgumentsKeepTheirOrder) {
  const auto uri = ParseStdioUri("binary:///usr/bin/nerdctl?_INTERNAL=%2Fvar%2Flib&flag&b=c+d");
  ASSERT_TRUE(uri.ok()) << uri.status();
  EXPECT_EQ(uri->path, "/usr/bin/nerdctl");
  EXPECT_EQ(uri->args, (std::vector<std::string>{"_INTERNAL", "/var/lib", "flag", "b", "c d"}));
}

TEST(StdioUriTest, AnythingElseIsRefused) {
  for (const char* text : {"relative", "http://x/y", "file://relative", "binary://", "file:///a%zz",
                           "file:///a%00b", "npipe:////./pipe/x"}) {
    EXPECT_EQ(ParseStdioUri(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(KernelLogTest, AnOomKillIsToldOfItsProcessAndItsTime) {
  constexpr char kRecord[] =
      "3,880,420028881,-;Memory cgroup out of memory: Killed process 4372 (tail) total-vm:26464kB, "
      "UID:0 oom_score_adj:0\n";
  const absl::Duration at = absl::Seconds(420);
  EXPECT_TRUE(RecordTellsOomKill(kRecord, 4372, at));
  EXPECT_FALSE(RecordTellsOomKill(kRecord, 437, at));
  EXPECT_FALSE(RecordTellsOomKill(kRecord, 4372, at + absl::Seconds(1))) << "an earlier process";
  EXPECT_TRUE(
      RecordTellsOomKill("3,1,5,c;Out of memory: Killed process 7 (x) y", 7, absl::ZeroDuration()));
  for (const char* other :
       {"", ";", "3,1;Out of memory: Killed process 7 (x)", "6,1,5,-;Killed process 7 (x)",
        "6,1,x,-;Out of memory: Killed process 7 (x)"}) {
    EXPECT_FALSE(RecordTellsOomKill(other, 7, absl::ZeroDuration())) << other;
  }
}

TEST(ServiceGroupTest, OnlyTheServiceWhichTheSupervisorIsIsLeft) {
  constexpr char kService[] = "0::/system.slice/gantry.service\n";
  EXPECT_TRUE(InServiceOf(123, "123", kService));
  EXPECT_FALSE(InServiceOf(124, "123", kService))
      << "a supervisor that something in a service runs";
  EXPECT_FALSE(InServiceOf(123, "", kService));
  EXPECT_FALSE(InServiceOf(123, "123", "0::/user.slice/user-0.slice/session-1.scope\n"));
  EXPECT_FALSE(InServiceOf(123, "123", "0::/gantry-shims\n"));
  EXPECT_FALSE(
      InServiceOf(123, "123", absl::StrCat("4:memory:/system.slice/x.service\n", kService)))
      << "not a pure v2 host";
}

TEST(SpecFactsTest, ReadsWhatTheShimNeeds) {
  const auto facts = ParseSpecFacts(R"({
    "process": {"terminal": true, "args": ["x"], "env": ["terminal=false"],
                "cwd": "/work", "oomScoreAdj": -998},
    "linux": {"cgroupsPath": "/a/b", "namespaces": [{"type": "mount"}, {"type": "pid"}],
              "seccomp": {"syscalls": [{"names": ["poststop"]}]}},
    "hooks": {"prestart": [{"path": "/x"}], "poststop": []}})");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_TRUE(facts->terminal);
  EXPECT_EQ(facts->oom_score_adj, -998);
  EXPECT_EQ(facts->working_directory, "/work");
  EXPECT_EQ(facts->cgroups_path, "/a/b");
  EXPECT_TRUE(facts->private_pid_namespace);
  EXPECT_FALSE(facts->has_poststop_hooks);
  EXPECT_FALSE(facts->has_intel_rdt);
}

TEST(SpecFactsTest, AJoinedPidNamespaceIsNotPrivate) {
  EXPECT_FALSE(
      ParseSpecFacts(R"({"linux":{"namespaces":[{"path":"/proc/1/ns/pid","type":"pid"}]}})")
          ->private_pid_namespace);
  EXPECT_FALSE(
      ParseSpecFacts(R"({"linux":{"namespaces":[{"type":"ipc"}]}})")->private_pid_namespace);
  EXPECT_FALSE(ParseSpecFacts("{}")->private_pid_namespace);
}

TEST(SpecFactsTest, DevIsFreshWhenATmpfsIsTheLastMountThere) {
  const auto fresh = [](const std::string& mounts) {
    return ParseSpecFacts(absl::StrCat(R"({"mounts":[)", mounts, "]}"))->fresh_dev;
  };
  const std::string dev = R"({"destination":"/dev","type":"tmpfs","source":"tmpfs"})";
  const std::string shm = R"({"destination":"/dev/shm","type":"bind","source":"/x"})";
  EXPECT_TRUE(fresh(absl::StrCat(dev, ",", shm)));
  EXPECT_FALSE(fresh(absl::StrCat(dev, R"(,{"destination":"/dev/","source":"/x"})")));
  EXPECT_FALSE(
      fresh(absl::StrCat(dev, R"(,{"destination":"/dev/null","type":"bind","source":"/x"})")));
  EXPECT_FALSE(fresh(absl::StrCat(dev, R"(,{"destination":"/x/../dev","type":"bind"})")));
  EXPECT_FALSE(fresh(shm));
}

TEST(SpecFactsTest, MasksRootAndMountsAreRead) {
  const SpecFacts facts = *ParseSpecFacts(
      R"({"root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc"},)"
      R"({"destination":"/a","options":["ro","rbind"]},{"destination":"/b","type":"bind"}],)"
      R"("linux":{"maskedPaths":["/proc/kcore","/proc/keys"]}})");
  EXPECT_EQ(facts.root_path, "rootfs");
  EXPECT_THAT(facts.masked_paths, testing::ElementsAre("/proc/kcore", "/proc/keys"));
  ASSERT_EQ(facts.mounts.size(), 3u);
  EXPECT_EQ(facts.mounts[0].destination, "/proc");
  EXPECT_FALSE(facts.mounts[0].bind);
  EXPECT_TRUE(facts.mounts[1].bind);
  EXPECT_TRUE(facts.mounts[2].bind);
}

TEST(SpecFactsTest, HooksAreSeen) {
  EXPECT_TRUE(ParseSpecFacts(R"({"hooks":{"poststart":[{"path":"/x"}]}})")->has_poststart_hooks);
  EXPECT_FALSE(ParseSpecFacts(R"({"hooks":{"poststop":[{"path":"/x"}]}})")->has_poststart_hooks);
  EXPECT_TRUE(ParseSpecFacts(R"({"hooks":{"poststop":[{"path":"/x"}]}})")->has_poststop_hooks);
}

TEST(SpecFactsTest, AbsurdDocumentsAreRefused) {
  EXPECT_FALSE(ParseSpecFacts("").ok());
  EXPECT_FALSE(ParseSpecFacts("[]").ok());
  EXPECT_FALSE(ParseSpecFacts("null").ok());
  EXPECT_FALSE(ParseSpecFacts("{\"a\":").ok());
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  EXPECT_FALSE(ParseSpecFacts(deep).ok());
}

TEST(RuntimeErrorTest, TheLastErrorCounts) {
  EXPECT_EQ(LastRuntimeError("{\"msg\":\"first\",\"level\":\"error\"}\n"
                             "{\"msg\":\"second\",\"level\":\"error\"}\n"
                             "{\"msg\":\"cleaning up\",\"level\":\"warning\"}\n"),
            "second");
  EXPECT_EQ(LastRuntimeError("{\"msg\":\"only a warning\",\"level\":\"warning\"}\n"),
            "only a warning");
  EXPECT_EQ(LastRuntimeError("panic: plain text\n\n"), "panic: plain text");
  EXPECT_EQ(LastRuntimeError(""), "");
  EXPECT_EQ(LastRuntimeError("{\"msg\":17}\n"), "");
}

TEST(RuntimeErrorTest, RuntimesAreWordedAlike) {
  EXPECT_EQ(
      NormaliseRuntimeError("executable file `foo` not found in $PATH: No such file or directory"),
      "exec: \"foo\": executable file not found in $PATH");
  EXPECT_EQ(NormaliseRuntimeError(
                "executable file `./a/b` not found in $PATH: No such file or directory"),
            "exec: \"./a/b\": stat ./a/b: no such file or directory");
  EXPECT_EQ(NormaliseRuntimeError("open executable: Permission denied"),
            "open executable: permission denied");
  EXPECT_EQ(NormaliseRuntimeError("open executable: Operation not permitted"),
            "open executable: permission denied: not a regular file");
  EXPECT_EQ(NormaliseRuntimeError("exec: \"x\": executable file not found in $PATH"),
            "exec: \"x\": executable file not found in $PATH");
}

TEST(RuntimeErrorTest, AGoneContainerIsRecognised) {
  EXPECT_TRUE(SaysNotRunning("container does not exist"));
  EXPECT_TRUE(SaysNotRunning("error opening file `/run/x/status`: no such file or directory"));
  EXPECT_TRUE(SaysNotRunning("cannot open directory '/run/x': No such file or directory"));
  EXPECT_FALSE(SaysNotRunning("exec: \"x\": stat x: no such file or directory"));
}

TEST(RuntimeFailureTest, OnlyCallsAboutAContainerThatWasMadeCanMissIt) {
  for (const char* verb : {"kill", "delete", "state"}) {
    EXPECT_EQ(RuntimeFailure(verb, "container does not exist").code(), absl::StatusCode::kNotFound)
        << verb;
  }
  for (const char* verb : {"create", "run", "start", "exec", "update", "pause"}) {
    const absl::Status status = RuntimeFailure(verb, "the path /dev/fuse does not exist");
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << verb;
  }
  EXPECT_EQ(RuntimeFailure("run", "the path x does not exist").message(),
            "OCI runtime create failed: the path x does not exist");
}

TEST(RuntimeFailureTest, OnlyAnIdThatIsTakenAlreadyExists) {
  EXPECT_EQ(RuntimeFailure("run", "container `c` already exists").code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(RuntimeFailure("exec", "file already exists").code(), absl::StatusCode::kInternal);
}

constexpr char kHybridMounts[] =
    "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

TEST(CgroupTest, FindsTheDirectoriesOfAHybridHost) {
  const Cgroup cgroup =
      Cgroup::Parse("3:memory:/a/b\n2:cpu,cpuacct:/a/b\n1:pids:/a/b\n0::/\n", kHybridMounts);
  EXPECT_FALSE(cgroup.v2());
  EXPECT_FALSE(cgroup.empty());
  EXPECT_EQ(cgroup.DirectoryOf("memory"), "/sys/fs/cgroup/memory/a/b");
  EXPECT_EQ(cgroup.DirectoryOf("cpuacct"), "/sys/fs/cgroup/cpu/a/b");
  // Active, but mounted nowhere.
  EXPECT_EQ(cgroup.DirectoryOf("pids"), "");
}

TEST(CgroupTest, FindsTheDirectoryOnV2) {
  const Cgroup cgroup = Cgroup::Parse("0::/system.slice/x:y.scope\n",
                                      "33 30 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  EXPECT_TRUE(cgroup.v2());
  EXPECT_EQ(cgroup.DirectoryOf("memory"), "/sys/fs/cgroup/system.slice/x:y.scope");
}

TEST(CgroupTest, UnderstandsAMountOfAPart) {
  const Cgroup cgroup =
      Cgroup::Parse("3:memory:/outer/inner/x\n",
                    "32 30 0:28 /outer /mnt/my\\040cg rw - cgroup cgroup rw,memory\n");
  EXPECT_EQ(cgroup.DirectoryOf("memory"), "/mnt/my cg/inner/x");
  EXPECT_TRUE(Cgroup::Parse("3:memory:/outermost/x\n",
                            "32 30 0:28 /outer /mnt/cg rw - cgroup cgroup rw,memory\n")
                  .empty());
}

TEST(CgroupTest, TheRootIsNobodysOwn) {
  EXPECT_TRUE(
      Cgroup::Parse("0::/\n", "33 30 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").empty());
  EXPECT_TRUE(Cgroup().empty());
  EXPECT_TRUE(Cgroup().Processes().empty());
}

TEST(CgroupTest, ForeignGroupsAreNotRemoved) {
  const Cgroup cgroup = Cgroup::Parse("3:memory:/somebody/elses\n", kHybridMounts);
  EXPECT_EQ(cgroup.Remove("/mine").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(cgroup.Remove("/").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(cgroup.Remove("").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(cgroup.Remove("/a/../somebody/elses").code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace gantry::shim
