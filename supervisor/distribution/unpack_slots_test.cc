#include "supervisor/distribution/unpack_slots.h"

#include <thread>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace gantry::distribution {
namespace {

TEST(ProcessorSlotsTest, WaiterGetsTheSlotThatIsLent) {
  ProcessorSlots slots(1);
  CancelToken cancel;
  SlotHold first(slots, cancel);
  ASSERT_TRUE(first.Acquire().ok());
  absl::Notification taken;
  std::thread other([&] {
    SlotHold second(slots, cancel);
    EXPECT_TRUE(second.Acquire().ok());
    taken.Notify();
  });
  EXPECT_FALSE(taken.HasBeenNotified());
  first.Release();
  taken.WaitForNotification();
  other.join();
  EXPECT_TRUE(first.Acquire().ok());  // the second gave it back at its end
}

TEST(ProcessorSlotsTest, WaitEndsWithTheOperation) {
  ProcessorSlots slots(0);  // one
  CancelToken cancel;
  SlotHold first(slots, cancel);
  ASSERT_TRUE(first.Acquire().ok());
  CancelToken other;
  absl::Status waited;
  std::thread waiter([&] { waited = slots.Acquire(other); });
  other.Cancel();
  waiter.join();
  EXPECT_TRUE(absl::IsCancelled(waited)) << waited;
}

TEST(ChainClaimsTest, OneUnpacksAndTheOthersWait) {
  ChainClaims claims;
  CancelToken cancel;
  EXPECT_TRUE(claims.Try("chain"));
  EXPECT_FALSE(claims.Try("chain"));
  EXPECT_TRUE(claims.Try("other"));
  EXPECT_TRUE(claims.Held("chain"));
  std::thread waiter([&] {
    EXPECT_TRUE(claims.Wait("chain", cancel).ok());
    EXPECT_FALSE(claims.Held("chain"));
  });
  claims.Release("chain");
  waiter.join();
}

TEST(ChainClaimsTest, WaitEndsWithTheOperation) {
  ChainClaims claims;
  ASSERT_TRUE(claims.Try("chain"));
  CancelToken cancel;
  cancel.Cancel();
  EXPECT_TRUE(absl::IsCancelled(claims.Wait("chain", cancel)));
  EXPECT_TRUE(claims.Held("chain"));
}

}  // namespace
}  // namespace gantry::distribution
