// Shows ThreadSanitizer what Abseil orders (--config=tsan only).
//
// Debian's Abseil is not instrumented, so without help every access under an absl::Mutex looks like
// a race. These functions take the place of those of the shared libraries for everybody, gRPC too:
// they say to the sanitizer what an instrumented Abseil would say, and pass the call on.
// absl_tsan_test.cc proves that guarded accesses are silent and that races are still found.

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdint>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

// Opens the definition of `symbol`; `real_symbol` is the function that it hides.
#define GANTRY_INTERPOSE(result, symbol, ...)                                                      \
  extern "C" __attribute__((visibility("default"))) result symbol(__VA_ARGS__);                    \
  template <typename... Args>                                                                      \
  result real_##symbol(Args... args) {                                                             \
    static const auto next = reinterpret_cast<result (*)(__VA_ARGS__)>(dlsym(RTLD_NEXT, #symbol)); \
    return next(args...);                                                                          \
  }                                                                                                \
  extern "C" result symbol(__VA_ARGS__)

namespace {

using absl::Condition;
using absl::Duration;
using absl::Mutex;
using absl::Time;

// A condition that is evaluated under the mutex, by whichever thread gives the mutex up: the
// library does that deep inside a call of which the sanitizer knows that it unlocks or locks.
class OrderedCondition {
 public:
  OrderedCondition(void* mutex, const Condition& condition)
      : mutex_(mutex), inner_(condition), outer_(this, &OrderedCondition::Eval) {
    __tsan_release(this);
  }

  const Condition& get() const { return outer_; }

 private:
  bool Eval() const {
    __tsan_mutex_pre_divert(mutex_, 0);
    __tsan_acquire(const_cast<OrderedCondition*>(this));
    __tsan_acquire(mutex_);
    const bool holds = inner_.Eval();
    __tsan_release(mutex_);
    __tsan_mutex_post_divert(mutex_, 0);
    return holds;
  }

  void* const mutex_;
  const Condition& inner_;
  const Condition outer_;
};

// While one exists, a call takes the mutex; afterwards it is held.
class Locking {
 public:
  explicit Locking(void* mutex, unsigned flags = 0) : mutex_(mutex), flags_(flags) {
    __tsan_mutex_pre_lock(mutex_, flags_);
  }
  ~Locking() { __tsan_mutex_post_lock(mutex_, flags_, 0); }

  bool Tried(bool locked) {
    if (!locked) flags_ |= __tsan_mutex_try_lock_failed;
    return locked;
  }

 private:
  void* const mutex_;
  unsigned flags_;
};

// While one exists, a call gives the mutex up.
class Unlocking {
 public:
  explicit Unlocking(void* mutex, unsigned flags = 0) : mutex_(mutex), flags_(flags) {
    __tsan_mutex_pre_unlock(mutex_, flags_);
  }
  ~Unlocking() { __tsan_mutex_post_unlock(mutex_, flags_); }

 private:
  void* const mutex_;
  const unsigned flags_;
};

// While one exists, a call gives the mutex up and takes it again. All of the call counts as the
// taking, because only the library knows where one ends and the other begins.
class Waiting {
 public:
  explicit Waiting(void* mutex) : locking_(GivenUp(mutex)) {}

 private:
  static void* GivenUp(void* mutex) {
    const Unlocking unlocking(mutex);
    return mutex;
  }

  const Locking locking_;
};

// The atomic member of a Notification, which inline code reads by itself, and of a BlockingCounter:
// it lies behind the mutex.
void* AtomicOf(void* object) { return static_cast<char*>(object) + sizeof(Mutex); }

}  // namespace

// absl::Mutex. Inline code of the header tells of its construction.

GANTRY_INTERPOSE(void, _ZN4absl7debian35MutexD1Ev, void* self) {
  __tsan_mutex_destroy(self, __tsan_mutex_not_static);
  real__ZN4absl7debian35MutexD1Ev(self);
}

GANTRY_INTERPOSE(void, _ZN4absl7debian35Mutex4LockEv, void* self) {
  const Locking locking(self);
  real__ZN4absl7debian35Mutex4LockEv(self);
}

GANTRY_INTERPOSE(void, _ZN4absl7debian35Mutex6UnlockEv, void* self) {
  const Unlocking unlocking(self);
  real__ZN4absl7debian35Mutex6UnlockEv(self);
}

GANTRY_INTERPOSE(bool, _ZN4absl7debian35Mutex7TryLockEv, void* self) {
  Locking locking(self, __tsan_mutex_try_lock);
  return locking.Tried(real__ZN4absl7debian35Mutex7TryLockEv(self));
}

GANTRY_INTERPOSE(void, _ZN4absl7debian35Mutex10ReaderLockEv, void* self) {
  const Locking locking(self, __tsan_mutex_read_lock);
  real__ZN4absl7debian35Mutex10ReaderLockEv(self);
}

GANTRY_INTERPOSE(void, _ZN4absl7debian35Mutex12ReaderUnlockEv, void* self) {
  const Unlocking unlocking(self, __tsan_mutex_read_lock);
  real__ZN4absl7debian35Mutex12ReaderUnlockEv(self);
}

GANTRY_INTERPOSE(bool, _ZN4absl7debian35Mutex13ReaderTryLockEv, void* self) {
  Locking locking(self, __tsan_mutex_try_read_lock);
  return locking.Tried(real__ZN4absl7debian35Mutex13ReaderTryLockEv(self));
}

// The waits of a mutex suppose that it is held exclusively; no thread waits under a reader lock.
// Those with a timeout call those with a deadline.

GANTRY_INTERPOSE(void, _ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE, void* self,
                 const Condition& condition) {
  const OrderedCondition ordered(self, condition);
  const Waiting waiting(self);
  real__ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE(self, ordered.get());
}

GANTRY_INTERPOSE(bool, _ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE,
                 void* self, const Condition& condition, Time deadline) {
  const OrderedCondition ordered(self, condition);
  const Waiting waiting(self);
  return real__ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE(
      self, ordered.get(), deadline);
}

GANTRY_INTERPOSE(void, _ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE, void* self,
                 const Condition& condition) {
  const OrderedCondition ordered(self, condition);
  const Locking locking(self);
  real__ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE(self, ordered.get());
}

GANTRY_INTERPOSE(bool, _ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE,
                 void* self, const Condition& condition, Time deadline) {
  const OrderedCondition ordered(self, condition);
  const Locking locking(self);
  return real__ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE(
      self, ordered.get(), deadline);
}

GANTRY_INTERPOSE(void, _ZN4absl7debian35Mutex14ReaderLockWhenERKNS0_9ConditionE, void* self,
                 const Condition& condition) {
  const OrderedCondition ordered(self, condition);
  const Locking locking(self, __tsan_mutex_read_lock);
  real__ZN4absl7debian35Mutex14ReaderLockWhenERKNS0_9ConditionE(self, ordered.get());
}

// absl::CondVar.

GANTRY_INTERPOSE(void, _ZN4absl7debian37CondVar4WaitEPNS0_5MutexE, void* condvar, void* mutex) {
  const Waiting waiting(mutex);
  real__ZN4absl7debian37CondVar4WaitEPNS0_5MutexE(condvar, mutex);
}

GANTRY_INTERPOSE(bool, _ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE,
                 void* condvar, void* mutex, Time deadline) {
  const Waiting waiting(mutex);
  return real__ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE(condvar, mutex,
                                                                                deadline);
}

// absl::Notification. Who waits passes through the mutex only if it comes early.

GANTRY_INTERPOSE(void, _ZN4absl7debian312Notification6NotifyEv, void* self) {
  __tsan_release(AtomicOf(self));
  real__ZN4absl7debian312Notification6NotifyEv(self);
}

GANTRY_INTERPOSE(void, _ZNK4absl7debian312Notification19WaitForNotificationEv, void* self) {
  real__ZNK4absl7debian312Notification19WaitForNotificationEv(self);
  __tsan_acquire(AtomicOf(self));
}

GANTRY_INTERPOSE(bool,
                 _ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE,
                 void* self, Duration timeout) {
  const bool notified =
      real__ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE(self,
                                                                                          timeout);
  if (notified) __tsan_acquire(AtomicOf(self));
  return notified;
}

GANTRY_INTERPOSE(bool, _ZNK4absl7debian312Notification31WaitForNotificationWithDeadlineENS0_4TimeE,
                 void* self, Time deadline) {
  const bool notified =
      real__ZNK4absl7debian312Notification31WaitForNotificationWithDeadlineENS0_4TimeE(self,
                                                                                       deadline);
  if (notified) __tsan_acquire(AtomicOf(self));
  return notified;
}

// absl::BlockingCounter. Only the last who counts down takes the mutex.

GANTRY_INTERPOSE(bool, _ZN4absl7debian315BlockingCounter14DecrementCountEv, void* self) {
  __tsan_release(AtomicOf(self));
  return real__ZN4absl7debian315BlockingCounter14DecrementCountEv(self);
}

GANTRY_INTERPOSE(void, _ZN4absl7debian315BlockingCounter4WaitEv, void* self) {
  real__ZN4absl7debian315BlockingCounter4WaitEv(self);
  __tsan_acquire(AtomicOf(self));
}

// absl::Barrier and absl::ReleasableMutexLock need nothing: they call the mutex above.

// absl::Status. Who shares a message is counted by the library; the last one frees it.

GANTRY_INTERPOSE(void, _ZN4absl7debian36Status15UnrefNonInlinedEm, uintptr_t shared) {
  __tsan_release(reinterpret_cast<void*>(shared));
  __tsan_acquire(reinterpret_cast<void*>(shared));
  real__ZN4absl7debian36Status15UnrefNonInlinedEm(shared);
}
