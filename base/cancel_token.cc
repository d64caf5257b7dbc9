#include "base/cancel_token.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/clock.h"

namespace gantry {
namespace {

absl::Duration Deadline(absl::Duration timeout) {
  return timeout == absl::InfiniteDuration() ? timeout : Clock::Real().Monotonic() + timeout;
}

}  // namespace

CancelToken::Registration::Registration(Registration&& other) noexcept
    : token_(std::exchange(other.token_, nullptr)), id_(other.id_) {}

CancelToken::Registration& CancelToken::Registration::operator=(Registration&& other) noexcept {
  if (this != &other) {
    if (token_ != nullptr) token_->Drop(id_);
    token_ = std::exchange(other.token_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

CancelToken::Registration::~Registration() {
  if (token_ != nullptr) token_->Drop(id_);
}

CancelToken::CancelToken(absl::Duration timeout, CancelToken* parent)
    : deadline_(parent == nullptr ? Deadline(timeout)
                                  : std::min(Deadline(timeout), parent->deadline_)) {
  if (parent == nullptr) return;
  parent_ = parent->OnCancel([this, parent] {
    std::string reason;
    {
      absl::MutexLock lock(&parent->mu_);
      reason = parent->reason_;
    }
    Cancel(reason);
  });
}

CancelToken::~CancelToken() = default;

void CancelToken::Cancel(absl::string_view reason) {
  absl::MutexLock lock(&mu_);
  if (cancelled_) return;
  cancelled_ = true;
  reason_ = std::string(reason);
  while (!callbacks_.empty()) {
    auto node = callbacks_.extract(callbacks_.begin());
    running_id_ = node.key();
    running_on_ = std::this_thread::get_id();
    mu_.Unlock();
    node.mapped()();
    mu_.Lock();
    running_id_ = 0;
  }
}

absl::Status CancelToken::Check() const {
  {
    absl::MutexLock lock(&mu_);
    if (cancelled_) return absl::CancelledError(reason_);
  }
  if (remaining() <= absl::ZeroDuration())
    return absl::DeadlineExceededError("the time for this operation is over");
  return absl::OkStatus();
}

absl::Duration CancelToken::remaining() const {
  if (deadline_ == absl::InfiniteDuration()) return deadline_;
  return std::max(absl::ZeroDuration(), deadline_ - Clock::Real().Monotonic());
}

CancelToken::Registration CancelToken::OnCancel(absl::AnyInvocable<void()> callback) {
  {
    absl::MutexLock lock(&mu_);
    if (!cancelled_) {
      const uint64_t id = next_id_++;
      callbacks_.emplace(id, std::move(callback));
      return Registration(this, id);
    }
  }
  callback();
  return Registration();
}

absl::Status CancelToken::Sleep(absl::Duration duration) {
  const absl::Duration until = Deadline(duration);
  for (;;) {
    if (absl::Status status = Check(); !status.ok()) return status;
    const absl::Duration left = until - Clock::Real().Monotonic();
    if (left <= absl::ZeroDuration()) return absl::OkStatus();
    const absl::Duration wait = std::min(left, remaining());
    absl::MutexLock lock(&mu_);
    mu_.AwaitWithTimeout(absl::Condition(&cancelled_), wait);
  }
}

void CancelToken::Drop(uint64_t id) {
  absl::MutexLock lock(&mu_);
  callbacks_.erase(id);
  if (running_id_ != id || running_on_ == std::this_thread::get_id()) return;
  const auto ended = [this, id]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return running_id_ != id; };
  mu_.Await(absl::Condition(&ended));
}

}  // namespace gantry
