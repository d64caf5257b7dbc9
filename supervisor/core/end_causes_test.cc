#include "supervisor/core/end_causes.h"

#include <signal.h>

#include <functional>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

EndFacts Ended(uint32_t code, uint32_t signal = 0) {
  EndFacts facts;
  facts.state = v1::CONTAINER_STATE_EXITED;
  facts.id = "0123abcd";
  facts.ended = true;
  facts.end.set_exit_code(code);
  facts.end.set_exit_signal(signal);
  facts.end.mutable_finished_at()->set_seconds(1000);
  facts.command = {"/app"};
  facts.working_directory = "/";
  return facts;
}

EndFacts NotStarted(const std::string& error, uint32_t code = 128) {
  EndFacts facts = Ended(code);
  facts.end.set_start_failed(true);
  facts.end.set_error(error);
  facts.program.kind = ProgramFacts::Kind::kElf;
  facts.program.path = "/app";
  facts.program.mode = 0755;
  return facts;
}

EndFacts Printed(const std::string& line, uint32_t code = 1) {
  EndFacts facts = Ended(code);
  facts.log_tail = {"starting\n", line + "\n"};
  return facts;
}

EndFacts With(EndFacts facts, const std::function<void(EndFacts&)>& change) {
  change(facts);
  return facts;
}

struct Case {
  const char* cause;  // of the first finding
  const char* seen;   // part of its detail
  EndFacts facts;
};

