// Shows ThreadSanitizer what Abseil's locks order (--config=tsan only).
//
// Debian's Abseil is not instrumented, so without help every access under an absl::Mutex looks like
// a race. The linker sends the calls of everybody (gRPC's too) through these wrappers, which tell
// the sanitizer and pass the call on.

#include <sanitizer/tsan_interface.h>

#include "absl/cleanup/cleanup.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

// `release` goes before a call that gives a lock up, `acquire` after one that takes it.
#define GANTRY_WRAP(result, symbol, parameters, arguments, before, after) \
  extern "C" result __real_##symbol parameters;                           \
  extern "C" result __wrap_##symbol parameters;                           \
  extern "C" result __wrap_##symbol parameters {                          \
    before;                                                               \
    const auto finally = absl::MakeCleanup([&] { after; });               \
    return __real_##symbol arguments;                                     \
  }

namespace {

using absl::Condition;
using absl::Duration;
using absl::Time;

void Nothing() {}

// absl::Notification: its flag, which inline code reads by itself, lies behind its mutex.
void* FlagOf(void* notification) { return static_cast<char*>(notification) + sizeof(absl::Mutex); }

}  // namespace

#define GANTRY_ACQUIRE __tsan_acquire(self)
#define GANTRY_RELEASE __tsan_release(self)

GANTRY_WRAP(void, _ZN4absl7debian35Mutex4LockEv, (void* self), (self), Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian35Mutex6UnlockEv, (void* self), (self), GANTRY_RELEASE, Nothing())
GANTRY_WRAP(bool, _ZN4absl7debian35Mutex7TryLockEv, (void* self), (self), Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian35Mutex10ReaderLockEv, (void* self), (self), Nothing(),
            GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian35Mutex12ReaderUnlockEv, (void* self), (self), GANTRY_RELEASE,
            Nothing())
GANTRY_WRAP(bool, _ZN4absl7debian35Mutex13ReaderTryLockEv, (void* self), (self), Nothing(),
            GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE,
            (void* self, const Condition* condition), (self, condition), GANTRY_RELEASE,
            GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE,
            (void* self, const Condition* condition, Duration timeout), (self, condition, timeout),
            GANTRY_RELEASE, GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE,
            (void* self, const Condition* condition, Time deadline), (self, condition, deadline),
            GANTRY_RELEASE, GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE,
            (void* self, const Condition* condition), (self, condition), Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE,
            (void* self, const Condition* condition, Duration timeout), (self, condition, timeout),
            Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE,
            (void* self, const Condition* condition, Time deadline), (self, condition, deadline),
            Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian35Mutex14ReaderLockWhenERKNS0_9ConditionE,
            (void* self, const Condition* condition), (self, condition), Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian37CondVar4WaitEPNS0_5MutexE, (void* condvar, void* self),
            (condvar, self), GANTRY_RELEASE, GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE,
            (void* condvar, void* self, Duration timeout), (condvar, self, timeout), GANTRY_RELEASE,
            GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE,
            (void* condvar, void* self, Time deadline), (condvar, self, deadline), GANTRY_RELEASE,
            GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian312Notification6NotifyEv, (void* self), (self),
            (__tsan_release(self), __tsan_release(FlagOf(self))), Nothing())
GANTRY_WRAP(void, _ZNK4absl7debian312Notification19WaitForNotificationEv, (void* self), (self),
            Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE,
            (void* self, Duration timeout), (self, timeout), Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZNK4absl7debian312Notification31WaitForNotificationWithDeadlineENS0_4TimeE,
            (void* self, Time deadline), (self, deadline), Nothing(), GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZN4absl7debian37Barrier5BlockEv, (void* self), (self), GANTRY_RELEASE,
            GANTRY_ACQUIRE)
GANTRY_WRAP(bool, _ZN4absl7debian315BlockingCounter14DecrementCountEv, (void* self), (self),
            GANTRY_RELEASE, GANTRY_ACQUIRE)
GANTRY_WRAP(void, _ZN4absl7debian315BlockingCounter4WaitEv, (void* self), (self), Nothing(),
            GANTRY_ACQUIRE)

// A condition is evaluated by whoever unlocks, inside the library, under the lock but after the
// wrapper said "released".
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:absl/synchronization/mutex.h\n";
}
