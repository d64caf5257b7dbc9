// Probes of health checks, on fake shims.
#include "supervisor/core/container_probe.h"

#include <memory>
#include <optional>
#include <string>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "supervisor/core/container_fixture.h"
#include "supervisor/core/exec_runner.h"
#include "supervisor/core/exec_service.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/task_supervision.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ContainerProbeTest : public ContainerFixture, public ExitObserver {
 protected:
  ContainerProbeTest() {
    execs_ = std::make_unique<ExecService>(
        ExecService::Parts{records_.get(), nullptr, tasks_.get(), &host_});
    runner_ = std::make_unique<ExecRunner>(*execs_, *tasks_, *workers_, Clock::Real());
    prober_ = std::make_unique<ContainerProber>(*runner_);
    TaskSupervision(*tasks_).SetExitObserver(this);
    id_ = Make("web");
    EXPECT_TRUE(Start(id_).ok());
  }
  ~ContainerProbeTest() override {
    prober_->Stop();
    End();
  }
  void OnExit(const std::string& ns, const Process& process) override {
    if (!process.exec_id.empty()) execs_->OnExit(ns, process);
    recovery_->OnExit(ns, process);
  }

  void Probe(absl::Duration timeout = kPatience, const std::string& container = "web") {
    HealthOptions options;
    options.command = {"check", "--now"};
    options.timeout = timeout;
    prober_->Probe(kNs, container, options, [this](ProbeResult result) {
      absl::MutexLock lock(&mu_);
      EXPECT_FALSE(result_.has_value()) << "two results of one probe";
      result_ = std::move(result);
    });
  }
  // The process that runs the probe.
  Process Running() {
    std::optional<Process> exec;
    EXPECT_TRUE(Eventually([&] {
      for (const Process& one : tasks_->view().Execs(kNs, id_)) {
        if (one.status == ProcessStatus::kRunning) exec = one;
      }
      return exec.has_value();
    }));
    return exec.value_or(Process());
  }
  ProbeResult Result() {
    EXPECT_TRUE(Eventually([this] {
      absl::MutexLock lock(&mu_);
      return result_.has_value();
    }));
    absl::MutexLock lock(&mu_);
    return result_.value_or(ProbeResult());
  }

  absl::Mutex mu_;
  std::optional<ProbeResult> result_ ABSL_GUARDED_BY(mu_);
  std::string id_;
  std::unique_ptr<ExecService> execs_;
  std::unique_ptr<ExecRunner> runner_;
  std::unique_ptr<ContainerProber> prober_;
};

TEST_F(ContainerProbeTest, TheCheckIsAProcessOfTheContainerAndItsCodeTheResult) {
  Shim(id_).Output("it is well\n");
  Probe();
  const Process exec = Running();
  ASSERT_NE(exec.process_json, nullptr);
  EXPECT_THAT(nlohmann::json::parse(*exec.process_json)["args"], ElementsAre("check", "--now"));
  Shim(id_).Exit(exec.exec_id, 3);
  const ProbeResult result = Result();
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.output, "it is well\n");
  EXPECT_LE(result.start, result.end);
}

TEST_F(ContainerProbeTest, OnlyTheBeginningOfMuchOutputIsKept) {
  Shim(id_).Output(std::string(100000, 'x'));
  Probe();
  Shim(id_).Exit(Running().exec_id, 0);
  const ProbeResult result = Result();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_GE(result.output.size(), kMaxProbeOutput);
  EXPECT_LE(result.output.size(), kMaxProbeOutput + 4);
}

TEST_F(ContainerProbeTest, OneThatTakesTooLongSaysSo) {
  Shim(id_).Output("still at it");
  Probe(absl::Milliseconds(50));
  const ProbeResult result = Result();
  EXPECT_EQ(result.exit_code, -1);
  EXPECT_EQ(result.output, "Health check exceeded timeout (50ms)");
}

TEST_F(ContainerProbeTest, OneThatCannotBeStartedSaysWhy) {
  Shim(id_).FailCalls("Exec", absl::InternalError("no such program"));
  Probe();
  const ProbeResult result = Result();
  EXPECT_EQ(result.exit_code, -1);
  EXPECT_THAT(result.output, HasSubstr("no such program"));
}

TEST_F(ContainerProbeTest, AContainerThatIsGoneIsAResult) {
  Probe(kPatience, "gone");
  EXPECT_EQ(Result().exit_code, -1);
  EXPECT_THAT(Result().output, HasSubstr("gone"));
}

TEST_F(ContainerProbeTest, StopEndsTheOneUnderWay) {
  Probe();
  Running();
  prober_->Stop();
  EXPECT_EQ(Result().exit_code, -1);
}

}  // namespace
}  // namespace gantry::core
