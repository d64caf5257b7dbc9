#include "third_party/grpc_event_engine.h"

#include <grpc/event_engine/event_engine.h>
#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace {

using grpc_event_engine::experimental::EventEngine;

thread_local bool is_worker = false;

class LazyEventEngine final : public EventEngine {
 public:
  ~LazyEventEngine() override {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->stopping = true;
    state_->news.notify_one();
  }

  absl::StatusOr<std::unique_ptr<Listener>> CreateListener(
      Listener::AcceptCallback, absl::AnyInvocable<void(absl::Status)>,
      const grpc_event_engine::experimental::EndpointConfig&,
      std::unique_ptr<grpc_event_engine::experimental::MemoryAllocatorFactory>) override {
    return Refused();
  }
  ConnectionHandle Connect(OnConnectCallback on_connect, const ResolvedAddress&,
                           const grpc_event_engine::experimental::EndpointConfig&,
                           grpc_event_engine::experimental::MemoryAllocator, Duration) override {
    Run([on_connect = std::move(on_connect)]() mutable { on_connect(Refused()); });
    return {{-1, -1}};
  }
  bool CancelConnect(ConnectionHandle) override { return false; }
  std::unique_ptr<DNSResolver> GetDNSResolver(const DNSResolver::ResolverOptions&) override {
    return nullptr;
  }

  bool IsWorkerThread() override { return is_worker; }
  void Run(Closure* closure) override {
    Run([closure] { closure->Run(); });
  }
  void Run(absl::AnyInvocable<void()> closure) override {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->due.push_back(std::move(closure));
    Wake();
  }
  TaskHandle RunAfter(Duration when, Closure* closure) override {
    return RunAfter(when, [closure] { closure->Run(); });
  }
  TaskHandle RunAfter(Duration when, absl::AnyInvocable<void()> closure) override {
    const Clock::time_point at = Clock::now() + when;
    std::unique_lock<std::mutex> lock(state_->mutex);
    const intptr_t number = ++state_->last_number;
    state_->later.emplace(std::pair(at, number), std::move(closure));
    Wake();
    return {{static_cast<intptr_t>(at.time_since_epoch().count()), number}};
  }
  bool Cancel(TaskHandle handle) override {
    const Clock::time_point at{Clock::duration(handle.keys[0])};
    std::unique_lock<std::mutex> lock(state_->mutex);
    return state_->later.erase(std::pair(at, handle.keys[1])) > 0;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static_assert(sizeof(Clock::duration::rep) <= sizeof(intptr_t));

  // Shared with the thread, which may be in a closure when the engine goes.
  struct State {
    std::mutex mutex;
    std::condition_variable news;
    bool started = false;
    bool stopping = false;
    std::deque<absl::AnyInvocable<void()>> due;
    std::map<std::pair<Clock::time_point, intptr_t>, absl::AnyInvocable<void()>> later;
    intptr_t last_number = 0;
  };

  static absl::Status Refused() {
    return absl::UnimplementedError("this program speaks over ready-made descriptors only");
  }

  // With the mutex held. Where the kernel gives no thread, the next call tries again.
  void Wake() {
    if (state_->started) return state_->news.notify_one();
    // Signals belong to the program's own threads; a thread inherits the mask it is made under.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    auto shared = std::make_unique<std::shared_ptr<State>>(state_);
    if (pthread_create(&thread, nullptr, &LazyEventEngine::Work, shared.get()) == 0) {
      [[maybe_unused]] auto* const given = shared.release();
      pthread_detach(thread);
      state_->started = true;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  static void* Work(void* argument) {
    const std::unique_ptr<std::shared_ptr<State>> given(
        static_cast<std::shared_ptr<State>*>(argument));
    State& state = **given;
    is_worker = true;
    pthread_setname_np(pthread_self(), "event-engine");
    std::unique_lock<std::mutex> lock(state.mutex);
    while (true) {
      while (!state.later.empty() && state.later.begin()->first.first <= Clock::now()) {
        state.due.push_back(std::move(state.later.begin()->second));
        state.later.erase(state.later.begin());
      }
      if (!state.due.empty()) {
        absl::AnyInvocable<void()> closure = std::move(state.due.front());
        state.due.pop_front();
        lock.unlock();
        closure();
        closure = nullptr;
        lock.lock();
      } else if (state.stopping) {
        return nullptr;
      } else if (state.later.empty()) {
        state.news.wait(lock);
      } else {
        state.news.wait_until(lock, Clock::time_point(state.later.begin()->first.first));
      }
    }
  }

  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace

namespace gantry {

void UseLazyEventEngine() {
  grpc_event_engine::experimental::SetEventEngineFactory(
      [] { return std::make_unique<LazyEventEngine>(); });
}

}  // namespace gantry
