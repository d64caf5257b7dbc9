#include "supervisor/gc/scheduler.h"

#include <memory>
#include <string>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/temp_dir.h"
#include "supervisor/gc/world.h"

namespace gantry::gc {
namespace {

constexpr absl::Duration kLong = absl::Seconds(30);

SchedulerOptions Never() {
  SchedulerOptions options;
  options.pause_threshold = 0;
  options.mutation_threshold = 0;
  options.idle_delay = absl::InfiniteDuration();
  options.startup_delay = absl::InfiniteDuration();
  return options;
}

class SchedulerTest : public testing::Test {
 protected:
  void Start(const SchedulerOptions& options) {
    scheduler_ = std::make_unique<Scheduler>(world_.collector, options,
                                             [this](const absl::StatusOr<Collection>& run) {
                                               absl::MutexLock lock(&mu_);
                                               ++runs_;
                                               if (run.ok())
                                                 removed_ += static_cast<int>(run->removed.size());
                                             });
    world_.db->SetCommitObserver([this](bool deletion) { scheduler_->NoteChange(deletion); });
    scheduler_->Start();
  }

  ~SchedulerTest() override {
    scheduler_->Stop();
    world_.db->SetCommitObserver(nullptr);
  }

  bool WaitForRuns(int at_least) {
    absl::MutexLock lock(&mu_);
    auto enough = [this, at_least]()
                      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return runs_ >= at_least; };
    return mu_.AwaitWithTimeout(absl::Condition(&enough), kLong);
  }

  bool WaitForRemovals(int at_least) {
    absl::MutexLock lock(&mu_);
    auto enough = [this, at_least]()
                      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return removed_ >= at_least; };
    return mu_.AwaitWithTimeout(absl::Condition(&enough), kLong);
  }

  int Runs() {
    absl::MutexLock lock(&mu_);
    return runs_;
  }

  TempDir dir_;
  World world_{dir_.path(), Clock::Real()};
  absl::Mutex mu_;
  int runs_ ABSL_GUARDED_BY(mu_) = 0;
  int removed_ ABSL_GUARDED_BY(mu_) = 0;
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, TheFirstRunComesAfterTheStartupDelayAndSweepsAllFiles) {
  ASSERT_TRUE(content::WriteBlob(*world_.files, "r", "orphan").ok());
  SchedulerOptions options = Never();
  options.startup_delay = absl::Milliseconds(1);
  Start(options);
  ASSERT_TRUE(WaitForRuns(1));
  EXPECT_TRUE(absl::IsNotFound(world_.files->Stat(content::Digest::Sha256Of("orphan")).status()));
}

TEST_F(SchedulerTest, EnoughMutationsBringARun) {
  SchedulerOptions options = Never();
  options.mutation_threshold = 3;
  Start(options);
  for (const char* id : {"a", "b"}) world_.Container(id, "");
  EXPECT_EQ(Runs(), 0);
  world_.Container("c", "");
  EXPECT_TRUE(WaitForRuns(1));
}

TEST_F(SchedulerTest, EnoughDeletionsBringARun) {
  SchedulerOptions options = Never();
  options.deletion_threshold = 1;
  Start(options);
  world_.Container("a", "");
  EXPECT_EQ(Runs(), 0);
  ASSERT_TRUE(world_.containers.Delete(metadata::Scope{.ns = "default"}, "a").ok());
  EXPECT_TRUE(WaitForRuns(1));
}

TEST_F(SchedulerTest, WhatIsLeftBehindGoesWithoutAnyThreshold) {
  SchedulerOptions options = Never();
  options.idle_delay = absl::Milliseconds(5);
  Start(options);
  const content::Digest digest = world_.Blob("x");
  world_.Image("i", digest);
  ASSERT_TRUE(world_.images.Delete(metadata::Scope{.ns = "default"}, "i").ok());
  EXPECT_TRUE(WaitForRemovals(1));
}

TEST_F(SchedulerTest, AnExpiryIsMetWithoutAnyChange) {
  Start(Never());
  const absl::Time soon = absl::Now() + absl::Milliseconds(50);
  world_.Lease("l", {{"containerd.io/gc.expire",
                      absl::FormatTime(absl::RFC3339_full, soon, absl::UTCTimeZone())}});
  ASSERT_TRUE(scheduler_->CollectAndWait(false, absl::Now() + kLong).ok());
  EXPECT_TRUE(WaitForRemovals(1));
  EXPECT_GE(absl::Now(), soon);
}

TEST_F(SchedulerTest, CollectAndWaitCoversWhatWasDoneBefore) {
  Start(Never());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 5; ++i) {
        const content::Digest digest = world_.Blob(std::to_string(t) + "-" + std::to_string(i));
        const absl::Status collected = scheduler_->CollectAndWait(false, absl::Now() + kLong);
        EXPECT_TRUE(collected.ok()) << collected;
        EXPECT_TRUE(absl::IsNotFound(world_.files->Stat(digest).status()));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(SchedulerTest, ARunAskedForSoonIsNotWaitedFor) {
  Start(Never());
  const content::Digest digest = world_.Blob("x");
  for (int i = 0; i < 100; ++i) scheduler_->CollectSoon();
  EXPECT_TRUE(WaitForRemovals(1));
  EXPECT_TRUE(absl::IsNotFound(world_.files->Stat(digest).status()));
}

// With a share of time so small that the first run uses up that of years.
TEST_F(SchedulerTest, SpaceComesBackHoweverLongTheLastRunTook) {
  SchedulerOptions options = Never();
  options.pause_threshold = 1e-12;
  options.idle_delay = absl::Milliseconds(1);
  options.longest_wait = absl::Milliseconds(5);
  Start(options);
  for (int round = 1; round <= 3; ++round) {
    const std::string name = std::to_string(round);
    world_.Image(name, world_.Blob(name));
    ASSERT_TRUE(world_.images.Delete(metadata::Scope{.ns = "default"}, name).ok());
    EXPECT_TRUE(WaitForRemovals(round)) << round;
  }
}

TEST_F(SchedulerTest, AWaitThatTakesTooLongSaysSoAndStopEndsTheOthers) {
  Start(Never());
  world_.Blob("garbage");
  std::thread waiter;
  {
    metadata::Transaction stuck = world_.db->Begin();
    waiter = std::thread([this] {
      const absl::Status status = scheduler_->CollectAndWait(false, absl::InfiniteFuture());
      EXPECT_TRUE(status.ok() || absl::IsCancelled(status) || absl::IsUnavailable(status))
          << status;
    });
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        scheduler_->CollectAndWait(false, absl::Now() + absl::Milliseconds(20))));
  }
  scheduler_->Stop();
  waiter.join();
  EXPECT_TRUE(absl::IsCancelled(scheduler_->CollectAndWait(false, absl::InfiniteFuture())));
}

}  // namespace
}  // namespace gantry::gc
