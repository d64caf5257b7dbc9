#include "supervisor/config.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ConfigTest, ReadsOwnDialect) {
  Config config;
  ASSERT_TRUE(
      ApplyConfigText(
          "root = \"/srv/g\"\ndefault_runtime = \"crun\"\n[runtimes.mine]\npath = \"/opt/crun\"\n"
          "[gc]\nschedule_delay = \"50ms\"\npause_threshold = 0.1\n[logs]\nmax_files = 3\n",
          "f.toml", config)
          .ok());
  EXPECT_EQ(config.root, "/srv/g");
  EXPECT_EQ(config.default_runtime, "crun");
  EXPECT_EQ(config.runtimes.at("mine").path, "/opt/crun");
  EXPECT_EQ(config.gc_schedule_delay, absl::Milliseconds(50));
  EXPECT_EQ(config.log_max_files, 3);
  EXPECT_TRUE(config.ignored.empty());
}

TEST(ConfigTest, ReadsContainerdVersion2) {
  Config config;
  ASSERT_TRUE(ApplyConfigText(R"(version = 2
root = "/var/lib/c"
oom_score = -999
[grpc]
  address = "/run/c/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "pause:3.9"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
)",
                              "config.toml", config)
                  .ok());
  EXPECT_TRUE(config.containerd_dialect);
  EXPECT_EQ(config.root, "/var/lib/c");
  EXPECT_EQ(config.address, "/run/c/c.sock");
  EXPECT_TRUE(config.restrict_oom_score_adj);
  EXPECT_EQ(config.default_runtime, "runc");
  EXPECT_TRUE(config.runtimes.at("runc").systemd_cgroup);
  EXPECT_EQ(config.registry_config_path, "/etc/containerd/certs.d");
  EXPECT_THAT(config.ignored,
              ElementsAre("oom_score", "plugins.\"io.containerd.grpc.v1.cri\".sandbox_image"));
}

TEST(ConfigTest, ReadsContainerdVersion3) {
  Config config;
  ASSERT_TRUE(ApplyConfigText(
                  "version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'native'\n"
                  "max_concurrent_downloads = 7\n",
                  "config.toml", config)
                  .ok());
  EXPECT_EQ(config.snapshotter, "native");
  EXPECT_EQ(config.max_concurrent_downloads, 7);
}

TEST(ConfigTest, NamesFileAndLineOfAMistake) {
  Config config;
  absl::Status broken = ApplyConfigText("root = \n", "x.toml", config);
  EXPECT_EQ(broken.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(broken.message()), HasSubstr("x.toml:1:"));
  absl::Status wrong = ApplyConfigText("\nroot = 5\n", "x.toml", config);
  EXPECT_THAT(std::string(wrong.message()), HasSubstr("x.toml:2: root must be a string"));
  EXPECT_EQ(ApplyConfigText("version = 9\n", "x.toml", config).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ConfigTest, WhatIsPrintedReadsBackTheSame) {
  Config config;
  config.root = "/srv/\"odd\"";
  config.gc_pause_threshold = 0.25;
  config.runtimes["a"] = {"/usr/bin/crun", true, false};
  Config again;
  ASSERT_TRUE(ApplyConfigText(PrintConfig(config), "printed", again).ok());
  EXPECT_EQ(PrintConfig(again), PrintConfig(config));
  EXPECT_EQ(again.root, config.root);
  EXPECT_TRUE(again.ignored.empty());
}

TEST(ConfigTest, TheFileWeShipShowsTheDefaults) {
  absl::StatusOr<std::string> text = ReadFile("packaging/config.toml", 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  Config shipped;
  ASSERT_TRUE(ApplyConfigText(*text, "packaging/config.toml", shipped).ok());
  EXPECT_TRUE(shipped.ignored.empty());
  EXPECT_EQ(PrintConfig(shipped), PrintConfig(Config()));
}

TEST(ConfigTest, FlagsWinOverTheFile) {
  TempDir dir;
  const std::string file = dir.path() + "/c.toml";
  FILE* out = fopen(file.c_str(), "w");
  fputs("root = \"/from/file\"\nstate = \"/run/from-file\"\n", out);
  fclose(out);
  std::string program = "gantryd", flag = "--config", root = "--root=/from/flag", text;
  char* argv[] = {program.data(), flag.data(), const_cast<char*>(file.c_str()), root.data()};
  absl::StatusOr<Config> config = LoadConfig(4, argv, &text);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->root, "/from/flag");
  EXPECT_EQ(config->state, "/run/from-file");
}

TEST(ConfigTest, RefusesWhatMakesNoSense) {
  Config config;
  EXPECT_TRUE(CheckConfig(config).ok());
  config.root = "relative";
  EXPECT_THAT(std::string(CheckConfig(config).message()), HasSubstr("root"));
  config = Config();
  config.address = "/" + std::string(120, 'x');
  EXPECT_FALSE(CheckConfig(config).ok());
  config = Config();
  config.snapshotter = "zfs";
  EXPECT_FALSE(CheckConfig(config).ok());
  std::string program = "gantryd", flag = "--rot", text;
  char* argv[] = {program.data(), flag.data()};
  EXPECT_THAT(std::string(LoadConfig(2, argv, &text).status().message()),
              HasSubstr("unknown argument"));
}

}  // namespace
}  // namespace gantry
