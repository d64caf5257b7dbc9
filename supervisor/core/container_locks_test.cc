#include "supervisor/core/container_locks.h"

#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

class ContainerLocksTest : public testing::Test {
 protected:
  OperationLock Take(Interruptible interruptible = Interruptible::kYes,
                     CancelToken* cancel = nullptr) {
    absl::StatusOr<OperationLock> lock = locks_.Acquire("ns", "web", cancel, interruptible);
    EXPECT_TRUE(lock.ok()) << lock.status();
    return lock.ok() ? *std::move(lock) : OperationLock();
  }

  OperationLocks locks_;
};

TEST_F(ContainerLocksTest, OtherContainersAndNamespacesDoNotWait) {
  const OperationLock held = Take();
  EXPECT_TRUE(locks_.Acquire("ns", "db", nullptr, Interruptible::kYes).ok());
  EXPECT_TRUE(locks_.Acquire("other", "web", nullptr, Interruptible::kYes).ok());
}

TEST_F(ContainerLocksTest, NextTakesItWhenItIsReleased) {
  OperationLock held = Take();
  absl::Notification taken;
  std::thread next([&] {
    const OperationLock lock = Take();
    taken.Notify();
  });
  EXPECT_FALSE(taken.HasBeenNotified());
  held.Release();
  taken.WaitForNotification();
  next.join();
}

TEST_F(ContainerLocksTest, WaitEndsWithTheCallersDeadline) {
  const OperationLock held = Take();
  CancelToken token(absl::Milliseconds(20));
  const absl::Status status = locks_.Acquire("ns", "web", &token, Interruptible::kYes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_NE(status.message().find("another operation"), absl::string_view::npos) << status;
}

TEST_F(ContainerLocksTest, WaitEndsWithTheCallersCancellation) {
  const OperationLock held = Take();
  CancelToken token;
  absl::Status status;
  std::thread waiter(
      [&] { status = locks_.Acquire("ns", "web", &token, Interruptible::kYes).status(); });
  token.Cancel("the client has gone");
  waiter.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_NE(status.message().find("the client has gone"), absl::string_view::npos) << status;
}

TEST_F(ContainerLocksTest, LockCanBeTakenAfterAWaitWasGivenUp) {
  OperationLock held = Take();
  CancelToken token;
  token.Cancel();
  EXPECT_FALSE(locks_.Acquire("ns", "web", &token, Interruptible::kYes).ok());
  held.Release();
  Take();
}

TEST_F(ContainerLocksTest, InterruptCancelsTheHolder) {
  const OperationLock held = Take();
  locks_.Interrupt("ns", "web", "it is being removed");
  EXPECT_EQ(held.Within(CallContext()).cancel->Check().code(), absl::StatusCode::kCancelled);
}

TEST_F(ContainerLocksTest, ReleaseWaitsForWhatCancelsItsToken) {
  // The lock's token ends with the caller's, so neither may go while another thread cancels it.
  auto caller = std::make_unique<CancelToken>();
  OperationLock held = Take(Interruptible::kYes, caller.get());
  absl::Notification cancelling, released;
  const CancelToken::Registration on_cancel =
      held.Within(CallContext()).cancel->OnCancel([&cancelling, &released] {
        cancelling.Notify();
        EXPECT_FALSE(released.WaitForNotificationWithTimeout(absl::Milliseconds(50)));
      });
  std::thread stopping([this] { locks_.Stop("gantryd is stopping"); });
  cancelling.WaitForNotification();
  held.Release();
  caller.reset();
  released.Notify();
  stopping.join();
}

TEST_F(ContainerLocksTest, InterruptLeavesAnOperationThatMustFinish) {
  const OperationLock held = Take(Interruptible::kNo);
  locks_.Interrupt("ns", "web", "it is being removed");
  EXPECT_TRUE(held.Within(CallContext()).cancel->Check().ok());
}

TEST_F(ContainerLocksTest, InterruptWithoutAHolderDoesNothing) {
  locks_.Interrupt("ns", "web", "it is being removed");
  const OperationLock held = Take();
  EXPECT_TRUE(held.Within(CallContext()).cancel->Check().ok());
}

TEST_F(ContainerLocksTest, CallersCancellationReachesTheHolder) {
  CancelToken token;
  const OperationLock held = Take(Interruptible::kNo, &token);
  token.Cancel("the client has gone");
  EXPECT_FALSE(held.Within(CallContext()).cancel->Check().ok());
}

TEST_F(ContainerLocksTest, StopCancelsEveryHolderAndRefusesNewOnes) {
  OperationLock held = Take(Interruptible::kNo);
  absl::Status waited;
  std::thread waiter(
      [&] { waited = locks_.Acquire("ns", "web", nullptr, Interruptible::kNo).status(); });
  locks_.Stop("gantryd is stopping");
  waiter.join();
  EXPECT_EQ(waited.code(), absl::StatusCode::kUnavailable) << waited;
  EXPECT_FALSE(held.Within(CallContext()).cancel->Check().ok());
  held.Release();
  EXPECT_EQ(locks_.Acquire("ns", "web", nullptr, Interruptible::kNo).status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace gantry::core
