#include "supervisor/build/build_plan.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gantry::build {
namespace {

absl::StatusOr<BuildPlan> Plan(absl::string_view text, const std::string& target = "",
                               BuildArgs args = {}) {
  absl::StatusOr<Dockerfile> file = ParseDockerfile(text, "Dockerfile");
  if (!file.ok()) return file.status();
  PlanOptions options;
  options.args = std::move(args);
  options.target = target;
  options.build_platform.os = options.target_platform.os = "linux";
  options.build_platform.architecture = options.target_platform.architecture = "amd64";
  return PlanBuild(*std::move(file), options);
}

std::string ErrorOf(absl::string_view text, const std::string& target = "") {
  return std::string(Plan(text, target).status().message());
}

TEST(BuildPlanTest, GlobalArgsAreForFromLines) {
  absl::StatusOr<BuildPlan> plan = Plan("ARG T=1\nFROM alpine:${T}\nFROM alpine:${U:-3}");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages[0].base.image, "alpine:1");
  EXPECT_EQ(plan->stages[1].base.image, "alpine:3");
  ASSERT_EQ(plan->lints.size(), 1u);
  EXPECT_EQ(plan->lints[0].rule, "UndefinedArgInFrom");
  EXPECT_EQ(Plan("ARG T=1\nFROM a:$T", "", {{"T", "2"}})->stages[0].base.image, "a:2");
  EXPECT_EQ(ErrorOf("FROM $NONE"),
            "Dockerfile: dockerfile parse error on line 1: base name ($NONE) should not be blank");
}

TEST(BuildPlanTest, PlatformsAreKnown) {
  absl::StatusOr<BuildPlan> plan = Plan("FROM --platform=$BUILDPLATFORM x:$TARGETARCH");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages[0].platform, "linux/amd64");
  EXPECT_EQ(plan->stages[0].base.image, "x:amd64");
}

TEST(BuildPlanTest, OnlyWhatTheTargetNeedsIsInTheOrder) {
  constexpr char kText[] =
      "FROM a AS one\nFROM a AS two\nFROM scratch AS three\nCOPY --from=ONE / /\n"
      "FROM three\nRUN --mount=type=bind,from=two,target=/x true\nFROM b AS other";
  EXPECT_EQ(Plan(kText, "three")->order, (std::vector<int>{0, 2}));
  EXPECT_EQ(Plan(kText, "3")->order, (std::vector<int>{0, 2, 1, 3}));
  EXPECT_EQ(Plan(kText)->order, (std::vector<int>{4}));
  EXPECT_EQ(ErrorOf(kText, "thre"),
            "Dockerfile: target stage \"thre\" could not be found (did you mean three?)");
}

TEST(BuildPlanTest, StagesReadEarlierStages) {
  EXPECT_EQ(ErrorOf("FROM a\nCOPY --from=0 x y"),
            "Dockerfile: dockerfile parse error on line 2: circular dependency detected on stage: "
            "0");
  EXPECT_EQ(ErrorOf("FROM a\nCOPY --from=late x y\nFROM b AS late\nFROM a"
                    "\nCOPY --from=0 x y"),
            "Dockerfile: dockerfile parse error on line 2: cannot copy from stage \"late\", it "
            "needs to be defined before current stage \"stage-0\"");
  EXPECT_EQ(ErrorOf("FROM a\nCOPY --from=7 x y"),
            "Dockerfile: dockerfile parse error on line 2: invalid stage index 7");
  absl::StatusOr<BuildPlan> image = Plan("FROM a\nCOPY --from=busybox x y");
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(ResolveFrom(*image, 0, "busybox")->image, "busybox");
}

TEST(BuildPlanTest, NamesOfStages) {
  EXPECT_EQ(ErrorOf("FROM a AS 1x"),
            "Dockerfile: dockerfile parse error on line 1: invalid name for build stage: \"1x\", "
            "name can't start with a number or contain symbols");
  EXPECT_EQ(ErrorOf("RUN x\nFROM a"),
            "Dockerfile: dockerfile parse error on line 1: no build stage in current context: RUN "
            "comes before the first FROM");
  EXPECT_EQ(Plan("FROM a AS Base\nFROM base")->stages[1].base.stage, 0);
  EXPECT_EQ(Plan("FROM a AS x\nFROM b AS x\nFROM x")->stages[2].base.stage, 1);
}

TEST(BuildPlanTest, NamedContextsTakeThePlaceOfImagesAndStages) {
  absl::StatusOr<Dockerfile> file = ParseDockerfile(
      "FROM alpine AS tools\nFROM base\nCOPY --from=Assets /a /a\nCOPY --from=tools /b /b\n",
      "Dockerfile");
  ASSERT_TRUE(file.ok());
  PlanOptions options;
  options.contexts = {{"base", "docker-image://example.org/base:2"}, {"assets", ""}, {"tools", ""}};
  const absl::StatusOr<BuildPlan> plan = PlanBuild(*std::move(file), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->stages[1].base, (Source{Source::Kind::kImage, -1, "example.org/base:2"}));
  EXPECT_EQ(*ResolveFrom(*plan, 1, "Assets"), (Source{Source::Kind::kContext, -1, "assets"}));
  EXPECT_EQ(*ResolveFrom(*plan, 1, "tools"), (Source{Source::Kind::kContext, -1, "tools"}));
  EXPECT_EQ(plan->order, std::vector<int>{1});  // the stage of that name is not needed
}

}  // namespace
}  // namespace gantry::build
