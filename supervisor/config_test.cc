#include "supervisor/config.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "supervisor/config_keys.h"

namespace gantry {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ConfigTest, ReadsOwnDialect) {
  Config config;
  ASSERT_TRUE(
      ApplyConfigText(
          "root = \"/srv/g\"\ndefault_runtime = \"crun\"\n[runtimes.mine]\npath = \"/opt/crun\"\n"
          "[gc]\nschedule_delay = \"50ms\"\npause_threshold = 0.1\n[logs]\nmax_files = 3\n"
          "[registry]\nconfig_path = \"/a:/b\"\ninsecure_registries = [\"r.local:5000\", "
          "\"10.0.0.0/8\"]\n",
          "f.toml", config)
          .ok());
  EXPECT_EQ(config.root, "/srv/g");
  EXPECT_EQ(config.default_runtime, "crun");
  EXPECT_EQ(config.runtimes.at("mine").path, "/opt/crun");
  EXPECT_EQ(config.gc_schedule_delay, absl::Milliseconds(50));
  EXPECT_EQ(config.log_max_files, 3);
  EXPECT_THAT(ConfigPaths(config), ElementsAre("/a", "/b"));
  EXPECT_THAT(config.insecure_registries, ElementsAre("r.local:5000", "10.0.0.0/8"));
  EXPECT_TRUE(config.ignored.empty());
}

TEST(ConfigTest, ReadsContainerdVersion2) {
  Config config;
  ASSERT_TRUE(ApplyConfigText(R"(version = 2
root = "/var/lib/c"
oom_score = -999
[cgroup]
  path = "/services/c"
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
  EXPECT_EQ(config.cgroup_path, "/services/c");
  EXPECT_TRUE(config.restrict_oom_score_adj);
  EXPECT_EQ(config.default_runtime, "runc");
  EXPECT_TRUE(config.runtimes.at("runc").systemd_cgroup);
  EXPECT_EQ(config.registry_config_path, "/etc/containerd/certs.d");
  EXPECT_THAT(config.pinned_images, ElementsAre("pause:3.9"));
  EXPECT_THAT(config.ignored, ElementsAre("oom_score"));
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

TEST(ConfigTest, ReadsContainerdVersion4) {
  Config config;
  ASSERT_TRUE(ApplyConfigText(R"(version = 4
[plugins.'io.containerd.server.v1.grpc']
  address = '/run/other.sock'
  gid = 12
  max_recv_message_size = 33554432
  max_send_message_size = 0
[plugins.'io.containerd.gc.v1.scheduler']
  schedule_delay = 5000000
  startup_delay = '1s'
[plugins.'io.containerd.monitor.container.v1.restart']
  interval = '3s'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'registry.k8s.io/pause:3.10'
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni', '/opt/cni/bin']
  conf_dir = '/etc/cni'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.slow]
  runtime_type = 'io.containerd.runc.v2'
  cgroup_writable = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.slow.options]
    BinaryName = '/opt/slow'
    NoNewKeyring = true
    Root = '/run/slow'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.vm]
  runtime_type = 'io.containerd.kata.v2'
)",
                              "config.toml", config)
                  .ok());
  EXPECT_EQ(config.address, "/run/other.sock");
  EXPECT_EQ(config.socket_gid, 12);
  EXPECT_EQ(config.max_receive_bytes, 32 << 20);
  EXPECT_EQ(config.max_send_bytes, 16 << 20);
  EXPECT_EQ(config.gc_schedule_delay, absl::Milliseconds(5));
  EXPECT_EQ(config.gc_startup_delay, absl::Seconds(1));
  EXPECT_EQ(config.restart_interval, absl::Seconds(3));
  EXPECT_THAT(config.pinned_images, ElementsAre("registry.k8s.io/pause:3.10"));
  EXPECT_THAT(config.cni_bin_dirs, ElementsAre("/usr/lib/cni", "/opt/cni/bin"));
  EXPECT_EQ(config.cni_conf_dir, "/etc/cni");
  EXPECT_EQ(config.runtimes.at("slow").path, "/opt/slow");
  EXPECT_TRUE(config.runtimes.at("slow").no_new_keyring);
  EXPECT_EQ(config.runtimes.at("slow").state_root, "/run/slow");
  EXPECT_EQ(config.runtimes.count("vm"), 0u);
  const std::string runtimes = "plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.";
  EXPECT_THAT(IgnoredByTable(config),
              ElementsAre(runtimes + "slow: cgroup_writable", runtimes + "vm: runtime_type"));
}

