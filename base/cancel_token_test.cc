#include "base/cancel_token.h"

#include <atomic>
#include <memory>
#include <optional>
#include <thread>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

#include "base/clock.h"

namespace gantry {
namespace {

TEST(CancelTokenTest, FreshTokenIsFine) {
  CancelToken token;
  EXPECT_TRUE(token.Check().ok());
  EXPECT_EQ(token.remaining(), absl::InfiniteDuration());
}

TEST(CancelTokenTest, KeepsTheFirstReason) {
  CancelToken token;
  token.Cancel("client went away");
  token.Cancel("again");
  EXPECT_EQ(token.Check(), absl::CancelledError("client went away"));
}

TEST(CancelTokenTest, DeadlineTurnsItByItself) {
  CancelToken token(absl::ZeroDuration());
  EXPECT_EQ(token.Check().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(token.remaining(), absl::ZeroDuration());
}

TEST(CancelTokenTest, CallbackRunsOnceOnCancel) {
  CancelToken token;
  int calls = 0;
  const auto registration = token.OnCancel([&calls] { ++calls; });
  token.Cancel();
  token.Cancel();
  EXPECT_EQ(calls, 1);
}

TEST(CancelTokenTest, CallbackOfACancelledTokenRunsAtOnce) {
  CancelToken token;
  token.Cancel();
  int calls = 0;
  const auto registration = token.OnCancel([&calls] { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST(CancelTokenTest, DroppedRegistrationIsNotCalled) {
  CancelToken token;
  int calls = 0;
  {
    const auto registration = token.OnCancel([&calls] { ++calls; });
  }
  token.Cancel();
  EXPECT_EQ(calls, 0);
}

TEST(CancelTokenTest, DroppingWaitsForARunningCallback) {
  CancelToken token;
  absl::Notification inside, proceed;
  std::atomic<bool> finished = false;
  std::optional<CancelToken::Registration> registration = token.OnCancel([&] {
    inside.Notify();
    proceed.WaitForNotification();
    finished = true;
  });
  std::thread canceller([&token] { token.Cancel(); });
  inside.WaitForNotification();
  std::thread releaser([&proceed] { proceed.Notify(); });
  registration.reset();
  EXPECT_TRUE(finished);
  canceller.join();
  releaser.join();
}

TEST(CancelTokenTest, ChildEndsWithItsParentAndWithItsReason) {
  CancelToken parent;
  CancelToken child(absl::InfiniteDuration(), &parent);
  parent.Cancel("shutting down");
  EXPECT_EQ(child.Check(), absl::CancelledError("shutting down"));
}

TEST(CancelTokenTest, ParentSurvivesItsChild) {
  CancelToken parent;
  {
    CancelToken child(absl::InfiniteDuration(), &parent);
    child.Cancel();
  }
  EXPECT_TRUE(parent.Check().ok());
  parent.Cancel();
}

TEST(CancelTokenTest, ChildHasNoMoreTimeThanItsParent) {
  CancelToken parent(absl::ZeroDuration());
  CancelToken child(absl::Hours(1), &parent);
  EXPECT_EQ(child.Check().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(CancelTokenTest, SleepEndsEarlyWhenCancelled) {
  CancelToken token;
  std::thread canceller([&token] { token.Cancel("enough"); });
  EXPECT_EQ(token.Sleep(absl::Hours(1)), absl::CancelledError("enough"));
  canceller.join();
}

TEST(CancelTokenTest, SleepTakesItsTime) {
  CancelToken token;
  const absl::Duration before = Clock::Real().Monotonic();
  EXPECT_TRUE(token.Sleep(absl::Milliseconds(5)).ok());
  EXPECT_GE(Clock::Real().Monotonic() - before, absl::Milliseconds(5));
}

}  // namespace
}  // namespace gantry
