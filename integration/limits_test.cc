// Each limit of `run` and `update`, looked at where the kernel has it: in the files of the
// container's cgroups, version 1 or 2, and in /proc. What a file does not exist for on this host is
// left out.
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr char kImage[] = "busybox:test";

// Where a hierarchy is mounted, and which of its groups is shown there.
struct Hierarchy {
  std::string mounted_at;
  std::string root;
  bool v2 = false;
};

// That which has the controller; version 2 where none of version 1 does.
Hierarchy HierarchyOf(const std::string& controller) {
  Hierarchy found;
  const std::string mounts = ReadFile("/proc/self/mountinfo", 4 << 20).value_or("");
  for (const absl::string_view line : absl::StrSplit(mounts, '\n')) {
    const std::pair<absl::string_view, absl::string_view> halves = absl::StrSplit(line, " - ");
    const std::vector<std::string> place = absl::StrSplit(halves.first, ' ');
    const std::vector<std::string> kind = absl::StrSplit(halves.second, ' ');
    if (place.size() < 5 || kind.size() < 3) continue;
    const std::vector<std::string> options = absl::StrSplit(kind[2], ',');
    const bool has = std::find(options.begin(), options.end(), controller) != options.end();
    if (kind[0] == "cgroup" && has) return {place[4], place[3], false};
    if (kind[0] == "cgroup2" && found.mounted_at.empty()) found = {place[4], place[3], true};
  }
  return found;
}

// One value: in which file version 1 has it, and version 2. "" where that version has none.
struct Limit {
  const char* controller;
  const char* v1_file;
  const char* v1;
  const char* v2_file;
  const char* v2;
};

class LimitsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  // Starts a container that does nothing.
  void Run(const std::string& name, const std::vector<std::string>& flags) {
    std::vector<std::string> args = {"run", "-d", "--name", name, "--network", "none"};
    args.insert(args.end(), flags.begin(), flags.end());
    args.insert(args.end(), {kImage, "sleep", "1000"});
    ASSERT_TRUE(Ok(bed_->Ctl(std::move(args))));
  }
  std::string Pid(const std::string& name) { return bed_->Inspect(name, "{{.State.Pid}}"); }

  // The directory of the container's group.
  std::string Group(const std::string& name, const std::string& controller) {
    const Hierarchy hierarchy = HierarchyOf(controller);
    const std::string groups =
        ReadFile(absl::StrCat("/proc/", Pid(name), "/cgroup"), 1 << 16).value_or("");
    for (const absl::string_view line : absl::StrSplit(groups, '\n')) {
      const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(':', 2));
      if (words.size() != 3) continue;
      const std::vector<std::string> controllers = absl::StrSplit(words[1], ',');
      const bool wanted = hierarchy.v2 ? words[0] == "0"
                                       : std::find(controllers.begin(), controllers.end(),
                                                   controller) != controllers.end();
      if (!wanted) continue;
      absl::string_view path = words[2];
      if (hierarchy.root != "/") absl::ConsumePrefix(&path, hierarchy.root);
      return absl::StrCat(hierarchy.mounted_at, path);
    }
    ADD_FAILURE() << name << " is in no group of " << controller << ":\n" << groups;
    return "";
  }
  std::string Value(const std::string& name, const std::string& controller,
                    const std::string& file) {
    const std::string path = absl::StrCat(Group(name, controller), "/", file);
    const absl::StatusOr<std::string> text = ReadFile(path, 1 << 16);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : "";
  }
  void Expect(const std::string& name, const std::vector<Limit>& limits) {
    for (const Limit& limit : limits) {
      const bool v2 = HierarchyOf(limit.controller).v2;
      const std::string file = v2 ? limit.v2_file : limit.v1_file;
      if (file.empty() ||
          access(absl::StrCat(Group(name, limit.controller), "/", file).c_str(), F_OK) != 0)
        continue;
      EXPECT_EQ(Value(name, limit.controller, file), v2 ? limit.v2 : limit.v1)
          << name << ": " << file;
    }
  }
  std::unique_ptr<Testbed> bed_;
};

