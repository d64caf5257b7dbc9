"""C++ messages and gRPC stubs from .proto files."""

def _unity(name, stems, ext):
    # The headers that every generated file starts with cost far more than the file itself, so a set of
    # files is compiled as a few big translation units. protoc names two file-local tables alike in every
    # file; they are renamed, after all headers have been read.
    lines = ["#include \"%s/%s%s.h\"" % (native.package_name(), s, ext) for s in stems]
    for i, s in enumerate(stems):
        lines += ["#define %s %s_%d" % (table, table, i) for table in _FILE_LOCAL]
        lines.append("#include \"%s/%s%s.cc\"" % (native.package_name(), s, ext))
        lines += ["#undef " + table for table in _FILE_LOCAL]
    native.genrule(
        name = name,
        outs = [name + ".cc"],
        cmd = "cat > $@ << 'END'\n" + "\n".join(lines) + "\nEND",
    )
    return name + ".cc"

_FILE_LOCAL = [
    "schemas",
    "file_default_instances",
]

def cc_proto_set(name, srcs, visibility, deps = [], lite = True, shards = 1):
    """One cc_library with the messages and the gRPC stubs of all files.

    Args:
      name: target name.
      srcs: .proto files of this package; they import each other, those of deps and google/protobuf by their
        path from the workspace root.
      visibility: of the library.
      deps: other sets of this package.
      lite: without descriptors. A program parses the descriptors of everything it links before main(), whether
        it asks for them or not; that was 0.6 of the 2 ms that `ctl --help` took.
      shards: how many translation units the messages are spread over.
    """
    native.filegroup(name = name + "_protos", srcs = srcs)
    imports = [d + "_protos" for d in deps]
    stems = [s[:-len(".proto")] for s in srcs]
    native.genrule(
        name = name + "_gen",
        srcs = srcs + imports,
        outs = [s + ext for s in stems for ext in [".pb.h", ".pb.cc", ".grpc.pb.h", ".grpc.pb.cc"]],
        cmd = " ".join([
            "$(location @system//:protoc) -I.",
            "--cpp_out=%s$(GENDIR)" % ("lite:" if lite else ""),
            "--grpc_out=$(GENDIR)",
            "--plugin=protoc-gen-grpc=$(location @system//:grpc_cpp_plugin)",
            " ".join(["$(execpath %s)" % s for s in srcs]),
            # protoc 3.21 does not know that C++20 made a keyword of `requires`, which is a field of
            # containerd's Plugin. Later versions write the accessor with this underscore.
            "&& sed -i -E 's/\\brequires\\(/requires_(/g' $(OUTS)",
        ]),
        tools = [
            "@system//:grpc_cpp_plugin",
            "@system//:protoc",
        ],
    )

    units = []
    for i in range(shards):
        if stems[i::shards]:
            units.append(_unity("%s_messages_%d" % (name, i), stems[i::shards], ".pb"))
    units.append(_unity(name + "_services", stems, ".grpc.pb"))

    native.cc_library(
        name = name,
        srcs = units,
        hdrs = [s + ext for s in stems for ext in [".pb.h", ".grpc.pb.h"]],
        # Generated code is not ours to polish, and nobody debugs it line by line.
        copts = [
            "-Wno-deprecated-declarations",
            "-Os",
            "-g0",
        ],
        textual_hdrs = [s + ext for s in stems for ext in [".pb.cc", ".grpc.pb.cc"]],
        visibility = visibility,
        deps = deps + [
            "//third_party:absl",
            "//third_party:grpc",
            "//third_party:protobuf",
        ],
    )
