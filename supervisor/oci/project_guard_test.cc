#include "supervisor/oci/project_guard.h"

#include <linux/fs.h>

#include <cstdint>

#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

namespace gantry::oci {
namespace {

using nlohmann::json;

// What the kernel makes of the rules for one request.
bool Allowed(const json& seccomp, uint64_t request) {
  for (const json& rule : seccomp["syscalls"]) {
    if (rule["names"] != json::array({"ioctl"}) && rule["names"][0] != "ioctl") continue;
    if (!rule.contains("args") || rule["args"].empty()) return true;
    const json& arg = rule["args"][0];
    EXPECT_EQ(rule["args"].size(), 1u);
    EXPECT_EQ(arg["index"], 1);
    EXPECT_EQ(arg["op"], "SCMP_CMP_MASKED_EQ");
    if ((request & arg["value"].get<uint64_t>()) == arg["valueTwo"].get<uint64_t>()) return true;
  }
  return false;
}

TEST(ProjectGuardTest, OneRequestIsRefusedHoweverItIsWrittenAndNoOther) {
  json seccomp = json::parse(R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
      {"names":["ioctl"],"action":"SCMP_ACT_ALLOW"},
      {"names":["read","ioctl","write"],"action":"SCMP_ACT_ALLOW"},
      {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}]})");
  EXPECT_TRUE(Allowed(seccomp, FS_IOC_FSSETXATTR));
  ForbidProjectChange(seccomp);
  const uint64_t request = FS_IOC_FSSETXATTR;
  EXPECT_FALSE(Allowed(seccomp, request));
  EXPECT_FALSE(Allowed(seccomp, request | uint64_t{1} << 32));
  EXPECT_FALSE(Allowed(seccomp, request | uint64_t{0xffffffff} << 32));
  for (uint64_t other : {uint64_t{0}, uint64_t{0x5401}, uint64_t{FS_IOC_FSGETXATTR}, request ^ 1,
                         request ^ (uint64_t{1} << 31), uint64_t{0xffffffff}})
    EXPECT_TRUE(Allowed(seccomp, other)) << other;
  EXPECT_EQ(seccomp["syscalls"][0]["names"], json::array({"read", "write"}));
  EXPECT_EQ(seccomp["syscalls"].size(), 2u + 32u);
}

TEST(ProjectGuardTest, AFilterThatAllowsNoIoctlStaysAsItIs) {
  json seccomp = json::parse(R"({"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]})");
  const json before = seccomp;
  ForbidProjectChange(seccomp);
  EXPECT_EQ(seccomp, before);
  json none;
  ForbidProjectChange(none);
  EXPECT_TRUE(none.is_null());
}

}  // namespace
}  // namespace gantry::oci
