#include "supervisor/oci/image_config.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace gantry::oci {
namespace {

constexpr char kConfig[] = R"({
  "architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","moby.extra":{"keep":[1,2]},
  "config":{"User":"web:web","Env":["PATH=/bin","A=b"],"Entrypoint":["/entry"],"Cmd":null,"ExposedPorts":{"80/tcp":{}},
    "Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"l":"v"},"StopSignal":"SIGQUIT","StopTimeout":7,
    "OnBuild":["RUN x"],"Shell":["/bin/bash","-c"],"Hostname":"builder",
    "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000,"Timeout":5000000000,"Retries":3}},
  "rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]},
  "history":[{"created":"2026-01-02T03:04:05Z","created_by":"ADD x"},{"created_by":"CMD y","empty_layer":true}]})";

TEST(ImageConfigTest, ReadsOciAndDockerMembers) {
  auto config = ParseImageConfig(kConfig, "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->platform.architecture, "amd64");
  EXPECT_EQ(config->user, "web:web");
  EXPECT_EQ(config->entrypoint, std::vector<std::string>{"/entry"});
  EXPECT_TRUE(config->cmd.empty());
  EXPECT_EQ(config->exposed_ports.count("80/tcp"), 1u);
  EXPECT_EQ(config->stop_timeout_seconds, 7);
  ASSERT_TRUE(config->health_check.has_value());
  EXPECT_EQ(config->health_check->interval, absl::Seconds(30));
  EXPECT_EQ(config->health_check->retries, 3);
  EXPECT_EQ(config->diff_ids.size(), 1u);
  ASSERT_EQ(config->history.size(), 2u);
  EXPECT_TRUE(config->history[1].empty_layer);
}

TEST(ImageConfigTest, BytesThatAreNotUtf8AreReplacedAndKept) {
  const std::string latin1 =
      "{\"author\":\"Jos\xe9\",\"config\":{\"Labels\":{\"caf\xe9\":\"cr\xe8me\"},\"Cmd\":[\"sh\"]}"
      "}";
  auto config = ParseImageConfig(latin1, "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->author, "Jos\xEF\xBF\xBD");
  EXPECT_EQ(config->labels.at("caf\xEF\xBF\xBD"), "cr\xEF\xBF\xBDme");
  EXPECT_EQ(config->original, latin1);
  config->user = "web";
  const std::string text = PrintImageConfig(*config);
  auto again = ParseImageConfig(text, "c");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->user, "web");
  EXPECT_EQ(again->cmd, std::vector<std::string>{"sh"});
}

TEST(ImageConfigTest, PrintKeepsUnknownMembersAndChangesOnlyWhatDiffers) {
  auto config = ParseImageConfig(kConfig, "c");
  ASSERT_TRUE(config.ok());
  config->cmd = {"run"};
  config->labels.clear();
  config->health_check->retries = 4;
  const std::string text = PrintImageConfig(*config);
  EXPECT_TRUE(absl::StrContains(text, R"("moby.extra":{"keep":[1,2]})")) << text;
  EXPECT_TRUE(absl::StrContains(text, R"("Hostname":"builder")")) << text;
  EXPECT_TRUE(absl::StrContains(text, R"("Cmd":["run"])")) << text;
  EXPECT_FALSE(absl::StrContains(text, "Labels")) << text;
  EXPECT_TRUE(absl::StrContains(text, R"("Retries":4)")) << text;
  EXPECT_TRUE(absl::StrContains(text, R"("StopSignal":"SIGQUIT")")) << text;
}

TEST(ImageConfigTest, PrintOfUnchangedConfigKeepsNulls) {
  auto config = ParseImageConfig(kConfig, "c");
  ASSERT_TRUE(config.ok());
  EXPECT_TRUE(absl::StrContains(PrintImageConfig(*config), R"("Cmd":null)"));
}

TEST(ImageConfigTest, NewConfigReadsBack) {
  ImageConfig config;
  config.platform = {
      .os = "linux", .architecture = "arm64", .variant = "", .os_version = "", .os_features = {}};
  config.env = {"A=b"};
  config.volumes = {"/v"};
  config.diff_ids = {content::Digest::Sha256Of("x")};
  config.history = {
      {.created = "", .author = "", .created_by = "me", .comment = "", .empty_layer = false}};
  auto again = ParseImageConfig(PrintImageConfig(config), "c");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->platform, config.platform);
  EXPECT_EQ(again->env, config.env);
  EXPECT_EQ(again->volumes, config.volumes);
  EXPECT_EQ(again->diff_ids, config.diff_ids);
  EXPECT_EQ(again->history[0].created_by, "me");
}

TEST(ImageConfigTest, RefusesWrongTypesByName) {
  for (const char* text :
       {"[]", R"({"config":[]})", R"({"config":{"Env":"A=b"}})", R"({"config":{"Env":[1]}})",
        R"({"config":{"Labels":{"a":1}}})", R"({"config":{"Volumes":["/x"]}})", R"({"os":1})",
        R"({"rootfs":{"diff_ids":["sha256:zz"]}})", R"({"history":{}})",
        R"({"config":{"Healthcheck":{"Retries":99999999999}}})"}) {
    auto config = ParseImageConfig(text, "config of x");
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_TRUE(absl::StrContains(config.status().message(), "config of x")) << config.status();
  }
}

TEST(ImageConfigTest, EmptyObjectIsAnArtifactConfig) {
  auto config = ParseImageConfig("{}", "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->diff_ids.empty());
}

}  // namespace
}  // namespace gantry::oci
