#include "supervisor/oci_hook.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

constexpr char kState[] =
    R"({"ociVersion":"1.0.2","id":"web","status":"created","pid":42,"bundle":"/run/b",)"
    R"("annotations":{"a.b/c":"d"}})";

std::string Filled(const std::string& text) {
  const absl::StatusOr<HookState> state = ReadHookState(kState, R"({"root":{"path":"rootfs"}})");
  EXPECT_TRUE(state.ok()) << state.status();
  return FillPlaceholders(text, *state).value_or("refused");
}

TEST(OciHookTest, PlaceholdersAreFilledIn) {
  EXPECT_EQ(Filled("plain"), "plain");
  EXPECT_EQ(Filled("--pid={{pid}}"), "--pid=42");
  EXPECT_EQ(Filled("{{ id }}:{{bundle}}:{{status}}"), "web:/run/b:created");
  EXPECT_EQ(Filled("{{rootfs}}"), "/run/b/rootfs");
  EXPECT_EQ(Filled(R"({{annotation "a.b/c"}}{{annotation "none"}})"), "d");
  EXPECT_EQ(Filled("{{- id -}}"), "web");
}

TEST(OciHookTest, WhatIsNotKnownIsRefused) {
  EXPECT_EQ(Filled("{{name}}"), "refused");
  EXPECT_EQ(Filled("{{id"), "refused");
  EXPECT_EQ(Filled("{{annotation a}}"), "refused");
}

TEST(OciHookTest, AnAbsoluteRootIsTakenAsItIs) {
  EXPECT_EQ(ReadHookState(kState, R"({"root":{"path":"/srv/root"}})")->rootfs, "/srv/root");
}

TEST(OciHookTest, GarbageIsRefused) {
  EXPECT_FALSE(ReadHookState("[]", "{}").ok());
  EXPECT_FALSE(ReadHookState(kState, "").ok());
}

TEST(OciHookTest, TheProgramIsExecutedWithThem) {
  const TempDir bundle;
  ASSERT_TRUE(WriteFile(bundle.Join("config.json"), R"({"root":{"path":"rootfs"}})").ok());
  ASSERT_TRUE(WriteFile(bundle.Join("state"),
                        absl::StrCat(R"({"id":"web","pid":7,"bundle":")", bundle.path(), "\"}"))
                  .ok());
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(bundle.Join("state").c_str(), O_RDONLY), 0);
    setenv("WHERE", "{{rootfs}}", 1);
    const std::string script = absl::StrCat("echo $1 $WHERE >", bundle.path(), "/said");
    std::vector<std::string> words = {"--", "sh", "-c", script, "sh", "{{id}}-{{pid}}"};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    (void)RunOciHook(static_cast<int>(argv.size()), argv.data());
    _exit(9);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(ReadFile(bundle.Join("said"), 4096).value_or(""),
            absl::StrCat("web-7 ", bundle.path(), "/rootfs\n"));
}

}  // namespace
}  // namespace gantry
