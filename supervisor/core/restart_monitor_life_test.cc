// The restart monitor at work, on fake shims.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "supervisor/core/container_fixture.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/restart_monitor.h"

namespace gantry::core {
namespace {

constexpr char kStatus[] = "containerd.io/restart.status";
constexpr char kPolicy[] = "containerd.io/restart.policy";
constexpr char kStopped[] = "containerd.io/restart.explicitly-stopped";
constexpr char kCount[] = "containerd.io/restart.count";
constexpr char kLogUri[] = "containerd.io/restart.loguri";

class RestartMonitorTest : public ContainerFixture {
 protected:
  RestartMonitorTest() {
    RestartMonitor::Parts parts;
    parts.stores = &stores_;
    parts.tasks = tasks_.get();
    parts.events = &events_;
    parts.workers = workers_.get();
    parts.interval = absl::Milliseconds(20);
    monitor_ = std::make_unique<RestartMonitor>(parts);
  }
  ~RestartMonitorTest() override {
    monitor_->Stop();
    End();
  }

  // As a client of the containerd API makes it.
  std::string Create(const std::string& id,
                     const std::vector<std::pair<std::string, std::string>>& labels) {
    metadata::NewContainer fresh;
    record::v1::Container& record = fresh.record;
    record.set_id(id);
    record.mutable_runtime()->set_name("io.containerd.runc.v2");
    record.mutable_spec()->set_type_url("spec");
    record.mutable_spec()->set_value(
        R"({"ociVersion":"1.0.2","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"},)"
        R"("linux":{"cgroupsPath":"/gantry-test-nowhere/c"}})");
    for (const auto& [key, value] : labels) (*record.mutable_labels())[key] = value;
    const auto created = stores_.containers.Create({kNs, ""}, fresh);
    EXPECT_TRUE(created.ok()) << created.status();
    return id;
  }
  void SetLabels(const std::string& id,
                 const std::vector<std::pair<std::string, std::string>>& labels) {
    record::v1::Container wanted;
    wanted.set_id(id);
    for (const auto& [key, value] : labels) (*wanted.mutable_labels())[key] = value;
    const auto record = stores_.containers.Update({kNs, ""}, wanted, {"labels"});
    ASSERT_TRUE(record.ok()) << record.status();
    Event event(EventKind::kContainer, action::kUpdate, id);
    ContainerFacts facts;
    facts.labels.insert(record->labels().begin(), record->labels().end());
    event.facts = std::move(facts);
    events_.Publish(kNs, std::move(event));
  }
  std::string Label(const std::string& id, const std::string& label) {
    const auto record = stores_.containers.Get({kNs, ""}, id);
    if (!record.ok()) return "no such container";
    const auto it = record->labels().find(label);
    return it == record->labels().end() ? "" : it->second;
  }
  bool Runs(const std::string& id) {
    const absl::StatusOr<Process> task = tasks_->view().Get(kNs, id, "");
    return task.ok() && task->status == ProcessStatus::kRunning;
  }
  bool RunsSoon(const std::string& id) {
    return Eventually([&] { return Runs(id); });
  }

