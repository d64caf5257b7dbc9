#include "supervisor/core/start_failure.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace gantry::core {
namespace {

oci::ProcessSpec Process(std::vector<std::string> args, uint64_t open_files = 0) {
  oci::ProcessSpec process;
  process.args = std::move(args);
  if (open_files != 0) process.rlimits = {{"RLIMIT_NOFILE", open_files, open_files}};
  return process;
}

uint32_t Code(absl::string_view text) { return StartFailureCode(absl::InternalError(text)); }

TEST(StartFailureTest, CodesAreDockers) {
  EXPECT_EQ(Code("OCI runtime create failed: exec: \"x\": executable file not found in $PATH"),
            127u);
  EXPECT_EQ(Code("OCI runtime create failed: exec: \"/x\": stat /x: no such file or directory"),
            127u);
  EXPECT_EQ(Code("OCI runtime create failed: runc create failed: unable to start container "
                 "process: exec: \"/etc\": permission denied"),
            126u);
  EXPECT_EQ(Code("OCI runtime create failed: open executable: permission denied"), 126u);
}

TEST(StartFailureTest, WhatIsMissingIsNotAlwaysTheProgram) {
  EXPECT_EQ(Code("OCI runtime create failed: error stat'ing file `/dev/mqueue`: no such file or "
                 "directory"),
            128u);
  EXPECT_EQ(Code("OCI runtime create failed: opening file `blkio.weight` for writing: permission "
                 "denied"),
            128u);
}

TEST(StartFailureTest, TheProgramIsNamedWhereTheRuntimeDoesNot) {
  const absl::Status status = NamingTheContainer(
      absl::InternalError("OCI runtime create failed: open executable: permission denied"), "web",
      Process({"/etc/passwd", "-x"}));
  EXPECT_EQ(status.message(),
            "container web: OCI runtime create failed: exec: \"/etc/passwd\": permission denied");
  EXPECT_EQ(StartFailureCode(status), 126u);
}

TEST(StartFailureTest, ASmallLimitOfOpenFilesIsNamedWithTheRemedy) {
  const absl::Status why =
      absl::InternalError("OCI runtime exec failed: fchown std stream 0: Bad file descriptor");
  EXPECT_EQ(NamingTheContainer(why, "web", Process({"true"}, 10)).message(),
            "container web: OCI runtime exec failed: fchown std stream 0: Bad file descriptor; the "
            "process may have no more than 10 open files, and the runtime needs some of them to "
            "set it up: raise the container's limit \"nofile\"");
  EXPECT_EQ(NamingTheContainer(why, "web", Process({"true"}, 1024)).message(),
            "container web: OCI runtime exec failed: fchown std stream 0: Bad file descriptor");
  const absl::Status missing = absl::InternalError(
      "OCI runtime exec failed: exec: \"x\": executable file not found in $PATH");
  EXPECT_EQ(NamingTheContainer(missing, "web", Process({"x"}, 10)).message(),
            "container web: OCI runtime exec failed: exec: \"x\": executable file not found in "
            "$PATH");
}

TEST(StartFailureTest, OnlyTheRuntimesWordsAreKept) {
  const absl::Status status = NamingTheContainer(
      absl::InternalError("shim of default/abc: Start: exec gantry-exec-1: OCI runtime exec "
                          "failed: exec: \"x\": executable file not found in $PATH"),
      "web", Process({"x"}));
  EXPECT_EQ(status.message(),
            "container web: OCI runtime exec failed: exec: \"x\": executable file not found in "
            "$PATH");
  EXPECT_EQ(
      NamingTheContainer(absl::UnavailableError("shim of default/abc: gone"), "web", Process({}))
          .message(),
      "container web: shim of default/abc: gone");
}

}  // namespace
}  // namespace gantry::core
