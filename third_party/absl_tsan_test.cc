// What Abseil's locks order is silent under ThreadSanitizer, and what they do not is found. Without
// --config=tsan only the first half is compiled, and says that the locks work.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/barrier.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace {

constexpr int kRounds = 200;

// Runs `step` kRounds times in each of two threads.
void InTwoThreads(const std::function<void()>& step) {
  auto rounds = [&] {
    for (int i = 0; i < kRounds; ++i) step();
  };
  std::thread other(rounds);
  rounds();
  other.join();
}

TEST(AbslTsanTest, LockAndTryLockOrder) {
  absl::Mutex mu;
  int value = 0;
  InTwoThreads([&] {
    absl::MutexLock lock(&mu);
    ++value;
  });
  InTwoThreads([&] {
    while (!mu.TryLock()) std::this_thread::yield();
    ++value;
    mu.Unlock();
  });
  InTwoThreads([&] {
    absl::ReleasableMutexLock lock(&mu);
    ++value;
    lock.Release();
  });
  EXPECT_EQ(value, 6 * kRounds);
}

TEST(AbslTsanTest, ReadersAndWritersOrder) {
  absl::Mutex mu;
  int value = 0;
  std::atomic<int> seen = 0;
  InTwoThreads([&] {
    mu.ReaderLock();
    seen = value;
    mu.ReaderUnlock();
    if (mu.ReaderTryLock()) {
      seen = value;
      mu.ReaderUnlock();
    }
    auto always = [&] { return value >= 0; };
    mu.ReaderLockWhen(absl::Condition(&always));
    seen = value;
    mu.ReaderUnlock();
    absl::WriterMutexLock lock(&mu);
    ++value;
  });
  EXPECT_EQ(value, 2 * kRounds);
  EXPECT_LE(seen, value);
}

// Each thread waits for the other's turn to end; the condition is evaluated by either of them.
TEST(AbslTsanTest, ConditionsOrder) {
  absl::Mutex mu;
  int turn = 0;
  int value = 0;
  auto play = [&](int me) {
    for (int i = 0; i < kRounds; ++i) {
      auto mine = [&] { return turn % 2 == me; };
      absl::MutexLock lock(&mu);
      if (i % 3 == 0) {
        mu.Await(absl::Condition(&mine));
      } else if (i % 3 == 1) {
        EXPECT_TRUE(mu.AwaitWithTimeout(absl::Condition(&mine), absl::Minutes(5)));
      } else {
        EXPECT_TRUE(mu.AwaitWithDeadline(absl::Condition(&mine), absl::InfiniteFuture()));
      }
      ++value;
      ++turn;
    }
  };
  std::thread other(play, 1);
  play(0);
  other.join();
  EXPECT_EQ(value, 2 * kRounds);
}

TEST(AbslTsanTest, LockWhenOrders) {
  absl::Mutex mu;
  int turn = 0;
  int value = 0;
  auto play = [&](int me) {
    for (int i = 0; i < kRounds; ++i) {
      auto mine = [&] { return turn % 2 == me; };
      if (i % 3 == 0) {
        mu.LockWhen(absl::Condition(&mine));
      } else if (i % 3 == 1) {
        EXPECT_TRUE(mu.LockWhenWithTimeout(absl::Condition(&mine), absl::Minutes(5)));
      } else {
        EXPECT_TRUE(mu.LockWhenWithDeadline(absl::Condition(&mine), absl::InfiniteFuture()));
      }
      ++value;
      ++turn;
      mu.Unlock();
    }
  };
  std::thread other(play, 1);
  play(0);
  other.join();
  EXPECT_EQ(value, 2 * kRounds);
}

TEST(AbslTsanTest, CondVarsOrder) {
  absl::Mutex mu;
  absl::CondVar changed;
  int turn = 0;
  auto play = [&](int me) {
    for (int i = 0; i < kRounds; ++i) {
      absl::MutexLock lock(&mu);
      while (turn % 2 != me) {
        if (i % 3 == 0) {
          changed.Wait(&mu);
        } else if (i % 3 == 1) {
          changed.WaitWithTimeout(&mu, absl::Minutes(5));
        } else {
          changed.WaitWithDeadline(&mu, absl::InfiniteFuture());
        }
      }
      ++turn;
      changed.SignalAll();
    }
  };
  std::thread other(play, 1);
  play(0);
  other.join();
  EXPECT_EQ(turn, 2 * kRounds);
}

