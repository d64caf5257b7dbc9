#include <signal.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "supervisor/core/end_cause_table.h"

namespace gantry::core {
namespace {

using Kind = ProgramFacts::Kind;

const EndCause kOutputCauses[] = {
    // --- what its last output says
    {"command-not-found", "A command of its script is not in the image.",
     "Install the package that has it, or correct its name or PATH.",
     [](const EndFacts& f) -> Seen {
       if (f.end.exit_code() != 127) return std::nullopt;
       return InLog(f, {"not found"});
     }},
    {"read-only", "It writes to a file system that is read-only.",
     "Leave {read_only_rootfs} out, or give it a place to write: a tmpfs or a volume in "
     "{mounts}. A mount may be read-only by itself.",
     [](const EndFacts& f) {
       return InLog(f, {"read-only file system", "EROFS"});
     }},
    {"disk-full", "There is no space left where it writes.",
     "{!system df} and {!system prune} show and free what Gantry holds. A tmpfs has a size "
     "of its own "
     "({mounts}, {shm_size_bytes}); `df -i` shows files.",
     [](const EndFacts& f) {
       return InLog(f, {"no space left on device", "ENOSPC", "disk quota exceeded"});
     }},
    {"address-in-use", "A port or address that it wants is taken in its network namespace.",
     "With host as {network_mode} every program of the host counts; otherwise two programs in the "
     "container "
     "want the same port, or a socket file was left over.",
     [](const EndFacts& f) {
       return InLog(f, {"address already in use", "EADDRINUSE"});
     }},
    {"too-many-files", "It may open no more files.", "Raise nofile of {ulimits}.",
     [](const EndFacts& f) {
       return InLog(f, {"too many open files", "EMFILE"});
     }},
    {"no-more-processes", "It could start no more processes or threads.",
     "Raise {pids_limit} ({!stats} shows how many there are).",
     [](const EndFacts& f) {
       return InLog(
           f, {"can't fork", "cannot fork", "fork: retry", "unable to create new native thread",
               "resource temporarily unavailable", "pthread_create failed"});
     }},
    {"out-of-memory-inside", "It got no more memory, or reached its own limit.",
     "Raise {memory_bytes} and the limit of the program's own runtime (-Xmx, "
     "--max-old-space-size).",
     [](const EndFacts& f) {
       return InLog(f, {"cannot allocate memory", "out of memory", "OutOfMemoryError",
                        "MemoryError", "std::bad_alloc", "ENOMEM"});
     }},
    {"name-not-resolved", "A name could not be resolved.",
     "{!exec}, with nslookup HOST, shows it; names of other containers work in a network of your "
     "own "
     "({!network create}), not in the default one.",
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
     "{cap_add}; a "
     "system call may be denied by seccomp ({security_options}, seccomp=FILE).",
     [](const EndFacts& f) {
       return InLog(f, {"operation not permitted", "EPERM"});
     }},
    {"permission-denied", "It may not read, write or run a file.",
     "Check owner and mode of the file against the container's user ({!exec}, with id); files of "
     "the "
     "host keep their owner when they are bound. With SELinux the mount needs a label (z or Z).",
     [](const EndFacts& f) {
       return InLog(f, {"permission denied", "EACCES"});
     }},
    {"file-missing", "A file that it needs is not there.",
     "Check the path against the image and the mounts: {!diff}, {!cp}.",
     [](const EndFacts& f) {
       return InLog(f, {"no such file or directory", "ENOENT"});
     }},
    // --- the bare status
    {"runtime-failed", "The runtime could not start it.",
     "What the runtime said is below; {!doctor} checks the host, log level debug of the daemon "
     "logs more.",
     [](const EndFacts& f) -> Seen {
       if (!f.end.start_failed()) return std::nullopt;
       return f.end.error();
     }},
    {"shell-without-input", "It is a shell or interpreter without input, so it had nothing to do.",
     "Run it with {open_stdin} and {tty}, or give it something to run; for a container to work in "
     "later: `sleep "
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
     "Its last output is below; {!logs} shows all of it.",
     [](const EndFacts& f) -> Seen {
       if (!f.ended || f.end.start_failed() || f.end.exit_code() == 0) return std::nullopt;
       return absl::StrCat("exit status ", f.end.exit_code());
     }},
};

}  // namespace

absl::Span<const EndCause> OutputCauses() { return kOutputCauses; }

}  // namespace gantry::core
