#include "ctl/registry_config.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "base/temp_dir.h"

namespace gantry::ctl {
namespace {

class RegistryConfigTest : public ::testing::Test {
 protected:
  RegistryConfig Load() {
    auto config = RegistryConfig::Load({{"DOCKER_CONFIG", directory_.path()}});
    EXPECT_TRUE(config.ok()) << config.status();
    return *std::move(config);
  }
  void Write(const std::string& text) { std::ofstream(Path()) << text; }
  std::string Read() {
    std::ifstream in(Path());
    std::stringstream out;
    out << in.rdbuf();
    return out.str();
  }
  std::string Path() const { return directory_.path() + "/config.json"; }

  TempDir directory_;
};

TEST(RegistryOfReferenceTest, FirstComponentIsAHostOnlyIfItLooksLikeOne) {
  EXPECT_EQ(RegistryOfReference("debian:12"), "docker.io");
  EXPECT_EQ(RegistryOfReference("library/debian"), "docker.io");
  EXPECT_EQ(RegistryOfReference("localhost/x"), "localhost");
  EXPECT_EQ(RegistryOfReference("host:5000/a/b:c"), "host:5000");
  EXPECT_EQ(RegistryOfReference("example.com/a@sha256:x"), "example.com");
}

TEST(ConfigKeyTest, HubHasItsOwn) {
  EXPECT_EQ(ConfigKey("docker.io"), "https://index.docker.io/v1/");
  EXPECT_EQ(ConfigKey(""), "https://index.docker.io/v1/");
  EXPECT_EQ(ConfigKey("https://host:5000/v2/"), "host:5000");
}

TEST_F(RegistryConfigTest, MissingFileHasNoCredentials) {
  EXPECT_TRUE(Load().Find("localhost:5000")->empty());
}

TEST_F(RegistryConfigTest, NamesRegistriesAsPeopleWriteThem) {
  EXPECT_TRUE(Load().Registries().empty());
  Write(
      R"({"auths":{"https://host:5000/v2/":{},"https://index.docker.io/v1/":{},"host:5000":{}}})");
  EXPECT_EQ(Load().Registries(), (std::vector<std::string>{"host:5000", "docker.io"}));
}

TEST_F(RegistryConfigTest, FindsWhatDockerStored) {
  Write(
      R"({"auths":{"https://index.docker.io/v1/":{"auth":"YW5uOnM6ZWNyZXQ="},"host:5000":{"identitytoken":"tok"}}})");
  const auto hub = Load().Find("docker.io");
  ASSERT_TRUE(hub.ok()) << hub.status();
  EXPECT_EQ(hub->username, "ann");
  EXPECT_EQ(hub->password, "s:ecret");
  EXPECT_EQ(Load().Find("host:5000")->identity_token, "tok");
  EXPECT_TRUE(Load().Find("other:5000")->empty());
}

TEST_F(RegistryConfigTest, StoresForTheOwnerOnlyAndKeepsTheRest) {
  Write(R"({"detachKeys":"ctrl-e","auths":{"a:1":{"auth":"eDp5"}}})");
  RegistryConfig config = Load();
  Credential credential;
  credential.username = "bob";
  credential.password = "pw";
  ASSERT_TRUE(config.Store("host:5000", credential).ok());
  const RegistryConfig again = Load();
  EXPECT_EQ(again.Find("host:5000")->password, "pw");
  EXPECT_EQ(again.Find("a:1")->username, "x");
  EXPECT_NE(Read().find("ctrl-e"), std::string::npos);
  struct stat st;
  ASSERT_EQ(::stat(Path().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(RegistryConfigTest, EraseForgetsEverySpelling) {
  Write(R"({"auths":{"https://host:5000":{"auth":"eDp5"},"host:5000":{"auth":"eDp5"}}})");
  RegistryConfig config = Load();
  EXPECT_TRUE(*config.Erase("host:5000"));
  EXPECT_TRUE(Load().Find("host:5000")->empty());
  EXPECT_FALSE(*config.Erase("host:5000"));
}

TEST_F(RegistryConfigTest, DamagedFileIsNamedNotOverwritten) {
  Write("{not json");
  const auto config = RegistryConfig::Load({{"DOCKER_CONFIG", directory_.path()}});
  EXPECT_FALSE(config.ok());
  EXPECT_NE(config.status().message().find(Path()), absl::string_view::npos);
}

TEST_F(RegistryConfigTest, CredentialHelperIsAsked) {
  const std::string helper = directory_.path() + "/docker-credential-fake";
  std::ofstream(helper) << "#!/bin/sh\n"
                           "read -r server\n"
                           "case \"$1 $server\" in\n"
                           "'get host:5000') echo '{\"Username\":\"eve\",\"Secret\":\"s3\"}';;\n"
                           "'get tok:1') echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}';;\n"
                           "*) echo 'credentials not found in native keychain'; exit 1;;\n"
                           "esac\n";
  ::chmod(helper.c_str(), 0755);
  const std::string path = std::string(::getenv("PATH"));
  ::setenv("PATH", (directory_.path() + ":" + path).c_str(), 1);
  Write(R"({"credsStore":"fake"})");
  const auto found = Load().Find("host:5000");
  const auto token = Load().Find("tok:1");
  const auto missing = Load().Find("none:1");
  ::setenv("PATH", path.c_str(), 1);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->username, "eve");
  EXPECT_EQ(found->password, "s3");
  EXPECT_EQ(token->identity_token, "t");
  ASSERT_TRUE(missing.ok()) << missing.status();
  EXPECT_TRUE(missing->empty());
}

TEST_F(RegistryConfigTest, MissingHelperIsNamed) {
  Write(R"({"credHelpers":{"host:5000":"nosuchhelper"}})");
  const auto found = Load().Find("host:5000");
  EXPECT_NE(found.status().message().find("docker-credential-nosuchhelper"),
            absl::string_view::npos);
  EXPECT_TRUE(Load().Find("other:5000").ok());
}

}  // namespace
}  // namespace gantry::ctl
