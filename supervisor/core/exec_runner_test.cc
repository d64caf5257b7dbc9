// Commands that are run to their end, on fake shims.
#include "supervisor/core/exec_runner.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/container_streams.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/task_supervision.h"

namespace gantry::core {
namespace {

using testing::Contains;
using testing::HasSubstr;

class ExecRunnerTest : public ContainerFixture, public ExitObserver {
 protected:
  ExecRunnerTest() {
    execs_ = std::make_unique<ExecService>(
        ExecService::Parts{records_.get(), nullptr, tasks_.get(), &host_});
    runner_ = std::make_unique<ExecRunner>(*execs_, *tasks_, *workers_, Clock::Real());
    TaskSupervision(*tasks_).SetExitObserver(this);
    id_ = Make("web");
    EXPECT_TRUE(Start(id_).ok());
  }
  ~ExecRunnerTest() override {
    runner_->Stop();
    End();
  }

  void OnExit(const std::string& ns, const Process& process) override {
    if (!process.exec_id.empty()) execs_->OnExit(ns, process);
    recovery_->OnExit(ns, process);
  }

  void Run(const ExecRunner::Limits& limits = {}) {
    v1::ExecConfig config;
    config.add_command("true");
    give_up_ = runner_->RunToEnd(kNs, "web", config, limits, [this](RunResult result) {
      absl::MutexLock lock(&mu_);
      EXPECT_FALSE(result_.has_value()) << "two results of one run";
      result_ = std::move(result);
    });
  }
  // The exec that was started last.
  std::string ExecId() {
    std::string exec_id;
    EXPECT_TRUE(Eventually([&] {
      for (const auto& [id, started] : Execs()) exec_id = id;
      return !exec_id.empty();
    }));
    return exec_id;
  }
  std::vector<std::pair<std::string, int32_t>> Execs() {
    std::vector<std::pair<std::string, int32_t>> found;
    const auto shim = tasks_->view().Shim(kNs, id_);
    if (!shim.ok()) return found;
    const auto info = (*shim)->client().Info();
    if (!info.ok()) return found;
    for (const auto& exec : info->execs()) found.emplace_back(exec.exec_id(), exec.pid());
    return found;
  }
  bool Over() {
    absl::MutexLock lock(&mu_);
    return result_.has_value();
  }
  RunResult Result() {
    EXPECT_TRUE(Eventually([this] { return Over(); }));
    absl::MutexLock lock(&mu_);
    return result_.value_or(RunResult());
  }

