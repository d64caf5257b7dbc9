#include "supervisor/core/delayed.h"

#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/executor.h"

namespace gantry::core {
namespace {

using ::testing::ElementsAre;

TEST(DelayedTest, RunsWhatIsDueInItsOrder) {
  Executor workers("worker", 1);
  Delayed later(Clock::Real(), workers);
  absl::Mutex mu;
  std::vector<int> ran;
  absl::Notification done;
  const auto note = [&](int number) {
    return [&, number] {
      absl::MutexLock lock(&mu);
      ran.push_back(number);
      if (ran.size() == 3) done.Notify();
    };
  };
  later.At(absl::Milliseconds(60), note(3));
  later.At(absl::Milliseconds(30), note(2));
  later.At(absl::ZeroDuration(), note(1));
  ASSERT_TRUE(done.WaitForNotificationWithTimeout(absl::Seconds(20)));
  absl::MutexLock lock(&mu);
  EXPECT_THAT(ran, ElementsAre(1, 2, 3));
}

TEST(DelayedTest, WorkMayAskForMore) {
  Executor workers("worker", 1);
  Delayed later(Clock::Real(), workers);
  absl::Notification done;
  later.At(absl::ZeroDuration(),
           [&] { later.At(absl::Milliseconds(1), [&done] { done.Notify(); }); });
  EXPECT_TRUE(done.WaitForNotificationWithTimeout(absl::Seconds(20)));
}

TEST(DelayedTest, AfterItsEndNothingRuns) {
  Executor workers("worker", 1);
  Delayed later(Clock::Real(), workers);
  bool ran = false;
  later.At(absl::Hours(1), [&] { ran = true; });
  later.Stop();
  later.At(absl::ZeroDuration(), [&] { ran = true; });
  later.Stop();  // again changes nothing
  workers.WaitIdle();
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace gantry::core
