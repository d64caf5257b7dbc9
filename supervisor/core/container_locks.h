// One operation at a time per container: a lock that exists only while it is held or waited
// for it.
//
// The wait for a lock ends with the caller's deadline or cancellation. The holder works under a
// token of its own, so that a forced removal can cut a running operation short and the daemon can
// stop whatever is under way.
//
// Thread-safe. First in the lock order (STYLE section 7): may be held across calls to a shim, never
// taken while holding another.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_LOCKS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_LOCKS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "supervisor/core/call_context.h"

namespace gantry::core {

class OperationLocks;

// Held until destroyed or assigned over. Empty when default-made. Must not outlive the token that
// it was acquired with: that one is the parent of this lock's own.
class OperationLock {
 public:
  OperationLock() = default;
  OperationLock(OperationLock&& other) noexcept
      : locks_(std::exchange(other.locks_, nullptr)),
        key_(std::move(other.key_)),
        token_(std::move(other.token_)) {}
  OperationLock& operator=(OperationLock&& other) noexcept;
  ~OperationLock() { Release(); }
  // Waits for an Interrupt() or Stop() that is cancelling the token just now.
  void Release();

  // The call's context with the token of this lock, for everything that is done while it is held.
  CallContext Within(CallContext context) const {
    context.cancel = token_.get();
    return context;
  }

 private:
  friend class OperationLocks;
  OperationLock(OperationLocks* locks, std::pair<std::string, std::string> key,
                std::unique_ptr<CancelToken> token)
      : locks_(locks), key_(std::move(key)), token_(std::move(token)) {}
  OperationLocks* locks_ = nullptr;
  std::pair<std::string, std::string> key_;
  std::unique_ptr<CancelToken> token_;
};

// Whether Interrupt() ends the operation.
enum class Interruptible { kYes, kNo };

class OperationLocks {
 public:
  // Waits for its turn. kCancelled, kDeadlineExceeded: `cancel` (null: none) ended the wait;
  // kUnavailable: Stop() was called.
  absl::StatusOr<OperationLock> Acquire(const std::string& ns, const std::string& id,
                                        CancelToken* cancel, Interruptible interruptible);

  // Cancels the token of the operation that holds the lock, if that is interruptible.
  void Interrupt(const std::string& ns, const std::string& id, absl::string_view why);

  // Cancels what is under way; nothing more begins.
  void Stop(absl::string_view why);

 private:
  friend class OperationLock;
  struct Entry {
    bool held = false;
    int interested = 0;  // holder and waiters
    Interruptible interruptible = Interruptible::kYes;
    CancelToken* token = nullptr;  // the holder's, which stays while `cancelling` is not 0
    int cancelling = 0;            // threads that are cancelling the token
  };
  using Key = std::pair<std::string, std::string>;
  // Cancels without the lock, because the token's callbacks take locks of their own.
  void CancelHolder(const Key& key, absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Forget(const Key& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::Mutex mu_;
  std::map<Key, Entry> entries_ ABSL_GUARDED_BY(mu_);
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::string why_stopped_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_LOCKS_H_
