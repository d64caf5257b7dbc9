#include "supervisor/build/emulation.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::build {
namespace {

content::Platform Linux(const std::string& architecture) {
  return {"linux", architecture, "", "", {}};
}

// As Debian's qemu-user-static registers it.
constexpr char kAarch64[] =
    "enabled\n"
    "interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\n"
    "flags: POCF\n"
    "offset 0\n"
    "magic 7f454c460201010000000000000000000200b700\n"
    "mask ffffffffffffff00fffffffffffffffffeffffff\n";

class EmulationTest : public testing::Test {
 protected:
  void Register(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFile(table_.path() + "/" + name, text).ok());
  }
  Emulation Made() const { return Emulation(Linux("amd64"), table_.path()); }
  static absl::StatusOr<BuildPlan> Plan(const std::string& text, const std::string& target) {
    auto dockerfile = ParseDockerfile(text, "Dockerfile");
    EXPECT_TRUE(dockerfile.ok()) << dockerfile.status();
    PlanOptions options;
    options.build_platform = Linux("amd64");
    options.target_platform = Linux(target);
    return PlanBuild(*dockerfile, options);
  }

  TempDir table_;
};

TEST_F(EmulationTest, TheMachinesOwnProgramsRun) {
  EXPECT_TRUE(Made().Runs(Linux("amd64")));
  EXPECT_TRUE(Made().Runs(Linux("386")));
  EXPECT_FALSE(Made().Runs(Linux("arm64")));
  EXPECT_FALSE(Emulation(Linux("amd64"), "/nowhere").Runs(Linux("arm64")));
}

TEST_F(EmulationTest, WhatTheKernelHandsToAnInterpreterRuns) {
  Register("qemu-aarch64", kAarch64);
  Register("status", "enabled\n");
  Register("register", "");
  EXPECT_TRUE(Made().Runs(Linux("arm64")));
  EXPECT_FALSE(Made().Runs(Linux("arm")));
  EXPECT_FALSE(Made().Runs(Linux("riscv64")));
  EXPECT_FALSE(Made().Runs(Linux("pdp11")));
  Register("status", "disabled\n");
  EXPECT_FALSE(Made().Runs(Linux("arm64")));
}

TEST_F(EmulationTest, AnInterpreterThatIsOffOrNotHeldOpenDoesNotCount) {
  std::string text = kAarch64;
  Register("a", "dis" + text.substr(2));
  text.replace(text.find("POCF"), 4, "POC");
  Register("b", text);
  EXPECT_FALSE(Made().Runs(Linux("arm64")));
}

TEST_F(EmulationTest, AForeignCommandIsRefusedBeforeAnythingRuns) {
  const auto plan = Plan("FROM base\nCOPY a b\nRUN make\n", "arm64");
  ASSERT_TRUE(plan.ok()) << plan.status();
  const absl::Status refused = Made().Check(*plan);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  for (const char* part : {"Dockerfile:3: RUN", "linux/arm64", "linux/amd64", "qemu-user-static",
                           "--platform=$BUILDPLATFORM"})
    EXPECT_TRUE(absl::StrContains(refused.message(), part)) << refused;
  Register("qemu-aarch64", kAarch64);
  EXPECT_TRUE(Made().Check(*plan).ok());
}

TEST_F(EmulationTest, StagesOfTheBuildsPlatformAndCopiesNeedNoEmulator) {
  const auto plan = Plan(
      "FROM --platform=$BUILDPLATFORM base AS made\nARG TARGETARCH\nRUN make $TARGETARCH\n"
      "FROM made AS more\nRUN more\n"
      "FROM scratch\nCOPY --from=more a b\nCMD [\"b\"]\n",
      "arm64");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(Made().Check(*plan).ok()) << Made().Check(*plan);
  EXPECT_EQ(plan->stages[1].made_for.architecture, "amd64");
  EXPECT_EQ(plan->stages[2].made_for.architecture, "arm64");
  // What the target does not need is not looked at.
  EXPECT_TRUE(
      Made().Check(*Plan("FROM base AS x\nRUN make\nFROM scratch\nCOPY a b\n", "arm64")).ok());
}

}  // namespace
}  // namespace gantry::build