  int launches_ = 0;
  std::unique_ptr<RestartMonitor> monitor_;
};

TEST_F(RestartMonitorTest, WhatShallRunIsStartedWithTheDaemon) {
  Create("c", {{kStatus, "running"}});
  Create("unlabelled", {});
  monitor_->Start();
  EXPECT_TRUE(RunsSoon("c"));
  EXPECT_EQ(Label("c", kCount), "");  // it had no task: this is no restart
  EXPECT_FALSE(tasks_->view().Exists(kNs, "unlabelled"));
}

TEST_F(RestartMonitorTest, AnExitIsAnsweredAndCounted) {
  Create("c", {{kStatus, "running"}});
  monitor_->Start();
  ASSERT_TRUE(RunsSoon("c"));
  Shim("c").Exit("", 1);
  ASSERT_TRUE(Eventually([&] { return Label("c", kCount) == "1"; }));
  EXPECT_TRUE(RunsSoon("c"));
}

TEST_F(RestartMonitorTest, OnFailureLeavesASuccessAlone) {
  Create("c", {{kStatus, "running"}});
  monitor_->Start();
  ASSERT_TRUE(RunsSoon("c"));
  SetLabels("c", {{kStatus, "running"}, {kPolicy, "on-failure"}});
  Shim("c").Exit("", 0);
  ASSERT_TRUE(Eventually([&] {
    const auto task = tasks_->view().Get(kNs, "c", "");
    return task.ok() && task->status == ProcessStatus::kStopped;
  }));
  // A second one that is restarted shows that the monitor has been through its events.
  Create("other", {{kStatus, "running"}});
  SetLabels("other", {{kStatus, "running"}});
  ASSERT_TRUE(RunsSoon("other"));
  EXPECT_FALSE(Runs("c"));
  EXPECT_EQ(Label("c", kCount), "");
}

TEST_F(RestartMonitorTest, WhatShallBeStoppedIsStoppedWhenTheLabelSaysSo) {
  Create("c", {{kStatus, "running"}});
  monitor_->Start();
  ASSERT_TRUE(RunsSoon("c"));
  SetLabels("c", {{kStatus, "stopped"}});
  EXPECT_TRUE(Eventually([&] { return !tasks_->view().Exists(kNs, "c"); }));
}

TEST_F(RestartMonitorTest, AClientsStopHoldsUntilTheNextDaemonUnderAlways) {
  Create("always", {{kStatus, "running"}, {kPolicy, "always"}, {kStopped, "true"}});
  Create("unless", {{kStatus, "running"}, {kPolicy, "unless-stopped"}, {kStopped, "true"}});
  monitor_->Start();
  EXPECT_TRUE(RunsSoon("always"));
  EXPECT_EQ(Label("always", kStopped), "false");
  EXPECT_FALSE(tasks_->view().Exists(kNs, "unless"));
  EXPECT_EQ(Label("unless", kStopped), "true");
}

TEST_F(RestartMonitorTest, ALabelThatIsTakenAwayEndsTheWatch) {
  Create("c", {{kStatus, "running"}});
  monitor_->Start();
  ASSERT_TRUE(RunsSoon("c"));
  SetLabels("c", {{"other", "label"}});
  Create("mark", {{kStatus, "running"}});
  SetLabels("mark", {{kStatus, "running"}});
  ASSERT_TRUE(RunsSoon("mark"));  // the event before it was handled
  Shim("c").Exit("", 1);
  Shim("mark").Exit("", 1);
  ASSERT_TRUE(Eventually([&] { return Label("mark", kCount) == "1"; }));
  EXPECT_FALSE(Runs("c"));
}

TEST_F(RestartMonitorTest, ATaskStartedHereGoesWithItsContainer) {
  Create("c", {{kStatus, "running"}});
  monitor_->Start();
  ASSERT_TRUE(RunsSoon("c"));
  ASSERT_TRUE(Eventually([&] {
    // The container goes as a client removes it that saw no task.
    if (stores_.containers.Get({kNs, ""}, "c").ok()) {
      EXPECT_TRUE(stores_.containers.Delete({kNs, ""}, "c").ok());
    }
    events_.Publish(kNs, Event(EventKind::kContainer, action::kDestroy, "c"));
    return !tasks_->view().Exists(kNs, "c");
  }));
}

TEST_F(RestartMonitorTest, OutputGoesOnlyWhereAClientHasSentItBefore) {
  Create("c", {{kStatus, "running"}, {kLogUri, "file:///etc/passwd"}});
  monitor_->Start();
  ASSERT_TRUE(RunsSoon("c"));
  EXPECT_EQ(Shim("c").create_request().stdio().stdout(), "");
}

TEST_F(RestartMonitorTest, AStartThatFailsIsTriedAgain) {
  Create("c", {{kStatus, "running"}});
  launcher_.OnLaunch([this](runtime::FakeShim& shim) {
    if (launches_++ == 0) shim.FailCalls("Create", absl::InternalError("not this time"));
  });
  monitor_->Start();
  EXPECT_TRUE(RunsSoon("c"));
}

TEST_F(RestartMonitorTest, NothingIsStartedAfterTheStop) {
  monitor_->Start();
  monitor_->Stop();
  Create("c", {{kStatus, "running"}});
  SetLabels("c", {{kStatus, "running"}});
  workers_->WaitIdle();
  EXPECT_FALSE(tasks_->view().Exists(kNs, "c"));
}

}  // namespace
}  // namespace gantry::core
