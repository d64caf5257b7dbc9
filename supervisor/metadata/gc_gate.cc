#include "supervisor/metadata/gc_gate.h"

namespace gantry::metadata {

GcGate::Shared& GcGate::Shared::operator=(Shared&& other) noexcept {
  if (this != &other) {
    Release();
    gate_ = std::exchange(other.gate_, nullptr);
  }
  return *this;
}

void GcGate::Shared::Release() {
  if (GcGate* gate = std::exchange(gate_, nullptr)) {
    absl::MutexLock lock(&gate->mu_);
    --gate->sharers_;
  }
}

void GcGate::Exclusive::Release() {
  if (GcGate* gate = std::exchange(gate_, nullptr)) {
    absl::MutexLock lock(&gate->mu_);
    gate->exclusive_ = false;
  }
}

GcGate::Shared GcGate::EnterShared() {
  absl::MutexLock lock(&mu_);
  auto open = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !exclusive_ && waiting_ == 0; };
  mu_.Await(absl::Condition(&open));
  ++sharers_;
  return Shared(this);
}

std::optional<GcGate::Exclusive> GcGate::EnterExclusive(absl::Duration timeout) {
  absl::MutexLock lock(&mu_);
  ++waiting_;
  auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !exclusive_ && sharers_ == 0; };
  const bool entered = mu_.AwaitWithTimeout(absl::Condition(&empty), timeout);
  --waiting_;
  if (!entered) return std::nullopt;
  exclusive_ = true;
  return Exclusive(this);
}

}  // namespace gantry::metadata
