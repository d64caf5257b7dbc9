#include "supervisor/core/health_monitor.h"

#include <deque>
#include <memory>
#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/executor.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/metadata/database.h"

namespace gantry::core {
namespace {

constexpr char kNs[] = "n";
constexpr char kId[] = "web";

// Answers probes as told, at once.
class FakeProber final : public Prober {
 public:
  void Probe(const std::string&, const std::string& container, const HealthOptions& options,
             std::function<void(ProbeResult)> done) override {
    ProbeResult result;
    result.output = options.command.back();
    {
      absl::MutexLock lock(&mu_);
      ++probes_;
      result.exit_code = exit_code_;
    }
    done(result);
  }
  void Stop() override {}
  void Answer(int exit_code) {
    absl::MutexLock lock(&mu_);
    exit_code_ = exit_code;
  }
  int probes() const {
    absl::MutexLock lock(&mu_);
    return probes_;
  }

 private:
  mutable absl::Mutex mu_;
  int exit_code_ ABSL_GUARDED_BY(mu_) = 0;
  int probes_ ABSL_GUARDED_BY(mu_) = 0;
};

class HealthMonitorTest : public testing::Test {
 protected:
  HealthMonitorTest() { Restart(); }

  void Restart() {
    monitor_.reset();
    board_ = std::make_unique<HealthBoard>();
    HealthMonitor::Parts parts;
    parts.containers = &containers_;
    parts.events = &events_;
    parts.board = board_.get();
    parts.prober = &prober_;
    parts.workers = &workers_;
    parts.clock = &clock_;
    parts.task_directory = [this](const std::string&, const std::string&) {
      return absl::StatusOr<std::string>(dir_.path());
    };
    monitor_ = std::make_unique<HealthMonitor>(parts);
    monitor_->Start();
  }

  void MakeContainer(bool with_check = true) {
    record::v1::Container record;
    record.set_id(kId);
    record.mutable_runtime()->set_name("io.containerd.runc.v2");
    record.mutable_spec()->set_type_url("spec");
    record.mutable_spec()->set_value("{}");
    v1::ContainerConfig config;
    if (with_check) {
      v1::HealthCheck* check = config.mutable_health_check();
      check->add_test("CMD");
      check->add_test("probe");
      check->mutable_interval()->set_nanos(kInterval);
      check->set_retries(2);
    }
    WriteIntent(config, record);
    ASSERT_TRUE(containers_.Create({kNs, ""}, {.record = record, .name = "web", .state = {}}).ok());
  }
  void Happens(const char* action) {
    events_.Publish(kNs, Event(EventKind::kContainer, action, kId));
  }
  void Exits() { Happens(action::kDie); }
  std::string Health() const {
    const std::optional<v1::HealthState> state = board_->Get(kNs, kId);
    return state.has_value() ? state->status() : "(none)";
  }
  // The clock stands still but for this; the timer looks at it every few milliseconds of real time.
  bool Becomes(const std::function<bool()>& condition, bool advance = true) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      if (advance) clock_.Advance(absl::Nanoseconds(kInterval));
      absl::SleepFor(absl::Milliseconds(5));
    }
    return false;
  }
  std::vector<std::string> HealthEvents() {
    std::vector<std::string> found;
    while (const EventPtr event = heard_->Pop()) found.push_back(event->ActionText());
    return found;
  }

