#include "supervisor/core/sandbox_service.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/sandbox_store.h"

namespace gantry::core {
namespace {

class SandboxServiceTest : public testing::Test {
 protected:
  SandboxServiceTest() {
    db_ = metadata::Database::Open(dir_.path()).value();
    store_ = std::make_unique<metadata::SandboxStore>(*db_, clock_);
    all_ = events_.Subscribe([](const Event&) { return true; }, [] {});
    Restart("boot-1");
  }
  void Restart(const std::string& boot) {
    service_.reset();
    service_ = std::make_unique<SandboxService>(*store_, events_, clock_, boot);
  }
  std::vector<std::string> Actions() {
    std::vector<std::string> actions;
    while (EventPtr event = all_->Pop()) actions.push_back(event->action);
    return actions;
  }
  SandboxService::Stopped Note() {
    return [this](absl::StatusOr<absl::Time> at) { told_.push_back(std::move(at)); };
  }

  TempDir dir_;
  const Clock& clock_ = Clock::Real();
  std::unique_ptr<metadata::Database> db_;
  std::unique_ptr<metadata::SandboxStore> store_;
  EventBus events_;
  std::shared_ptr<Subscription> all_;
  std::unique_ptr<SandboxService> service_;
  std::vector<absl::StatusOr<absl::Time>> told_;
};

TEST_F(SandboxServiceTest, ALifeIsToldInOrder) {
  ASSERT_TRUE(service_->Create("k8s.io", "pod").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(service_->Create("k8s.io", "pod")));
  EXPECT_FALSE(service_->Get("k8s.io", "pod")->ready());
  ASSERT_TRUE(service_->Start("k8s.io", "pod").ok());
  EXPECT_TRUE(service_->Get("k8s.io", "pod")->ready());
  ASSERT_TRUE(service_->Stop("k8s.io", "pod").ok());
  ASSERT_TRUE(service_->Stop("k8s.io", "pod").ok());
  EXPECT_FALSE(service_->Get("k8s.io", "pod")->ready());
  EXPECT_TRUE(absl::IsFailedPrecondition(service_->Start("k8s.io", "pod").status()));
  ASSERT_TRUE(service_->Shutdown("k8s.io", "pod").ok());
  EXPECT_TRUE(absl::IsNotFound(service_->Get("k8s.io", "pod").status()));
  EXPECT_EQ(Actions(), (std::vector<std::string>{"create", "start", "exit"}));
}

TEST_F(SandboxServiceTest, NamespacesAreApart) {
  ASSERT_TRUE(service_->Create("a", "pod").ok());
  EXPECT_TRUE(absl::IsNotFound(service_->Stop("b", "pod")));
  EXPECT_TRUE(service_->Create("b", "pod").ok());
}

TEST_F(SandboxServiceTest, AnIdThatCannotBeOneIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(service_->Create("a", "")));
  EXPECT_TRUE(absl::IsInvalidArgument(service_->Create("a", "x/y")));
}

TEST_F(SandboxServiceTest, WaitersAreAnsweredByTheStop) {
  ASSERT_TRUE(service_->Create("a", "pod").ok());
  service_->WaitAsync("a", "pod", Note());
  service_->WaitAsync("a", "pod", Note());
  EXPECT_TRUE(told_.empty());
  ASSERT_TRUE(service_->Shutdown("a", "pod").ok());
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_TRUE(told_[0].ok());
  EXPECT_TRUE(told_[1].ok());
}

TEST_F(SandboxServiceTest, AWaitIsAnsweredAtOnceWhenThereIsNothingToWaitFor) {
  service_->WaitAsync("a", "pod", Note());
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_TRUE(absl::IsNotFound(told_[0].status()));
  ASSERT_TRUE(service_->Create("a", "pod").ok());
  ASSERT_TRUE(service_->Stop("a", "pod").ok());
  service_->WaitAsync("a", "pod", Note());
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_EQ(*told_[1], *service_->Get("a", "pod")->stopped_at);
}

TEST_F(SandboxServiceTest, AWaitEndsWhenItIsCancelledOrTheDaemonStops) {
  ASSERT_TRUE(service_->Create("a", "pod").ok());
  const SandboxService::Ticket first = service_->WaitAsync("a", "pod", Note());
  service_->WaitAsync("a", "pod", Note());
  EXPECT_TRUE(service_->CancelWait(first));
  EXPECT_FALSE(service_->CancelWait(first));
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_TRUE(absl::IsCancelled(told_[0].status()));
  service_->EndWaits();
  ASSERT_EQ(told_.size(), 2u);
  EXPECT_TRUE(absl::IsUnavailable(told_[1].status()));
  service_->WaitAsync("a", "pod", Note());
  ASSERT_EQ(told_.size(), 3u);
  EXPECT_TRUE(absl::IsUnavailable(told_[2].status()));
}

TEST_F(SandboxServiceTest, ARestartOfTheDaemonChangesNothingAndABootStops) {
  ASSERT_TRUE(service_->Create("a", "runs").ok());
  ASSERT_TRUE(service_->Start("a", "runs").ok());
  ASSERT_TRUE(service_->Create("a", "ended").ok());
  ASSERT_TRUE(service_->Stop("a", "ended").ok());
  Restart("boot-1");
  EXPECT_TRUE(service_->Get("a", "runs")->ready());
  EXPECT_TRUE(service_->Get("a", "ended")->stopped_at.has_value());
  Restart("boot-2");
  EXPECT_FALSE(service_->Get("a", "runs")->ready());
  const absl::Time stopped = *service_->Get("a", "runs")->stopped_at;
  Restart("boot-2");
  EXPECT_EQ(*service_->Get("a", "runs")->stopped_at, stopped);
  service_->WaitAsync("a", "runs", Note());
  ASSERT_EQ(told_.size(), 1u);
  EXPECT_TRUE(told_[0].ok());
}

}  // namespace
}  // namespace gantry::core
