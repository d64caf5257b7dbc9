"""Static libraries of the system as cc_library targets."""

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
