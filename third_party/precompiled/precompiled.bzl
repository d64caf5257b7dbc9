"""What makes compiling fast: precompiled headers, sources compiled together, and the C++ rules that use both.

Two thirds of the time of a clean build went into parsing the same few headers of the standard library, Abseil and
GoogleTest. GCC reads them here once, and each compilation starts from what it remembered.

A precompiled header fits only a compilation with the same flags. precompiled_header() therefore asks Bazel to compile a
source, which gives it the flags of any other one, among them those that .bazelrc has for some names of files, and makes
a precompiled header of it by one more flag. Where a source has flags of its own that do not fit (-Os), GCC leaves
the precompiled header alone and finds a header without a line.

Sources of one library have most of their headers in common, and the templates that they use. They are compiled together, up to
eight at once, in half the time. One source therefore sees what another one of its library has in an unnamed namespace:
names there are to differ, or the library says `together = False`.

Sources must include what they use as if none of this was there, and the configurations without it (--define=precompiled=no,
see .bazelrc) hold them to it. Who changes one source over and over may want that in user.bazelrc.
"""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

_COPTS = [
    "-fpch-deps",
    # The compiler looks for garbage less often: a hundredth of its time, on most of what it has just read.
    "--param=ggc-min-heapsize=500000",
    # The standard library turns these off for itself by pragmas, which GCC does not keep with a precompiled header, or has
    # them wrong more often with one. What they say of our own code is said by `bazel build --define=precompiled=no`.
    "-Wno-array-bounds",
    "-Wno-restrict",
    "-Wno-stringop-overflow",
    "-Wno-stringop-overread",
]

def _precompiled_header_impl(ctx):
    name = ctx.label.name
    header = ctx.actions.declare_file(name + ".h")
    ctx.actions.write(header, "")

    # The name is one that .bazelrc has flags for, or none.
    source = ctx.actions.declare_file("%s_headers%s" % (name, ctx.attr.suffix))
    ctx.actions.write(source, "".join(["#include %s\n" % h for h in ctx.attr.headers]))

    toolchain = find_cpp_toolchain(ctx)
    _, outputs = cc_common.compile(
        name = name,
        actions = ctx.actions,
        cc_toolchain = toolchain,
        feature_configuration = cc_common.configure_features(
            ctx = ctx,
            cc_toolchain = toolchain,
            requested_features = ctx.features,
            unsupported_features = ctx.disabled_features,
        ),
        srcs = [source],
        user_compile_flags = ["-x", "c++-header"],
    )

    # GCC looks for this name beside the header.
    precompiled = ctx.actions.declare_file(name + ".h.gch")
    ctx.actions.symlink(output = precompiled, target_file = (outputs.objects + outputs.pic_objects)[0])

    # With the list, which -fpch-deps names to Bazel, so that a change of it counts as one of every source.
    files = depset([header, precompiled, source])
    return [
        DefaultInfo(files = files),
        CcInfo(compilation_context = cc_common.create_compilation_context(headers = files)),
    ]

precompiled_header = rule(
    doc = "What `-include NAME.h` says to a target that has this one in deps.",
    implementation = _precompiled_header_impl,
    attrs = {
        "headers": attr.string_list(doc = "With their quotes or brackets.", mandatory = True),
        "suffix": attr.string(doc = "How the names of the sources end that it is for.", default = ".cc"),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)

# Who names none of these gains nothing. It would even grow by what the headers leave in an object, which is the start of
# <iostream>; gantry-init would be twice as large.
_USERS_OF = [
    "//third_party:absl",
    "//third_party:gtest",
    "//third_party:gtest_main",
]

# So many sources are compiled as one. More would leave one of two processors without work at the end of a room.
_SOURCES_AT_ONCE = 8

def _part_impl(ctx):
    source = ctx.actions.declare_file(ctx.label.name + ".cc")
    ctx.actions.run_shell(
        inputs = ctx.files.srcs,
        outputs = [source],
        arguments = [source.path] + [f.path for f in ctx.files.srcs],
        command = """out=$1; shift; for f; do printf '#line 1 "%s"\\n' "$f"; cat "$f"; done > "$out" """,
        mnemonic = "JoinSources",
    )
    return [DefaultInfo(files = depset([source]))]

_part = rule(
    doc = "Sources one behind the other.",
    implementation = _part_impl,
    attrs = {"srcs": attr.label_list(allow_files = [".cc"], mandatory = True)},
)

def _fast(kind, name, srcs = [], copts = [], deps = [], together = True, **kwargs):
    # Bazel's own packages see these rules too.
    if native.repository_name() == "@" and type(srcs) == "list" and type(deps) == "list":
        sources = [s for s in srcs if s.endswith(".cc") and ":" not in s]
        if srcs and any([d in _USERS_OF for d in deps]):
            header = "tests" if any([s.endswith("_test.cc") for s in sources]) else "sources"
            copts = copts + select({
                "//third_party/precompiled:off": [],
                "//conditions:default": _COPTS + ["-include", "$(BINDIR)/third_party/precompiled/%s.h" % header],
            })
            deps = deps + select({
                "//third_party/precompiled:off": [],
                "//conditions:default": ["//third_party/precompiled:" + header],
            })
        if together and kind == native.cc_library and len(sources) > 1 and not [s for s in sources if s.endswith("_test.cc")]:
            parts = (len(sources) + _SOURCES_AT_ONCE - 1) // _SOURCES_AT_ONCE
            each = (len(sources) + parts - 1) // parts
            names = []
            for i in range(parts):
                names.append("%s_part_%d" % (name, i + 1))
                _part(
                    name = names[-1],
                    srcs = sources[i * each:(i + 1) * each],
                    visibility = ["//visibility:private"],
                )
            copts = copts + select({
                "//third_party/precompiled:off": [],
                # Sources look like headers to it.
                "//conditions:default": ["-Wno-subobject-linkage"],
            })
            srcs = [s for s in srcs if s not in sources] + select({
                "//third_party/precompiled:off": sources,
                "//conditions:default": names,
            })
    kind(name = name, srcs = srcs, copts = copts, deps = deps, **kwargs)

def cc_binary(name, **kwargs):
    _fast(native.cc_binary, name, **kwargs)

def cc_library(name, **kwargs):
    _fast(native.cc_library, name, **kwargs)

# Linked in half the time.
def cc_test(name, linkopts = [], **kwargs):
    _fast(native.cc_test, name, linkopts = linkopts + ["-fuse-ld=mold"], **kwargs)
