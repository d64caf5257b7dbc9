#include <sys/stat.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "supervisor/volume/fake_plugin.h"
#include "supervisor/volume/plugin_driver.h"
#include "supervisor/volume/plugin_places.h"

namespace gantry::volume {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PluginTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"run", "etc", "lib"})
      ASSERT_TRUE(MakeDirectories(directory_.Join(name), 0755).ok());
    places_.sockets = directory_.Join("run");
    places_.specs = {directory_.Join("etc"), directory_.Join("lib")};
    limits_.make = limits_.other = limits_.list = absl::Seconds(5);
    limits_.first_pause = absl::Milliseconds(20);
    limits_.unreachable = absl::Milliseconds(100);
  }
  std::unique_ptr<FakePlugin> Start(const std::string& name = "fake") {
    return std::make_unique<FakePlugin>(directory_.Join("run/" + name + ".sock"),
                                        directory_.Join("volumes"));
  }
  void Write(const std::string& file, const std::string& text) {
    ASSERT_TRUE(MakeDirectories(directory_.Join(file.substr(0, file.rfind('/'))), 0755).ok());
    ASSERT_TRUE(WriteFile(directory_.Join(file), text).ok());
  }

  TempDir directory_;
  PluginPlaces places_;
  PluginLimits limits_;
};

TEST_F(PluginTest, SocketsWinOverFilesAndTheFirstDirectoryOverTheNext) {
  EXPECT_THAT(std::string(FindPlugin(places_, "fake").status().message()),
              HasSubstr("plugin \"fake\" not found"));
  Write("lib/fake.json", R"({"Name":"fake","Addr":"https://far:1",
                             "TLSConfig":{"InsecureSkipVerify":true,"CAFile":"/ca","CertFile":"/c",
                                          "KeyFile":"/k"}})");
  const absl::StatusOr<PluginAddress> json = FindPlugin(places_, "fake");
  EXPECT_EQ(json->url, "https://far:1");
  EXPECT_FALSE(json->verify_peer);
  EXPECT_EQ(json->ca_file + json->certificate_file + json->key_file, "/ca/c/k");
  Write("lib/fake.spec", "tcp://near:2\n");
  EXPECT_EQ(FindPlugin(places_, "fake")->url, "http://near:2");
  Write("etc/fake/fake.json", R"({"Addr":"unix:///a/socket"})");
  EXPECT_EQ(FindPlugin(places_, "fake")->socket, "/a/socket");
  const std::unique_ptr<FakePlugin> plugin = Start();
  EXPECT_EQ(FindPlugin(places_, "fake")->socket, directory_.Join("run/fake.sock"));
  Write("etc/other.spec", "unix:///b");
  EXPECT_THAT(ListPlugins(places_), ElementsAre("fake", "other"));
}

TEST_F(PluginTest, NamesAreNoPathsAndFilesAreFiles) {
  ASSERT_TRUE(WriteFile(directory_.Join("secret.spec"), "unix:///x").ok());
  for (const char* name : {"", ".", "..", "../secret", "a/b", "/etc/passwd", ".hidden"})
    EXPECT_TRUE(absl::IsNotFound(FindPlugin(places_, name).status())) << name;
  ASSERT_EQ(mkfifo(directory_.Join("etc/pipe.spec").c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsNotFound(FindPlugin(places_, "pipe").status()));
  for (const char* text : {"", "ftp://x", "unix://relative", "tcp://", "tcp://a b", "tcp://h/path",
                           "tcp://user@h", "tcp://h?x"})
    EXPECT_FALSE(ParsePluginAddress(text).ok()) << text;
  for (const char* text : {"", "[]", "{}", "{\"Addr\":1}", "not json"}) {
    Write("etc/odd.json", text);
    EXPECT_TRUE(absl::IsInvalidArgument(FindPlugin(places_, "odd").status())) << text;
  }
}

TEST_F(PluginTest, AVolumeFromCreationToRemoval) {
  const std::unique_ptr<FakePlugin> plugin = Start();
  PluginDrivers drivers(places_, limits_);
  EXPECT_EQ(drivers.Scope(nullptr, "fake").value(), "global");
  ASSERT_TRUE(drivers.Create(nullptr, "fake", "data", {{"size", "1"}}).ok());
  const absl::StatusOr<std::string> at = drivers.Mount(nullptr, "fake", "data", "me");
  EXPECT_EQ(at.value(), directory_.Join("volumes/data"));
  EXPECT_THAT(plugin->mounts("data"), ElementsAre("me"));
  const absl::StatusOr<PluginVolume> got = drivers.Get(nullptr, "fake", "data");
  EXPECT_EQ(got->mountpoint, *at);
  EXPECT_EQ(got->status.at("made"), "by a fake");
  EXPECT_EQ(got->status.at("size"), "7");
  EXPECT_EQ(drivers.Path(nullptr, "fake", "data").value(), *at);
  EXPECT_EQ(drivers.List(nullptr, "fake")->size(), 1u);
  EXPECT_TRUE(drivers.Unmount(nullptr, "fake", "data", "me").ok());
  EXPECT_TRUE(drivers.Remove(nullptr, "fake", "data").ok());
  const absl::Status gone = drivers.Get(nullptr, "fake", "data").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(gone));
  EXPECT_EQ(gone.message(), "volume plugin fake: VolumeDriver.Get: no such volume data");
  // Asked once what it is.
  int activations = 0;
  for (const std::string& call : plugin->calls()) activations += call == "Plugin.Activate";
  EXPECT_EQ(activations, 1);
}