TEST(ConfigTest, AContainerdFileWithoutASocketMeansContainerds) {
  Config config;
  ASSERT_TRUE(ApplyConfigText("version = 2\n[grpc]\naddress = ''\n", "c.toml", config).ok());
  EXPECT_EQ(config.address, "/run/containerd/containerd.sock");
  EXPECT_EQ(config.root, "/var/lib/gantry");
}

TEST(ConfigTest, WhatContainerdWritesAsEmptySaysNothing) {
  Config config;
  ASSERT_TRUE(ApplyConfigText(R"(version = 4
root = ''
state = ''
[debug]
  level = ''
[metrics]
  address = '127.0.0.1:1338'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = ''
  max_concurrent_downloads = 0
[plugins.'io.containerd.monitor.container.v1.restart']
  interval = '0s'
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = []
  conf_dir = ''
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = ''
)",
                              "c.toml", config)
                  .ok());
  EXPECT_TRUE(CheckConfig(config).ok()) << CheckConfig(config);
  Config usual;
  usual.address = "/run/containerd/containerd.sock";
  usual.metrics_address = "127.0.0.1:1338";
  EXPECT_EQ(PrintConfig(config), PrintConfig(usual));
}

TEST(ConfigTest, ContainerdsKeysOfNriAndOfStreamsTakeEffect) {
  Config config;
  EXPECT_EQ(NriSocket(config), "/var/run/nri/nri.sock");
  config.state = "/run/other";
  EXPECT_EQ(NriSocket(config), "/run/other/nri.sock");
  ASSERT_TRUE(ApplyConfigText(R"(
version = 3
[plugins.'io.containerd.nri.v1.nri']
  disable = false
  disable_connections = false
  plugin_config_path = '/n/conf.d'
  plugin_path = '/n/plugins'
  plugin_registration_timeout = '7s'
  plugin_request_timeout = '3s'
  socket_path = '/n/nri.sock'
[plugins.'io.containerd.grpc.v1.cri']
  stream_server_address = '::1'
  stream_server_port = '10010'
  stream_idle_timeout = '1h0m0s'
)",
                              "c.toml", config)
                  .ok());
  EXPECT_TRUE(CheckConfig(config).ok()) << CheckConfig(config);
  EXPECT_THAT(config.ignored, ElementsAre());
  EXPECT_EQ(NriSocket(config), "/n/nri.sock");
  EXPECT_EQ(config.nri_plugin_directory, "/n/plugins");
  EXPECT_EQ(config.nri_config_directory, "/n/conf.d");
  EXPECT_EQ(config.nri_registration_timeout, absl::Seconds(7));
  EXPECT_EQ(config.nri_request_timeout, absl::Seconds(3));
  EXPECT_EQ(config.cri_stream_address, "[::1]:10010");
  EXPECT_EQ(config.cri_stream_idle_time, absl::Hours(1));
  for (const char* key : {"disable", "disable_connections"}) {
    Config off = config;
    ASSERT_TRUE(ApplyConfigText(absl::StrCat("version = 3\n[plugins.'io.containerd.nri.v1.nri']\n",
                                             key, " = true\n"),
                                "c.toml", off)
                    .ok());
    EXPECT_EQ(NriSocket(off), "") << key;
  }
}

TEST(ConfigTest, ImportsAreReadOverTheFileThatNamesThem) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir.path() + "/main.toml",
                        "version = 3\nroot = '/main'\nimports = ['part-*.toml', 'none.toml']\n"
                        "[grpc]\naddress = '/run/main.sock'\n")
                  .ok());
  ASSERT_TRUE(WriteFile(dir.path() + "/part-1.toml", "version = 3\nroot = '/one'\n").ok());
  // Names the first file again: nothing is read twice.
  ASSERT_TRUE(WriteFile(dir.path() + "/part-2.toml",
                        "version = 3\nroot = '/two'\nimports = ['main.toml']\noom_score = 1\n")
                  .ok());
  Config config;
  ASSERT_TRUE(ApplyConfigFile(dir.path() + "/main.toml", config).ok());
  EXPECT_EQ(config.root, "/two");
  EXPECT_EQ(config.address, "/run/main.sock");
  EXPECT_EQ(config.source, dir.path() + "/main.toml");
  EXPECT_THAT(config.ignored, ElementsAre("oom_score"));
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
  config.runtimes["a"] = {"/usr/bin/crun", true, false, true, "/run/a"};
  config.pinned_images = {"a:1", "b:2"};
  config.cgroup_path = "/services/gantry";
  config.cni_bin_dirs = {};
  config.insecure_registries = {"r.local:5000", "10.0.0.0/8"};
  Config again;
  ASSERT_TRUE(ApplyConfigText(PrintConfig(config), "printed", again).ok());
  EXPECT_EQ(PrintConfig(again), PrintConfig(config));
  EXPECT_EQ(again.root, config.root);
  EXPECT_EQ(again.cgroup_path, "/services/gantry");
  EXPECT_THAT(again.ignored, ElementsAre());
}

