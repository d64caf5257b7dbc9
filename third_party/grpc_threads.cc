// Threads for gRPC where the kernel gives none.
//
// gRPC 1.51 counts a thread of its pool, its executors and its timers before it makes it, and does
// not take the count back when the kernel refuses (EAGAIN: pids.max, TasksMax). From then on work
// is queued for a thread that does not exist: calls hang, and the pool waits for ever when it is
// released ("Waiting for thread pool to idle before shutting down"). So a thread of gRPC is never
// refused here:
//
//   - a few threads are made at start and kept in reserve; one of them takes the place of a thread
//     that the kernel refuses, and ends as that thread;
//   - where the reserve is used up, a detached thread (the pool's are) is made as soon as the kernel
//     allows it, by the thread that also refills the reserve;
//   - gRPC's default event engine is made at start and kept, so that its pool is neither made nor
//     released in the middle of a shortage.
//
// The linker sends gRPC's constructor of threads, and pthread_create, through these wrappers.
// Threads that gRPC does not make fail as they always did.
#include "third_party/grpc_threads.h"

#include <grpc/event_engine/event_engine.h>
#include <grpc/grpc.h>
#include <pthread.h>
#include <signal.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

using StartRoutine = void* (*)(void*);

extern "C" int __real_pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                     StartRoutine routine, void* argument);

namespace {

constexpr size_t kReserve = 8;
constexpr std::chrono::milliseconds kRetry(250);

struct Work {
  StartRoutine routine;
  void* argument;
};

// Never destroyed: threads wait in it when the program ends.
class Reserve {
 public:
  static Reserve& Get() {
    static auto* const reserve = new Reserve;  // NOLINT(cppcoreguidelines-owning-memory)
    return *reserve;
  }

  // Makes the reserve, and the thread that keeps it full. Later calls do nothing.
  void Fill() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (std::exchange(filled_, true)) return;
    // A thread inherits the mask it is made under: signals belong to the main thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (parked_.size() < kReserve && Park()) {
    }
    pthread_t keeper;
    if (__real_pthread_create(&keeper, nullptr, &Reserve::Keep, this) == 0) pthread_detach(keeper);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  // A thread for work for which the kernel made none. False: there is none, and `thread` must be
  // joinable.
  bool Take(pthread_t* thread, const pthread_attr_t* attributes, const Work& work) {
    int state = PTHREAD_CREATE_JOINABLE;
    if (attributes != nullptr) pthread_attr_getdetachstate(attributes, &state);
    std::unique_lock<std::mutex> lock(mutex_);
    if (!filled_) return false;
    needed_.notify_one();
    for (auto one = parked_.begin(); one != parked_.end(); ++one) {
      if (one->work.has_value()) continue;
      one->work = work;
      *thread = one->thread;
      if (state == PTHREAD_CREATE_DETACHED) pthread_detach(one->thread);
      one->ready.notify_one();
      return true;
    }
    if (state != PTHREAD_CREATE_DETACHED) return false;
    // The handle of a detached thread is never used, so there need not be one yet.
    *thread = pthread_self();
    late_.push_back(work);
    return true;
  }

 private:
  struct Parked {
    pthread_t thread;
    std::condition_variable ready;
    std::optional<Work> work;
  };

  // With mutex_ held. False: the kernel gives no thread.
  bool Park() {
    Parked& one = parked_.emplace_back();
    if (__real_pthread_create(&one.thread, nullptr, &Reserve::Wait, &one) == 0) return true;
    parked_.pop_back();
    return false;
  }

  static void* Wait(void* argument) {
    auto* const one = static_cast<Parked*>(argument);
    Reserve& reserve = Get();
    Work work;
    {
      std::unique_lock<std::mutex> lock(reserve.mutex_);
      one->ready.wait(lock, [one] { return one->work.has_value(); });
      work = *one->work;
      reserve.parked_.remove_if([one](const Parked& parked) { return &parked == one; });
    }
    return work.routine(work.argument);
  }

  // Makes the threads that are due and fills up the reserve, as soon as the kernel allows it.
  static void* Keep(void* argument) {
    auto* const reserve = static_cast<Reserve*>(argument);
    pthread_setname_np(pthread_self(), "grpc-reserve");
    std::unique_lock<std::mutex> lock(reserve->mutex_);
    while (true) {
      bool made = true;
      while (made && !reserve->late_.empty()) {
        pthread_attr_t detached;
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        const Work work = reserve->late_.front();
        pthread_t thread;
        made = __real_pthread_create(&thread, &detached, work.routine, work.argument) == 0;
        pthread_attr_destroy(&detached);
        if (made) reserve->late_.pop_front();
      }
      while (made && reserve->Idle() < kReserve) made = reserve->Park();
      if (made) {
        reserve->needed_.wait(lock);
      } else {
        reserve->needed_.wait_for(lock, kRetry);
      }
    }
  }

  size_t Idle() const {
    size_t idle = 0;
    for (const Parked& one : parked_) idle += one.work.has_value() ? 0 : 1;
    return idle;
  }

  std::mutex mutex_;
  std::condition_variable needed_;
  bool filled_ = false;
  std::list<Parked> parked_;
  std::deque<Work> late_;
};

thread_local bool making_grpc_thread = false;

}  // namespace

extern "C" int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                     StartRoutine routine, void* argument);
extern "C" int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                     StartRoutine routine, void* argument) {
  const int error = __real_pthread_create(thread, attributes, routine, argument);
  if (error != EAGAIN || !making_grpc_thread) return error;
  return Reserve::Get().Take(thread, attributes, {routine, argument}) ? 0 : error;
}

// grpc_core::Thread::Thread(const char* name, void (*body)(void*), void* argument, bool* success,
// const Options&)
extern "C" void __real__ZN9grpc_core6ThreadC1EPKcPFvPvES3_PbRKNS0_7OptionsE(
    void* self, const char* name, void (*body)(void*), void* argument, bool* success,
    const void* options);
extern "C" void __wrap__ZN9grpc_core6ThreadC1EPKcPFvPvES3_PbRKNS0_7OptionsE(
    void* self, const char* name, void (*body)(void*), void* argument, bool* success,
    const void* options);
extern "C" void __wrap__ZN9grpc_core6ThreadC1EPKcPFvPvES3_PbRKNS0_7OptionsE(
    void* self, const char* name, void (*body)(void*), void* argument, bool* success,
    const void* options) {
  making_grpc_thread = true;
  __real__ZN9grpc_core6ThreadC1EPKcPFvPvES3_PbRKNS0_7OptionsE(self, name, body, argument, success,
                                                              options);
  making_grpc_thread = false;
}

// Not in gRPC 1.51's public headers. It keeps a weak reference only.
namespace grpc_event_engine::experimental {
std::shared_ptr<EventEngine> GetDefaultEventEngine();
}  // namespace grpc_event_engine::experimental

namespace gantry {

void ReserveGrpcThreads() {
  Reserve::Get().Fill();
  grpc_init();
  using grpc_event_engine::experimental::EventEngine;
  static auto* const engine =  // NOLINT(cppcoreguidelines-owning-memory): never released
      new std::shared_ptr<EventEngine>(grpc_event_engine::experimental::GetDefaultEventEngine());
  static_cast<void>(engine);
}

}  // namespace gantry
