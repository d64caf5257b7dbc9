"""fuzz_target: a parser of outside bytes under mutated input, as a unit test and as a libFuzzer program (see fuzz.h)."""

load("//third_party/precompiled:precompiled.bzl", "cc_test")

def fuzz_target(name, srcs, deps):
    cc_test(
        name = name + "_test",
        size = "small",
        srcs = srcs,
        deps = deps + [
            "//base/fuzz:fuzz",
            "//base/fuzz:replay",
        ],
    )

    # Links only under --config=fuzz, which is clang's: `./dev fuzz`.
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = deps + [
            "//base/fuzz:fuzz",
            "//base/fuzz:libfuzzer",
        ],
    )
