#include "base/executor.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <set>
#include <thread>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/new_thread.h"

namespace gantry {
namespace {

TEST(ExecutorTest, DestructionFinishesWhatIsQueued) {
  std::atomic<int> ran = 0;
  {
    Executor executor("test", 2);
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(executor.Schedule([&ran] { ++ran; }));
  }
  EXPECT_EQ(ran, 100);
}

TEST(ExecutorTest, RunsAsManyAtOnceAsItHasThreads) {
  Executor executor("test", 3);
  // Each waits for the other two: with fewer threads this would hang until the test's deadline.
  const auto barrier = std::make_shared<absl::Barrier>(3);
  for (int i = 0; i < 3; ++i) {
    executor.Schedule([barrier] { barrier->Block(); });
  }
  executor.WaitIdle();
}

TEST(ExecutorTest, NeverUsesMoreThreads) {
  Executor executor("test", 2);
  std::atomic<int> inside = 0, most = 0;
  for (int i = 0; i < 200; ++i) {
    executor.Schedule([&] {
      const int now = ++inside;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      --inside;
    });
  }
  executor.WaitIdle();
  EXPECT_LE(most, 2);
}

TEST(ExecutorTest, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  {
    Executor executor("test", 1);
    for (int i = 0; i < 5; ++i) executor.Schedule([&order, i] { order.push_back(i); });
  }
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(ExecutorTest, TakesMoveOnlyWorkAndDropsItBeforeIdle) {
  auto owned = std::make_shared<int>(1);
  std::weak_ptr<int> watch = owned;
  Executor executor("test", 1);
  executor.Schedule([owned = std::move(owned), only = std::make_unique<int>(2)] {
    EXPECT_EQ(*owned + *only, 3);
  });
  executor.WaitIdle();
  EXPECT_TRUE(watch.expired());
  // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDeleteLeaks): it does not see AnyInvocable's end
}

TEST(ExecutorTest, IdleThreadsEndAndComeBack) {
  Executor executor("test", 4, absl::ZeroDuration());
  std::atomic<int> ran = 0;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 8; ++i) executor.Schedule([&ran] { ++ran; });
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (executor.threads() > 1 && absl::Now() < deadline) std::this_thread::yield();
    EXPECT_EQ(executor.threads(), 1u);
    executor.WaitIdle();
    EXPECT_EQ(ran, 8 * (round + 1));
  }
}

// From here on there is no room for the stack of another thread.
bool TakeNoMoreThreads() {
  unsigned long pages = 0;  // NOLINT(google-runtime-int): what %lu reads
  FILE* const statm = fopen("/proc/self/statm", "re");
  const bool read = statm != nullptr && fscanf(statm, "%lu", &pages) == 1;
  if (statm != nullptr) fclose(statm);
  const rlim_t bytes = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + (2 << 20);
  const rlimit limit = {bytes, bytes};
  return read && setrlimit(RLIMIT_AS, &limit) == 0;
}

TEST(ExecutorTest, WithoutMoreThreadsTheOneThereIsDoesTheWork) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Executor executor("test", 4);
    if (!TakeNoMoreThreads()) _exit(2);
    // Stacks of threads that ended are kept for some more.
    absl::Notification never;
    absl::Status made;
    while (made.ok()) {
      absl::StatusOr<std::thread> thread = NewThread([&] { never.WaitForNotification(); });
      made = thread.status();
      if (thread.ok()) thread->detach();
    }
    if (made.code() != absl::StatusCode::kResourceExhausted) _exit(3);
    std::atomic<int> ran = 0;
    for (int i = 0; i < 8; ++i) executor.Schedule([&ran] { ++ran; });
    executor.WaitIdle();
    _exit(ran == 8 && executor.threads() == 1 ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << WEXITSTATUS(status);
}

TEST(ExecutorTest, ThreadsTakeNoSignals) {
  Executor executor("test", 1);
  bool blocked = false;
  executor.Schedule([&blocked] {
    sigset_t mask;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGCHLD) == 1;
  });
  executor.WaitIdle();
  EXPECT_TRUE(blocked);
}

}  // namespace
}  // namespace gantry
