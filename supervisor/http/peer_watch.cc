#include "supervisor/http/peer_watch.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/statusor.h"

#include "base/new_thread.h"

namespace gantry::http {
namespace {

constexpr uint64_t kStop = 0;  // ids of watches begin with 1

}  // namespace

PeerWatch::Watch::Watch(Watch&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)), id_(other.id_) {}

PeerWatch::Watch& PeerWatch::Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    if (owner_ != nullptr) owner_->Drop(id_);
    owner_ = std::exchange(other.owner_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

PeerWatch::Watch::~Watch() {
  if (owner_ != nullptr) owner_->Drop(id_);
}

PeerWatch::PeerWatch()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kStop;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), &event);
}

PeerWatch::~PeerWatch() {
  const uint64_t one = 1;
  // An eventfd that is readable already needs no further write.
  if (write(stop_.get(), &one, sizeof one) < 0) errno = 0;
  if (thread_.joinable()) thread_.join();
}

PeerWatch::Watch PeerWatch::Add(int fd, std::function<void()> gone) {
  absl::MutexLock lock(&mu_);
  if (!thread_.joinable()) {
    absl::StatusOr<std::thread> thread = NewThread([this] { Run(); });
    if (!thread.ok()) return Watch();
    thread_ = *std::move(thread);
  }
  const uint64_t id = next_id_++;
  epoll_event event = {};
  // EPOLLHUP and EPOLLERR are always reported.
  event.events = EPOLLRDHUP | EPOLLONESHOT;
  event.data.u64 = id;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return Watch();
  entries_.emplace(id, Entry{fd, std::move(gone)});
  return Watch(this, id);
}

void PeerWatch::Drop(uint64_t id) {
  absl::MutexLock lock(&mu_);
  const auto it = entries_.find(id);
  if (it != entries_.end()) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->second.fd, nullptr);
    entries_.erase(it);
  }
  if (std::this_thread::get_id() == thread_.get_id()) return;
  const auto over = [this, id]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return running_id_ != id; };
  mu_.Await(absl::Condition(&over));
}

void PeerWatch::Run() {
  pthread_setname_np(pthread_self(), "http-peers");
  while (true) {
    epoll_event events[64];
    const int ready = epoll_wait(epoll_.get(), events, 64, -1);
    if (ready < 0 && errno != EINTR) return;
    for (int i = 0; i < ready; ++i) {
      if (events[i].data.u64 == kStop) return;
      std::function<void()> gone;
      {
        absl::MutexLock lock(&mu_);
        const auto it = entries_.find(events[i].data.u64);
        // Dropped between epoll_wait() and here.
        if (it == entries_.end()) continue;
        gone = std::move(it->second.gone);
        running_id_ = it->first;
      }
      if (gone) gone();
      gone = nullptr;
      absl::MutexLock lock(&mu_);
      running_id_ = 0;
    }
  }
}

}  // namespace gantry::http
