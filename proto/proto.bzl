"""C++ messages and gRPC stubs from .proto files, as targets of their own."""

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

_PROTOC = " ".join([
    "$(location @system//:protoc) -I.",
    "%s",
    "$(SRCS)",
    # protoc 3.21 does not know that C++20 made a keyword of `requires`, which is a field of
    # containerd's Plugin. Later versions write the accessor with this underscore.
    "&& sed -i -E 's/\\brequires\\(/requires_(/g' $(OUTS)",
])

# Generated code is not ours to polish, and it is not debugged line by line.
_COPTS = [
    "-Wno-deprecated-declarations",
    "-Os",
    "-g0",
]

def cc_proto_set(name, srcs, visibility, deps = [], lite = True, shards = 1, macros = ""):
    """One cc_library with the messages of all files: <stem>.pb.h.

    Args:
      name: target name.
      srcs: .proto files of this package; they import each other, those of deps and google/protobuf by their
        path from the workspace root.
      visibility: of the library.
      deps: other sets of this package.
      lite: without descriptors. A program parses the descriptors of everything it links before main(), whether
        it asks for them or not; that was 0.6 of the 2 ms that `ctl --help` took.
      shards: how many translation units the messages are spread over.
      macros: prefix of enum values that the system's headers define as macros; in C++ they end in "_".
    """
    native.filegroup(name = name + "_own_protos", srcs = srcs)
    native.filegroup(name = name + "_protos", srcs = srcs + [d + "_protos" for d in deps])
    stems = [s[:-len(".proto")] for s in srcs]
    outs = [s + ext for s in stems for ext in [".pb.h", ".pb.cc"]]
    native.genrule(
        name = name + "_gen",
        srcs = [name + "_own_protos"],
        outs = outs,
        cmd = _PROTOC % ("--cpp_out=%s$(GENDIR)" % ("lite:" if lite else "")) +
              (" && sed -i -E 's/\\b(%s[A-Z_]+)\\b/\\1_/g' $(OUTS)" % macros if macros else ""),
        tools = [d + "_protos" for d in deps] + ["@system//:protoc"],
    )
    native.cc_library(
        name = name,
        srcs = [
            _unity("%s_messages_%d" % (name, i), stems[i::shards], ".pb")
            for i in range(shards)
            if stems[i::shards]
        ],
        hdrs = [s + ".pb.h" for s in stems],
        copts = _COPTS,
        textual_hdrs = [s + ".pb.cc" for s in stems],
        visibility = visibility,
        deps = deps + ["//third_party:protobuf"],
    )

def cc_service_set(name, srcs, deps, visibility):
    """One cc_library with the gRPC stubs and service classes of files that have any: <stem>.grpc.pb.h.

    Args:
      name: target name.
      srcs: .proto files of this package.
      deps: the cc_proto_sets with the messages of these files.
      visibility: of the library.
    """
    native.filegroup(name = name + "_own_protos", srcs = srcs)
    stems = [s[:-len(".proto")] for s in srcs]
    native.genrule(
        name = name + "_gen",
        srcs = [name + "_own_protos"],
        outs = [s + ext for s in stems for ext in [".grpc.pb.h", ".grpc.pb.cc"]],
        cmd = _PROTOC % "--grpc_out=$(GENDIR) --plugin=protoc-gen-grpc=$(location @system//:grpc_cpp_plugin)",
        tools = [d + "_protos" for d in deps] + [
            "@system//:grpc_cpp_plugin",
            "@system//:protoc",
        ],
    )
    native.cc_library(
        name = name,
        srcs = [_unity(name + "_services", stems, ".grpc.pb")],
        hdrs = [s + ".grpc.pb.h" for s in stems],
        copts = _COPTS,
        textual_hdrs = [s + ".grpc.pb.cc" for s in stems],
        visibility = visibility,
        deps = deps + ["//third_party:grpc"],
    )
