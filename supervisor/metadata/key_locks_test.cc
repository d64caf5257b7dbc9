#include "supervisor/metadata/key_locks.h"

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

#include "supervisor/metadata/gc_gate.h"

namespace gantry::metadata {
namespace {

constexpr absl::Duration kSoon = absl::Milliseconds(20);
constexpr absl::Duration kLong = absl::Seconds(20);

TEST(KeyLocksTest, ExclusiveExcludesOthersAndSharersDoNotExcludeEachOther) {
  KeyLocks locks;
  KeyLocks::Held a(locks), b(locks), c(locks);
  ASSERT_TRUE(a.Shared("k", kSoon));
  ASSERT_TRUE(b.Shared("k", kSoon));
  EXPECT_FALSE(c.Exclusive("k", kSoon));
  EXPECT_TRUE(c.Exclusive("other", kSoon));
  a.ReleaseAll();
  b.ReleaseAll();
  EXPECT_TRUE(c.Exclusive("k", kSoon));
  EXPECT_FALSE(a.Shared("k", kSoon));
  EXPECT_FALSE(a.Exclusive("k", kSoon));
}

TEST(KeyLocksTest, TheOnlySharerMayBecomeExclusive) {
  KeyLocks locks;
  KeyLocks::Held a(locks), b(locks);
  ASSERT_TRUE(a.Shared("k", kSoon));
  ASSERT_TRUE(a.Exclusive("k", kSoon));
  EXPECT_FALSE(b.Shared("k", kSoon));
  a.ReleaseAll();
  ASSERT_TRUE(a.Shared("k", kSoon));
  ASSERT_TRUE(b.Shared("k", kSoon));
  EXPECT_FALSE(a.Exclusive("k", kSoon));
  b.ReleaseAll();
  EXPECT_TRUE(a.Exclusive("k", kSoon));
}

TEST(KeyLocksTest, AskingAgainForWhatIsHeldIsGrantedAtOnce) {
  KeyLocks locks;
  KeyLocks::Held a(locks);
  ASSERT_TRUE(a.Exclusive("k", kSoon));
  EXPECT_TRUE(a.Exclusive("k", absl::ZeroDuration()));
  EXPECT_TRUE(a.Shared("k", absl::ZeroDuration()));
}

TEST(KeyLocksTest, AWaiterGetsTheLockWhenItIsGivenBack) {
  KeyLocks locks;
  KeyLocks::Held a(locks);
  ASSERT_TRUE(a.Exclusive("k", kSoon));
  std::atomic<bool> got = false;
  std::thread waiter([&] {
    KeyLocks::Held b(locks);
    got = b.Exclusive("k", kLong);
  });
  a.ReleaseAll();
  waiter.join();
  EXPECT_TRUE(got);
}

TEST(KeyLocksTest, ExclusiveSectionsNeverOverlap) {
  KeyLocks locks;
  int64_t counter = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        KeyLocks::Held held(locks);
        ASSERT_TRUE(held.Exclusive("k", kLong));
        ++counter;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter, 8000);
}

TEST(GcGateTest, ManyShareAndTheCollectorIsAlone) {
  GcGate gate;
  GcGate::Shared a = gate.EnterShared();
  GcGate::Shared b = gate.EnterShared();
  EXPECT_FALSE(gate.EnterExclusive(kSoon).has_value());
  a.Release();
  b.Release();
  std::optional<GcGate::Exclusive> alone = gate.EnterExclusive(kSoon);
  ASSERT_TRUE(alone.has_value());
  EXPECT_FALSE(gate.EnterExclusive(kSoon).has_value());
  absl::Notification inside;
  std::thread sharer([&] {
    GcGate::Shared c = gate.EnterShared();
    inside.Notify();
  });
  EXPECT_FALSE(inside.WaitForNotificationWithTimeout(kSoon));
  alone->Release();
  EXPECT_TRUE(inside.WaitForNotificationWithTimeout(kLong));
  sharer.join();
}

TEST(GcGateTest, ACollectorThatGivesUpLetsEverybodyInAgain) {
  GcGate gate;
  GcGate::Shared stuck = gate.EnterShared();
  EXPECT_FALSE(gate.EnterExclusive(kSoon).has_value());
  GcGate::Shared next = gate.EnterShared();
  EXPECT_TRUE(next.held());
}

}  // namespace
}  // namespace gantry::metadata
