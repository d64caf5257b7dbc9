// Ends an operation from outside: by Cancel(), by a deadline, or because the operation it is part
// of ended.
//
// The one who starts an operation owns the token, the operation borrows it and calls Check()
// between steps. A token stays cancelled once it is. The deadline is monotonic; when it passes,
// cancelled() turns true by itself, while OnCancel() callbacks run for Cancel() only: a wait
// therefore takes remaining() as its timeout.
//
// Thread-safe.

#ifndef GANTRY_BASE_CANCEL_TOKEN_H_
#define GANTRY_BASE_CANCEL_TOKEN_H_

#include <cstdint>
#include <map>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry {

class CancelToken {
 public:
  // Withdraws its callback when destroyed. If the callback is running on another thread just then,
  // waits for its end.
  class Registration {
   public:
    Registration() = default;
    Registration(Registration&& other) noexcept;
    Registration& operator=(Registration&& other) noexcept;
    ~Registration();

   private:
    friend class CancelToken;
    Registration(CancelToken* token, uint64_t id) : token_(token), id_(id) {}
    CancelToken* token_ = nullptr;
    uint64_t id_ = 0;
  };

  CancelToken() : CancelToken(absl::InfiniteDuration()) {}
  // Also ends when `parent` does, and not later than it. `parent` outlives this token; null: none.
  explicit CancelToken(absl::Duration timeout, CancelToken* parent = nullptr);
  ~CancelToken();
  CancelToken(const CancelToken&) = delete;
  CancelToken& operator=(const CancelToken&) = delete;

  // Runs the callbacks on this thread. The first reason is kept, later calls do nothing.
  void Cancel(absl::string_view reason = "cancelled");

  bool cancelled() const { return !Check().ok(); }

  // OK, kCancelled with the reason, or kDeadlineExceeded.
  absl::Status Check() const;

  // Time until the deadline, at least zero.
  absl::Duration remaining() const;

  // Calls `callback` once, when Cancel() is called; at once if it was called before. The callback
  // must not block for long; it must neither make nor drop registrations of this token, other than
  // by its own end.
  [[nodiscard]] Registration OnCancel(absl::AnyInvocable<void()> callback);

  // Sleeps. OK: the time has passed; else Check()'s status, as soon as it is cancelled or the
  // deadline passes.
  absl::Status Sleep(absl::Duration duration);

 private:
  void Drop(uint64_t id);

  const absl::Duration deadline_;  // on the monotonic clock

  mutable absl::Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::string reason_ ABSL_GUARDED_BY(mu_);
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t running_id_ ABSL_GUARDED_BY(mu_) = 0;
  std::thread::id running_on_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, absl::AnyInvocable<void()>> callbacks_ ABSL_GUARDED_BY(mu_);
  Registration parent_;
};

}  // namespace gantry

#endif  // GANTRY_BASE_CANCEL_TOKEN_H_