TEST_F(PluginTest, OneThatIsJustStartingIsWaitedFor) {
  limits_.unreachable = absl::Seconds(20);
  Write("etc/fake.spec", "unix://" + directory_.Join("late.sock"));
  PluginDrivers drivers(places_, limits_);
  std::unique_ptr<FakePlugin> plugin;
  std::thread starter([&] {
    absl::SleepFor(absl::Milliseconds(100));
    plugin = std::make_unique<FakePlugin>(directory_.Join("late.sock"), directory_.Join("volumes"));
  });
  EXPECT_TRUE(drivers.Create(nullptr, "fake", "data", {}).ok());
  starter.join();
  // And one that ended while it was asked.
  plugin->AnswerNext("VolumeDriver.Path", {.close = true});
  EXPECT_TRUE(drivers.Path(nullptr, "fake", "data").ok());
}

TEST_F(PluginTest, OneThatNeverComesIsGivenUp) {
  Write("etc/fake.spec", "unix://" + directory_.Join("never.sock"));
  PluginDrivers drivers(places_, limits_);
  const absl::Status status = drivers.Create(nullptr, "fake", "data", {});
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("never.sock is not reached"));
}

TEST_F(PluginTest, OneThatHangsIsLeftAfterItsTimeOrWhenTheCallerLeaves) {
  const std::unique_ptr<FakePlugin> plugin = Start();
  limits_.make = absl::Milliseconds(150);
  PluginDrivers drivers(places_, limits_);
  ASSERT_TRUE(drivers.Check(nullptr, "fake").ok());
  plugin->AnswerNext("VolumeDriver.Mount", {.hang = true});
  EXPECT_TRUE(absl::IsDeadlineExceeded(drivers.Mount(nullptr, "fake", "d", "me").status()));
  limits_.make = absl::Minutes(2);
  PluginDrivers patient(places_, limits_);
  plugin->AnswerNext("VolumeDriver.Mount", {.hang = true});
  CancelToken cancel;
  std::thread canceller([&] {
    absl::SleepFor(absl::Milliseconds(100));
    cancel.Cancel("left");
  });
  EXPECT_TRUE(absl::IsCancelled(patient.Mount(&cancel, "fake", "d", "me").status()));
  canceller.join();
}

TEST_F(PluginTest, HostileAnswersAreErrors) {
  const std::unique_ptr<FakePlugin> plugin = Start();
  PluginDrivers drivers(places_, limits_);
  ASSERT_TRUE(drivers.Create(nullptr, "fake", "d", {}).ok());
  for (const char* body :
       {"", "null", "[]", "\"x\"", "{", "{\"Mountpoint\":1}", "{\"Mountpoint\":\"\"}",
        "{\"Mountpoint\":\"relative\"}", "{\"Mountpoint\":\"/a\\u0000b\"}"}) {
    plugin->AnswerNext("VolumeDriver.Mount", {.body = body});
    const absl::Status status = drivers.Mount(nullptr, "fake", "d", "me").status();
    EXPECT_TRUE(absl::IsInternal(status)) << body << " " << status;
  }
  plugin->AnswerNext("VolumeDriver.Mount", {.body = std::string(5 << 20, ' ')});
  EXPECT_THAT(std::string(drivers.Mount(nullptr, "fake", "d", "me").status().message()),
              HasSubstr("more than"));
  plugin->AnswerNext("VolumeDriver.Mount", {.body = R"({"Err":"no\u001b[2J"})", .status = 500});
  EXPECT_EQ(drivers.Mount(nullptr, "fake", "d", "me").status().message(),
            "volume plugin fake: VolumeDriver.Mount: answers 500: no\\033[2J");
  // As deep as the answer is long.
  plugin->AnswerNext("VolumeDriver.Get",
                     {.body = R"({"Volume":{"Name":"d","Status":{"a":)" +
                              std::string(1000000, '[') + std::string(1000000, ']') + "}}}"});
  (void)drivers.Get(nullptr, "fake", "d");
  plugin->AnswerNext("VolumeDriver.Get", {.body = R"({"Volume":{"Name":"other"}})"});
  EXPECT_TRUE(absl::IsInternal(drivers.Get(nullptr, "fake", "d").status()));
  plugin->AnswerNext("VolumeDriver.List", {.body = R"({"Volumes":{"a":1}})"});
  EXPECT_TRUE(absl::IsInternal(drivers.List(nullptr, "fake").status()));
  plugin->AnswerNext("VolumeDriver.Capabilities", {.body = R"({"Capabilities":"x"})"});
  EXPECT_EQ(drivers.Scope(nullptr, "fake").value(), "local");
  plugin->AnswerNext("VolumeDriver.Capabilities", {.body = R"({"Err":"unknown"})"});
  EXPECT_EQ(drivers.Scope(nullptr, "fake").value(), "local");
}

TEST_F(PluginTest, APluginOfAnotherKindIsNoVolumeDriver) {
  const std::unique_ptr<FakePlugin> plugin = Start();
  plugin->AnswerNext("Plugin.Activate", {.body = R"({"Implements":["NetworkDriver"]})"});
  PluginDrivers drivers(places_, limits_);
  EXPECT_THAT(std::string(drivers.Create(nullptr, "fake", "d", {}).message()),
              HasSubstr("does not implement volumes"));
  EXPECT_THAT(std::string(drivers.Create(nullptr, "none", "d", {}).message()),
              HasSubstr("error looking up volume plugin none: plugin \"none\" not found"));
}

}  // namespace
}  // namespace gantry::volume
