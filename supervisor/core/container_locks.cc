#include "supervisor/core/container_locks.h"

namespace gantry::core {

OperationLock& OperationLock::operator=(OperationLock&& other) noexcept {
  if (this != &other) {
    Release();
    locks_ = std::exchange(other.locks_, nullptr);
    key_ = std::move(other.key_);
  }
  return *this;
}

void OperationLock::Release() {
  OperationLocks* locks = std::exchange(locks_, nullptr);
  if (locks == nullptr) return;
  absl::MutexLock lock(&locks->mu_);
  auto it = locks->entries_.find(key_);
  it->second.held = false;
  if (--it->second.interested == 0) locks->entries_.erase(it);
}

OperationLock OperationLocks::Acquire(const std::string& ns, const std::string& id) {
  std::pair<std::string, std::string> key(ns, id);
  absl::MutexLock lock(&mu_);
  Entry& entry = entries_[key];  // map nodes stay where they are
  ++entry.interested;
  mu_.Await(absl::Condition(
      +[](Entry* waited) { return !waited->held; }, &entry));
  entry.held = true;
  return OperationLock(this, std::move(key));
}

}  // namespace gantry::core
