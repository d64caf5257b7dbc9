#include "supervisor/oci/runtime_spec.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "supervisor/oci/json_document.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

constexpr char kSpec[] = R"({"ociVersion":"1.3.0","x":{"client":true},"hostname":"h",
  "process":{"terminal":true,"user":{"uid":5,"gid":6,"additionalGids":[7]},"args":["sh","-c"],"env":["A=1","B=2"],"cwd":"/w",
    "capabilities":{"bounding":["CAP_CHOWN"]},"rlimits":[{"type":"RLIMIT_NOFILE","soft":1048576,"hard":1048576}],
    "oomScoreAdj":-998,"ioPriority":{"class":"IOPRIO_CLASS_BE"}},
  "root":{"path":"rootfs","readonly":true},"annotations":{"k":"v"},
  "linux":{"cgroupsPath":"/ns/id","namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/x"}],
    "netDevices":{"eth0":{}},"resources":{"memory":{"limit":10000000}}}})";

RuntimeSpec Spec() {
  auto spec = RuntimeSpec::Parse(kSpec);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return std::move(spec).value_or(RuntimeSpec());
}

TEST(RuntimeSpecTest, TheRootGroupOnTheHostIsWhatGroupZeroIsMappedTo) {
  const auto root_gid = [](const std::string& linux_members) {
    return RuntimeSpec::Parse(R"({"linux":{)" + linux_members + "}}")->root_gid_on_host();
  };
  EXPECT_EQ(root_gid(R"("gidMappings":[{"containerID":5,"hostID":7,"size":1},)"
                     R"({"containerID":0,"hostID":100000,"size":5}])"),
            100000u);
  EXPECT_EQ(root_gid(R"("gidMappings":[{"containerID":1,"hostID":100000,"size":5}])"),
            std::nullopt);
  EXPECT_EQ(root_gid(R"("gidMappings":[{"containerID":0,"hostID":-1,"size":5}])"), std::nullopt);
  EXPECT_EQ(root_gid(""), std::nullopt);
}

TEST(RuntimeSpecTest, ReadsWhatTheSupervisorNeeds) {
  const RuntimeSpec spec = Spec();
  EXPECT_EQ(spec.oci_version(), "1.3.0");
  EXPECT_TRUE(spec.terminal());
  EXPECT_EQ(spec.args(), (std::vector<std::string>{"sh", "-c"}));
  EXPECT_EQ(spec.cwd(), "/w");
  EXPECT_EQ(spec.uid(), 5u);
  EXPECT_EQ(spec.root_path(), "rootfs");
  EXPECT_TRUE(spec.root_readonly());
  EXPECT_EQ(spec.cgroups_path(), "/ns/id");
  EXPECT_EQ(spec.annotations().at("k"), "v");
  EXPECT_TRUE(spec.has_namespace("pid"));
  EXPECT_EQ(spec.namespace_path("network"), "/run/netns/x");
  EXPECT_FALSE(spec.has_namespace("user"));
}

TEST(RuntimeSpecTest, PassesOnWhatItDoesNotKnow) {
  const std::string text = Spec().Print();
  EXPECT_TRUE(absl::StrContains(text, R"("x":{"client":true})"));
  EXPECT_TRUE(absl::StrContains(text, "IOPRIO_CLASS_BE"));
}

TEST(RuntimeSpecTest, SettersChangeOneThing) {
  RuntimeSpec spec = Spec();
  spec.SetRootPath("/r");
  spec.SetCgroupsPath("/c");
  spec.SetTerminal(false);
  spec.SetEnv("A", "9");
  spec.SetEnv("C", "3");
  spec.SetNamespace("network", "");
  spec.SetNamespace("ipc", "/proc/1/ns/ipc");
  EXPECT_EQ(spec.root_path(), "/r");
  EXPECT_TRUE(spec.root_readonly());
  EXPECT_EQ(spec.cgroups_path(), "/c");
  EXPECT_FALSE(spec.terminal());
  EXPECT_EQ(spec.env(), (std::vector<std::string>{"A=9", "B=2", "C=3"}));
  EXPECT_EQ(spec.namespace_path("network"), "");
  EXPECT_TRUE(spec.has_namespace("network"));
  EXPECT_EQ(spec.namespace_path("ipc"), "/proc/1/ns/ipc");
}

TEST(RuntimeSpecTest, CgroupsPathTellsWhoMakesTheGroup) {
  RuntimeSpec spec = *RuntimeSpec::Parse(R"({"ociVersion":"1.0.2"})");
  EXPECT_TRUE(spec.systemd_makes_cgroup(true));
  EXPECT_FALSE(spec.systemd_makes_cgroup(false));
  for (const char* path : {"system.slice:gantry:web", ":gantry:web", "user.slice::x"}) {
    spec.SetCgroupsPath(path);
    EXPECT_TRUE(spec.systemd_makes_cgroup(false)) << path;
  }
  for (const char* path : {"/gantry/web", "gantry/web", "/a:b:c", "a:b"}) {
    spec.SetCgroupsPath(path);
    EXPECT_FALSE(spec.systemd_makes_cgroup(true)) << path;
  }
}