TEST_F(LimitsTest, EachLimitIsInItsFile) {
  const std::vector<std::pair<std::vector<std::string>, std::vector<Limit>>> cases = {
      {{}, {{"pids", "pids.max", "4096", "pids.max", "4096"}}},
      {{"-m", "64m"},
       {{"memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"},
        // Docker's default: as much again of swap.
        {"memory", "memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "67108864"}}},
      {{"-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m"},
       {{"memory", "memory.memsw.limit_in_bytes", "100663296", "memory.swap.max", "33554432"},
        {"memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"}}},
      {{"--cpus", "0.5"},
       {{"cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"},
        {"cpu", "cpu.cfs_period_us", "100000", "", ""}}},
      {{"--cpu-period", "50000", "--cpu-quota", "20000"},
       {{"cpu", "cpu.cfs_quota_us", "20000", "cpu.max", "20000 50000"},
        {"cpu", "cpu.cfs_period_us", "50000", "", ""}}},
      {{"-c", "512"}, {{"cpu", "cpu.shares", "512", "", ""}}},
      {{"--cpuset-cpus", "0", "--cpuset-mems", "0"},
       {{"cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"},
        {"cpuset", "cpuset.mems", "0", "cpuset.mems", "0"}}},
      {{"--memory-swappiness", "10"}, {{"memory", "memory.swappiness", "10", "", ""}}},
      {{"--blkio-weight", "300"}, {{"blkio", "blkio.weight", "300", "", ""}}},
      {{"-m", "64m", "--oom-kill-disable"}, {{"memory", "", "", "memory.max", "67108864"}}},
      {{"--pids-limit", "77"}, {{"pids", "pids.max", "77", "pids.max", "77"}}},
      {{"--pids-limit", "-1"}, {{"pids", "pids.max", "max", "pids.max", "max"}}},
  };
  int number = 0;
  for (const auto& [flags, limits] : cases) {
    const std::string name = absl::StrCat("l", number++);
    ASSERT_NO_FATAL_FAILURE(Run(name, flags));
    Expect(name, limits);
  }
}

TEST_F(LimitsTest, LimitsOfARunningContainerChange) {
  ASSERT_NO_FATAL_FAILURE(Run("lu", {"-m", "64m", "--memory-swap", "64m"}));
  const std::string pid = Pid("lu");
  const auto update = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), "update");
    flags.push_back("lu");
    EXPECT_TRUE(Ok(bed_->Ctl(std::move(flags))));
  };
  update({"-m", "96m", "--memory-swap", "128m"});
  Expect("lu",
         {{"memory", "memory.limit_in_bytes", "100663296", "memory.max", "100663296"},
          {"memory", "memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "33554432"}});
  update({"--memory-reservation", "32m"});
  Expect("lu", {{"memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"},
                {"memory", "memory.limit_in_bytes", "100663296", "memory.max", "100663296"}});
  update({"--cpus", "0.25"});
  Expect("lu", {{"cpu", "cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"}});
  update({"-c", "256"});
  Expect("lu", {{"cpu", "cpu.shares", "256", "", ""}});
  update({"--cpuset-cpus", "0"});
  Expect("lu", {{"cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"}});
  update({"--blkio-weight", "400"});
  Expect("lu", {{"blkio", "blkio.weight", "400", "", ""}});
  update({"--pids-limit", "33"});
  Expect("lu", {{"pids", "pids.max", "33", "pids.max", "33"}});
  EXPECT_EQ(Pid("lu"), pid);
  // As at its next start.
  ASSERT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "lu"})));
  Expect("lu", {{"memory", "memory.limit_in_bytes", "100663296", "memory.max", "100663296"},
                {"cpu", "cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"},
                {"cpu", "cpu.shares", "256", "", ""},
                {"cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"},
                {"pids", "pids.max", "33", "pids.max", "33"}});
}