TEST(ConfigTest, DockersSocketsAreOneOrMany) {
  Config config;
  config.state = "/run/x";
  EXPECT_THAT(DockerAddresses(config), ElementsAre("/run/x/docker.sock"));
  ASSERT_TRUE(ApplyConfigText("docker_address = \"/run/d.sock\"\n", "f.toml", config).ok());
  EXPECT_THAT(DockerAddresses(config), ElementsAre("/run/d.sock"));
  ASSERT_TRUE(ApplyConfigText("docker_address = [\"/a\", \"/b\"]\n", "f.toml", config).ok());
  EXPECT_THAT(DockerAddresses(config), ElementsAre("/a", "/b"));
  EXPECT_THAT(PrintConfig(config), HasSubstr("docker_address = [\"/a\", \"/b\"]\n"));
  EXPECT_TRUE(CheckConfig(config).ok());
  ASSERT_TRUE(ApplyConfigText("docker_address = \"none\"\n", "f.toml", config).ok());
  EXPECT_THAT(DockerAddresses(config), ElementsAre());
  EXPECT_TRUE(CheckConfig(config).ok());
  ASSERT_TRUE(ApplyConfigText("docker_address = \"d.sock\"\n", "f.toml", config).ok());
  EXPECT_EQ(CheckConfig(config).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ConfigTest, DockersTcpAddressesNeedCertificates) {
  Config config;
  ASSERT_TRUE(
      ApplyConfigText("docker_address = [\"/a\", \"tcp://0.0.0.0:2376\"]\n", "f.toml", config)
          .ok());
  EXPECT_EQ(TcpAddress("tcp://0.0.0.0:2376"), "0.0.0.0:2376");
  EXPECT_EQ(TcpAddress("/a"), std::nullopt);
  EXPECT_THAT(std::string(CheckConfig(config).message()),
              HasSubstr("docker_tls.ca (--tlscacert) is missing"));
  ASSERT_TRUE(ApplyConfigText("[docker_tls]\nca = \"/ca.pem\"\ncertificate = \"cert.pem\"\n",
                              "f.toml", config)
                  .ok());
  EXPECT_THAT(std::string(CheckConfig(config).message()), HasSubstr("must be an absolute path"));
  config.docker_tls_certificate = "/cert.pem";
  EXPECT_THAT(std::string(CheckConfig(config).message()),
              HasSubstr("docker_tls.key (--tlskey) is missing"));
  config.docker_tls_key = "/key.pem";
  EXPECT_TRUE(CheckConfig(config).ok()) << CheckConfig(config);
  Config again;
  ASSERT_TRUE(ApplyConfigText(PrintConfig(config), "f.toml", again).ok());
  EXPECT_EQ(PrintConfig(again), PrintConfig(config));
}

TEST(ConfigTest, DockersTlsFlagsAreThoseOfDockerd) {
  std::vector<std::string> words = {"gantryd",     "--docker-address", "tcp://127.0.0.1:2376",
                                    "--tlsverify", "--tlscacert=/ca",  "--tlscert",
                                    "/cert",       "--tlskey",         "/key"};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  std::string text;
  const absl::StatusOr<Config> config =
      LoadConfig(static_cast<int>(argv.size()), argv.data(), &text);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->docker_tls_ca, "/ca");
  EXPECT_EQ(config->docker_tls_key, "/key");
  words[3] = "--tlsverify=false";
  argv[3] = words[3].data();
  EXPECT_THAT(
      std::string(LoadConfig(static_cast<int>(argv.size()), argv.data(), &text).status().message()),
      HasSubstr("cannot be turned off"));
}

