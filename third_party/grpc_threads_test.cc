#include "third_party/grpc_threads.h"

#include <dlfcn.h>
#include <grpc/event_engine/event_engine.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
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
