#include "supervisor/core/container_locks.h"

#include <vector>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::core {

OperationLock& OperationLock::operator=(OperationLock&& other) noexcept {
  if (this != &other) {
    Release();
    locks_ = std::exchange(other.locks_, nullptr);
    key_ = std::move(other.key_);
    token_ = std::move(other.token_);
  }
  return *this;
}

void OperationLock::Release() {
  // Destroyed last and without the lock: its end waits for callbacks that run.
  const std::unique_ptr<CancelToken> token = std::move(token_);
  OperationLocks* locks = std::exchange(locks_, nullptr);
  if (locks == nullptr) return;
  absl::MutexLock lock(&locks->mu_);
  OperationLocks::Entry& entry = locks->entries_[key_];
  entry.token = nullptr;
  // What cancels the token uses it and, through it, the caller's, which ends after this lock.
  const auto unused = [&entry] { return entry.cancelling == 0; };
  locks->mu_.Await(absl::Condition(&unused));
  entry.held = false;
  locks->Forget(key_);
}

void OperationLocks::Forget(const Key& key) {
  auto it = entries_.find(key);
  if (--it->second.interested == 0) entries_.erase(it);
}

absl::StatusOr<OperationLock> OperationLocks::Acquire(const std::string& ns, const std::string& id,
                                                      CancelToken* cancel,
                                                      Interruptible interruptible) {
  Key key(ns, id);
  bool given_up = false;  // guarded by mu_
  absl::Duration limit = absl::InfiniteDuration();
  CancelToken::Registration on_cancel;  // dropped without the lock, which its callback takes
  if (cancel != nullptr) {
    limit = cancel->remaining();
    on_cancel = cancel->OnCancel([this, &given_up] {
      absl::MutexLock lock(&mu_);
      given_up = true;
    });
  }
  auto token = std::make_unique<CancelToken>(absl::InfiniteDuration(), cancel);
  absl::MutexLock lock(&mu_);
  Entry& entry = entries_[key];  // map nodes stay where they are
  ++entry.interested;
  const auto settled = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !entry.held || given_up || stopped_;
  };
  const bool in_time = mu_.AwaitWithTimeout(absl::Condition(&settled), limit);
  absl::Status refused;
  if (stopped_) {
    refused = absl::UnavailableError(why_stopped_);
  } else if (given_up || !in_time) {
    refused = cancel->Check();
    const absl::string_view waiting = "waiting for another operation on it";
    refused = refused.ok()
                  ? absl::DeadlineExceededError(absl::StrCat(waiting, " took too long"))
                  : absl::Status(refused.code(), absl::StrCat(waiting, ": ", refused.message()));
  }
  if (!refused.ok()) {
    Forget(key);
    return absl::Status(refused.code(), absl::StrCat("container ", id, ": ", refused.message()));
  }
  entry.held = true;
  entry.interruptible = interruptible;
  entry.token = token.get();
  return OperationLock(this, std::move(key), std::move(token));
}

void OperationLocks::CancelHolder(const Key& key, absl::string_view why) {
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second.token == nullptr) return;
  Entry& entry = it->second;  // stays where it is: the holder waits for this
  CancelToken* const token = entry.token;
  ++entry.cancelling;
  mu_.Unlock();
  token->Cancel(why);
  mu_.Lock();
  --entry.cancelling;
}

void OperationLocks::Interrupt(const std::string& ns, const std::string& id,
                               absl::string_view why) {
  absl::MutexLock lock(&mu_);
  const auto it = entries_.find({ns, id});
  if (it != entries_.end() && it->second.interruptible == Interruptible::kYes)
    CancelHolder({ns, id}, why);
}

void OperationLocks::Stop(absl::string_view why) {
  absl::MutexLock lock(&mu_);
  stopped_ = true;
  why_stopped_ = std::string(why);
  // Entries come and go while a token is cancelled; none begins to be held any more.
  std::vector<Key> keys;
  for (const auto& [key, entry] : entries_) keys.push_back(key);
  for (const Key& key : keys) CancelHolder(key, why);
}

}  // namespace gantry::core
