#include "supervisor/nri/spec_edit.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "supervisor/nri/spec_view.h"

namespace gantry::nri {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class SpecEditTest : public testing::Test {
 protected:
  absl::Status Apply(const wire::ContainerAdjustment& change, const std::string& plugin = "10-a") {
    return Adjust(change, {"0123456789abcdef", plugin, &owners_}, spec_, cdi_);
  }
  void Expect(const char* pointer, const json& wanted) {
    const json::json_pointer place(pointer);
    ASSERT_TRUE(spec_.contains(place)) << pointer << " of " << spec_.dump(1);
    EXPECT_EQ(spec_[place], wanted) << pointer;
  }

  Owners owners_;
  std::vector<std::string> cdi_;
  json spec_ = json::parse(R"({
    "process": {"args": ["sh"], "env": ["PATH=/bin", "A=old"], "oomScoreAdj": 0,
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 10, "soft": 5}]},
    "annotations": {"kept": "1", "gone": "2"},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
               {"destination": "/data", "type": "bind", "source": "/old", "options": ["rbind"]}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}],
              "cgroupsPath": "/pods/x", "sysctl": {"net.a": "1"},
              "resources": {"memory": {"limit": 100, "swap": 100}}}})");
};

TEST_F(SpecEditTest, NamesAreSetReplacedAndRemoved) {
  wire::ContainerAdjustment change;
  (*change.mutable_annotations())["new"] = "3";
  (*change.mutable_annotations())["-gone"] = "";
  for (const auto& [key, value] : {std::pair("A", "new"), {"B", "x=y"}, {"-PATH", ""}}) {
    wire::KeyValue& env = *change.add_env();
    env.set_key(key);
    env.set_value(value);
  }
  (*change.mutable_linux()->mutable_sysctl())["net.b"] = "2";
  (*change.mutable_linux()->mutable_sysctl())["-net.a"] = "";
  ASSERT_TRUE(Apply(change).ok());
  Expect("/annotations", {{"kept", "1"}, {"new", "3"}});
  Expect("/process/env", {"A=new", "B=x=y"});
  Expect("/linux/sysctl", {{"net.b", "2"}});
}

TEST_F(SpecEditTest, MountsAreReplacedAndSortedByDepth) {
  wire::ContainerAdjustment change;
  wire::Mount& deep = *change.add_mounts();
  deep.set_destination("/data/a/b");
  deep.set_source("/src");
  deep.set_type("bind");
  wire::Mount& same = *change.add_mounts();
  same.set_destination("/data");
  same.set_source("/new");
  same.add_options("rbind");
  same.add_options("rslave");
  wire::Mount& tmpfs = *change.add_mounts();
  tmpfs.set_destination("/t");
  tmpfs.set_type("tmpfs");
  change.add_mounts()->set_destination("-/proc");
  ASSERT_TRUE(Apply(change).ok());
  std::vector<std::string> places;
  for (const json& mount : spec_["mounts"]) places.push_back(mount["destination"]);
  EXPECT_THAT(places, ElementsAre("/data", "/t", "/data/a/b"));
  Expect("/mounts/0/source", "/new");
  Expect("/mounts/0/type", "bind");
  Expect("/mounts/2/options", {"rbind"});
  Expect("/linux/rootfsPropagation", "rslave");
}

TEST_F(SpecEditTest, ProcessAndHooksAreChanged) {
  wire::ContainerAdjustment change;
  change.add_args("sleep");
  change.add_args("1");
  wire::Hook& hook = *change.mutable_hooks()->add_create_runtime();
  hook.set_path("/bin/hook");
  hook.add_args("hook");
  hook.mutable_timeout()->set_value(3);
  wire::POSIXRlimit& limit = *change.add_rlimits();
  limit.set_type("RLIMIT_NOFILE");
  limit.set_hard(100);
  limit.set_soft(50);
  wire::LinuxContainerAdjustment& linux_part = *change.mutable_linux();
  linux_part.mutable_oom_score_adj()->set_value(300);
  linux_part.mutable_io_priority()->set_class_(wire::IOPRIO_CLASS_BE);
  linux_part.mutable_io_priority()->set_priority(4);
  linux_part.mutable_scheduler()->set_policy(wire::SCHED_BATCH_);
  linux_part.mutable_scheduler()->set_nice(5);
  ASSERT_TRUE(Apply(change).ok());
  Expect("/process/args", {"sleep", "1"});
  Expect("/hooks/createRuntime", {{{"path", "/bin/hook"}, {"args", {"hook"}}, {"timeout", 3}}});
  Expect("/process/rlimits", {{{"type", "RLIMIT_NOFILE"}, {"hard", 100}, {"soft", 50}}});
  Expect("/process/oomScoreAdj", 300);
  Expect("/process/ioPriority", {{"class", "IOPRIO_CLASS_BE"}, {"priority", 4}});
  Expect("/process/scheduler", {{"policy", "SCHED_BATCH"}, {"nice", 5}});
}