TEST(RuntimeSpecTest, CopiesAreIndependent) {
  const RuntimeSpec original = Spec();
  RuntimeSpec copy = original;
  copy.SetRootPath("/other");
  EXPECT_EQ(original.root_path(), "rootfs");
}

TEST(RuntimeSpecTest, LowersVersionToWhatTheRuntimeKnows) {
  RuntimeSpec spec = Spec();
  const auto changes = spec.LowerVersion("1.0.2");
  EXPECT_EQ(spec.oci_version(), "1.0.2");
  EXPECT_EQ(changes.size(), 2u);
  EXPECT_FALSE(spec.document()["linux"].contains("netDevices"));
  EXPECT_TRUE(spec.LowerVersion("1.0.2").empty());
  EXPECT_TRUE(spec.LowerVersion("1.2.0").empty());
  EXPECT_EQ(spec.oci_version(), "1.0.2");
}

TEST(RuntimeSpecTest, ClampsToWhatTheHostAllows) {
  HostFacts host;
  host.may_raise_rlimits = false;
  host.may_lower_oom_score = false;
  host.own_oom_score_adj = -5;
  host.hard_rlimits["RLIMIT_NOFILE"] = 4096;
  RuntimeSpec spec = Spec();
  EXPECT_EQ(spec.ClampToHost(host).size(), 2u);
  const json& process = spec.document()["process"];
  EXPECT_EQ(process["rlimits"][0]["hard"], 4096);
  EXPECT_EQ(process["rlimits"][0]["soft"], 4096);
  EXPECT_EQ(process["oomScoreAdj"], -5);
  EXPECT_TRUE(spec.ClampToHost(host).empty());
}

TEST(RuntimeSpecTest, TakesOutDescriptorLimitsThatAreTooSmallForARuntime) {
  const auto with = [](int soft, int hard, int uid) {
    return *RuntimeSpec::Parse(absl::StrCat(
        R"({"process":{"user":{"uid":)", uid, R"(,"gid":0},"args":["true"],"rlimits":[)",
        R"({"type":"RLIMIT_CORE","soft":0,"hard":0},{"type":"RLIMIT_NOFILE","soft":)", soft,
        R"(,"hard":)", hard, R"(}]},"linux":{"namespaces":[{"type":"pid"}]}})"));
  };
  HostFacts host;
  host.may_raise_rlimits = false;
  RuntimeSpec spec = with(10, 20, 0);
  EXPECT_EQ(spec.TakeSmallDescriptorLimit(host), (Rlimit{"RLIMIT_NOFILE", 10, 20}));
  EXPECT_EQ(spec.document()["process"]["rlimits"].dump(),
            R"([{"hard":0,"soft":0,"type":"RLIMIT_CORE"}])");
  EXPECT_EQ(spec.TakeSmallDescriptorLimit(host), std::nullopt);
  EXPECT_EQ(with(1024, 1024, 0).TakeSmallDescriptorLimit(host), std::nullopt);
  EXPECT_EQ(with(4, 4, 0).TakeSmallDescriptorLimit(host), std::nullopt);
  EXPECT_EQ(with(20, 10, 0).TakeSmallDescriptorLimit(host), std::nullopt);
  // Another user's processes take the capability.
  EXPECT_EQ(with(10, 20, 1000).TakeSmallDescriptorLimit(host), std::nullopt);
  host.may_raise_rlimits = true;
  EXPECT_NE(with(10, 20, 1000).TakeSmallDescriptorLimit(host), std::nullopt);
}

TEST(RuntimeSpecTest, LeavesOutBlockWeightsThatNoSchedulerKnows) {
  HostFacts host;
  host.block_io_weight = false;
  auto spec = RuntimeSpec::Parse(
      R"({"linux":{"resources":{"blockIO":{"weight":100,"throttleReadBpsDevice":[]}}}})");
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->ClampToHost(host).size(), 1u);
  const json& block = spec->document()["linux"]["resources"]["blockIO"];
  EXPECT_FALSE(block.contains("weight"));
  EXPECT_TRUE(block.contains("throttleReadBpsDevice"));
  EXPECT_TRUE(spec->ClampToHost(host).empty());
}

TEST(RuntimeSpecTest, LimitsOfHugePagesNeedTheController) {
  const auto spec = [] {
    return *RuntimeSpec::Parse(
        R"({"linux":{"resources":{"hugepageLimits":[{"pageSize":"2MB","limit":0}],)"
        R"("pids":{"limit":7}}}})");
  };
  HostFacts host;
  RuntimeSpec kept = spec();
  EXPECT_TRUE(kept.ClampToHost(host).empty());
  EXPECT_TRUE(kept.document()["linux"]["resources"].contains("hugepageLimits"));
  host.hugetlb = false;
  RuntimeSpec fitted = spec();
  EXPECT_EQ(fitted.ClampToHost(host).size(), 1u);
  EXPECT_EQ(fitted.document()["linux"]["resources"].dump(), R"({"pids":{"limit":7}})");
  EXPECT_TRUE(fitted.ClampToHost(host).empty());
}

