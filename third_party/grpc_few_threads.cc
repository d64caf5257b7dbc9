// Fewer threads for gRPC in programs that live for milliseconds or are there many times.
//
// gRPC 1.51 starts three threads when it is first used: one for each of its two executors and one
// for timers, which wakes twice a second even where there is no timer. To make and to end them is a
// measurable part of the life of ctl and of a shim, and wakes every idle shim. In a program that
// links this file
//
//   - executors have no thread until one is given work that may block: a connection whose other end
//     does not read is polled there. What is short, which is nearly all, runs when the call into gRPC
//     that gave it is about to return;
//   - the thread for timers is made with the first timer, a call with a deadline for example.
//
// The linker sends gRPC's own calls of these functions, and pthread_create, through these wrappers.
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <mutex>

using StartRoutine = void* (*)(void*);

extern "C" {
int __real_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, StartRoutine routine,
                          void* argument);
int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, StartRoutine routine,
                          void* argument);
// grpc_core::Executor::InitAll()
void __real__ZN9grpc_core8Executor7InitAllEv();
void __wrap__ZN9grpc_core8Executor7InitAllEv();
// grpc_core::Executor::Run(grpc_closure*, absl::Status, ExecutorType, ExecutorJobType); a Status
// that is an argument is passed by its address.
void __real__ZN9grpc_core8Executor3RunEP12grpc_closureN4absl7debian36StatusENS_12ExecutorTypeENS_15ExecutorJobTypeE(
    void* closure, void* status, int executor, int job);
void __wrap__ZN9grpc_core8Executor3RunEP12grpc_closureN4absl7debian36StatusENS_12ExecutorTypeENS_15ExecutorJobTypeE(
    void* closure, void* status, int executor, int job);
// grpc_timer_manager_init(), grpc_timer_manager_shutdown()
void __real__Z23grpc_timer_manager_initv();
void __wrap__Z23grpc_timer_manager_initv();
void __real__Z27grpc_timer_manager_shutdownv();
void __wrap__Z27grpc_timer_manager_shutdownv();
// grpc_timer_init(grpc_timer*, grpc_core::Timestamp, grpc_closure*); a Timestamp is an int64_t.
void __real__Z15grpc_timer_initP10grpc_timerN9grpc_core9TimestampEP12grpc_closure(
    void* timer, long long deadline, void* closure);
void __wrap__Z15grpc_timer_initP10grpc_timerN9grpc_core9TimestampEP12grpc_closure(
    void* timer, long long deadline, void* closure);
}

// Not in gRPC 1.51's public headers.
namespace grpc_core {
class Executor {
 public:
  static void SetThreadingAll(bool enable);
};
}  // namespace grpc_core

namespace {

constexpr int kDefaultExecutor = 0;
constexpr int kShortJob = 0;

thread_local bool refuse_threads = false;

// Held while executors without threads are given work, so that they do not get them meanwhile.
std::mutex executors_mutex;
std::atomic<bool> executors_threaded = false;

std::mutex timers_mutex;
std::atomic<bool> timers_started = false;

}  // namespace

int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, StartRoutine routine,
                          void* argument) {
  if (refuse_threads) return EAGAIN;
  return __real_pthread_create(thread, attributes, routine, argument);
}

void __wrap__ZN9grpc_core8Executor7InitAllEv() {
  refuse_threads = true;
  __real__ZN9grpc_core8Executor7InitAllEv();
  refuse_threads = false;
}

void __wrap__ZN9grpc_core8Executor3RunEP12grpc_closureN4absl7debian36StatusENS_12ExecutorTypeENS_15ExecutorJobTypeE(
    void* closure, void* status, int executor, int job) {
  std::unique_lock<std::mutex> lock(executors_mutex, std::defer_lock);
  if (!executors_threaded.load(std::memory_order_acquire)) {
    lock.lock();
    if (!executors_threaded && (executor != kDefaultExecutor || job != kShortJob)) {
      grpc_core::Executor::SetThreadingAll(true);
      executors_threaded.store(true, std::memory_order_release);
    }
  }
  __real__ZN9grpc_core8Executor3RunEP12grpc_closureN4absl7debian36StatusENS_12ExecutorTypeENS_15ExecutorJobTypeE(
      closure, status, executor, job);
}

// The last step of gRPC's start.
void __wrap__Z23grpc_timer_manager_initv() {
  // Executors count on the threads that they were refused until they are told that they have none.
  grpc_core::Executor::SetThreadingAll(false);
}

void __wrap__Z27grpc_timer_manager_shutdownv() {
  const std::unique_lock<std::mutex> lock(timers_mutex);
  if (timers_started.exchange(false)) __real__Z27grpc_timer_manager_shutdownv();
}

void __wrap__Z15grpc_timer_initP10grpc_timerN9grpc_core9TimestampEP12grpc_closure(
    void* timer, long long deadline, void* closure) {
  if (!timers_started.load(std::memory_order_acquire)) {
    const std::unique_lock<std::mutex> lock(timers_mutex);
    if (!timers_started.load(std::memory_order_relaxed)) {
      __real__Z23grpc_timer_manager_initv();
      timers_started.store(true, std::memory_order_release);
    }
  }
  __real__Z15grpc_timer_initP10grpc_timerN9grpc_core9TimestampEP12grpc_closure(timer, deadline,
                                                                               closure);
}