std::vector<Case> Cases() {
  using Kind = ProgramFacts::Kind;
  return {
      {"never-started", "", With({}, [](EndFacts& f) { f.state = v1::CONTAINER_STATE_CREATED; })},
      {"running", "", With({}, [](EndFacts& f) { f.state = v1::CONTAINER_STATE_RUNNING; })},
      {"paused", "", With({}, [](EndFacts& f) { f.state = v1::CONTAINER_STATE_PAUSED; })},
      {"program-missing", "/usr/bin, /bin (PATH)",
       With(NotStarted("executable file not found", 127),
            [](EndFacts& f) {
              f.program = {};
              f.program.kind = Kind::kMissing;
              f.program.searched = {"/usr/bin", "/bin"};
            })},
      {"program-is-directory", "/app is a directory",
       With(NotStarted("is a directory", 126),
            [](EndFacts& f) { f.program.kind = Kind::kDirectory; })},
      {"wrong-architecture", "aarch64",
       With(NotStarted("exec format error"),
            [](EndFacts& f) {
              f.program.machine = "aarch64";
              f.program.other_machine = true;
            })},
      {"missing-loader", "/lib/ld-musl-x86_64.so.1",
       With(NotStarted("no such file or directory", 127),
            [](EndFacts& f) {
              f.program.loader = "/lib/ld-musl-x86_64.so.1";
              f.program.loader_missing = true;
            })},
      {"script-carriage-return", "/bin/sh",
       With(NotStarted("no such file or directory", 127),
            [](EndFacts& f) {
              f.program.kind = Kind::kScript;
              f.program.interpreter = "/bin/sh";
              f.program.interpreter_missing = true;
              f.program.carriage_return = true;
            })},
      {"script-interpreter-missing", "/usr/bin/python3",
       With(NotStarted("no such file or directory", 127),
            [](EndFacts& f) {
              f.program.kind = Kind::kScript;
              f.program.interpreter = "/usr/bin/python3";
              f.program.interpreter_missing = true;
            })},
      {"no-execute-bit", "0644",
       With(NotStarted("permission denied", 126), [](EndFacts& f) { f.program.mode = 0644; })},
      {"not-for-this-user", "1000:1000",
       With(NotStarted("permission denied", 126),
            [](EndFacts& f) {
              f.program.mode = 0700;
              f.user = "1000:1000";
            })},
      {"empty-program", "/app",
       With(NotStarted("exec format error"), [](EndFacts& f) { f.program.kind = Kind::kEmpty; })},
      {"unknown-format", "/app",
       With(NotStarted("exec format error"), [](EndFacts& f) { f.program.kind = Kind::kUnknown; })},
      // crun says so after the start, in the container's output.
      {"unknown-format", "/app",
       With(Printed("exec container process `/app`: Exec format error"),
            [](EndFacts& f) {
              f.refusal = f.log_tail.back();
              f.program.kind = Kind::kUnknown;
              f.program.path = "/app";
              f.program.mode = 0755;
            })},
      {"refused", "noexec",
       With(Printed("exec container process `/app`: noexec"),
            [](EndFacts& f) { f.refusal = f.log_tail.back(); })},
      {"missing-library", "libfoo.so.1",
       Printed("app: error while loading shared libraries: libfoo.so.1: cannot open shared object "
               "file: No such file or directory",
               127)},
      {"missing-library", "libbar.so.2",
       With(Ended(127),
            [](EndFacts& f) {
              f.program.kind = Kind::kElf;
              f.program.mode = 0755;
              f.program.missing_libraries = {"libbar.so.2"};
            })},
      {"library-too-old", "GLIBC_2.38",
       Printed("app: /lib/libc.so.6: version `GLIBC_2.38' not found (required by app)")},
      {"working-directory", "/srv does not exist",
       With(NotStarted("chdir to cwd (\"/srv\"): no such file or directory"),
            [](EndFacts& f) {
              f.working_directory = "/srv";
              f.program.working_directory = ProgramFacts::Place::kMissing;
            })},
      {"working-directory-forbidden", "/root", NotStarted("chdir `/root`: Permission denied")},
      {"memory-limit-too-small", "memory limit too low",
       NotStarted("container init was OOM-killed (memory limit too low?)")},
      {"pids-limit-too-small", "fork", NotStarted("fork: Resource temporarily unavailable")},
      {"open-files-limit", "Too many", NotStarted("Too many open files")},
      {"port-in-use", "8080", NotStarted("publish 0.0.0.0:8080: address already in use")},
      {"shared-namespace-gone", "db",
       With(NotStarted("container db is not running"),
            [](EndFacts& f) { f.config.set_network_mode("container:db"); })},
      {"mount-source-missing", "/data", NotStarted("mount /data: No such file or directory")},
      {"mount-type-mismatch", "/etc/x", NotStarted("mount /etc/x: Not a directory")},
      {"device-missing", "/dev/kvm", NotStarted("open `/dev/kvm`: No such device")},
      {"read-only-root", "/made", NotStarted("mkdir `/made`: Read-only file system")},
      {"disk-full-at-start", "upper", NotStarted("mkdir upper: No space left on device")},
      {"cut-off", "gantryd", NotStarted("gantryd ended while it was being started")},
      {"runtime-failed", "odd words", NotStarted("odd words of a runtime")},
      {"oom-killed", "java 500.0 MiB",
       With(Ended(137, SIGKILL),
            [](EndFacts& f) {
              f.end.set_oom_killed(true);
              f.end.mutable_oom()->set_group("/gantry/0123abcd");
              auto* process = f.end.mutable_oom()->add_largest();
              process->set_name("java");
              process->set_resident_bytes(500 << 20);
            })},
      {"oom-killed", "64.0 MiB",
       With(Ended(137, SIGKILL),
            [](EndFacts& f) {
              f.end.set_oom_killed(true);
              f.config.mutable_resources()->set_memory_bytes(64 << 20);
            })},
      {"oom-killed-outside", "/system.slice",
       With(Ended(137, SIGKILL),
            [](EndFacts& f) {
              f.end.set_oom_killed(true);
              f.end.mutable_oom()->set_group("/system.slice");
            })},
      {"seccomp", "system call 165",
       With(Ended(159, SIGSYS),
            [](EndFacts& f) {
              f.end.add_kernel_lines(
                  "audit: type=1326 audit(1.2:3): uid=0 pid=9 comm=\"x\" sig=31 syscall=165 "
                  "compat=0");
            })},
      {"segfault", "SIGSEGV", Ended(139, SIGSEGV)},
      {"segfault", "a child of its first process", Ended(139)},
      {"aborted", "SIGABRT", Ended(134, SIGABRT)},
      {"illegal-instruction", "SIGILL", Ended(132, SIGILL)},
      {"bus-error", "SIGBUS", Ended(135, SIGBUS)},
      {"arithmetic", "SIGFPE", Ended(136, SIGFPE)},
      {"broken-pipe", "SIGPIPE", Ended(141, SIGPIPE)},
      {"shim-died", "shim was killed",
       With(Ended(137), [](EndFacts& f) { f.end.set_error("its shim was killed"); })},
      {"host-restarted", "with the machine",
       With(Ended(255),
            [](EndFacts& f) {
              f.end.set_error("it ended while no supervisor ran, with the machine or its shim");
            })},
      {"stop-timed-out", "SIGKILL when it had not ended",
       With(Ended(137, SIGKILL),
            [](EndFacts& f) {
              f.end.mutable_request()->set_call("stop");
              f.end.mutable_request()->set_signal(SIGTERM);
              f.end.mutable_request()->set_forced(true);
            })},
      {"stopped", "SIGTERM",
       With(Ended(143, SIGTERM),
            [](EndFacts& f) {
              f.end.mutable_request()->set_call("stop");
              f.end.mutable_request()->set_signal(SIGTERM);
            })},
      {"killed", "SIGKILL",
       With(Ended(137, SIGKILL),
            [](EndFacts& f) {
              f.end.mutable_request()->set_call("kill");
              f.end.mutable_request()->set_signal(SIGKILL);
            })},
      {"killed-from-outside", "SIGKILL", Ended(137, SIGKILL)},
      // A reload by signal, long before.
      {"killed-from-outside", "SIGKILL",
       With(Ended(137, SIGKILL),
            [](EndFacts& f) {
              f.end.mutable_request()->set_call("kill");
              f.end.mutable_request()->set_signal(SIGHUP);
              f.end.mutable_request()->mutable_at()->set_seconds(1);
            })},
      {"terminated-from-outside", "SIGTERM", Ended(143, SIGTERM)},
      {"ended-by-signal", "SIGUSR1", Ended(138, SIGUSR1)},
      {"command-not-found", "curl", Printed("sh: curl: not found", 127)},
      {"read-only", "/etc/x", Printed("touch: /etc/x: Read-only file system")},
      {"disk-full", "write", Printed("write error: No space left on device")},
      {"address-in-use", "bind", Printed("bind: Address already in use")},
      {"too-many-files", "accept", Printed("accept: Too many open files")},
      {"no-more-processes", "fork", Printed("sh: can't fork: Resource temporarily unavailable")},
      {"out-of-memory-inside", "Java", Printed("java.lang.OutOfMemoryError: Java heap space")},
      {"name-not-resolved", "db", Printed("getaddrinfo db: Temporary failure in name resolution")},
      {"connection-refused", "5432", Printed("connect to db:5432: Connection refused")},
      {"not-permitted", "mount", Printed("mount: Operation not permitted")},
      {"permission-denied", "/data", Printed("open /data: Permission denied")},
      {"file-missing", "/app.conf", Printed("open /app.conf: No such file or directory")},
      {"shell-without-input", "sh", With(Ended(0), [](EndFacts& f) { f.command = {"sh"}; })},
      {"finished", "0", Ended(0)},
      {"failed", "exit status 3", Ended(3)},
  };
}

