#include <signal.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "supervisor/core/end_cause_table.h"

namespace gantry::core {
namespace {

using Kind = ProgramFacts::Kind;

const EndCause kStartCauses[] = {
    // --- what did not begin: the program
    {"program-missing", "The program is not in the container's file system.",
     "Correct {command} or {entrypoint}, or give the whole path; {!inspect} shows what is "
     "run. "
     "A path is looked up in the image, not on the host; a volume over it hides it.",
     [](const EndFacts& f) -> Seen {
       if (!NotRun(f) || f.program.kind != Kind::kMissing || f.command.empty()) return std::nullopt;
       if (f.program.searched.empty()) return absl::StrCat(f.command[0], " does not exist");
       return absl::StrCat(f.command[0], " is in none of ", absl::StrJoin(f.program.searched, ", "),
                           " (PATH)");
     }},
    {"program-is-directory", "What was to be run is a directory.", "Name the program in it.",
     [](const EndFacts& f) -> Seen {
       if (!ProgramFailed(f) || f.program.kind != Kind::kDirectory) return std::nullopt;
       return absl::StrCat(f.program.path, " is a directory");
     }},
    {"wrong-architecture", "The program is for another processor architecture.",
     "Use an image for this host ({platform}), or install an emulator with binfmt_misc.",
     [](const EndFacts& f) -> Seen {
       if (!ProgramFailed(f) || !f.program.other_machine) return std::nullopt;
       return absl::StrCat(f.program.path, " is an ELF file for ", f.program.machine);
     }},
    {"missing-loader", "The program needs a loader that the image does not have.",
     "Link the program statically, or use an image with that C library: /lib/ld-musl-* is "
     "Alpine's, "
     "/lib64/ld-linux-* is glibc's (Debian, Fedora). The kernel calls this \"no such file\" "
     "although "
     "the program is there.",
     [](const EndFacts& f) -> Seen {
       if (!ProgramFailed(f) || !f.program.loader_missing) return std::nullopt;
       return absl::StrCat(f.program.path, " needs ", f.program.loader, ", which does not exist");
     }},
    {"script-carriage-return", "The script has Windows line ends.",
     "Save it with LF line ends (`sed -i 's/\\r$//' FILE`, git's core.autocrlf=input) and build "
     "the "
     "image again.",
     [](const EndFacts& f) -> Seen {
       if (!ProgramFailed(f) || !f.program.carriage_return) return std::nullopt;
       return absl::StrCat("the first line of ", f.program.path,
                           " ends with a carriage return, which becomes part of the interpreter's "
                           "name \"",
                           f.program.interpreter, "\"");
     }},
    {"script-interpreter-missing", "The script's interpreter is not in the image.",
     "Install the interpreter, or correct the script's first line.",
     [](const EndFacts& f) -> Seen {
       if (!ProgramFailed(f) || !f.program.interpreter_missing || f.program.carriage_return)
         return std::nullopt;
       return absl::StrCat(f.program.path, " asks for ", f.program.interpreter,
                           ", which does not exist");
     }},
    {"no-execute-bit", "The program is not executable.",
     "chmod +x it before it is copied into the image (in a Dockerfile: COPY --chmod=755), or run "
     "it "
     "through its interpreter.",
     [](const EndFacts& f) -> Seen {
       const bool file = f.program.kind == Kind::kElf || f.program.kind == Kind::kScript ||
                         f.program.kind == Kind::kUnknown || f.program.kind == Kind::kEmpty;
       if (!ProgramFailed(f) || !file || (f.program.mode & 0111) != 0) return std::nullopt;
       return absl::StrFormat("%s has mode %04o", f.program.path, f.program.mode);
     }},
    {"not-for-this-user", "The container's user may not run the program.",
     "Give others the permission (chmod o+rx), or choose the {user}.",
     [](const EndFacts& f) -> Seen {
       if (!ProgramFailed(f) || f.user.empty() || f.program.kind == Kind::kMissing ||
           (f.program.mode & 0111) == 0 || !RefusedWith(f, {"permission denied"}))
         return std::nullopt;
       return absl::StrFormat("%s has mode %04o, owner %d:%d; the process runs as %s",
                              f.program.path, f.program.mode, f.program.uid, f.program.gid, f.user);
     }},
    {"empty-program", "The program is an empty file.",
     "Look how it came into the image: a build step or a copy left it empty. {!image verify} "
     "finds "
     "damage of the store.",
     [](const EndFacts& f) -> Seen {
       if (!NotRun(f) || f.program.kind != Kind::kEmpty || (f.program.mode & 0111) == 0)
         return std::nullopt;
       return absl::StrCat(f.program.path, " has no content");
     }},
    {"unknown-format", "The kernel does not know the program's format.",
     "A script needs a first line such as #!/bin/sh.",
     [](const EndFacts& f) -> Seen {
       if (!NotRun(f) || f.program.kind != Kind::kUnknown || (f.program.mode & 0111) == 0 ||
           !RefusedWith(f, {"exec format error"}))
         return std::nullopt;
       return absl::StrCat(f.program.path, " is neither an ELF file nor begins with #!");
     }},
    {"missing-library", "A shared library is missing.",
     "Install the package that has it in the image; `ldd PROGRAM` in the image it was built in "
     "lists "
     "all it needs.",
     [](const EndFacts& f) -> Seen {
       const Seen printed =
           InLog(f, {"error while loading shared libraries", "Error loading shared library"});
       if (printed.has_value()) return printed;
       if (!ProgramFailed(f) || f.program.missing_libraries.empty()) return std::nullopt;
       return absl::StrCat(f.program.path, " needs ",
                           absl::StrJoin(f.program.missing_libraries, ", "));
     }},
    {"library-too-old", "A library of the image is older than the program needs.",
     "Build the program on the same or an older distribution than the image's, or take a newer "
     "image.",
     [](const EndFacts& f) {
       return InLog(
           f, {"version `GLIBC_", "version `GLIBCXX_", "version `CXXABI_", "symbol not found"});
     }},
    // --- what did not begin: its surroundings
    {"working-directory", "The working directory is not there.",
     "Create it in the image (WORKDIR does), or choose another {working_dir}.",
     [](const EndFacts& f) -> Seen {
       if (!f.end.start_failed() || f.program.kind == Kind::kNotLooked) return std::nullopt;
       if (f.program.working_directory == ProgramFacts::Place::kFine ||
           !HasAny(f.end.error(), {"chdir", "cwd", "working directory"}))
         return std::nullopt;
       return absl::StrCat(f.working_directory,
                           f.program.working_directory == ProgramFacts::Place::kMissing
                               ? " does not exist"
                               : " is not a directory");
     }},
    {"working-directory-forbidden", "The user may not enter the working directory.",
     "Give it the permission (chown or chmod in the image), or choose another {working_dir}.",
     [](const EndFacts& f) -> Seen {
       if (!HasAny(f.end.error(), {"permission denied"})) return std::nullopt;
       return InError(f, {"chdir"});
     }},
    {"memory-limit-too-small", "The memory limit is too small even for the start.",
     "Raise {memory_bytes}; some megabytes are needed before the program runs.",
     [](const EndFacts& f) -> Seen {
       if (f.end.start_failed() && f.end.oom_killed()) return OomText(f);
       return InError(f, {"OOM-killed", "oom killed", "memory limit too low"});
     }},
    {"pids-limit-too-small", "There may be no more processes.",
     "Raise {pids_limit}, or the host's limit of threads (kernel.threads-max, ulimit -u).",
     [](const EndFacts& f) { return InError(f, {"resource temporarily unavailable"}); }},
    {"open-files-limit", "The limit of open files is too small for the start.",
     "Raise nofile of {ulimits}.",
     [](const EndFacts& f) {
       return InError(f, {"open files, and the runtime", "too many open files"});
     }},
    {"port-in-use", "A port that it publishes is taken.",
     "{!ports} shows which container has it, `ss -ltnp` which program; choose another in "
     "{port_bindings}.",
     [](const EndFacts& f) {
       return InError(f, {"port is already allocated", "address already in use", "port is taken",
                          "already published", "is in use"});
     }},
    {"shared-namespace-gone", "The container whose namespace it shares does not run.",
     "Start that container first; after it was made anew, this one is to be made anew, too.",
     [](const EndFacts& f) -> Seen {
       const bool shares = absl::StartsWith(f.config.network_mode(), "container:") ||
                           absl::StartsWith(f.config.pid_mode(), "container:") ||
                           absl::StartsWith(f.config.ipc_mode(), "container:");
       return shares ? InError(f, {"container"}) : std::nullopt;
     }},
    {"mount-source-missing", "A source of a mount is not on the host.",
     "Create it, or correct the path in {mounts}; it was there when the container was made.",
     [](const EndFacts& f) -> Seen {
       if (!HasAny(f.end.error(), {"mount", "bind"})) return std::nullopt;
       return InError(f, {"no such file or directory", "does not exist"});
     }},
    {"mount-type-mismatch", "A file was to be mounted over a directory, or the other way round.",
     "Mount a file on a file and a directory on a directory; a missing source may have been made a "
     "directory.",
     [](const EndFacts& f) -> Seen {
       if (!HasAny(f.end.error(), {"mount", "bind"})) return std::nullopt;
       return InError(f, {"not a directory", "is a directory"});
     }},
    {"device-missing", "A device is not on the host.",
     "Check {devices}: the host's driver may not be loaded, or the device is unplugged.",
     [](const EndFacts& f) -> Seen {
       return HasAny(f.end.error(), {"/dev/"}) ? InError(f, {"no such", "device"}) : std::nullopt;
     }},
    {"read-only-root", "The runtime had to create something in a read-only file system.",
     "Create the mount point in the image, or leave {read_only_rootfs} out.",
     [](const EndFacts& f) { return InError(f, {"read-only file system"}); }},
    {"disk-full-at-start", "The disk is full.",
     "{!system df} and {!system prune} show and free what Gantry holds; `df -h` and `df -i` "
     "the "
     "rest.",
     [](const EndFacts& f) {
       return InError(f, {"no space left", "disk quota exceeded"});
     }},
    {"cut-off", "The daemon ended while the container was being started.", "Start it again.",
     [](const EndFacts& f) { return InError(f, {"gantryd ended while"}); }},
};

}  // namespace

absl::Span<const EndCause> StartCauses() { return kStartCauses; }

}  // namespace gantry::core
