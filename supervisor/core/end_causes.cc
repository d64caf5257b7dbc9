#include "supervisor/core/end_causes.h"

#include <signal.h>
#include <string.h>

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

#include "supervisor/core/kernel_messages.h"

namespace gantry::core {
namespace {

using Seen = std::optional<std::string>;  // what was seen; no value: the cause does not apply
using Kind = ProgramFacts::Kind;

// One row of the table. `seen` says whether it applies, and what speaks for it.
struct Cause {
  const char* id;
  const char* title;
  const char* remedy;
  Seen (*seen)(const EndFacts& facts);
};

// Whatever the case of the letters.
bool HasAny(absl::string_view text, std::initializer_list<absl::string_view> parts) {
  const std::string lower = absl::AsciiStrToLower(text);
  return std::any_of(parts.begin(), parts.end(), [&lower](absl::string_view part) {
    return absl::StrContains(lower, absl::AsciiStrToLower(part));
  });
}

// The last line of output that holds one of the parts, of a run that failed.
Seen InLog(const EndFacts& facts, std::initializer_list<absl::string_view> parts) {
  if (!facts.ended || facts.end.start_failed() || facts.end.exit_code() == 0) return std::nullopt;
  for (auto line = facts.log_tail.rbegin(); line != facts.log_tail.rend(); ++line) {
    if (HasAny(*line, parts) && !IsRefusal(*line))
      return absl::StrCat("it printed: ", absl::StripAsciiWhitespace(*line));
  }
  return std::nullopt;
}

// What the runtime or the daemon said of a start that failed.
Seen InError(const EndFacts& facts, std::initializer_list<absl::string_view> parts) {
  if (!facts.end.start_failed() || !HasAny(facts.end.error(), parts)) return std::nullopt;
  return facts.end.error();
}

// The program could not be run, by the runtime or by a shell in the container.
bool ProgramFailed(const EndFacts& facts) {
  return facts.ended && (facts.end.start_failed() || !facts.refusal.empty() ||
                         facts.end.exit_code() == 126 || facts.end.exit_code() == 127);
}

// The program itself could not be run, as opposed to something that it ran.
bool NotRun(const EndFacts& facts) {
  return facts.ended && (facts.end.start_failed() || !facts.refusal.empty());
}

bool RefusedWith(const EndFacts& facts, std::initializer_list<absl::string_view> parts) {
  return HasAny(facts.end.error(), parts) || HasAny(facts.refusal, parts);
}

// A signal ended the first process, or a child of it, as its exit status says.
uint32_t SignalOf(const EndFacts& facts) {
  if (!facts.ended || facts.end.start_failed()) return 0;
  if (facts.end.exit_signal() != 0) return facts.end.exit_signal();
  const uint32_t code = facts.end.exit_code();
  return code > 128 && code <= 128 + 64 ? code - 128 : 0;
}

// Whose end it was, for the detail of a finding about a signal.
std::string Whose(const EndFacts& facts) {
  const std::string word = SignalWord(SignalOf(facts));
  if (facts.end.exit_signal() != 0) return absl::StrCat("its first process was ended by ", word);
  return absl::StrCat("exit status ", facts.end.exit_code(), ": a child of its first process was ",
                      "ended by ", word, ", or the program chose this status");
}

Seen BySignal(const EndFacts& facts, uint32_t signal) {
  if (SignalOf(facts) != signal || facts.end.oom_killed()) return std::nullopt;
  std::string seen = Whose(facts);
  for (const std::string& line : facts.end.kernel_lines())
    absl::StrAppend(&seen, "; kernel: ", line);
  return seen;
}

// A call through the daemon brought the end about. A signal that a client sent may have been meant
// for something else, such as a reload: it counts when it is what ended the process, or when the
// process ended soon after it.
bool Requested(const EndFacts& facts) {
  constexpr int64_t kSoonSeconds = 10;
  if (!facts.end.has_request()) return false;
  const record::v1::EndRequest& request = facts.end.request();
  return request.call() != "kill" || request.signal() == SignalOf(facts) ||
         facts.end.finished_at().seconds() - request.at().seconds() <= kSoonSeconds;
}

std::string RequestText(const EndFacts& facts) {
  const record::v1::EndRequest& request = facts.end.request();
  std::string text = absl::StrCat("\"", request.call(), "\" was called");
  if (request.signal() != 0) absl::StrAppend(&text, ", which sent ", SignalWord(request.signal()));
  return text;
}

std::string Mebibytes(uint64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string OomText(const EndFacts& facts) {
  const record::v1::OomKill& oom = facts.end.oom();
  std::string text;
  if (!oom.victim().empty()) text = absl::StrCat("the kernel killed ", oom.victim());
  if (!oom.group().empty())
    absl::StrAppend(&text, text.empty() ? "" : ", because ", "the group ", oom.group(),
                    " was at its limit");
  std::vector<std::string> largest;
  for (const auto& process : oom.largest())
    largest.push_back(absl::StrCat(process.name(), " ", Mebibytes(process.resident_bytes())));
  if (!largest.empty())
    absl::StrAppend(&text, "; its largest processes: ", absl::StrJoin(largest, ", "));
  const int64_t limit = facts.config.resources().memory_bytes();
  if (limit > 0)
    absl::StrAppend(&text, text.empty() ? "" : "; ", "the container's limit is ",
                    Mebibytes(static_cast<uint64_t>(limit)));
  return text.empty() ? "the kernel counted a kill in its cgroup" : text;
}

// The kill was for a limit of the container's own group. Without the kernel's words: it has one.
bool OwnLimit(const EndFacts& facts) {
  if (facts.end.has_oom()) return absl::StrContains(facts.end.oom().group(), facts.id);
  return facts.config.resources().memory_bytes() > 0;
}

bool IsShell(const EndFacts& facts) {
  if (facts.command.size() != 1) return false;
  const std::string& program = facts.command[0];
  const std::string name = program.substr(program.rfind('/') + 1);
  return name == "sh" || name == "bash" || name == "ash" || name == "dash" || name == "zsh" ||
         name == "busybox" || name == "python" || name == "python3" || name == "node";
}

const Cause kCauses[] = {
    // --- what did not begin: the program
    {"program-missing", "The program is not in the container's file system.",
     "Correct the command or --entrypoint, or give the whole path; `ctl inspect` shows what is "
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
     "Use an image for this host (`ctl pull --platform`), or install an emulator with binfmt_misc.",
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
     "Give others the permission (chmod o+rx), or choose the user with --user.",
     [](const EndFacts& f) -> Seen {
       if (!ProgramFailed(f) || f.user.empty() || f.program.kind == Kind::kMissing ||
           (f.program.mode & 0111) == 0 || !RefusedWith(f, {"permission denied"}))
         return std::nullopt;
       return absl::StrFormat("%s has mode %04o, owner %d:%d; the process runs as %s",
                              f.program.path, f.program.mode, f.program.uid, f.program.gid, f.user);
     }},
    {"empty-program", "The program is an empty file.",
     "Look how it came into the image: a build step or a copy left it empty. `ctl image verify` "
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
     "Create it in the image (WORKDIR does), or choose another with --workdir.",
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
     "Give it the permission (chown or chmod in the image), or choose another with --workdir.",
     [](const EndFacts& f) -> Seen {
       if (!HasAny(f.end.error(), {"permission denied"})) return std::nullopt;
       return InError(f, {"chdir"});
     }},
    {"memory-limit-too-small", "The memory limit is too small even for the start.",
     "Raise --memory; some megabytes are needed before the program runs.",
     [](const EndFacts& f) -> Seen {
       if (f.end.start_failed() && f.end.oom_killed()) return OomText(f);
       return InError(f, {"OOM-killed", "oom killed", "memory limit too low"});
     }},
    {"pids-limit-too-small", "There may be no more processes.",
     "Raise --pids-limit, or the host's limit of threads (kernel.threads-max, ulimit -u).",
     [](const EndFacts& f) { return InError(f, {"resource temporarily unavailable"}); }},
    {"open-files-limit", "The limit of open files is too small for the start.",
     "Raise --ulimit nofile.",
     [](const EndFacts& f) {
       return InError(f, {"open files, and the runtime", "too many open files"});
     }},
    {"port-in-use", "A port that it publishes is taken.",
     "`ctl ports` shows which container has it, `ss -ltnp` which program; publish another with -p.",
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
     "Create it, or correct the path of -v or --mount; it was there when the container was made.",
     [](const EndFacts& f) -> Seen {
       if (!HasAny(f.end.error(), {"mount", "bind"})) return std::nullopt;
       return InError(f, {"no such file or directory", "does not exist"});
     }},
    {"mount-type-mismatch", "A file was to be mounted over a directory, or the other way round.",
     "Mount a file on a file and a directory on a directory; a missing source of -v is made a "
     "directory.",
     [](const EndFacts& f) -> Seen {
       if (!HasAny(f.end.error(), {"mount", "bind"})) return std::nullopt;
       return InError(f, {"not a directory", "is a directory"});
     }},
    {"device-missing", "A device is not on the host.",
     "Check --device: the host's driver may not be loaded, or the device is unplugged.",
     [](const EndFacts& f) -> Seen {
       return HasAny(f.end.error(), {"/dev/"}) ? InError(f, {"no such", "device"}) : std::nullopt;
     }},
    {"read-only-root", "The runtime had to create something in a read-only file system.",
     "Create the mount point in the image, or leave --read-only out.",
     [](const EndFacts& f) { return InError(f, {"read-only file system"}); }},
    {"disk-full-at-start", "The disk is full.",
     "`ctl system df` and `ctl system prune` show and free what Gantry holds; `df -h` and `df -i` "
     "the "
     "rest.",
     [](const EndFacts& f) {
       return InError(f, {"no space left", "disk quota exceeded"});
     }},
    {"cut-off", "The daemon ended while the container was being started.", "Start it again.",
     [](const EndFacts& f) { return InError(f, {"gantryd ended while"}); }},
    // --- what ended a run: the kernel
    {"oom-killed", "The kernel killed it because the container's memory was used up.",
     "Raise --memory (`ctl update --memory 1g NAME` works on a running container), or have the "
     "program "
     "use less: `ctl stats` shows its use.",
     [](const EndFacts& f) -> Seen {
       if (!f.end.oom_killed() || f.end.start_failed() || !OwnLimit(f)) return std::nullopt;
       return OomText(f);
     }},
    {"oom-killed-outside",
     "The kernel killed it because memory outside of the container's own limit ran out.",
     "The machine or a group above the container (a slice, a pod, --cgroup-parent) was short of "
     "memory. Free memory there, raise that group's limit, or set --memory so that the container "
     "is "
     "bounded before the others.",
     [](const EndFacts& f) -> Seen {
       if (!f.end.oom_killed() || f.end.start_failed() || OwnLimit(f)) return std::nullopt;
       return OomText(f);
     }},
    {"seccomp", "The kernel killed it for a system call that its seccomp profile does not allow.",
     "Allow the call in a profile of your own (--security-opt seccomp=FILE); to see whether it is "
     "that, try once with seccomp=unconfined.",
     [](const EndFacts& f) -> Seen {
       if (SignalOf(f) != SIGSYS) return std::nullopt;
       std::string seen = Whose(f);
       for (const std::string& line : f.end.kernel_lines()) {
         const std::optional<int> call = SeccompCall(line);
         if (call.has_value())
           absl::StrAppend(&seen, "; system call ", *call, " (`ausyscall ", *call, "` names it)");
       }
       return seen;
     }},
    {"segfault", "It crashed: an access to memory that it does not have (SIGSEGV).",
     "It is a fault of the program. Run it under a debugger, or with ulimit core=-1 and look at "
     "the core "
     "file.",
     [](const EndFacts& f) { return BySignal(f, SIGSEGV); }},
    {"aborted", "It ended itself after an error that it found (SIGABRT).",
     "The last lines of its output usually say what: an assertion, an uncaught exception, damaged "
     "memory.",
     [](const EndFacts& f) { return BySignal(f, SIGABRT); }},
    {"illegal-instruction", "It ran an instruction that this processor does not have (SIGILL).",
     "The program is built for a newer processor (x86-64-v3, AVX-512): use a build for this one.",
     [](const EndFacts& f) { return BySignal(f, SIGILL); }},
    {"bus-error", "It crashed: memory behind a mapped file was not there (SIGBUS).",
     "Often /dev/shm is full: raise --shm-size. Otherwise a mapped file was cut short.",
     [](const EndFacts& f) { return BySignal(f, SIGBUS); }},
    {"arithmetic", "It crashed: a division by zero or the like (SIGFPE).",
     "It is a fault of the program; its last output may say where.",
     [](const EndFacts& f) { return BySignal(f, SIGFPE); }},
    {"broken-pipe", "The reader of its output went away (SIGPIPE).",
     "Look what it writes to: a pipe inside the container whose other end has ended.",
     [](const EndFacts& f) { return BySignal(f, SIGPIPE); }},
    // --- what ended a run: somebody
    {"shim-died", "The process that looks after the container ended, and the container with it.",
     "Look in the daemon's log and with `dmesg` for what ended gantry-shim: it is not to be "
     "killed.",
     [](const EndFacts& f) -> Seen {
       if (!f.ended || f.end.start_failed() || f.end.error().empty() ||
           !HasAny(f.end.error(), {"shim"}) || HasAny(f.end.error(), {"with the machine"}))
         return std::nullopt;
       return f.end.error();
     }},
    {"host-restarted", "It ended with the machine, or while no daemon ran.",
     "`last -x reboot` says when the host went down. With --restart unless-stopped it starts again "
     "by "
     "itself.",
     [](const EndFacts& f) -> Seen {
       if (!f.ended || f.end.start_failed() || !HasAny(f.end.error(), {"with the machine"}))
         return std::nullopt;
       return f.end.error();
     }},
    {"stop-timed-out", "It did not end in time when it was stopped, and was killed.",
     "The program is to act on the stop signal: a process with number 1 ignores signals that it "
     "does "
     "not handle, and a shell passes none on. Use `exec` in the start script, --init, "
     "--stop-signal, or "
     "a longer --stop-timeout.",
     [](const EndFacts& f) -> Seen {
       if (!Requested(f) || !f.end.request().forced()) return std::nullopt;
       return absl::StrCat(RequestText(f), ", and SIGKILL when it had not ended in time");
     }},
    {"stopped", "It was stopped on request.", "",
     [](const EndFacts& f) -> Seen {
       if (!Requested(f) || f.end.request().forced() || f.end.request().call() == "kill" ||
           f.end.oom_killed())
         return std::nullopt;
       return RequestText(f);
     }},
    {"killed", "It was killed on request.", "",
     [](const EndFacts& f) -> Seen {
       if (!Requested(f) || f.end.request().call() != "kill" || f.end.oom_killed())
         return std::nullopt;
       return RequestText(f);
     }},
    {"killed-from-outside", "Something other than the daemon killed it (SIGKILL).",
     "The daemon asked for no such end, and the kernel counted no kill for want of memory in the "
     "container: look for `kill` by an administrator, a supervisor, systemd-oomd or earlyoom on "
     "the host, and in "
     "the container for a program that kills its children.",
     [](const EndFacts& f) -> Seen {
       if (Requested(f) || SignalOf(f) != SIGKILL || f.end.oom_killed() || !f.end.error().empty())
         return std::nullopt;
       return BySignal(f, SIGKILL);
     }},
    {"terminated-from-outside",
     "Something other than the daemon asked it to end (SIGTERM, SIGINT or SIGHUP).",
     "The daemon sent no signal: look for `kill` in the container's own scripts and on the host.",
     [](const EndFacts& f) -> Seen {
       const uint32_t signal = SignalOf(f);
       if (Requested(f) || (signal != SIGTERM && signal != SIGINT && signal != SIGHUP))
         return std::nullopt;
       return BySignal(f, signal);
     }},
    // --- what its last output says
    {"command-not-found", "A command of its script is not in the image.",
     "Install the package that has it, or correct its name or PATH.",
     [](const EndFacts& f) -> Seen {
       if (f.end.exit_code() != 127) return std::nullopt;
       return InLog(f, {"not found"});
     }},
    {"read-only", "It writes to a file system that is read-only.",
     "Leave --read-only out, or give it a place to write: --tmpfs PATH, -v VOLUME:PATH. A volume "
     "with :ro "
     "is read-only, too.",
     [](const EndFacts& f) {
       return InLog(f, {"read-only file system", "EROFS"});
     }},
    {"disk-full", "There is no space left where it writes.",
     "`ctl system df` and `ctl system prune` show and free what Gantry holds. A tmpfs has a size "
     "of its own "
     "(--tmpfs PATH:size=, --shm-size); `df -i` shows files.",
     [](const EndFacts& f) {
       return InLog(f, {"no space left on device", "ENOSPC", "disk quota exceeded"});
     }},
    {"address-in-use", "A port or address that it wants is taken in its network namespace.",
     "With --network host every program of the host counts; otherwise two programs in the "
     "container "
     "want the same port, or a socket file was left over.",
     [](const EndFacts& f) {
       return InLog(f, {"address already in use", "EADDRINUSE"});
     }},
    {"too-many-files", "It may open no more files.", "Raise --ulimit nofile=SOFT:HARD.",
     [](const EndFacts& f) {
       return InLog(f, {"too many open files", "EMFILE"});
     }},
    {"no-more-processes", "It could start no more processes or threads.",
     "Raise --pids-limit (`ctl stats` shows how many there are).",
     [](const EndFacts& f) {
       return InLog(
           f, {"can't fork", "cannot fork", "fork: retry", "unable to create new native thread",
               "resource temporarily unavailable", "pthread_create failed"});
     }},
    {"out-of-memory-inside", "It got no more memory, or reached its own limit.",
     "Raise --memory and the limit of the program's own runtime (-Xmx, --max-old-space-size).",
     [](const EndFacts& f) {
       return InLog(f, {"cannot allocate memory", "out of memory", "OutOfMemoryError",
                        "MemoryError", "std::bad_alloc", "ENOMEM"});
     }},
    {"name-not-resolved", "A name could not be resolved.",
     "`ctl exec NAME nslookup HOST` shows it; names of other containers work in a network of your "
     "own "
     "(`ctl network create`), not in the default one.",
     [](const EndFacts& f) {
       return InLog(f, {"temporary failure in name resolution", "name or service not known",
                        "could not resolve host", "no such host", "ENOTFOUND", "bad address '",
                        "getaddrinfo"});
     }},
    {"connection-refused", "A server that it needs does not accept connections.",
     "Start that one first and wait until it is healthy; in a container, localhost is the "
     "container "
     "itself.",
     [](const EndFacts& f) {
       return InLog(f, {"connection refused", "ECONNREFUSED"});
     }},
    {"not-permitted", "It lacks a privilege for what it does.",
     "Find the capability that the operation needs (`man 7 capabilities`) and give it with "
     "--cap-add; a "
     "system call may be denied by seccomp (--security-opt seccomp=FILE).",
     [](const EndFacts& f) {
       return InLog(f, {"operation not permitted", "EPERM"});
     }},
    {"permission-denied", "It may not read, write or run a file.",
     "Check owner and mode of the file against the container's user (`ctl exec NAME id`); files of "
     "the "
     "host keep their owner in -v mounts. With SELinux add :z or :Z.",
     [](const EndFacts& f) {
       return InLog(f, {"permission denied", "EACCES"});
     }},
    {"file-missing", "A file that it needs is not there.",
     "Check the path against the image and the mounts: `ctl diff NAME`, `ctl cp NAME:PATH -`.",
     [](const EndFacts& f) {
       return InLog(f, {"no such file or directory", "ENOENT"});
     }},
    // --- the bare status
    {"runtime-failed", "The runtime could not start it.",
     "What the runtime said is below; `ctl doctor` checks the host, `gantryd --log-level debug` "
     "logs more.",
     [](const EndFacts& f) -> Seen {
       if (!f.end.start_failed()) return std::nullopt;
       return f.end.error();
     }},
    {"shell-without-input", "It is a shell or interpreter without input, so it had nothing to do.",
     "Run it with -it, or give it something to run; for a container to work in later: `sleep "
     "infinity`.",
     [](const EndFacts& f) -> Seen {
       if (!f.ended || f.end.exit_code() != 0 || Requested(f) || f.config.open_stdin() ||
           !IsShell(f))
         return std::nullopt;
       return absl::StrCat("it ran ", f.command[0], " with standard input at its end");
     }},
    {"ended-by-signal", "A signal ended it.",
     "`man 7 signal` says what the signal is for; the daemon did not send it.",
     [](const EndFacts& f) -> Seen {
       if (SignalOf(f) == 0 || Requested(f) || f.end.oom_killed() || !f.end.error().empty())
         return std::nullopt;
       return Whose(f);
     }},
    {"finished", "It came to its end by itself, without an error.",
     "A container runs as long as its first process. One that is to stay needs a program that "
     "does: in "
     "the foreground, not as a daemon that goes to the background.",
     [](const EndFacts& f) -> Seen {
       if (!f.ended || f.end.start_failed() || f.end.exit_code() != 0) return std::nullopt;
       return "exit status 0";
     }},
    {"refused", "The kernel refused to run the program.",
     "What the runtime said is above; the program's file, its loader and its mount's options "
     "(noexec) "
     "are where to look.",
     [](const EndFacts& f) -> Seen {
       if (f.refusal.empty()) return std::nullopt;
       return f.refusal;
     }},
    {"failed", "The program ended with an error of its own.",
     "Its last output is below; `ctl logs NAME` shows all of it.",
     [](const EndFacts& f) -> Seen {
       if (!f.ended || f.end.start_failed() || f.end.exit_code() == 0) return std::nullopt;
       return absl::StrCat("exit status ", f.end.exit_code());
     }},
};

// Causes that only say what the status is, for when nothing more telling was found.
bool IsBareStatus(absl::string_view id) {
  return id == "runtime-failed" || id == "refused" || id == "ended-by-signal" || id == "finished" ||
         id == "failed";
}

void Add(std::vector<v1::EndFinding>& findings, const char* cause, const char* title,
         std::string detail, const char* remedy) {
  v1::EndFinding& finding = findings.emplace_back();
  finding.set_cause(cause);
  finding.set_title(title);
  finding.set_detail(std::move(detail));
  finding.set_remedy(remedy);
}

// What is to say of a container that has not ended.
void AddPresent(const EndFacts& facts, std::vector<v1::EndFinding>& findings) {
  if (facts.state == v1::CONTAINER_STATE_RUNNING) {
    Add(findings, "running", "It runs.",
        facts.ended ? "what follows is about its run before this one" : "", "");
  } else if (facts.state == v1::CONTAINER_STATE_PAUSED) {
    Add(findings, "paused", "It is paused, so nothing in it moves.", "",
        "Continue it with `ctl unpause`.");
  } else if (facts.state == v1::CONTAINER_STATE_DEAD) {
    Add(findings, "unknown", "Its shim does not answer, so its state is not known.", "",
        "The daemon goes on asking. `ctl rm -f` ends it in any case.");
  } else if (!facts.ended) {
    Add(findings, "never-started", "It was created and never started.", "",
        "Start it with `ctl start`.");
  }
  if (facts.health.has_value() && facts.health->status() == "unhealthy") {
    std::string seen = absl::StrCat(facts.health->failing_streak(), " probes failed in a row");
    if (facts.health->log_size() > 0) {
      const v1::HealthResult& last = *facts.health->log().rbegin();
      absl::StrAppend(&seen, "; the last one ended with ", last.exit_code(),
                      " and printed: ", absl::StripAsciiWhitespace(last.output()));
    }
    Add(findings, "unhealthy", "Its health check fails.", std::move(seen),
        "Run the check by hand with `ctl exec`; if it only needs longer, raise --health-timeout or "
        "--health-start-period.");
  }
}

}  // namespace

bool IsRefusal(absl::string_view line) {
  return absl::StrContains(line, "exec container process") ||
         absl::StrContains(line, "exec user process caused") ||
         (absl::StartsWith(line, "exec /") && absl::StrContains(line, "exec format error"));
}

std::string SignalWord(uint32_t signal) {
  const char* const name = sigabbrev_np(static_cast<int>(signal));
  return name != nullptr ? absl::StrCat("SIG", name) : absl::StrCat("signal ", signal);
}

std::vector<v1::EndFinding> ExplainEnd(const EndFacts& facts) {
  std::vector<v1::EndFinding> findings;
  AddPresent(facts, findings);
  bool explained = false;
  for (const Cause& cause : kCauses) {
    if (!facts.ended || (explained && IsBareStatus(cause.id))) continue;
    Seen seen = cause.seen(facts);
    if (!seen.has_value()) continue;
    explained = true;
    Add(findings, cause.id, cause.title, *std::move(seen), cause.remedy);
  }
  return findings;
}

std::string RestartDecision(const EndFacts& facts, const record::v1::ContainerState& state) {
  const v1::RestartPolicy& policy = facts.config.restart_policy();
  if (!facts.ended) return "";
  const std::string name = policy.name().empty() ? "no" : policy.name();
  if (facts.wants_restart) {
    return absl::StrCat("It is started again (policy ", name, ", restart ",
                        state.restart_count() + 1, ").");
  }
  if (facts.state == v1::CONTAINER_STATE_RUNNING) {
    return state.restart_count() == 0
               ? absl::StrCat("It runs (policy ", name, ").")
               : absl::StrCat("The policy ", name, " has started it ", state.restart_count(),
                              " times since a person did.");
  }
  if (name == "no") return "It stays as it is: it has no restart policy (--restart).";
  if (facts.end.start_failed())
    return absl::StrCat("It stays as it is: policy ", name,
                        " does not repeat a start that failed.");
  if (state.stopped_by_user())
    return absl::StrCat("It stays as it is: it was stopped on request, which policy ", name,
                        " respects.");
  if (name == "on-failure" && facts.end.exit_code() == 0)
    return "It stays as it is: policy on-failure restarts only what ends with an error.";
  if (name == "on-failure" && policy.maximum_retry_count() > 0)
    return absl::StrCat("It stays as it is: policy on-failure has used up its ",
                        policy.maximum_retry_count(), " restarts.");
  return absl::StrCat("It stays as it is (policy ", name, ").");
}

}  // namespace gantry::core
