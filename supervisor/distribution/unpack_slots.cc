#include "supervisor/distribution/unpack_slots.h"

#include <algorithm>

#include "base/status_macros.h"

namespace gantry::distribution {
namespace {

// Waits until `ready` holds under `mu`, then calls `take` under it; or until the operation ends.
// `ready` has no effects.
template <typename Ready, typename Take>
absl::Status WaitUntil(absl::Mutex& mu, CancelToken& cancel, Ready ready, Take take) {
  bool cancelled = false;
  CancelToken::Registration registration = cancel.OnCancel([&] {
    absl::MutexLock lock(&mu);
    cancelled = true;
  });
  bool taken = false;
  {
    absl::MutexLock lock(&mu);
    const auto done = [&] { return cancelled || ready(); };
    while (!mu.AwaitWithTimeout(absl::Condition(&done), cancel.remaining()) &&
           cancel.Check().ok()) {
    }
    taken = ready();
    if (taken) take();
  }
  return taken ? absl::OkStatus() : cancel.Check();
}

}  // namespace

ProcessorSlots::ProcessorSlots(int count) : free_(std::max(1, count)) {}

absl::Status ProcessorSlots::Acquire(CancelToken& cancel) {
  return WaitUntil(
      mu_, cancel, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return free_ > 0; },
      [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { --free_; });
}

void ProcessorSlots::Release() {
  absl::MutexLock lock(&mu_);
  ++free_;
}

absl::Status SlotHold::Acquire() {
  GANTRY_RETURN_IF_ERROR(slots_.Acquire(cancel_));
  held_ = true;
  return absl::OkStatus();
}

void SlotHold::Release() {
  if (held_) slots_.Release();
  held_ = false;
}

bool ChainClaims::Try(const std::string& key) {
  absl::MutexLock lock(&mu_);
  return held_.insert(key).second;
}

bool ChainClaims::Held(const std::string& key) {
  absl::MutexLock lock(&mu_);
  return held_.count(key) > 0;
}

void ChainClaims::Release(const std::string& key) {
  absl::MutexLock lock(&mu_);
  held_.erase(key);
}

absl::Status ChainClaims::Wait(const std::string& key, CancelToken& cancel) {
  return WaitUntil(
      mu_, cancel, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return held_.count(key) == 0; }, [] {});
}

}  // namespace gantry::distribution
