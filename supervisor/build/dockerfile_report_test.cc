#include "supervisor/build/dockerfile_report.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/match.h"
#include "nlohmann/json.hpp"

namespace gantry::build {
namespace {

constexpr char kText[] =
    "ARG BASE=busybox\n"
    "ARG UNUSED=1\n"
    "FROM $BASE AS tools\n"
    "# VERSION which one to build\n"
    "ARG VERSION=1\n"
    "RUN --mount=type=secret,id=token,required --mount=type=ssh make\n"
    "FROM tools AS other\n"
    "ARG ELSEWHERE\n"
    "# app what runs in the end\n"
    "FROM scratch AS app\n"
    "COPY --from=tools /a $b /\n";

absl::StatusOr<DockerfileReport> Report(absl::string_view call, absl::string_view text = kText,
                                        std::vector<Lint> lints = {}) {
  const absl::StatusOr<Dockerfile> file = ParseDockerfile(text, "Dockerfile");
  if (!file.ok()) return file.status();
  const absl::StatusOr<BuildPlan> plan = PlanBuild(*file, {});
  if (!plan.ok()) return plan.status();
  return DescribeDockerfile(call, text, *file, *plan, lints);
}

TEST(DockerfileReportTest, CheckShowsEachWarningWithItsPlace) {
  const DockerfileReport report =
      *Report("check", "FROM a\nUSER u\nCMD x\n", {{"JSONArgsRecommended", "why", 3}});
  EXPECT_TRUE(report.failed);
  EXPECT_EQ(report.text,
            "Check complete, 1 warning has been found!\n\n"
            "WARNING: JSONArgsRecommended - "
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/\n"
            "why\nDockerfile:3\n--------------------\n"
            "   1 |     FROM a\n   2 |     USER u\n   3 | >>> CMD x\n   4 |\n"
            "--------------------\n");
  const auto json = nlohmann::json::parse(report.json);
  EXPECT_EQ(json["warnings"][0]["ruleName"], "JSONArgsRecommended");
  EXPECT_EQ(json["warnings"][0]["location"]["ranges"][0]["start"]["line"], 3);
  EXPECT_EQ(json["sources"][0]["filename"], "Dockerfile");
  EXPECT_EQ(Report("check")->text, "Check complete, no warnings found.\n");
  EXPECT_FALSE(Report("check")->failed);
}

TEST(DockerfileReportTest, OutlineIsWhatTheTargetAsksFor) {
  const DockerfileReport report = *Report("outline");
  EXPECT_EQ(report.text,
            "TARGET:        app\n"
            "DESCRIPTION:   what runs in the end\n\n"
            "BUILD ARG   VALUE     DESCRIPTION\n"
            "BASE        busybox\n"
            "VERSION     1         which one to build\n\n"
            "SECRET   REQUIRED\n"
            "token    true\n\n"
            "SSH       REQUIRED\n"
            "default\n");
  const auto json = nlohmann::json::parse(report.json);
  EXPECT_EQ(json["args"].size(), 2u);
  EXPECT_EQ(json["args"][1]["description"], "which one to build");
  EXPECT_EQ(json["secrets"][0]["required"], true);
  EXPECT_TRUE(json["sources"][0].is_string());
}

TEST(DockerfileReportTest, TargetsAreTheStagesWithNames) {
  EXPECT_EQ(Report("targets")->text,
            "TARGET          DESCRIPTION\n"
            "tools\n"
            "other\n"
            "app (default)   what runs in the end\n");
  EXPECT_EQ(Report("targets", "FROM a\nFROM b\n")->text, "TARGET      DESCRIPTION\n(default)\n");
  const auto json = nlohmann::json::parse(Report("targets")->json);
  EXPECT_EQ(json["targets"][2]["base"], "scratch");
  EXPECT_TRUE(json["sources"][0].is_string());
}

TEST(DockerfileReportTest, OtherCallsAreRefused) {
  EXPECT_EQ(Report("target").status().message(),
            "call \"target\": there is build, check, outline and targets (did you mean targets?)");
  EXPECT_TRUE(absl::StrContains(Report("describe")->text, "frontend.outline"));
}

TEST(DockerfileReportTest, StagesOnScratchAreLinted) {
  const BuildPlan plan = *PlanBuild(*ParseDockerfile(kText, "Dockerfile"), {});
  const std::vector<Lint> lints = LintStages(plan);
  ASSERT_EQ(lints.size(), 1u);
  EXPECT_EQ(lints[0].rule, "UndefinedVar");
  EXPECT_EQ(lints[0].line, 11);
}

}  // namespace
}  // namespace gantry::build