TEST(RuntimeSpecTest, LeavesLimitsAloneWhereTheyCanBeSet) {
  RuntimeSpec spec = Spec();
  EXPECT_TRUE(spec.ClampToHost(HostFacts()).empty());
  EXPECT_EQ(spec.document()["process"]["oomScoreAdj"], -998);
}

TEST(RuntimeSpecTest, RefusesWrongTypes) {
  for (const char* text :
       {"", "[]", "1", R"({"process":[]})", R"({"process":{"args":"sh"}})",
        R"({"process":{"args":[1]}})", R"({"process":{"user":{"uid":-1}}})",
        R"({"process":{"user":{"uid":4294967296}}})", R"({"root":{"path":7}})",
        R"({"linux":{"namespaces":{}}})", R"({"linux":{"namespaces":[{"type":1}]}})",
        R"({"annotations":{"a":1}})", R"({"linux":{"resources":{"memory":{"limit":"1g"}}}})",
        R"({"process":{"rlimits":[{"type":"x","soft":-1}]}})"}) {
    EXPECT_EQ(RuntimeSpec::Parse(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(ProcessSpecTest, ReadsBackWhatItPrints) {
  ProcessSpec process;
  process.terminal = true;
  process.console_width = 80;
  process.console_height = 24;
  process.uid = 1;
  process.additional_gids = {2, 3};
  process.args = {"a"};
  process.env = {"X=y"};
  process.bounding = {"CAP_KILL"};
  process.rlimits = {{"RLIMIT_CORE", 0, ~uint64_t{0}}};
  process.oom_score_adj = 7;
  auto again = ParseProcess(PrintProcess(process));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(PrintProcess(*again), PrintProcess(process));
  EXPECT_EQ(again->rlimits, process.rlimits);
  EXPECT_EQ(again->console_height, 24);
}

TEST(ResourcesTest, ReadsBackWhatItPrints) {
  Resources r;
  r.memory_limit_bytes = 64 << 20;
  r.memory_swap_bytes = -1;
  r.cpu_quota_micros = 50000;
  r.cpu_period_micros = 100000;
  r.cpuset_cpus = "0-1";
  r.pids_limit = 100;
  r.block_io_weight = 500;
  r.block_io_weight_device = {{8, 0, 300}};
  r.block_io_read_bps = {{8, 0, 1 << 20}, {8, 16, 5}};
  r.block_io_write_bps = {{254, 1, 7}};
  r.block_io_read_iops = {{8, 0, 9}};
  r.block_io_write_iops = {{8, 0, 11}};
  r.hugepage_limits["2MB"] = 4 << 20;
  r.unified["memory.high"] = "1000";
  auto again = ParseResources(PrintResources(r));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, r);
  EXPECT_EQ(ResourcesToJson(r)["blockIO"]["throttleReadBpsDevice"][1],
            (json{{"major", 8}, {"minor", 16}, {"rate", 5}}));
  EXPECT_EQ(ResourcesToJson(r)["blockIO"]["weightDevice"][0]["weight"], 300);
}

TEST(ResourcesTest, MergeTakesOnlyWhatIsSet) {
  Resources r;
  r.memory_limit_bytes = 10;
  r.pids_limit = 5;
  Resources change;
  change.pids_limit = 6;
  MergeResources(r, change);
  EXPECT_EQ(r.memory_limit_bytes, 10);
  EXPECT_EQ(r.pids_limit, 6);
}

TEST(ResourcesTest, RefusesWhatTheKernelWould) {
  const auto code = [](auto set) {
    Resources r;
    set(r);
    return CheckResources(r).code();
  };
  const auto kBad = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code([](Resources&) {}), absl::StatusCode::kOk);
  EXPECT_EQ(code([](Resources& r) { r.memory_limit_bytes = 1 << 20; }), kBad);
  EXPECT_EQ(code([](Resources& r) { r.memory_swap_bytes = 1 << 30; }), kBad);
  EXPECT_EQ(code([](Resources& r) {
              r.memory_limit_bytes = 1 << 30;
              r.memory_swap_bytes = 1 << 29;
            }),
            kBad);
  EXPECT_EQ(code([](Resources& r) { r.memory_swappiness = 101; }), kBad);
  EXPECT_EQ(code([](Resources& r) { r.cpu_period_micros = 1; }), kBad);
  EXPECT_EQ(code([](Resources& r) { r.block_io_weight = 5; }), kBad);
  EXPECT_EQ(code([](Resources& r) { r.block_io_weight_device = {{8, 0, 5}}; }), kBad);
  EXPECT_EQ(code([](Resources& r) { r.unified["../x"] = "1"; }), kBad);
  for (const char* cpus : {"a", "1-", "-1", "3-1", "0-99999999", "1,,2", "1 2", "0-1-2", "1\n"}) {
    EXPECT_EQ(code([&](Resources& r) { r.cpuset_cpus = cpus; }), kBad) << cpus;
  }
  EXPECT_EQ(code([](Resources& r) { r.cpuset_cpus = "0-3,7"; }), absl::StatusCode::kOk);
}

}  // namespace
}  // namespace gantry::oci