TEST(AbslTsanTest, NotificationsOrder) {
  for (int i = 0; i < kRounds; ++i) {
    absl::Notification done;
    int value = 0;
    std::thread other([&] {
      value = 1;
      done.Notify();
    });
    if (i % 4 == 0) {
      while (!done.HasBeenNotified()) std::this_thread::yield();
    } else if (i % 4 == 1) {
      done.WaitForNotification();
    } else if (i % 4 == 2) {
      EXPECT_TRUE(done.WaitForNotificationWithTimeout(absl::Minutes(5)));
    } else {
      EXPECT_TRUE(done.WaitForNotificationWithDeadline(absl::InfiniteFuture()));
    }
    EXPECT_EQ(value, 1);
    other.join();
  }
}

TEST(AbslTsanTest, CountersAndBarriersOrder) {
  for (int i = 0; i < kRounds; ++i) {
    absl::BlockingCounter count(2);
    auto* barrier = new absl::Barrier(2);
    int first = 0;
    int second = 0;
    auto meet = [](absl::Barrier* place) {
      if (place->Block()) delete place;
    };
    std::thread one([&] {
      first = 1;
      meet(barrier);
      EXPECT_EQ(second, 1);
      first = 2;
      count.DecrementCount();
    });
    std::thread two([&] {
      second = 1;
      meet(barrier);
      count.DecrementCount();
    });
    count.Wait();
    EXPECT_EQ(first + second, 3);
    one.join();
    two.join();
  }
}

// The mutexes of both calls have the same addresses, one after the other.
void LockTwoNewMutexes(bool first_before_second) {
  absl::Mutex first;
  absl::Mutex second;
  absl::MutexLock outer(first_before_second ? &first : &second);
  absl::MutexLock inner(first_before_second ? &second : &first);
}

TEST(AbslTsanTest, TheOrderOfDestroyedMutexesIsForgotten) {
  LockTwoNewMutexes(true);
  LockTwoNewMutexes(false);
}

TEST(AbslTsanTest, TheLastOfASharedStatusFreesIt) {
  for (int i = 0; i < kRounds; ++i) {
    auto status = std::make_unique<absl::Status>(absl::NotFoundError("image: no such name"));
    std::thread other([copy = *status] { EXPECT_TRUE(absl::IsNotFound(copy)); });
    EXPECT_EQ(status->message(), "image: no such name");
    status.reset();
    other.join();
  }
}

#ifdef __SANITIZE_THREAD__

constexpr int kSanitizerFoundSomething = 66;

// One thread does the one thing and then, unknown to the sanitizer, another does the other.
void OneAfterTheOther(const std::function<void()>& one, const std::function<void()>& other) {
  std::atomic<bool> done = false;
  std::thread thread([&] {
    one();
    done.store(true, std::memory_order_relaxed);
  });
  while (!done.load(std::memory_order_relaxed)) std::this_thread::yield();
  other();
  thread.join();
  exit(0);
}

class RaceTest : public testing::Test {
 protected:
  RaceTest() { testing::FLAGS_gtest_death_test_style = "threadsafe"; }

  absl::Mutex mu_;
  absl::Mutex other_mu_;
  int value_ = 0;
};

TEST_F(RaceTest, WithoutAMutexIsFound) {
  auto write = [&] { ++value_; };
  EXPECT_EXIT(OneAfterTheOther(write, write), testing::ExitedWithCode(kSanitizerFoundSomething),
              "data race");
}

TEST_F(RaceTest, UnderDifferentMutexesIsFound) {
  auto write = [&](absl::Mutex* mu) {
    absl::MutexLock lock(mu);
    ++value_;
  };
  EXPECT_EXIT(OneAfterTheOther([&] { write(&mu_); }, [&] { write(&other_mu_); }),
              testing::ExitedWithCode(kSanitizerFoundSomething), "data race");
}

TEST_F(RaceTest, OfAWriterUnderAReaderLockIsFound) {
  auto write = [&] {
    absl::ReaderMutexLock lock(&mu_);
    ++value_;
  };
  EXPECT_EXIT(OneAfterTheOther(write, write), testing::ExitedWithCode(kSanitizerFoundSomething),
              "data race");
}

TEST_F(RaceTest, OfAConditionWithAnUnguardedWriteIsFound) {
  auto changed = [&] { return value_ == 1; };
  auto wait = [&] {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&changed));
  };
  EXPECT_EXIT(OneAfterTheOther([&] { value_ = 1; }, wait),
              testing::ExitedWithCode(kSanitizerFoundSomething), "data race");
}

TEST_F(RaceTest, OfMutexesTakenInBothOrdersIsFound) {
  auto take = [](absl::Mutex* one, absl::Mutex* other) {
    // Abseil has a detector of its own, which would be first and abort.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    absl::MutexLock outer(one);
    absl::MutexLock inner(other);
  };
  EXPECT_EXIT(OneAfterTheOther([&] { take(&mu_, &other_mu_); }, [&] { take(&other_mu_, &mu_); }),
              testing::ExitedWithCode(kSanitizerFoundSomething), "lock-order-inversion");
}

#endif

}  // namespace