TEST_F(SpecEditTest, DevicesGetTheRuleThatLetsThemBeOpened) {
  wire::ContainerAdjustment change;
  wire::LinuxDevice& device = *change.mutable_linux()->add_devices();
  device.set_path("/dev/x");
  device.set_type("c");
  device.set_major(1);
  device.set_minor(3);
  device.mutable_file_mode()->set_value(0440);
  ASSERT_TRUE(Apply(change).ok());
  Expect("/linux/devices",
         {{{"path", "/dev/x"}, {"type", "c"}, {"major", 1}, {"minor", 3}, {"fileMode", 0440}}});
  Expect("/linux/resources/devices",
         {{{"allow", true}, {"type", "c"}, {"major", 1}, {"minor", 3}, {"access", "rm"}}});
}

TEST_F(SpecEditTest, LimitsNamespacesSeccompAndTheRest) {
  wire::ContainerAdjustment change;
  wire::LinuxContainerAdjustment& linux_part = *change.mutable_linux();
  wire::LinuxResources& resources = *linux_part.mutable_resources();
  resources.mutable_memory()->mutable_limit()->set_value(200);
  resources.mutable_cpu()->mutable_shares()->set_value(512);
  resources.mutable_cpu()->set_mems("0");
  resources.mutable_pids()->set_limit(9);
  resources.add_hugepage_limits()->set_page_size("2MB");
  (*resources.mutable_unified())["memory.high"] = "10";
  linux_part.set_cgroups_path("/elsewhere/x");
  wire::LinuxNamespace& ns = *linux_part.add_namespaces();
  ns.set_type("network");
  ns.set_path("/run/ns");
  linux_part.add_namespaces()->set_type("-pid");
  wire::LinuxSeccomp& policy = *linux_part.mutable_seccomp_policy();
  policy.set_default_action("SCMP_ACT_ERRNO");
  wire::LinuxSyscall& rule = *policy.add_syscalls();
  rule.add_names("read");
  rule.set_action("SCMP_ACT_ALLOW");
  (*linux_part.mutable_net_devices())["eth5"].set_name("net1");
  linux_part.mutable_rdt()->mutable_clos_id()->set_value("gold");
  linux_part.mutable_memory_policy()->set_mode(wire::MPOL_BIND);
  linux_part.mutable_memory_policy()->set_nodes("0");
  change.add_cdi_devices()->set_name("vendor.com/net=eth");
  ASSERT_TRUE(Apply(change).ok());
  // Swap counts memory as well, so it cannot stay below.
  Expect("/linux/resources/memory", {{"limit", 200}, {"swap", 200}});
  Expect("/linux/resources/cpu", {{"shares", 512}, {"mems", "0"}});
  Expect("/linux/resources/pids/limit", 9);
  Expect("/linux/resources/hugepageLimits", {{{"pageSize", "2MB"}, {"limit", 0}}});
  Expect("/linux/resources/unified", {{"memory.high", "10"}});
  Expect("/linux/cgroupsPath", "/elsewhere/x");
  Expect("/linux/namespaces", {{{"type", "mount"}}, {{"type", "network"}, {"path", "/run/ns"}}});
  Expect("/linux/seccomp/syscalls/0", {{"names", {"read"}}, {"action", "SCMP_ACT_ALLOW"}});
  Expect("/linux/netDevices/eth5/name", "net1");
  Expect("/linux/intelRdt/closID", "gold");
  Expect("/linux/memoryPolicy", {{"mode", "MPOL_BIND"}, {"nodes", "0"}});
  EXPECT_THAT(cdi_, ElementsAre("vendor.com/net=eth"));
}

