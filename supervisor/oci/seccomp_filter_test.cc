#include "supervisor/oci/seccomp_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "supervisor/oci/default_profile.h"
#include "supervisor/oci/host_facts.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

// What `call` gives under the program: 0, or its errno. Each in a process of its own, since a
// filter stays.
int ErrnoUnder(const std::string& program, const std::function<long()>& call) {
  const pid_t child = fork();
  if (child == 0) {
    sock_fprog filter = {static_cast<unsigned short>(program.size() / sizeof(sock_filter)),
                         reinterpret_cast<sock_filter*>(const_cast<char*>(program.data()))};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(254);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) _exit(253);
    errno = 0;
    _exit(call() == -1 ? errno : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

json Profile(const char* text) { return json::parse(text); }

TEST(CompileSeccompTest, RulesGiveTheirErrnoAndTheRestIsTheDefault) {
  const auto program = CompileSeccomp(Profile(R"({
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["getppid", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]
  })"));
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_getppid); }), 77);
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_getpid); }), 0);
}

TEST(CompileSeccompTest, ArgumentsDecide) {
  const auto program = CompileSeccomp(Profile(R"({
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 40,
                  "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]
  })"));
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_personality, 8); }), 40);
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_personality, 0xffffffff); }), 0);
}

TEST(CompileSeccompTest, TwoConditionsOnOneArgumentAreAlternatives) {
  const auto program = CompileSeccomp(Profile(R"({
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 40,
                  "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"},
                           {"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}]}]
  })"));
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_personality, 8); }), 40);
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_personality, 9); }), 40);
}

TEST(CompileSeccompTest, TheDefaultProfileRefusesWhatItShould) {
  HostFacts host;
  host.architecture = "amd64";
  host.kernel_major = 6;
  host.kernel_minor = 1;
  const std::vector<std::string> caps(DefaultCapabilities().begin(), DefaultCapabilities().end());
  const auto program = CompileSeccomp(json::parse(*DefaultSeccomp(host, caps)));
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_getpid); }), 0);
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_keyctl, 0, 0, 0, 0, 0); }), EPERM);
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_mount, 0, 0, 0, 0, 0); }), EPERM);
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_io_uring_setup, 0, 0); }), EPERM);
  // C libraries fall back to clone when clone3 is not there; EPERM would end them.
  EXPECT_EQ(ErrnoUnder(*program, [] { return syscall(SYS_clone3, 0, 0); }), ENOSYS);
}

TEST(CompileSeccompTest, WhatOnlyTheRuntimeCanSetUpIsLeftToIt) {
  EXPECT_EQ(CompileSeccomp(Profile(R"({"defaultAction": "SCMP_ACT_ALLOW",
                                       "flags": ["SECCOMP_FILTER_FLAG_LOG"]})"))
                .status()
                .code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(CompileSeccomp(Profile(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
                                       [{"names": ["getpid"], "action": "SCMP_ACT_NOTIFY"}]})"))
                .status()
                .code(),
            absl::StatusCode::kUnimplemented);
}

TEST(CompileSeccompTest, BadProfilesAreRefused) {
  for (const char* text :
       {R"({"defaultAction": "SCMP_ACT_PERHAPS"})", R"({"syscalls": []})",
        R"({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]})",
        R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpid"],
            "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]})",
        R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpid"],
            "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "op": "SCMP_CMP_LIKE"}]}]})",
        R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {"names": ["getpid"]}})"}) {
    EXPECT_EQ(CompileSeccomp(Profile(text)).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST(SeccompFiltersTest, AProfileBecomesAProgramAndADenial) {
  const std::string text =
      R"({"ociVersion": "1.0.2", "annotations": {"a": "b"}, "linux": {"seccomp":
    {"defaultAction": "SCMP_ACT_ALLOW",
     "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]}}})";
  SeccompFilters filters;
  for (int round = 0; round < 2; ++round) {
    auto spec = RuntimeSpec::Parse(text);
    ASSERT_TRUE(spec.ok());
    ASSERT_TRUE(filters.Prebuild(*spec));
    EXPECT_EQ(spec->document()["linux"]["seccomp"],
              json::parse(R"({"defaultAction": "SCMP_ACT_ERRNO"})"));
    EXPECT_EQ(spec->annotations().at("a"), "b");
    std::string program;
    ASSERT_TRUE(absl::Base64Unescape(spec->annotations().at("run.oci.seccomp_bpf_data"), &program));
    EXPECT_EQ(ErrnoUnder(program, [] { return syscall(SYS_getppid); }), 77);
  }
}

TEST(SeccompFiltersTest, WhatItCannotDoItLeavesAlone) {
  SeccompFilters filters;
  for (const char* text :
       {R"({"ociVersion": "1.0.2"})", R"({"ociVersion": "1.0.2", "linux": {}})",
        R"({"ociVersion": "1.0.2", "linux": {"seccomp": {"defaultAction": "SCMP_ACT_NONSENSE"}}})",
        R"({"ociVersion": "1.0.2", "annotations": {"run.oci.seccomp_bpf_data": "AAAA"},
            "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}})"}) {
    auto spec = RuntimeSpec::Parse(text);
    ASSERT_TRUE(spec.ok()) << text;
    EXPECT_FALSE(filters.Prebuild(*spec)) << text;
    EXPECT_EQ(spec->document(), json::parse(text));
  }
}

}  // namespace
}  // namespace gantry::oci
