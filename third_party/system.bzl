"""Static libraries of the system as cc_library targets."""

# What grpc_poller.cc answers.
GRPC_POLLER = [
    "_ZN4grpc15CompletionQueue21CallbackAlternativeCQEv",
    "_ZN4grpc15CompletionQueue28ReleaseCallbackAlternativeCQEPS0_",
]

# What grpc_limits.cc puts itself before.
GRPC_LIMITS = [
    "_Z26grpc_chttp2_stream_map_addP22grpc_chttp2_stream_mapjPv",
    "_Z33grpc_chttp2_parsing_accept_streamP21grpc_chttp2_transportj",
    "_Z35grpc_chttp2_rst_stream_parser_parsePvP21grpc_chttp2_transportP18grpc_chttp2_streamRK10grpc_slicei",
]

# What grpc_few_threads.cc answers.
GRPC_FEW_THREADS = [
    "_Z15grpc_timer_initP10grpc_timerN9grpc_core9TimestampEP12grpc_closure",
    "_Z23grpc_timer_manager_initv",
    "_Z27grpc_timer_manager_shutdownv",
    "_ZN9grpc_core8Executor3RunEP12grpc_closureN4absl7debian36StatusENS_12ExecutorTypeENS_15ExecutorJobTypeE",
    "_ZN9grpc_core8Executor7InitAllEv",
    "pthread_create",
]

# What grpc_threads.cc answers: the constructor of gRPC's threads, and what it calls.
GRPC_THREADS = [
    "_ZN9grpc_core6ThreadC1EPKcPFvPvES3_PbRKNS0_7OptionsE",
    "pthread_create",
]

def static_group(name, libs, linkopts = [], deps = [], threaded = False, **kwargs):
    """Links the archives as one group, so that they may refer to each other in any direction.

    Args:
      name: target name.
      libs: names without "lib" and ".a".
      linkopts: further options, put before the archives.
      deps: targets that the archives need.
      threaded: threads meet in it. ThreadSanitizer, which does not see what orders them there, gets
        the shared libraries, because it can tell those from our own code (tsan_suppressions.cc).
      **kwargs: handed to cc_library.
    """
    group = ["-Wl,--start-group," + ",".join(["-l:lib%s.a" % lib for lib in libs]) + ",--end-group"]
    if threaded:
        group = select({
            ":tsan": ["-l" + lib for lib in libs],
            "//conditions:default": group,
        })
    native.cc_library(
        name = name,
        linkopts = linkopts + group + ["-pthread"],
        deps = deps,
        **kwargs
    )