TEST(EndCausesTest, EveryEndHasItsCauseFirst) {
  for (const Case& one : Cases()) {
    const std::vector<v1::EndFinding> findings = ExplainEnd(one.facts);
    ASSERT_FALSE(findings.empty()) << one.cause;
    EXPECT_EQ(findings[0].cause(), one.cause) << findings[0].ShortDebugString();
    EXPECT_TRUE(absl::StrContains(findings[0].detail(), one.seen))
        << one.cause << ": " << findings[0].ShortDebugString();
  }
}

TEST(EndCausesTest, WhatIsWrongHasARemedy) {
  for (const Case& one : Cases()) {
    for (const v1::EndFinding& finding : ExplainEnd(one.facts)) {
      EXPECT_FALSE(finding.title().empty()) << finding.cause();
      const bool fine = finding.cause() == "running" || finding.cause() == "stopped" ||
                        finding.cause() == "killed";
      EXPECT_EQ(finding.remedy().empty(), fine) << finding.cause();
    }
  }
}

// The words of a client's command line are for the client to add.
TEST(EndCausesTest, RemediesNameFieldsAndNoFlags) {
  for (const Case& one : Cases()) {
    for (const v1::EndFinding& finding : ExplainEnd(one.facts)) {
      EXPECT_FALSE(absl::StrContains(finding.remedy(), "`ctl ")) << finding.remedy();
      for (const char* flag : {"--memory", "--user", "--read-only", "--ulimit", "--network",
                               "--security-opt", "--cap-add", "--restart", "--mount", " -v ", " -p",
                               "--workdir", "--device", "--pids-limit", "--health"})
        EXPECT_FALSE(absl::StrContains(finding.remedy(), flag)) << finding.remedy();
    }
  }
  EXPECT_TRUE(
      absl::StrContains(ExplainEnd(Printed("touch: /etc/x: Read-only file system"))[0].remedy(),
                        "{read_only_rootfs}"));
}

TEST(EndCausesTest, OutputOfARunThatSucceededIsNoCause) {
  const std::vector<v1::EndFinding> findings = ExplainEnd(Printed("Connection refused", 0));
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].cause(), "finished");
}

TEST(EndCausesTest, AFailingHealthCheckIsToldWithItsOutput) {
  EndFacts facts;
  facts.state = v1::CONTAINER_STATE_RUNNING;
  facts.health.emplace();
  facts.health->set_status("unhealthy");
  facts.health->set_failing_streak(3);
  facts.health->add_log()->set_output("no answer on port 80\n");
  const std::vector<v1::EndFinding> findings = ExplainEnd(facts);
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[1].cause(), "unhealthy");
  EXPECT_TRUE(absl::StrContains(findings[1].detail(), "no answer on port 80"));
}

TEST(EndCausesTest, TheRestartPolicyIsExplained) {
  record::v1::ContainerState state;
  EndFacts facts = Ended(1);
  EXPECT_TRUE(absl::StrContains(RestartDecision(facts, state), "no restart policy"));
  facts.config.mutable_restart_policy()->set_name("on-failure");
  facts.config.mutable_restart_policy()->set_maximum_retry_count(3);
  EXPECT_TRUE(absl::StrContains(RestartDecision(facts, state), "used up its 3"));
  facts.wants_restart = true;
  state.set_restart_count(1);
  EXPECT_TRUE(absl::StrContains(RestartDecision(facts, state), "restart 2"));
  facts.wants_restart = false;
  facts.config.mutable_restart_policy()->set_name("always");
  state.set_stopped_by_user(true);
  EXPECT_TRUE(absl::StrContains(RestartDecision(facts, state), "stopped on request"));
}

}  // namespace
}  // namespace gantry::core
