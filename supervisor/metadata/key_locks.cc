#include "supervisor/metadata/key_locks.h"

#include <algorithm>

#include "absl/hash/hash.h"

namespace gantry::metadata {

KeyLocks::Held::Held(Held&& other) noexcept
    : locks_(std::exchange(other.locks_, nullptr)), keys_(std::move(other.keys_)) {
  other.keys_.clear();
}

KeyLocks::Held& KeyLocks::Held::operator=(Held&& other) noexcept {
  if (this != &other) {
    ReleaseAll();
    locks_ = std::exchange(other.locks_, nullptr);
    keys_ = std::move(other.keys_);
    other.keys_.clear();
  }
  return *this;
}

bool KeyLocks::Held::Exclusive(const std::string& key, absl::Duration timeout) {
  for (auto& [held, exclusive] : keys_) {
    if (held != key) continue;
    if (exclusive) return true;
    if (!locks_->Upgrade(key, timeout)) return false;
    exclusive = true;
    return true;
  }
  if (!locks_->Acquire(key, /*exclusive=*/true, timeout)) return false;
  keys_.emplace_back(key, true);
  return true;
}

bool KeyLocks::Held::Shared(const std::string& key, absl::Duration timeout) {
  for (const auto& [held, exclusive] : keys_) {
    if (held == key) return true;
  }
  if (!locks_->Acquire(key, /*exclusive=*/false, timeout)) return false;
  keys_.emplace_back(key, false);
  return true;
}

void KeyLocks::Held::ReleaseAll() {
  for (const auto& [key, exclusive] : keys_) locks_->Release(key, exclusive);
  keys_.clear();
}

KeyLocks::Shard& KeyLocks::ShardOf(absl::string_view key) {
  return shards_[absl::Hash<absl::string_view>()(key) % shards_.size()];
}

bool KeyLocks::Acquire(const std::string& key, bool exclusive, absl::Duration timeout) {
  Shard& shard = ShardOf(key);
  absl::MutexLock lock(&shard.mu);
  // References into a flat_hash_map move, so the state is looked up again after each wait.
  ++shard.states[key].interested;
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    State& state = shard.states[key];
    if (!state.exclusive && (!exclusive || state.sharers == 0)) {
      if (exclusive) {
        state.exclusive = true;
      } else {
        ++state.sharers;
      }
      return true;
    }
    if (shard.changed.WaitWithDeadline(&shard.mu, deadline)) {
      State& now = shard.states[key];
      if (!now.exclusive && (!exclusive || now.sharers == 0)) continue;
      if (--now.interested == 0) shard.states.erase(key);
      return false;
    }
  }
}

bool KeyLocks::Upgrade(const std::string& key, absl::Duration timeout) {
  Shard& shard = ShardOf(key);
  absl::MutexLock lock(&shard.mu);
  const absl::Time deadline = absl::Now() + timeout;
  while (shard.states[key].sharers > 1) {
    if (shard.changed.WaitWithDeadline(&shard.mu, deadline) && shard.states[key].sharers > 1)
      return false;
  }
  State& state = shard.states[key];
  state.sharers = 0;
  state.exclusive = true;
  return true;
}

void KeyLocks::Release(const std::string& key, bool exclusive) {
  Shard& shard = ShardOf(key);
  absl::MutexLock lock(&shard.mu);
  auto it = shard.states.find(key);
  if (exclusive) {
    it->second.exclusive = false;
  } else {
    --it->second.sharers;
  }
  if (--it->second.interested == 0) {
    shard.states.erase(it);
  } else {
    shard.changed.SignalAll();
  }
}

}  // namespace gantry::metadata
