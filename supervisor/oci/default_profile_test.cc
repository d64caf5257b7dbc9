#include "supervisor/oci/default_profile.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "supervisor/oci/json_document.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

HostFacts Host() {
  HostFacts host;
  host.architecture = "amd64";
  host.kernel_major = 6;
  host.kernel_minor = 1;
  return host;
}

std::vector<std::string> Defaults() {
  return {DefaultCapabilities().begin(), DefaultCapabilities().end()};
}

json Profile(const HostFacts& host, const std::vector<std::string>& caps) {
  auto parsed = ParseJson(*DefaultSeccomp(host, caps), "seccomp");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return std::move(parsed).value_or(json());
}

// The entries that name `syscall`.
std::vector<json> Rules(const json& profile, const std::string& syscall) {
  std::vector<json> out;
  for (const json& entry : profile["syscalls"]) {
    const json& names = entry["names"];
    if (std::find(names.begin(), names.end(), syscall) != names.end()) out.push_back(entry);
  }
  return out;
}

TEST(DefaultProfileTest, FourteenCapabilities) {
  auto caps = TweakCapabilities({}, {}, Host());
  ASSERT_TRUE(caps.ok());
  EXPECT_EQ(caps->size(), 14u);
  EXPECT_EQ(std::count(caps->begin(), caps->end(), "CAP_SYS_ADMIN"), 0);
}

TEST(DefaultProfileTest, AddAndDropFollowDocker) {
  EXPECT_EQ(*TweakCapabilities({"net_admin"}, {"ALL"}, Host()),
            std::vector<std::string>{"CAP_NET_ADMIN"});
  EXPECT_EQ(TweakCapabilities({"ALL"}, {}, Host())->size(), 41u);
  auto all_but_one = TweakCapabilities({"all"}, {"CAP_SYS_ADMIN"}, Host());
  EXPECT_EQ(all_but_one->size(), 40u);
  EXPECT_EQ(std::count(all_but_one->begin(), all_but_one->end(), "CAP_SYS_ADMIN"), 0);
  EXPECT_EQ(TweakCapabilities({}, {"chown"}, Host())->size(), 13u);
  EXPECT_EQ(TweakCapabilities({"CAP_NONSENSE"}, {}, Host()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(DefaultProfileTest, NothingTheHostLacksIsPromised) {
  HostFacts host = Host();
  host.bounding_capabilities = ~(uint64_t{1} << 24);  // CAP_SYS_RESOURCE
  host.last_capability = 37;
  const auto all = AllCapabilities(host);
  EXPECT_EQ(all.size(), 37u);
  EXPECT_EQ(std::count(all.begin(), all.end(), "CAP_SYS_RESOURCE"), 0);
  EXPECT_TRUE(TweakCapabilities({"SYS_RESOURCE"}, {"ALL"}, host)->empty());
}

TEST(DefaultProfileTest, SeccompAllowsOrdinaryCallsAndNotDangerousOnes) {
  const json profile = Profile(Host(), Defaults());
  EXPECT_EQ(profile["defaultAction"], "SCMP_ACT_ERRNO");
  EXPECT_EQ(profile["defaultErrnoRet"], 1);
  EXPECT_EQ(profile["architectures"], (json{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}));
  for (const char* call : {"read", "openat", "execve", "ptrace", "chroot", "arch_prctl"}) {
    EXPECT_EQ(Rules(profile, call).size(), 1u) << call;
  }
  for (const char* call :
       {"mount", "bpf", "keyctl", "userfaultfd", "io_uring_setup", "unshare", "setns",
        "perf_event_open", "kexec_load", "init_module", "reboot", "open_by_handle_at"}) {
    EXPECT_TRUE(Rules(profile, call).empty()) << call;
  }
}

TEST(DefaultProfileTest, SeccompCloneIsMaskedAndClone3Absent) {
  const json profile = Profile(Host(), Defaults());
  const auto clone = Rules(profile, "clone");
  ASSERT_EQ(clone.size(), 1u);
  EXPECT_EQ(
      clone[0]["args"],
      json::parse(R"([{"index":0,"op":"SCMP_CMP_MASKED_EQ","value":2114060288,"valueTwo":0}])"));
  const auto clone3 = Rules(profile, "clone3");
  ASSERT_EQ(clone3.size(), 1u);
  EXPECT_EQ(clone3[0]["action"], "SCMP_ACT_ERRNO");
  EXPECT_EQ(clone3[0]["errnoRet"], 38);
}

TEST(DefaultProfileTest, SeccompSocketFamiliesAreThreeSeparateRules) {
  const auto rules = Rules(Profile(Host(), Defaults()), "socket");
  ASSERT_EQ(rules.size(), 3u);
  for (const json& rule : rules) EXPECT_EQ(rule["args"].size(), 1u);
}

TEST(DefaultProfileTest, SeccompFollowsCapabilitiesKernelAndArchitecture) {
  std::vector<std::string> caps = Defaults();
  caps.push_back("CAP_SYS_ADMIN");
  const json admin = Profile(Host(), caps);
  EXPECT_EQ(Rules(admin, "mount").size(), 1u);
  EXPECT_FALSE(Rules(admin, "clone3").empty());
  EXPECT_EQ(Rules(admin, "clone3")[0]["action"], "SCMP_ACT_ALLOW");

  HostFacts old = Host();
  old.kernel_major = 4;
  old.kernel_minor = 4;
  EXPECT_TRUE(Rules(Profile(old, Defaults()), "ptrace").empty());

  HostFacts arm = Host();
  arm.architecture = "arm64";
  EXPECT_TRUE(Rules(Profile(arm, Defaults()), "arch_prctl").empty());
  EXPECT_EQ(Profile(arm, Defaults())["architectures"],
            (json{"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}));
}

TEST(DefaultProfileTest, SeccompTextIsCached) {
  EXPECT_EQ(DefaultSeccomp(Host(), Defaults()).get(), DefaultSeccomp(Host(), Defaults()).get());
}

TEST(DefaultProfileTest, ResolvesDockerProfile) {
  const auto resolved = ResolveSeccomp(R"({
    "defaultAction":"SCMP_ACT_ERRNO","archMap":[
      {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
      {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
    "syscalls":[
      {"name":"read","action":"SCMP_ACT_ALLOW","comment":"old form"},
      {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
      {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
      {"names":["s390"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}},
      {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"arches":["amd64"]}}]})",
                                       Host(), Defaults());
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(*ParseJson(*resolved, "x"), json::parse(R"({
    "defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
    "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["ptrace"],"action":"SCMP_ACT_ALLOW"}]})"));
}

TEST(DefaultProfileTest, RefusesMalformedProfiles) {
  for (
      const char* text :
      {"", "[]", "{}", R"({"defaultAction":"ALLOW"})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"maybe"}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ALLOW"}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ALLOW","args":[{"op":"~"}]}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["a"],"archMap":[{"architecture":"b"}]})"}) {
    EXPECT_EQ(ResolveSeccomp(text, Host(), {}).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace gantry::oci