TEST_F(LimitsTest, RatesOfADeviceAreInItsFile) {
  std::string device;
  struct stat info = {};
  for (const char* name : {"/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"}) {
    if (stat(name, &info) != 0 || !S_ISBLK(info.st_mode)) continue;
    device = name;
    break;
  }
  if (device.empty()) GTEST_SKIP() << "this host has no block device that could be named";
  const std::string number = absl::StrCat(major(info.st_rdev), ":", minor(info.st_rdev));
  ASSERT_NO_FATAL_FAILURE(
      Run("lb", {"--device-read-bps", device + ":1mb", "--device-write-bps", device + ":2mb",
                 "--device-read-iops", device + ":100", "--device-write-iops", device + ":200"}));
  if (HierarchyOf("blkio").v2) {
    EXPECT_EQ(Value("lb", "io", "io.max"),
              number + " rbps=1048576 wbps=2097152 riops=100 wiops=200");
    return;
  }
  const auto rate = [&](const char* file) {
    return Value("lb", "blkio", absl::StrCat("blkio.throttle.", file, "_device"));
  };
  EXPECT_EQ(rate("read_bps"), number + " 1048576");
  EXPECT_EQ(rate("write_bps"), number + " 2097152");
  EXPECT_EQ(rate("read_iops"), number + " 100");
  EXPECT_EQ(rate("write_iops"), number + " 200");
}

// Version 2 has weights in place of shares, and each runtime has its way to convert them.
TEST_F(LimitsTest, SharesBecomeAWeight) {
  ASSERT_NO_FATAL_FAILURE(Run("lw", {"-c", "512"}));
  if (!HierarchyOf("cpu").v2) {
    EXPECT_EQ(Value("lw", "cpu", "cpu.shares"), "512");
    return;
  }
  // Linear, as up to crun 1.22 and runc 1.3.1; along a curve through 1024 = 100 since.
  EXPECT_THAT(Value("lw", "cpu", "cpu.weight"), testing::AnyOf("20", "58", "59", "60"));
}

// Two loops on one processor get it in the ratio of their shares.
TEST_F(LimitsTest, ProcessorTimeIsSharedByWeight) {
  const auto burn = [&](const std::string& name, const std::string& shares) {
    ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", name, "--network", "none", "--cpuset-cpus",
                              "0", "-c", shares, kImage, "sh", "-c", "while :; do :; done"})));
  };
  ASSERT_NO_FATAL_FAILURE(burn("few", "128"));
  ASSERT_NO_FATAL_FAILURE(burn("many", "2048"));
  const auto used = [&](const std::string& name) {
    // User and system time, in ticks.
    const std::string stat =
        ReadFile(absl::StrCat("/proc/", Pid(name), "/stat"), 4096).value_or("");
    const std::vector<std::string> fields =
        absl::StrSplit(absl::string_view(stat).substr(stat.rfind(')') + 1), ' ', absl::SkipEmpty());
    int64_t user = 0, system = 0;
    if (fields.size() < 13 || !absl::SimpleAtoi(fields[11], &user) ||
        !absl::SimpleAtoi(fields[12], &system))
      return int64_t{0};
    return user + system;
  };
  // Since both run; by then one has had a second, and 16 to 1 is far from even.
  const int64_t few = used("few"), many = used("many");
  ASSERT_TRUE(Eventually([&] { return used("many") - many >= 100; }));
  EXPECT_LT((used("few") - few) * 4, used("many") - many);
  ASSERT_TRUE(Ok(bed_->Ctl({"rm", "-f", "few", "many"})));
}

TEST_F(LimitsTest, APausedContainerIsFrozen) {
  ASSERT_NO_FATAL_FAILURE(Run("lf", {}));
  const auto frozen = [&] {
    return HierarchyOf("freezer").v2 ? Value("lf", "freezer", "cgroup.freeze") == "1"
                                     : Value("lf", "freezer", "freezer.state") == "FROZEN";
  };
  EXPECT_FALSE(frozen());
  ASSERT_TRUE(Ok(bed_->Ctl({"pause", "lf"})));
  EXPECT_TRUE(frozen());
  EXPECT_EQ(bed_->Inspect("lf", "{{.State.Status}}"), "paused");
  ASSERT_TRUE(Ok(bed_->Ctl({"unpause", "lf"})));
  EXPECT_FALSE(frozen());
}