  static constexpr int32_t kInterval = 10'000'000;
  TempDir dir_;
  FakeClock clock_{absl::FromUnixSeconds(1'700'000'000)};
  std::unique_ptr<metadata::Database> db_ = metadata::Database::Open(dir_.path()).value();
  metadata::ContainerStore containers_{*db_, clock_};
  EventBus events_;
  std::shared_ptr<Subscription> heard_ = events_.Subscribe(
      [](const Event& event) { return event.action == action::kHealthStatus; }, nullptr);
  FakeProber prober_;
  std::unique_ptr<HealthBoard> board_;
  Executor workers_{"test", 4};
  std::unique_ptr<HealthMonitor> monitor_;
};

TEST_F(HealthMonitorTest, ARunningContainerIsProbedAndItsChangesAreTold) {
  MakeContainer();
  Happens(action::kStart);
  ASSERT_TRUE(Becomes([&] { return Health() == "starting" || Health() == "healthy"; }));
  ASSERT_TRUE(Becomes([&] { return Health() == "healthy"; }));
  prober_.Answer(1);
  ASSERT_TRUE(Becomes([&] { return Health() == "unhealthy"; }));
  EXPECT_EQ(board_->Get(kNs, kId)->log(0).output(), "probe");
  ASSERT_TRUE(Becomes([&] { return board_->Get(kNs, kId)->log_size() == 5; }));
  workers_.WaitIdle();
  EXPECT_THAT(HealthEvents(),
              testing::ElementsAre("health_status: healthy", "health_status: unhealthy"));
}

TEST_F(HealthMonitorTest, NothingIsProbedBeforeItsTime) {
  MakeContainer();
  Happens(action::kStart);
  ASSERT_TRUE(Becomes([&] { return Health() == "starting"; }, /*advance=*/false));
  EXPECT_EQ(prober_.probes(), 0);
  ASSERT_TRUE(Becomes([&] { return prober_.probes() > 0; }));
}

TEST_F(HealthMonitorTest, AnEndedContainerIsProbedNoMore) {
  MakeContainer();
  Happens(action::kStart);
  ASSERT_TRUE(Becomes([&] { return Health() == "healthy"; }));
  Exits();
  ASSERT_TRUE(Becomes([&] { return Health() == "unhealthy"; }, /*advance=*/false));
  workers_.WaitIdle();
  const int probes = prober_.probes();
  int rounds = 0;
  Becomes([&] { return ++rounds == 10; });
  EXPECT_EQ(prober_.probes(), probes);
  EXPECT_EQ(Health(), "unhealthy");
  Happens(action::kStart);
  ASSERT_TRUE(Becomes([&] { return Health() == "starting"; }, /*advance=*/false));
  EXPECT_EQ(prober_.probes(), probes);
  Happens(action::kDestroy);
  EXPECT_TRUE(Becomes([&] { return Health() == "(none)"; }, /*advance=*/false));
}

TEST_F(HealthMonitorTest, APausedContainerIsLeftAlone) {
  MakeContainer();
  Happens(action::kStart);
  ASSERT_TRUE(Becomes([&] { return Health() == "healthy"; }));
  Happens(action::kPause);
  workers_.WaitIdle();
  prober_.Answer(1);
  const int probes = prober_.probes();
  int rounds = 0;
  Becomes([&] { return ++rounds == 10; });
  EXPECT_LE(prober_.probes(), probes + 1) << "one may have begun before the pause";
  EXPECT_EQ(Health(), "healthy");
  Happens(action::kUnpause);
  EXPECT_TRUE(Becomes([&] { return Health() == "unhealthy"; }));
}

TEST_F(HealthMonitorTest, TheNextDaemonGoesOnWhereThisOneStopped) {
  MakeContainer();
  Happens(action::kStart);
  ASSERT_TRUE(Becomes([&] { return Health() == "healthy"; }));
  workers_.WaitIdle();
  Restart();
  EXPECT_EQ(Health(), "(none)");
  monitor_->Adopt(kNs, kId, clock_.Now(), /*paused=*/false);
  EXPECT_EQ(Health(), "healthy");
  EXPECT_GE(board_->Get(kNs, kId)->log_size(), 1);
  prober_.Answer(1);
  EXPECT_TRUE(Becomes([&] { return Health() == "unhealthy"; }));
}

TEST_F(HealthMonitorTest, AContainerWithoutACheckHasNoHealth) {
  MakeContainer(/*with_check=*/false);
  Happens(action::kStart);
  workers_.WaitIdle();
  monitor_->Adopt(kNs, kId, clock_.Now(), /*paused=*/false);
  EXPECT_EQ(Health(), "(none)");
}

}  // namespace
}  // namespace gantry::core
