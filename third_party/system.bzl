"""Static libraries of the system as cc_library targets."""

# What absl_tsan.cc wraps.
ABSL_ORDER = [
    "_ZN4absl7debian312Notification6NotifyEv",
    "_ZN4absl7debian315BlockingCounter14DecrementCountEv",
    "_ZN4absl7debian315BlockingCounter4WaitEv",
    "_ZN4absl7debian319ReleasableMutexLock7ReleaseEv",
    "_ZN4absl7debian35Mutex10ReaderLockEv",
    "_ZN4absl7debian35Mutex12ReaderUnlockEv",
    "_ZN4absl7debian35Mutex13ReaderTryLockEv",
    "_ZN4absl7debian35Mutex14ReaderLockWhenERKNS0_9ConditionE",
    "_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE",
    "_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE",
    "_ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE",
    "_ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE",
    "_ZN4absl7debian35Mutex4LockEv",
    "_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE",
    "_ZN4absl7debian35Mutex6UnlockEv",
    "_ZN4absl7debian35Mutex7TryLockEv",
    "_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE",
    "_ZN4absl7debian35MutexD1Ev",
    "_ZN4absl7debian36Status15UnrefNonInlinedEm",
    "_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE",
    "_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE",
    "_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE",
    "_ZNK4absl7debian312Notification19WaitForNotificationEv",
    "_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE",
    "_ZNK4absl7debian312Notification31WaitForNotificationWithDeadlineENS0_4TimeE",
]

# What grpc_poller.cc answers.
GRPC_POLLER = [
    "_ZN4grpc15CompletionQueue21CallbackAlternativeCQEv",
    "_ZN4grpc15CompletionQueue28ReleaseCallbackAlternativeCQEPS0_",
]

def static_group(name, libs, linkopts = [], deps = [], **kwargs):
    """Links the archives as one group, so that they may refer to each other in any direction.

    Args:
      name: target name.
      libs: names without "lib" and ".a".
      linkopts: further options, put before the archives.
      deps: targets that the archives need.
      **kwargs: handed to cc_library.
    """
    group = ",".join(["-l:lib%s.a" % lib for lib in libs])
    native.cc_library(
        name = name,
        linkopts = linkopts + ["-Wl,--start-group," + group + ",--end-group", "-pthread"],
        deps = deps,
        **kwargs
    )
