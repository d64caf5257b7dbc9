"""Precompiled headers, and the C++ rules that use them.

Two thirds of the time of a clean build went into parsing the same few headers of the standard library, Abseil and
GoogleTest. GCC reads them here once, and each compilation starts from what it remembered.

A precompiled header fits only a compilation with the same flags. precompiled_header() therefore asks Bazel to compile a
source, which gives it the flags of any other one, among them those that .bazelrc has for some names of files, and makes
a precompiled header of it by one more flag. Where a source has flags of its own that do not fit (-Os), GCC leaves
the precompiled header alone and finds a header without a line.

So sources must include what they use as if none of this was there, and the configurations without precompiled headers
(--define=precompiled=no, see .bazelrc) hold them to it.
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

def _with_precompiled_header(rule, srcs = [], copts = [], deps = [], **kwargs):
    # Bazel's own packages see these rules too.
    if native.repository_name() == "@" and srcs and type(deps) == "list" and any([d in _USERS_OF for d in deps]):
        of_tests = type(srcs) == "list" and any([s.endswith("_test.cc") for s in srcs])
        name = "tests" if of_tests else "sources"
        copts = copts + select({
            "//third_party/precompiled:off": [],
            "//conditions:default": _COPTS + ["-include", "$(BINDIR)/third_party/precompiled/%s.h" % name],
        })
        deps = deps + select({
            "//third_party/precompiled:off": [],
            "//conditions:default": ["//third_party/precompiled:" + name],
        })
    rule(srcs = srcs, copts = copts, deps = deps, **kwargs)

def cc_binary(**kwargs):
    _with_precompiled_header(native.cc_binary, **kwargs)

def cc_library(**kwargs):
    _with_precompiled_header(native.cc_library, **kwargs)

def cc_test(**kwargs):
    _with_precompiled_header(native.cc_test, **kwargs)
