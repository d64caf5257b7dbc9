#include "supervisor/core/start_failure.h"

#include <gtest/gtest.h>

namespace gantry::core {
namespace {

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
      {"/etc/passwd", "-x"});
  EXPECT_EQ(status.message(),
            "container web: OCI runtime create failed: exec: \"/etc/passwd\": permission denied");
  EXPECT_EQ(StartFailureCode(status), 126u);
}

TEST(StartFailureTest, OnlyTheRuntimesWordsAreKept) {
  const absl::Status status = NamingTheContainer(
      absl::InternalError("shim of default/abc: Start: exec gantry-exec-1: OCI runtime exec "
                          "failed: exec: \"x\": executable file not found in $PATH"),
      "web", {"x"});
  EXPECT_EQ(status.message(),
            "container web: OCI runtime exec failed: exec: \"x\": executable file not found in "
            "$PATH");
  EXPECT_EQ(
      NamingTheContainer(absl::UnavailableError("shim of default/abc: gone"), "web", {}).message(),
      "container web: shim of default/abc: gone");
}

}  // namespace
}  // namespace gantry::core