// A twentieth of a processor is not enough for a loop: it is held back.
TEST_F(LimitsTest, AContainerIsHeldToItsPartOfAProcessor) {
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "lt", "--network", "none", "--cpus", "0.05",
                            kImage, "sh", "-c", "while :; do :; done"})));
  EXPECT_TRUE(Eventually([&] {
    int64_t throttled = 0;
    for (const absl::string_view line : absl::StrSplit(Value("lt", "cpu", "cpu.stat"), '\n')) {
      absl::string_view rest = line;
      if (absl::ConsumePrefix(&rest, "nr_throttled ")) (void)absl::SimpleAtoi(rest, &throttled);
    }
    return throttled > 0;
  }));
}

TEST_F(LimitsTest, ProcessesGetTheirRlimitsAndScore) {
  ASSERT_NO_FATAL_FAILURE(Run("lr", {"--ulimit", "nofile=100:200", "--ulimit", "core=0",
                                     "--oom-score-adj", "500", "--shm-size", "32m"}));
  const std::string pid = Pid("lr");
  const std::string limits = ReadFile(absl::StrCat("/proc/", pid, "/limits"), 1 << 16).value();
  const auto limit = [&](absl::string_view name) {
    for (absl::string_view line : absl::StrSplit(limits, '\n')) {
      if (!absl::ConsumePrefix(&line, name)) continue;
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      return words.size() < 2 ? "" : absl::StrCat(words[0], ":", words[1]);
    }
    return std::string();
  };
  EXPECT_EQ(limit("Max open files"), "100:200");
  EXPECT_EQ(limit("Max core file size"), "0:0");
  EXPECT_EQ(ReadFile(absl::StrCat("/proc/", pid, "/oom_score_adj"), 100).value(), "500\n");
  EXPECT_EQ(bed_->CtlOut({"exec", "lr", "sh", "-c", "ulimit -n; ulimit -Hn"}), "100\n200");
  const std::string mounts = ReadFile(absl::StrCat("/proc/", pid, "/mountinfo"), 1 << 20).value();
  EXPECT_THAT(mounts, HasSubstr("size=32768k"));
}

TEST_F(LimitsTest, StatsAreWhatTheFilesSay) {
  ASSERT_NO_FATAL_FAILURE(Run("ls", {"-m", "64m", "--pids-limit", "50"}));
  ASSERT_TRUE(Ok(bed_->Ctl({"exec", "-d", "ls", "sleep", "1000"})));
  ASSERT_TRUE(Eventually([&] { return Value("ls", "pids", "pids.current") == "2"; }));
  const Outcome stats =
      bed_->Ctl({"stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "ls"});
  ASSERT_TRUE(Ok(stats));
  EXPECT_THAT(stats.out, StartsWith("2 "));
  EXPECT_THAT(stats.out, HasSubstr(" / 64MiB"));
}

// The runtime has made the groups when the kernel refuses the limit.
TEST_F(LimitsTest, ALimitThatTheKernelRefusesLeavesNoGroup) {
  const Outcome refused =
      bed_->Ctl({"run", "--rm", "--cpu-rt-runtime", "100", "--network", "none", kImage, "true"});
  EXPECT_NE(refused.code, 0) << refused.out;
  // The groups that are left are looked for at the end of every test.
}

TEST_F(LimitsTest, AnOomKillIsAnEventToo) {
  const Outcome run =
      bed_->Ctl({"run", "--name", "lo", "--network", "none", "-m", "16m", kImage, "sh", "-c",
                 "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}"});
  EXPECT_EQ(run.code, 137) << run.out << run.err;
  EXPECT_EQ(bed_->Inspect("lo", "{{.State.OOMKilled}}"), "true");
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(
        bed_->Ctl({"events", "--since", "1h", "--until", "0s", "--filter", "event=oom", "--format",
                   "{{.Action}} {{.Actor.Attributes.name}}"})
            .out,
        "oom lo\n");
  }));
  EXPECT_THAT(bed_->Ctl({"why", "lo"}).out, HasSubstr("memory was used up"));
}

}  // namespace
}  // namespace gantry::integration
