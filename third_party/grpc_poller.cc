// The thread that serves gRPC's callback API, in place of gRPC's own.
//
// gRPC 1.51 starts at least two, which pass the socket's poll on to each other with every message:
// on a machine of two processors half of the time of a short call goes into waking the other
// thread. And each of them sleeps for 100 ms whenever nothing came for a second, so that now and
// then a first call after a pause waits for that. Here it is one thread, which waits for as long as
// it takes, and a second that looks after it: callbacks should not block, but one that does, for a
// quarter of a second, stops no other call.
//
// The linker sends gRPC's calls of the two functions that make and release the queue through these
// wrappers.
#include <grpc/grpc.h>
#include <grpcpp/completion_queue.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace {

constexpr std::chrono::milliseconds kStuck(250);

// The number of the callback that the first thread is in; 0: in none.
std::atomic<uint64_t> running = 0;

// Waits until `deadline` for something to do, and does it; false: there was nothing.
bool ServeOne(grpc_completion_queue* queue, gpr_timespec deadline, bool first) {
  static uint64_t count = 0;  // of the first thread
  const grpc_event event = grpc_completion_queue_next(queue, deadline, nullptr);
  if (event.type != GRPC_OP_COMPLETE) return false;
  auto* done = static_cast<grpc_completion_queue_functor*>(event.tag);
  if (first) running.store(++count, std::memory_order_relaxed);
  done->functor_run(done, event.success);
  if (first) running.store(0, std::memory_order_relaxed);
  return true;
}

// A client that calls again as soon as it is answered is back before a processor that went to sleep
// has woken up. So the thread looks a little longer before it sleeps, as long as most of its last
// waits would have ended that way.
class Patience {
 public:
  using Clock = std::chrono::steady_clock;
  bool worthwhile() const { return __builtin_popcount(short_waits_) >= kMost; }
  static bool over(Clock::time_point begin) { return Clock::now() - begin > kLook; }
  void Waited(Clock::time_point begin) { short_waits_ = short_waits_ << 1 | (over(begin) ? 0 : 1); }
  void DidNotWait() { short_waits_ = short_waits_ << 1 | 1; }

 private:
  static constexpr std::chrono::microseconds kLook{100};
  // Of 32. The few quick messages that a container's start brings are no reason to look longer.
  static constexpr int kMost = 30;
  uint32_t short_waits_ = 0;
};

void Poll(grpc_completion_queue* queue) {
  pthread_setname_np(pthread_self(), "grpc-poll");
  // By the clock that gRPC counts in: another has to be converted, with two looks at both.
  const gpr_timespec now = gpr_time_0(GPR_CLOCK_MONOTONIC);
  Patience patience;
  while (true) {
    const bool patient = patience.worthwhile();
    // What is there already needs no look at the clock.
    if (patient && ServeOne(queue, now, /*first=*/true)) {
      patience.DidNotWait();
      continue;
    }
    const auto begin = Patience::Clock::now();
    bool served = false;
    while (patient && !served && !Patience::over(begin))
      served = ServeOne(queue, now, /*first=*/true);
    if (!served) ServeOne(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), /*first=*/true);
    patience.Waited(begin);
  }
}

void StandBy(grpc_completion_queue* queue) {
  pthread_setname_np(pthread_self(), "grpc-standby");
  uint64_t before = 0;
  while (true) {
    const uint64_t now = running.load(std::memory_order_relaxed);
    if (now != 0 && now == before) {
      ServeOne(queue,
               gpr_time_add(gpr_now(GPR_CLOCK_REALTIME),
                            gpr_time_from_millis(kStuck.count(), GPR_TIMESPAN)),
               /*first=*/false);
    } else {
      std::this_thread::sleep_for(kStuck);
    }
    before = now;
  }
}

grpc::CompletionQueue* Start() {
  auto* queue = new grpc::CompletionQueue;  // NOLINT(cppcoreguidelines-owning-memory): never freed
  // A thread inherits the mask it is made under: signals belong to the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread(Poll, queue->cq()).detach();
  std::thread(StandBy, queue->cq()).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return queue;
}

}  // namespace

// The queue of all channels and servers. It stays when the last of them has gone, because that may
// be on its own thread, on which gRPC 1.51 cannot end it ("assertion failed: prior > 0").
extern "C" grpc::CompletionQueue* __wrap__ZN4grpc15CompletionQueue21CallbackAlternativeCQEv();
extern "C" grpc::CompletionQueue* __wrap__ZN4grpc15CompletionQueue21CallbackAlternativeCQEv() {
  static grpc::CompletionQueue* const queue = Start();
  return queue;
}

extern "C" void __wrap__ZN4grpc15CompletionQueue28ReleaseCallbackAlternativeCQEPS0_(
    grpc::CompletionQueue*);
extern "C" void __wrap__ZN4grpc15CompletionQueue28ReleaseCallbackAlternativeCQEPS0_(
    grpc::CompletionQueue*) {}
