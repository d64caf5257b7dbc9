#include <gtest/gtest.h>

#include <fstream>

#include "base/temp_dir.h"
#include "ctl/container_options.h"
#include "ctl/option_files.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::ctl {
namespace {

TEST(EnvironmentFileTest, CommentsBlanksAndBareNames) {
  TempDir directory;
  const std::string path = directory.path() + "/env";
  std::ofstream(path) << "\xEF\xBB\xBF# comment\n\nA=1\r\n  B= two # not a comment\nHOME\nGONE\n";
  const auto read = ReadAssignments(path, false, {{"HOME", "/root"}});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, (std::vector<std::string>{"A=1", "B= two # not a comment", "HOME=/root"}));
}

TEST(EnvironmentFileTest, NameWithSpaceIsRefusedByLine) {
  TempDir directory;
  const std::string path = directory.path() + "/env";
  std::ofstream(path) << "A=1\nB C=2\n";
  const auto read = ReadAssignments(path, false, {});
  EXPECT_NE(read.status().message().find("line 2"), absl::string_view::npos) << read.status();
}

v1::ContainerConfig BuildConfig(std::vector<std::string> args, absl::Status* status = nullptr) {
  ContainerOptions options;
  FlagSet flags;
  options.AddFlags(flags);
  std::vector<std::string> rest;
  absl::Status parsed = flags.Parse(args, true, &rest);
  if (!parsed.ok()) {
    if (status != nullptr) *status = parsed;
    return {};
  }
  auto config = options.Build(flags, rest, {{"TERM", "xterm"}}, "/cwd");
  if (status != nullptr) *status = config.status();
  return config.ok() ? *config : v1::ContainerConfig();
}

TEST(ContainerOptionsTest, CommandKeepsItsOwnOptions) {
  const auto config = BuildConfig({"-it", "--rm", "busybox", "ls", "-l", "--rm"});
  EXPECT_EQ(config.image(), "busybox");
  ASSERT_EQ(config.command_size(), 3);
  EXPECT_EQ(config.command(2), "--rm");
  EXPECT_TRUE(config.tty());
  EXPECT_TRUE(config.open_stdin());
  EXPECT_TRUE(config.auto_remove());
}

TEST(ContainerOptionsTest, EmptyEntrypointIsPresentAndEmpty) {
  EXPECT_FALSE(BuildConfig({"x"}).has_entrypoint());
  const auto config = BuildConfig({"--entrypoint", "", "x"});
  EXPECT_TRUE(config.has_entrypoint());
  EXPECT_EQ(config.entrypoint().values_size(), 0);
}

TEST(ContainerOptionsTest, LimitsAndTheirContradictions) {
  const auto config =
      BuildConfig({"-m", "512m", "--memory-swap", "-1", "--cpus", "1.5", "--pids-limit", "9", "x"});
  EXPECT_EQ(config.resources().memory_bytes(), 512 << 20);
  EXPECT_EQ(config.resources().memory_swap_bytes(), -1);
  EXPECT_EQ(config.resources().nano_cpus(), 1500000000);
  EXPECT_EQ(config.resources().pids_limit(), 9);
  absl::Status status;
  BuildConfig({"-m", "1g", "--memory-swap", "512m", "x"}, &status);
  EXPECT_FALSE(status.ok());
  BuildConfig({"-m", "1k", "x"}, &status);
  EXPECT_FALSE(status.ok());
  BuildConfig({"--rm", "--restart", "always", "x"}, &status);
  EXPECT_FALSE(status.ok());
  BuildConfig({"-v", "/a:/x", "--tmpfs", "/x", "x"}, &status);
  EXPECT_FALSE(status.ok());
  BuildConfig({"--pull", "perhaps", "x"}, &status);
  EXPECT_FALSE(status.ok());
}

TEST(ContainerOptionsTest, AnAnnotationNeedsNoValue) {
  const auto config = BuildConfig({"--annotation", "bare", "--annotation", "a=b", "x"});
  EXPECT_EQ(config.annotations().at("bare"), "");
  EXPECT_EQ(config.annotations().at("a"), "b");
}

TEST(ContainerOptionsTest, AttachChoosesStreams) {
  auto config = BuildConfig({"-a", "stdout", "x"});
  EXPECT_TRUE(config.attach_stdout());
  EXPECT_FALSE(config.attach_stderr());
  config = BuildConfig({"-i", "x"});
  EXPECT_TRUE(config.attach_stdin());
  EXPECT_TRUE(config.attach_stderr());
}

}  // namespace
}  // namespace gantry::ctl
