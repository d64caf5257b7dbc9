#include "supervisor/build/stage_evaluator.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace gantry::build {
namespace {

using Words = std::vector<std::string>;
constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// The last stage of a Dockerfile, evaluated to its end.
struct Evaluated {
  absl::Status status;
  BuildPlan plan;
  std::vector<std::unique_ptr<StageEvaluator>> stages;
  std::vector<LayerStep> steps;  // of the last one

  const oci::ImageConfig& config() const { return stages.back()->config(); }
  std::string history(size_t from_end = 0) const {
    const auto& history = config().history;
    return history[history.size() - 1 - from_end].created_by;
  }
};

Evaluated Evaluate(absl::string_view text, oci::ImageConfig base = {}, BuildArgs args = {}) {
  Evaluated out;
  absl::StatusOr<Dockerfile> file = ParseDockerfile(text, "Dockerfile");
  EXPECT_TRUE(file.ok()) << file.status();
  PlanOptions options;
  options.args = std::move(args);
  absl::StatusOr<BuildPlan> plan = PlanBuild(*std::move(file), options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  out.plan = *std::move(plan);
  for (const Stage& stage : out.plan.stages) {
    const bool on_stage = stage.base.kind == Source::Kind::kStage;
    const StageEvaluator* before = on_stage ? out.stages[stage.base.stage].get() : nullptr;
    out.stages.push_back(std::make_unique<StageEvaluator>(
        out.plan, stage.index, before ? before->config() : base, before));
    StageEvaluator& evaluator = *out.stages.back();
    out.steps.clear();
    std::vector<Instruction> instructions = *evaluator.TakeTriggers();
    instructions.insert(instructions.end(), stage.instructions.begin(), stage.instructions.end());
    for (const Instruction& instruction : instructions) {
      absl::StatusOr<absl::optional<LayerStep>> step = evaluator.Next(instruction);
      if (!step.ok()) {
        out.status = step.status();
        return out;
      }
      if (!step->has_value()) continue;
      evaluator.Done(**step, true);
      out.steps.push_back(**std::move(step));
    }
  }
  return out;
}

std::string Value(const LayerStep& step, const std::string& name) {
  for (const std::string& entry : step.environment) {
    if (entry.rfind(name + "=", 0) == 0) return entry.substr(name.size() + 1);
  }
  return "(unset)";
}

TEST(StageEvaluatorTest, AnInstructionSeesTheVariablesBeforeIt) {
  const Evaluated out = Evaluate("FROM a\nENV A=0\nENV A=1 B=$A\nENV X a  \"b c\"\n");
  EXPECT_EQ(out.config().env, (Words{kPath, "A=1", "B=0", "X=a  b c"}));
  EXPECT_EQ(out.history(1), "ENV A=1 B=0");
}

TEST(StageEvaluatorTest, ScratchHasADefaultPath) {
  EXPECT_EQ(Evaluate("FROM scratch\nENV PATH=/o:$PATH").config().env,
            (Words{"PATH=/o:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}));
}

TEST(StageEvaluatorTest, ArgsBeginAtTheirLine) {
  constexpr char kText[] = "ARG V=1\nFROM b\nRUN echo $V\nARG V\nRUN echo $V\n";
  Evaluated out = Evaluate(kText);
  EXPECT_EQ(Value(out.steps[0], "V"), "(unset)");
  EXPECT_EQ(Value(out.steps[1], "V"), "1");
  EXPECT_EQ(out.steps[1].created_by, "RUN |1 V=1 /bin/sh -c echo $V # buildkit");
  out = Evaluate(kText, {}, {{"V", "2"}});
  EXPECT_EQ(Value(out.steps[0], "V"), "(unset)");
  EXPECT_EQ(Value(out.steps[1], "V"), "2");
  EXPECT_EQ(out.history(1), "ARG V=2");
}

TEST(StageEvaluatorTest, ArgsSeeEachOtherAndGoToStagesBuiltOnThem) {
  Evaluated out = Evaluate("FROM a AS x\nARG A=1 B=$A\nFROM x\nRUN echo $B");
  EXPECT_EQ(Value(out.steps[0], "B"), "1");
  out = Evaluate("FROM a\nENV X=e\nARG X=a\nRUN echo $X");
  EXPECT_EQ(Value(out.steps[0], "X"), "a");
  EXPECT_EQ(out.config().env.back(), "X=e");
}

TEST(StageEvaluatorTest, ProxiesAreNoPartOfHistory) {
  const Evaluated out = Evaluate("FROM a\nRUN x", {}, {{"http_proxy", "p"}});
  EXPECT_EQ(out.steps[0].proxies.at("HTTP_PROXY"), "p");
  EXPECT_EQ(out.steps[0].created_by, "RUN /bin/sh -c x # buildkit");
}

TEST(StageEvaluatorTest, AnEntrypointDropsTheCommandOfTheBase) {
  oci::ImageConfig base;
  base.cmd = {"c"};
  EXPECT_EQ(Evaluate("FROM a\nENTRYPOINT [\"e\"]", base).config().cmd, Words{});
  EXPECT_EQ(Evaluate("FROM a\nCMD [\"d\"]\nENTRYPOINT [\"e\"]", base).config().cmd, Words{"d"});
  EXPECT_EQ(Evaluate("FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD x y").config().cmd,
            (Words{"/bin/bash", "-c", "x y"}));
  EXPECT_EQ(Evaluate("FROM a\nCMD [\"a\", \"b\"]").history(), "CMD [\"a\" \"b\"]");
}

TEST(StageEvaluatorTest, Ports) {
  const Evaluated out = Evaluate("FROM a\nEXPOSE 80 443/UDP 9000-9001");
  EXPECT_EQ(out.config().exposed_ports,
            (std::set<std::string>{"443/udp", "80/tcp", "9000/tcp", "9001/tcp"}));
  EXPECT_EQ(out.history(), "EXPOSE [443/udp 80/tcp 9000/tcp 9001/tcp]");
  EXPECT_EQ(Evaluate("FROM a\nENV P=\"1 2\"\nEXPOSE $P").config().exposed_ports.size(), 2u);
  EXPECT_EQ(Evaluate("FROM a\nEXPOSE 80/x").status.message(),
            "Dockerfile: dockerfile parse error on line 2: invalid port: \"80/x\": invalid proto: "
            "x");
}

TEST(StageEvaluatorTest, WorkingDirectories) {
  const Evaluated out = Evaluate("FROM scratch\nWORKDIR a\nWORKDIR ../b\nUSER 7\nWORKDIR /w");
  ASSERT_EQ(out.steps.size(), 3u);
  EXPECT_EQ(out.steps[0].working_dir, "/a");
  EXPECT_EQ(out.steps[1].working_dir, "/b");
  EXPECT_EQ(out.steps[2].user, "7");
  EXPECT_TRUE(Evaluate("FROM a\nWORKDIR /").steps.empty());
  EXPECT_EQ(
      Evaluate("FROM a\nENV F=a.tar.gz\nWORKDIR /${F%%.*}/${F#*.}/${F//a/b}").config().working_dir,
      "/a/tar.gz/b.tbr.gz");
}

TEST(StageEvaluatorTest, Heredocs) {
  Evaluated out = Evaluate("FROM a\nENV N=1\nCOPY <<E /f\n$N \"$N\" \\$N a\\tb\nE\n");
  EXPECT_EQ(out.steps[0].sources[0].content, "1 \"1\" $N atb\n");
  EXPECT_EQ(out.steps[0].created_by, "COPY <<E /f # buildkit");
  out = Evaluate("FROM a\nRUN <<E\n#!/bin/cat\nhi\nE\nRUN cat <<E >/f\n$PATH\nE\nRUN <<E\na\nb\nE");
  EXPECT_EQ(out.steps[0].arguments, (Words{"/bin/sh", "-c", "/dev/pipes/E"}));
  EXPECT_EQ(out.steps[0].script, "#!/bin/cat\nhi\n");
  EXPECT_EQ(out.steps[1].arguments[2], "cat <<E >/f\n$PATH\nE");
  EXPECT_EQ(out.steps[2].arguments[2], "a\nb\n");
}

TEST(StageEvaluatorTest, TriggersRunOnceInTheChild) {
  constexpr char kText[] =
      "FROM a AS parent\nONBUILD RUN r\nFROM parent AS child\nRUN own\nFROM child\n";
  const Evaluated out = Evaluate(kText);
  EXPECT_EQ(out.stages[0]->config().on_build, Words{"RUN r"});
  EXPECT_EQ(out.stages[1]->config().history[0].created_by, "RUN /bin/sh -c r # buildkit");
  EXPECT_EQ(out.stages[1]->config().history[1].created_by, "RUN /bin/sh -c own # buildkit");
  EXPECT_TRUE(out.stages[1]->config().on_build.empty());
  EXPECT_TRUE(out.steps.empty());
}

TEST(StageEvaluatorTest, HealthChecks) {
  const Evaluated out =
      Evaluate("FROM a\nHEALTHCHECK --interval=1m30s --retries=3 CMD curl x\nHEALTHCHECK NONE");
  EXPECT_EQ(out.config().health_check->test, Words{"NONE"});
  EXPECT_EQ(out.history(1),
            "HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:1m30s Timeout:0s StartPeriod:0s "
            "StartInterval:0s Retries:3}");
  EXPECT_EQ(Evaluate("FROM a\nHEALTHCHECK --interval=1us CMD x").status.message(),
            "Dockerfile: dockerfile parse error on line 2: Interval \"interval\" cannot be less "
            "than 1ms");
}

TEST(StageEvaluatorTest, CopiesAreExpanded) {
  const Evaluated out = Evaluate(
      "FROM a AS x\nFROM a\nENV D=d\nWORKDIR /w\nCOPY --from=x --chown=1:2 --link $D s/ $D/\n"
      "COPY \"a b\" /x y\n");
  EXPECT_FALSE(out.status.ok());  // a word of its own that opens a quote
  const LayerStep& copy = out.steps[1];
  EXPECT_EQ(copy.sources[0].path, "d");
  EXPECT_EQ(copy.destination, "/w/d/");
  EXPECT_EQ(copy.from.stage, 0);
  EXPECT_TRUE(copy.link);
  EXPECT_EQ(copy.created_by, "COPY --chown=1:2 d s/ d/ # buildkit");
  EXPECT_EQ(Evaluate("FROM a\nCOPY http://h/x /").status.message(),
            "Dockerfile: dockerfile parse error on line 2: source can't be a URL for COPY");
  EXPECT_EQ(Evaluate("FROM a\nADD --checksum=sha256:0 x /").status.message(),
            "Dockerfile: dockerfile parse error on line 2: checksum requires HTTP(S) or Git "
            "sources");
}

TEST(StageEvaluatorTest, MountsOfRun) {
  Evaluated out = Evaluate(
      "FROM a\nENV D=/c\nWORKDIR /w\n"
      "RUN --mount=type=cache,target=$D,sharing=locked,uid=7 "
      "--mount=type=secret,id=key,mode=0444 --mount=target=x,rw "
      "--mount=type=tmpfs,dst=/t,size=1m x");
  ASSERT_TRUE(out.status.ok()) << out.status;
  const std::vector<RunMount>& mounts = out.steps[1].mounts;
  EXPECT_EQ(mounts[0].target, "/c");
  EXPECT_EQ(mounts[0].id, "/c");
  EXPECT_EQ(mounts[0].sharing, RunMount::Sharing::kLocked);
  EXPECT_EQ(mounts[1].target, "/run/secrets/key");
  EXPECT_EQ(*mounts[1].mode, 0444u);
  EXPECT_EQ(mounts[2].target, "/w/x");
  EXPECT_FALSE(mounts[2].read_only);
  EXPECT_EQ(mounts[3].size_bytes, 1 << 20);
  EXPECT_EQ(Evaluate("FROM a\nRUN --mount=type=cach,target=/x y").status.message(),
            "Dockerfile: dockerfile parse error on line 2: unsupported mount type \"cach\" (did "
            "you mean cache?)");
  EXPECT_EQ(Evaluate("FROM a\nRUN --mount=type=bind,taret=/x y").status.message(),
            "Dockerfile: dockerfile parse error on line 2: RUN --mount: unexpected key 'taret' in "
            "'taret=/x' (did you mean target?)");
  EXPECT_EQ(Evaluate("FROM a\nRUN --mount=target=/ y").status.message(),
            "Dockerfile: dockerfile parse error on line 2: RUN --mount=target=/: invalid mount "
            "target \"/\"");
}

TEST(StageEvaluatorTest, RunChecksNetworkAndSecurity) {
  EXPECT_EQ(Evaluate("FROM a\nRUN --network=hst x").status.message(),
            "Dockerfile: dockerfile parse error on line 2: invalid network mode \"hst\" (did you "
            "mean host?)");
  EXPECT_EQ(Evaluate("FROM a\nRUN --security=x y").status.message(),
            "Dockerfile: dockerfile parse error on line 2: security \"x\" is not valid");
}

TEST(StageEvaluatorTest, Stopsignals) {
  EXPECT_EQ(Evaluate("FROM a\nSTOPSIGNAL kill").config().stop_signal, "kill");
  EXPECT_EQ(Evaluate("FROM a\nSTOPSIGNAL SIGNOPE").status.message(),
            "Dockerfile: dockerfile parse error on line 2: invalid signal: SIGNOPE");
}

}  // namespace
}  // namespace gantry::build