TEST(ConfigTest, TheFileWeShipShowsTheDefaults) {
  absl::StatusOr<std::string> text = ReadFile("packaging/config.toml", 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  Config shipped;
  ASSERT_TRUE(ApplyConfigText(*text, "packaging/config.toml", shipped).ok());
  EXPECT_TRUE(shipped.ignored.empty());
  EXPECT_EQ(PrintConfig(shipped), PrintConfig(Config()));
}

TEST(ConfigTest, TheFileWeShipNamesEveryKey) {
  absl::StatusOr<std::string> text = ReadFile("packaging/config.toml", 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  for (const ConfigKey& key : ConfigKeys()) {
    const size_t dot = key.name.rfind('.');
    const absl::string_view name =
        dot == absl::string_view::npos ? key.name : key.name.substr(dot + 1);
    EXPECT_TRUE(absl::StrContains(*text, absl::StrCat("\n", name, " = ")) ||
                absl::StrContains(*text, absl::StrCat("\n# ", name, " = ")))
        << key.name << " is not in packaging/config.toml";
  }
}

TEST(ConfigTest, TheReferenceHasEveryKeyWithItsDefault) {
  const std::string text = ConfigReference();
  EXPECT_THAT(text, HasSubstr("## `[registry]`\n"));
  EXPECT_THAT(text, HasSubstr("| `max_concurrent_downloads` | integer | `4` | Blobs of one pull"));
  EXPECT_THAT(text, HasSubstr("| `docker_address` | string or list of strings | `[]` | "));
  EXPECT_THAT(text, HasSubstr("| `schedule_delay` | duration | `\"0s\"` | "));
  EXPECT_THAT(text, HasSubstr("| `systemd_cgroup` | boolean | `false` | "));
  EXPECT_THAT(ConfigManual().text(), HasSubstr("\n.SH \"[registry]\"\n"));
}

TEST(ConfigTest, ThePageForUsersIsWhatTheCodePrints) {
  absl::StatusOr<std::string> page = ReadFile("docs/user/configuration.md", 1 << 20);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_TRUE(absl::StrContains(*page, ConfigReference()))
      << "docs/user/configuration.md is stale: packaging/make_reference.sh writes it anew";
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

TEST(ConfigTest, ConfigVerbsPrintWhatTheDaemonWouldTake) {
  const auto run = [](std::vector<std::string> words, std::string* text) {
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    return LoadConfig(static_cast<int>(argv.size()), argv.data(), text).status();
  };
  std::string text;
  EXPECT_TRUE(absl::IsCancelled(run({"gantryd", "config", "default"}, &text)));
  EXPECT_EQ(text, PrintConfig(Config()));

  TempDir dir;
  const std::string own = dir.path() + "/own.toml", foreign = dir.path() + "/foreign.toml";
  ASSERT_TRUE(WriteFileAtomic(own, "root = \"/from/file\"\n", 0600).ok());
  ASSERT_TRUE(
      WriteFileAtomic(foreign, "version = 2\nroot = \"/foreign\"\nplugin_dir = \"/p\"\n", 0600)
          .ok());
  EXPECT_TRUE(absl::IsCancelled(run({"gantryd", "--config", own, "config", "dump"}, &text)));
  EXPECT_THAT(text, HasSubstr("root = \"/from/file\"\n"));
  EXPECT_TRUE(
      absl::IsCancelled(run({"gantryd", "--config=" + foreign, "config", "migrate"}, &text)));
  EXPECT_THAT(text, HasSubstr("root = \"/foreign\"\n"));
  // What it prints is a file that can be read again.
  Config again;
  EXPECT_TRUE(ApplyConfigText(text, "again.toml", again).ok());
  EXPECT_EQ(again.root, "/foreign");
  EXPECT_TRUE(
      absl::IsInvalidArgument(run({"gantryd", "--config", own, "config", "migrate"}, &text)));
  EXPECT_TRUE(absl::IsInvalidArgument(run({"gantryd", "config", "print"}, &text)));
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
  config = Config();
  config.insecure_registries = {"http://r.local"};
  EXPECT_THAT(std::string(CheckConfig(config).message()), HasSubstr("http://r.local"));
  config = Config();
  config.registry_config_path = "/a:b";
  EXPECT_THAT(std::string(CheckConfig(config).message()), HasSubstr("\"b\""));
  std::string program = "gantryd", flag = "--rot", text;
  char* argv[] = {program.data(), flag.data()};
  EXPECT_THAT(std::string(LoadConfig(2, argv, &text).status().message()),
              HasSubstr("unknown argument"));
  config = Config();
  config.shim_path = "bin/gantry-shim";
  EXPECT_THAT(std::string(CheckConfig(config).message()), HasSubstr("shim"));
}

}  // namespace
}  // namespace gantry
