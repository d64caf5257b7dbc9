#include "ctl/contexts.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/temp_dir.h"
#include "ctl/dial.h"

namespace gantry::ctl {
namespace {

class ContextsTest : public ::testing::Test {
 protected:
  TempDir directory_;
  ContextStore store_{{{"DOCKER_CONFIG", directory_.path()}}};

  ContextRecord Make(const std::string& name, const std::string& host) {
    ContextRecord record;
    record.name = name;
    record.SetDescription("a note");
    record.SetHost("docker", host);
    EXPECT_TRUE(store_.Put(record).ok());
    return record;
  }
};

TEST_F(ContextsTest, LiesWhereDockerLooks) {
  Make("two", "unix:///run/two.sock");
  // The name's SHA-256, as sha256sum says it.
  const auto text = ReadFile(
      directory_.path() +
          "/contexts/meta/3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3/"
          "meta.json",
      4096);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, R"({"Metadata":{"Description":"a note"},"Endpoints":{"docker":{"Host":)"
                   R"("unix:///run/two.sock","SkipTLSVerify":false}},"Name":"two"})");
}

TEST_F(ContextsTest, IsFoundListedAndRemoved) {
  Make("b1", "unix:///b");
  Make("a1", "ssh://me@a");
  const auto found = store_.Find("b1");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->host(), "unix:///b");
  EXPECT_EQ(found->description(), "a note");
  auto all = store_.List();
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].name, "a1");
  EXPECT_TRUE(store_.Remove("a1").ok());
  EXPECT_TRUE(absl::IsNotFound(store_.Remove("a1")));
  EXPECT_TRUE(absl::IsNotFound(store_.Find("a1").status()));
  all = store_.List();
  EXPECT_EQ(all->size(), 1u);
}

TEST_F(ContextsTest, OurEndpointComesBeforeDockers) {
  ContextRecord record = Make("both", "unix:///run/docker.sock");
  record.SetHost("gantry", "unix:///run/gantry.sock");
  EXPECT_EQ(record.host(), "unix:///run/gantry.sock");
  EXPECT_EQ(record.docker_host(), "unix:///run/docker.sock");
}

TEST_F(ContextsTest, TheCurrentOneIsInConfigJsonBesideTheRest) {
  const std::string path = directory_.path() + "/config.json";
  ASSERT_TRUE(WriteFile(path, R"({"auths":{"r":{"auth":"eA=="}},"currentContext":"old"})").ok());
  EXPECT_EQ(*store_.Current(), "old");
  ASSERT_TRUE(store_.SetCurrent("new").ok());
  EXPECT_EQ(*store_.Current(), "new");
  ASSERT_TRUE(store_.SetCurrent("default").ok());
  EXPECT_EQ(*store_.Current(), "");
  EXPECT_NE(ReadFile(path, 4096)->find("eA=="), std::string::npos);
}

TEST_F(ContextsTest, NamesAndHostsAreChecked) {
  for (const char* bad : {"", "default", "a/b", "-x", "a", "a b", "../x"}) {
    EXPECT_FALSE(CheckContextName(bad).ok()) << bad;
  }
  for (const char* good : {"c1", "a.b_c-d+e"}) EXPECT_TRUE(CheckContextName(good).ok()) << good;
  for (const char* bad : {"", "nonsense", "unix://", "ssh://", "/run/x"}) {
    EXPECT_FALSE(CheckContextHost(bad).ok()) << bad;
  }
  EXPECT_TRUE(CheckContextHost("ssh://me@host").ok());
}

TEST(SshCommandTest, IsWhatRunsCtlThere) {
  const auto words = [](const char* address) -> std::string {
    auto command = SshCommand(address);
    if (!command.ok()) return "error";
    std::string out;
    for (const std::string& word : *command) out += (out.empty() ? "" : " ") + word;
    return out;
  };
  const std::string begin = "ssh -o ConnectTimeout=30 -T ";
  EXPECT_EQ(words("ssh://host"), begin + "-- host ctl system dial-stdio");
  EXPECT_EQ(words("ssh://me@host:2222"), begin + "-l me -p 2222 -- host ctl system dial-stdio");
  EXPECT_EQ(words("ssh://[::1]:22"), begin + "-p 22 -- ::1 ctl system dial-stdio");
  EXPECT_EQ(words("ssh://[::1]"), begin + "-- ::1 ctl system dial-stdio");
  EXPECT_EQ(words("ssh://host/run/it's.sock"),
            begin + R"(-- host ctl --address '/run/it'\''s.sock' system dial-stdio)");
  EXPECT_EQ(words("ssh://-oProxyCommand=x"), "error");
  EXPECT_EQ(words("ssh://"), "error");
  EXPECT_EQ(words("ssh://a:secret@host"), "error");
}

}  // namespace
}  // namespace gantry::ctl