TEST_F(SpecEditTest, ASecondPluginMayReplaceOnlyWhatItRemovesFirst) {
  wire::ContainerAdjustment change;
  wire::KeyValue& env = *change.add_env();
  env.set_key("A");
  env.set_value("first");
  change.add_args("one");
  ASSERT_TRUE(Apply(change, "10-a").ok());
  ASSERT_TRUE(Apply(change, "10-a").ok());
  const absl::Status refused = Apply(change, "20-b");
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("NRI plugins 10-a and 20-b both set environment variable \"A\""));
  wire::ContainerAdjustment replace;
  replace.add_env()->set_key("-A");
  wire::KeyValue& again = *replace.add_env();
  again.set_key("A");
  again.set_value("second");
  replace.add_args("");
  replace.add_args("two");
  EXPECT_TRUE(Apply(replace, "20-b").ok());
  Expect("/process/env", {"PATH=/bin", "A=second"});
  Expect("/process/args", {"two"});
}

TEST_F(SpecEditTest, HooksOfSeveralPluginsAddUp) {
  wire::ContainerAdjustment change;
  change.mutable_hooks()->add_poststop()->set_path("/bin/a");
  EXPECT_TRUE(Apply(change, "10-a").ok());
  EXPECT_TRUE(Apply(change, "20-b").ok());
  EXPECT_EQ(spec_["hooks"]["poststop"].size(), 2u);
  EXPECT_EQ(owners_.ToProto().owners().at("0123456789abcdef").simple().at(wire::OciHooks),
            "10-a,20-b");
}

TEST_F(SpecEditTest, WhatIsNoAdjustmentIsRefusedWithThePluginsName) {
  std::vector<wire::ContainerAdjustment> wrong(11);
  wrong[0].add_mounts()->set_destination("relative");
  wrong[1].add_mounts()->set_destination("/a/../../b");
  wrong[2].add_mounts()->set_destination("/a");
  wrong[2].mutable_mounts(0)->set_type("bind");
  wrong[3].add_env()->set_key("A=B");
  wrong[4].mutable_hooks()->add_poststop()->set_path("hook");
  wrong[5].mutable_linux()->add_devices()->set_path("/dev/x");
  wrong[6].mutable_linux()->add_namespaces()->set_type("planet");
  wrong[7].mutable_linux()->mutable_oom_score_adj()->set_value(1001);
  wrong[8].mutable_linux()->set_cgroups_path("/a/../../b");
  wrong[9].add_rlimits()->set_type("NOFILE");
  wrong[10].mutable_linux()->mutable_resources()->mutable_rdt_class()->set_value("gold");
  for (size_t i = 0; i < wrong.size(); ++i) {
    const absl::Status refused = Apply(wrong[i]);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << i << ": " << refused;
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr("NRI plugin 10-a: container 0123456789ab"))
        << i;
  }
}

TEST_F(SpecEditTest, WhatWasChangedIsWhatTheNextPluginSees) {
  wire::ContainerAdjustment change;
  change.mutable_linux()->mutable_resources()->mutable_cpu()->mutable_quota()->set_value(-1);
  change.mutable_linux()->mutable_oom_score_adj()->set_value(7);
  ASSERT_TRUE(Apply(change).ok());
  wire::Container seen;
  DescribeSpec(spec_, seen);
  EXPECT_EQ(seen.linux().resources().cpu().quota().value(), -1);
  EXPECT_EQ(seen.linux().resources().memory().limit().value(), 100);
  EXPECT_EQ(seen.linux().oom_score_adj().value(), 7);
  EXPECT_EQ(seen.linux().cgroups_path(), "/pods/x");
  EXPECT_THAT(seen.args(), ElementsAre("sh"));
  EXPECT_THAT(seen.env(), ElementsAre("PATH=/bin", "A=old"));
  ASSERT_EQ(seen.mounts_size(), 2);
  EXPECT_EQ(seen.mounts(1).source(), "/old");
  EXPECT_EQ(seen.rlimits(0).soft(), 5u);
  EXPECT_EQ(seen.annotations().at("kept"), "1");
}

}  // namespace
}  // namespace gantry::nri
