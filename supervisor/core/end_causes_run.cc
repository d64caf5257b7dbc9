#include <signal.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "supervisor/core/end_cause_table.h"
#include "supervisor/core/kernel_messages.h"

namespace gantry::core {
namespace {

using Kind = ProgramFacts::Kind;

const EndCause kRunCauses[] = {
    // --- what ended a run: the kernel
    {"oom-killed", "The kernel killed it because the container's memory was used up.",
     "Raise {memory_bytes} ({!update} does it on a running container), or have the "
     "program "
     "use less: {!stats} shows its use.",
     [](const EndFacts& f) -> Seen {
       if (!f.end.oom_killed() || f.end.start_failed() || !OwnLimit(f)) return std::nullopt;
       return OomText(f);
     }},
    {"oom-killed-outside",
     "The kernel killed it because memory outside of the container's own limit ran out.",
     "The machine or a group above the container (a slice, a pod, {cgroup_parent}) was short of "
     "memory. Free memory there, raise that group's limit, or set {memory_bytes} so that the "
     "container "
     "is "
     "bounded before the others.",
     [](const EndFacts& f) -> Seen {
       if (!f.end.oom_killed() || f.end.start_failed() || OwnLimit(f)) return std::nullopt;
       return OomText(f);
     }},
    {"seccomp", "The kernel killed it for a system call that its seccomp profile does not allow.",
     "Allow the call in a profile of your own ({security_options}, seccomp=FILE); to see whether "
     "it is "
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
     "Often /dev/shm is full: raise {shm_size_bytes}. Otherwise a mapped file was cut short.",
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
     "`last -x reboot` says when the host went down. With unless-stopped as {restart_policy} it "
     "starts again "
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
     "not handle, and a shell passes none on. Use `exec` in the start script, {init}, "
     "{stop_signal}, or "
     "a longer {stop_timeout_seconds}.",
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
};

}  // namespace

absl::Span<const EndCause> RunCauses() { return kRunCauses; }

}  // namespace gantry::core
