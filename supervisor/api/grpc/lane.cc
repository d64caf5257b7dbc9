#include "supervisor/api/grpc/lane.h"

#include <utility>

#include "base/trace/span.h"

namespace gantry::api {

bool Lane::Enter(const std::string& connection, absl::AnyInvocable<void()> work) {
  absl::MutexLock lock(&mu_);
  // Under the lock, so that a thread that comes at once finds the work.
  if (!executor_.Schedule([this] { RunNext(); })) return false;
  connections_[connection].waiting.push_back(trace::Bound(std::move(work)));
  return true;
}

void Lane::Leave(const std::string& connection) {
  absl::MutexLock lock(&mu_);
  const auto it = connections_.find(connection);
  --it->second.begun;
  if (it->second.waiting.empty()) {
    if (it->second.begun == 0) connections_.erase(it);
    return;
  }
  // One of its own may take the place.
  if (postponed_ > 0 && executor_.Schedule([this] { RunNext(); })) --postponed_;
}

Lane::Connections::iterator Lane::Next() {
  const auto begin = connections_.upper_bound(last_);
  const auto ready = [this](const Connection& one) {
    return !one.waiting.empty() && one.begun < share_;
  };
  for (auto it = begin; it != connections_.end(); ++it) {
    if (ready(it->second)) return it;
  }
  for (auto it = connections_.begin(); it != begin; ++it) {
    if (ready(it->second)) return it;
  }
  return connections_.end();
}

void Lane::RunNext() {
  absl::AnyInvocable<void()> work;
  {
    absl::MutexLock lock(&mu_);
    const auto next = Next();
    if (next == connections_.end()) {
      ++postponed_;
      return;
    }
    work = std::move(next->second.waiting.front());
    next->second.waiting.pop_front();
    ++next->second.begun;
    last_ = next->first;
  }
  work();
}

}  // namespace gantry::api