  absl::Mutex mu_;
  std::optional<RunResult> result_ ABSL_GUARDED_BY(mu_);
  std::string id_;
  std::function<void()> give_up_;  // of the last run
  std::unique_ptr<ExecService> execs_;
  std::unique_ptr<ExecRunner> runner_;
};

TEST_F(ExecRunnerTest, CodeAndOutputComeWithTheEnd) {
  Shim(id_).Output("all is well\n");
  Run();
  EXPECT_FALSE(Over());
  const std::string exec_id = ExecId();
  Shim(id_).Exit(exec_id, 3);
  const RunResult result = Result();
  EXPECT_EQ(result.exit_code, 3u);
  EXPECT_EQ(result.out, "all is well\n");
  EXPECT_EQ(result.err, "");
  EXPECT_FALSE(result.timed_out);
  EXPECT_TRUE(result.error.ok()) << result.error;
  EXPECT_LE(result.start, result.end);
  EXPECT_TRUE(absl::IsNotFound(execs_->Inspect(context_, exec_id).status()));  // takes no room
}

TEST_F(ExecRunnerTest, OutputIsBounded) {
  Shim(id_).Output(std::string(10000, 'x'));
  ExecRunner::Limits limits;
  limits.output_bytes = 100;
  Run(limits);
  Shim(id_).Exit(ExecId(), 0);
  EXPECT_EQ(Result().out, std::string(100, 'x'));
}

TEST_F(ExecRunnerTest, WhatTakesTooLongIsKilled) {
  ExecRunner::Limits limits;
  limits.timeout = absl::Milliseconds(50);
  Run(limits);
  const RunResult result = Result();
  EXPECT_TRUE(result.timed_out);
  EXPECT_FALSE(result.exit_code.has_value());
  EXPECT_TRUE(Shim(id_).AwaitCalls("Kill"));
  EXPECT_TRUE(Eventually([this] { return Execs().empty(); }));  // and removed
}

TEST_F(ExecRunnerTest, WhatIsGivenUpIsKilled) {
  Run();
  ExecId();
  give_up_();
  const RunResult result = Result();
  EXPECT_TRUE(absl::IsCancelled(result.error)) << result.error;
  EXPECT_FALSE(result.timed_out);
  EXPECT_FALSE(result.exit_code.has_value());
  EXPECT_TRUE(Shim(id_).AwaitCalls("Kill"));
  EXPECT_TRUE(Eventually([this] { return Execs().empty(); }));
  give_up_();  // it is over
}

TEST_F(ExecRunnerTest, AChildThatKeepsTheStreamsOpenDelaysTheResultByTheDrainOnly) {
  Shim(id_).HoldStreams();
  Shim(id_).Output("said before the end");
  ExecRunner::Limits limits;
  limits.drain = absl::Milliseconds(20);
  Run(limits);
  Shim(id_).Exit(ExecId(), 7);
  const RunResult result = Result();
  EXPECT_EQ(result.exit_code, 7u);
  EXPECT_EQ(result.out, "said before the end");
  EXPECT_FALSE(result.timed_out);
  EXPECT_TRUE(result.error.ok()) << result.error;
}

TEST_F(ExecRunnerTest, TheTimeoutHoldsThoughAChildKeepsTheStreamsOpen) {
  Shim(id_).HoldStreams();
  ExecRunner::Limits limits;
  limits.timeout = absl::Milliseconds(200);
  limits.drain = absl::Hours(1);
  Run(limits);
  Shim(id_).Exit(ExecId(), 7);
  const RunResult result = Result();
  EXPECT_EQ(result.exit_code, 7u);  // it was over in time
  EXPECT_FALSE(result.timed_out);
}

TEST_F(ExecRunnerTest, AKilledProcessWhoseChildKeepsTheStreamsOpenHasTimedOut) {
  Shim(id_).HoldStreams();
  ExecRunner::Limits limits;
  limits.timeout = absl::Milliseconds(50);
  Run(limits);
  EXPECT_TRUE(Result().timed_out);
}

TEST_F(ExecRunnerTest, WhatCannotBeStartedIsAnError) {
  Shim(id_).FailCalls("Exec", absl::InternalError("no such program"));
  Run();
  const RunResult result = Result();
  EXPECT_FALSE(result.exit_code.has_value());
  EXPECT_THAT(std::string(result.error.message()), HasSubstr("no such program"));
}

TEST_F(ExecRunnerTest, AContainerThatDoesNotRunIsAnError) {
  Shim(id_).Exit("", 0);
  ASSERT_TRUE(Eventually([&] { return StateIs(id_) == v1::CONTAINER_STATE_EXITED; }));
  Run();
  EXPECT_TRUE(absl::IsFailedPrecondition(Result().error)) << Result().error;
}

TEST_F(ExecRunnerTest, TheDeathOfTheShimEndsIt) {
  Run();
  ExecId();
  launcher_.Kill({kNs, id_});
  const RunResult result = Result();
  EXPECT_TRUE(result.exit_code.has_value() || !result.error.ok());
  EXPECT_FALSE(result.timed_out);
}

TEST_F(ExecRunnerTest, StopEndsWhatIsUnderWayAndWhatFollows) {
  Run();
  ExecId();
  runner_->Stop();
  EXPECT_TRUE(absl::IsCancelled(Result().error)) << Result().error;
  {
    absl::MutexLock lock(&mu_);
    result_.reset();
  }
  Run();
  EXPECT_TRUE(absl::IsCancelled(Result().error)) << Result().error;
}

}  // namespace
}  // namespace gantry::core
