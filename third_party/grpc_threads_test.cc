#include "third_party/grpc_threads.h"

#include <dlfcn.h>
#include <grpc/event_engine/event_engine.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <memory>
#include <thread>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace grpc_event_engine::experimental {
std::shared_ptr<EventEngine> GetDefaultEventEngine();
}  // namespace grpc_event_engine::experimental

// Not in gRPC 1.51's public headers: a thread of its own, which begins with Start().
namespace grpc_core {
class Thread {
 public:
  struct Options {
    bool joinable;
    bool tracked;
    size_t stack_size;
  };
  struct Internals {
    virtual ~Internals() = default;
    virtual void Start() = 0;
    virtual void Join() = 0;
  };
  Thread(const char* name, void (*body)(void*), void* argument, bool* success,
         const Options& options);
  void Start() { internals_->Start(); }

 private:
  [[maybe_unused]] int state_;
  Internals* internals_;
  [[maybe_unused]] Options options_;
};
}  // namespace grpc_core

namespace {
std::atomic<bool> refuse = false;
std::atomic<int> refused = 0;
}  // namespace

// The kernel, as far as the wrappers see: it gives no thread while `refuse` is set.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*routine)(void*), void* argument) {
  if (refuse) {
    ++refused;
    return EAGAIN;
  }
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return create(thread, attributes, routine, argument);
}

namespace gantry {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(30);

// More callbacks that block than the pool has threads.
struct Blockers {
  // Some more than the pool has at first, which is one for each processor but at least two, and one
  // of these runs the timers. gRPC starts one more a second.
  const int count = static_cast<int>(std::max(2u, std::thread::hardware_concurrency())) + 3;
  void Run() {
    const auto engine = grpc_event_engine::experimental::GetDefaultEventEngine();
    for (int i = 0; i < count; ++i) {
      engine->Run([this] {
        {
          absl::MutexLock lock(&mutex);
          ++started;
        }
        release.WaitForNotification();
        done.DecrementCount();
      });
    }
  }
  // gRPC sees whether it has enough threads when something more is to be done, and not within a
  // second of the last one that it has started: there is more to do, as in a program at work.
  static bool Until(const std::function<bool()>& holds) {
    const absl::Time limit = absl::Now() + kLimit;
    while (!holds()) {
      if (absl::Now() > limit) return false;
      grpc_event_engine::experimental::GetDefaultEventEngine()->Run([] {});
      absl::SleepFor(absl::Milliseconds(20));
    }
    return true;
  }
  bool Started(int count) {
    return Until([this, count] {
      absl::MutexLock lock(&mutex);
      return started >= count;
    });
  }
  absl::Mutex mutex;
  int started ABSL_GUARDED_BY(mutex) = 0;
  absl::Notification release;
  absl::BlockingCounter done{count};
};

TEST(GrpcThreadsTest, WorkOfAPoolThatWasRefusedThreadsIsDoneAllTheSame) {
  ReserveGrpcThreads();
  Blockers blockers;
  refuse = true;
  blockers.Run();
  // One thread of the pool's and one of the reserve's, at least.
  EXPECT_TRUE(blockers.Started(2));
  EXPECT_TRUE(Blockers::Until([] { return refused > 0; }));
  refuse = false;
  EXPECT_TRUE(blockers.Started(blockers.count));
  blockers.release.Notify();
  blockers.done.Wait();
}

// More than the reserve has: those that are left are made once the kernel gives threads again.
TEST(GrpcThreadsTest, ThreadsBeyondTheReserveAreMadeLater) {
  ReserveGrpcThreads();
  constexpr int kThreads = 40;
  struct Count {
    absl::Mutex mutex;
    int ran ABSL_GUARDED_BY(mutex) = 0;
  } count;
  refuse = true;
  for (int i = 0; i < kThreads; ++i) {
    bool made = false;
    grpc_core::Thread thread("late",
                             [](void* argument) {
                               auto& all = *static_cast<Count*>(argument);
                               absl::MutexLock lock(&all.mutex);
                               ++all.ran;
                             },
                             &count, &made, {.joinable = false, .tracked = false, .stack_size = 0});
    ASSERT_TRUE(made) << i;
    thread.Start();
  }
  refuse = false;
  absl::MutexLock lock(&count.mutex);
  const auto all = [&count]()
                       ABSL_EXCLUSIVE_LOCKS_REQUIRED(count.mutex) { return count.ran == kThreads; };
  EXPECT_TRUE(count.mutex.AwaitWithTimeout(absl::Condition(&all), kLimit))
      << count.ran << " of " << kThreads;
}

TEST(GrpcThreadsTest, ThreadsOfOthersAreRefused) {
  ReserveGrpcThreads();
  refuse = true;
  pthread_t thread;
  EXPECT_EQ(pthread_create(
                &thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr),
            EAGAIN);
  refuse = false;
}

}  // namespace
}  // namespace gantry
