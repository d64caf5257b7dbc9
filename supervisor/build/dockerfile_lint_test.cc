#include "supervisor/build/dockerfile_lint.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "supervisor/build/stage_evaluator.h"

namespace gantry::build {
namespace {

using Words = std::vector<std::string>;

// "LINE RULE: TEXT" of all that is reported, from the text, the plan and its stages.
Words Reported(absl::string_view text, BuildArgs args = {}, absl::string_view ignore = "") {
  absl::StatusOr<Dockerfile> file = ParseDockerfile(text, "Dockerfile");
  EXPECT_TRUE(file.ok()) << file.status();
  const absl::StatusOr<LintRules> rules = LintRules::Of(*file, args);
  EXPECT_TRUE(rules.ok()) << rules.status();
  std::vector<Lint> lints = LintDockerfile(*file, *engine::IgnoreRules::Parse(ignore));
  PlanOptions options;
  options.args = std::move(args);
  options.build_platform.os = options.target_platform.os = "linux";
  options.build_platform.architecture = options.target_platform.architecture = "amd64";
  const absl::StatusOr<BuildPlan> plan = PlanBuild(*std::move(file), options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  lints.insert(lints.end(), plan->lints.begin(), plan->lints.end());
  for (const Stage& stage : plan->stages) {
    StageEvaluator evaluator(*plan, stage.index, {}, nullptr);
    for (const Instruction& instruction : stage.instructions)
      EXPECT_TRUE(evaluator.Next(instruction).ok()) << instruction.original;
    lints.insert(lints.end(), evaluator.lints().begin(), evaluator.lints().end());
  }
  Words out;
  for (const Lint& lint : lints) {
    if (rules->Reports(lint))
      out.push_back(absl::StrCat(lint.line, " ", lint.rule, ": ", lint.text));
  }
  return out;
}

TEST(DockerfileLintTest, CasingOfStagesAndKeywords) {
  EXPECT_EQ(Reported("FROM a AS Base\n"),
            (Words{"1 StageNameCasing: Stage name 'Base' should be lowercase"}));
  EXPECT_EQ(Reported("FROM a as base\n"),
            (Words{"1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"}));
  EXPECT_EQ(Reported("from a as base\nrun x\n"), Words{});
  EXPECT_EQ(Reported("FROM a\nRun x\nUSER u\n"),
            (Words{"2 ConsistentInstructionCasing: Command 'Run' should match the case of the "
                   "command majority (uppercase)"}));
  EXPECT_EQ(Reported("from a\nRUN x\nuser u\n"),
            (Words{"2 ConsistentInstructionCasing: Command 'RUN' should match the case of the "
                   "command majority (lowercase)"}));
}

TEST(DockerfileLintTest, NamesOfStages) {
  EXPECT_EQ(Reported("FROM a AS scratch\nFROM a AS b\nFROM a AS b\n"),
            (Words{"1 ReservedStageName: Stage name should not use the same name as reserved "
                   "stage \"scratch\"",
                   "3 DuplicateStageName: Duplicate stage name \"b\", stage names should be "
                   "unique"}));
}

TEST(DockerfileLintTest, CommandsInShellForm) {
  const Words expected = {
      "2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior "
      "related to OS signals"};
  EXPECT_EQ(Reported("FROM a\nCMD x y\n"), expected);
  EXPECT_EQ(Reported("FROM a\nCMD [\"x\"]\n"), Words{});
  // Whoever names a shell wants it, in stages that stand on this one, too.
  EXPECT_EQ(Reported("FROM a AS b\nSHELL [\"bash\", \"-c\"]\nFROM b\nENTRYPOINT x\n"), Words{});
}

TEST(DockerfileLintTest, OfSeveralOnlyTheLastCounts) {
  EXPECT_EQ(Reported("FROM a\nCMD [\"x\"]\nCMD [\"y\"]\nCMD [\"z\"]\nFROM a\nCMD [\"x\"]\n"),
            (Words{"2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used "
                   "in the same stage because only the last one will be used",
                   "3 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used "
                   "in the same stage because only the last one will be used"}));
}

TEST(DockerfileLintTest, SecretsInVariables) {
  EXPECT_EQ(Reported("FROM a\nARG GITHUB_TOKEN\nENV api_key=1 KEY_VERSION=2 MONKEY=3\n"),
            (Words{"2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data "
                   "(ARG \"GITHUB_TOKEN\")",
                   "3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data "
                   "(ENV \"api_key\")"}));
}

TEST(DockerfileLintTest, Platforms) {
  EXPECT_EQ(Reported("FROM --platform=$TARGETPLATFORM a\n"),
            (Words{"1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in "
                   "FROM is redundant as this is the default behavior"}));
  EXPECT_EQ(Reported("FROM --platform=linux/arm64 a AS b\n"),
            (Words{"1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use "
                   "constant value \"linux/arm64\""}));
  EXPECT_EQ(Reported("FROM --platform=linux/arm64 a AS build-arm64\n"), Words{});
  EXPECT_EQ(Reported("FROM --platform=$BUILDPLATFORM a\n"), Words{});
}

TEST(DockerfileLintTest, ArgsOfFrom) {
  EXPECT_EQ(Reported("ARG T\nFROM a:${T}\n", {{"T", "1"}}),
            (Words{"2 InvalidDefaultArgInFrom: Default value for ARG a:${T} results in empty or "
                   "invalid base image name"}));
  EXPECT_EQ(Reported("ARG T=1\nFROM a:${T}\n", {{"T", "2"}}), Words{});
  EXPECT_EQ(Reported("ARG BASE=a\nFROM ${BAES:-a}\n"),
            (Words{"2 UndefinedArgInFrom: FROM argument 'BAES' is not declared (did you mean "
                   "BASE?)"}));
}

TEST(DockerfileLintTest, RelativeDirectories) {
  EXPECT_EQ(Reported("FROM a\nWORKDIR x\nWORKDIR y\n"),
            (Words{"2 WorkdirRelativePath: Relative workdir \"x\" can have unexpected results if "
                   "the base image changes"}));
  EXPECT_EQ(Reported("FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y\n"), Words{});
}

TEST(DockerfileLintTest, PortsAreNumbersAndProtocols) {
  EXPECT_EQ(Reported("FROM a\nEXPOSE 80/TCP 127.0.0.1:81:82 83\n"),
            (Words{"2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be "
                   "lowercase",
                   "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or "
                   "host-port mapping, found '127.0.0.1:81:82'"}));
}

TEST(DockerfileLintTest, VariablesThatNothingSets) {
  EXPECT_EQ(Reported("FROM a\nARG GIVEN\nENV APP=/app\nWORKDIR $AP/$GIVEN\nCOPY $x /\n"),
            (Words{"4 UndefinedVar: Usage of undefined variable '$AP' (did you mean $APP?)",
                   "5 UndefinedVar: Usage of undefined variable '$x'"}));
  EXPECT_EQ(Reported("FROM a\nENV PATH=/o:$PATH\nRUN echo $NOT_OURS\n"), Words{});
}

TEST(DockerfileLintTest, IgnoredFilesAreNotThereToCopy) {
  EXPECT_EQ(Reported("FROM a AS b\nFROM a\nCOPY ./tmp/x y /\nADD tmp/z /\nCOPY --from=b tmp /\n",
                     {}, "tmp\n"),
            (Words{"3 CopyIgnoredFile: Attempting to Copy file \"tmp/x\" that is excluded by "
                   ".dockerignore",
                   "4 CopyIgnoredFile: Attempting to Add file \"tmp/z\" that is excluded by "
                   ".dockerignore"}));
  EXPECT_EQ(Reported("FROM a\nCOPY tmp /\n", {}, "tmp\n!tmp/kept\n"), Words{});
}

TEST(DockerfileLintTest, DescriptionsAreCheckedOnRequest) {
  constexpr char kText[] =
      "# check=experimental=all\n\n# which one\nARG V=1\n\n# far away\n\nARG W=1\n"
      "# x the base\nFROM a AS x\n";
  EXPECT_EQ(Reported(kText),
            (Words{"4 InvalidDefinitionDescription: Comment for build argument should follow the "
                   "format: `# V <description>`. If this is not intended to be a description "
                   "comment, add an empty line or comment between the instruction and the "
                   "comment."}));
  EXPECT_EQ(Reported("# which one\n# of them\nARG V=1\nFROM a\n"), Words{});
}

TEST(DockerfileLintTest, RulesAreSkipped) {
  EXPECT_EQ(Reported("# check=skip=StageNameCasing,fromascasing\nFROM a as B\n"), Words{});
  EXPECT_EQ(Reported("# check=skip=all;error=true\nFROM a as B\n"), Words{});
  EXPECT_EQ(Reported("FROM a\n# check=skip=JSONArgsRecommended\nCMD x\n"), Words{});
  EXPECT_EQ(Reported("FROM a\nCMD x\n", {{kCheckArgument, "skip=JSONArgsRecommended"}}), Words{});
  // The argument takes the directive's place.
  EXPECT_EQ(Reported("# check=skip=all\nFROM a\nCMD x\n", {{kCheckArgument, "error=true"}}).size(),
            1u);
}

TEST(DockerfileLintTest, LintsMayEndTheBuild) {
  const Dockerfile file = *ParseDockerfile("# check=error=true\nFROM a\n", "Dockerfile");
  EXPECT_TRUE(LintRules::Of(file, {})->fails());
  EXPECT_TRUE(LintFailure({}).ok());
  EXPECT_EQ(LintFailure({{"B", "", 1}, {"A", "", 2}, {"B", "", 3}}).message(),
            "lint violation found for rules: A, B");
  const Dockerfile wrong = *ParseDockerfile("# check=skp=all\nFROM a\n", "Dockerfile");
  EXPECT_EQ(LintRules::Of(wrong, {}).status().message(),
            "Dockerfile: # check: invalid check option \"skp\" (did you mean skip?)");
}

}  // namespace
}  // namespace gantry::build
