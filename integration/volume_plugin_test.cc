// Volume drivers of others, through ctl: a driver written here that speaks docker's protocol.

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "integration/testbed.h"
#include "supervisor/volume/fake_plugin.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using volume::FakePlugin;

constexpr char kImage[] = "busybox:test";

class VolumePluginTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    StartDriver();
    Testbed::Options options;
    options.config =
        absl::StrCat("[volumes]\nplugin_sockets = \"", places_.path(), "\"\nplugin_specs = []\n");
    bed_ = std::make_unique<Testbed>(options);
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  void StartDriver() {
    driver_ = std::make_unique<FakePlugin>(places_.Join("fake.sock"), places_.Join("data"));
  }
  bool Called(const std::string& line) const {
    const std::vector<std::string> calls = driver_->calls();
    return std::find(calls.begin(), calls.end(), line) != calls.end();
  }

  TempDir places_;
  std::unique_ptr<FakePlugin> driver_;
  std::unique_ptr<Testbed> bed_;
};

TEST_F(VolumePluginTest, AVolumeIsItsDriversFromCreationToRemoval) {
  EXPECT_EQ(
      bed_->CtlOut({"volume", "create", "-d", "fake", "-o", "size=1", "--label", "a=b", "vol"}),
      "vol");
  EXPECT_THAT(bed_->CtlOut({"volume", "ls", "--format", "{{.Driver}} {{.Name}}"}), "fake vol");
  EXPECT_THAT(bed_->CtlOut({"volume", "inspect", "vol"}), HasSubstr("by a fake"));
  EXPECT_THAT(bed_->CtlOut({"volume", "inspect", "-f", "{{.Scope}} {{.Labels.a}}", "vol"}),
              "global b");
  EXPECT_EQ(bed_->CtlOut(
                {"run", "--rm", "-v", "vol:/x", kImage, "sh", "-c", "echo kept > /x/f; cat /x/f"}),
            "kept");
  EXPECT_EQ(ReadFile(places_.Join("data/vol/f"), 100).value_or(""), "kept\n");
  EXPECT_TRUE(Eventually([&] { return driver_->mounts("vol").empty(); }));
  const Outcome refused = bed_->Ctl({"volume", "create", "-d", "local", "vol"});
  EXPECT_THAT(refused.err, HasSubstr("driver 'fake' already has volume 'vol'"));
  EXPECT_THAT(bed_->Ctl({"volume", "create", "-d", "none", "other"}).err,
              HasSubstr("error looking up volume plugin none: plugin \"none\" not found"));
  EXPECT_THAT(bed_->Ctl({"volume", "create", "-d", "fake", "-o", "fail=no room", "other"}).err,
              HasSubstr("no room"));
  EXPECT_TRUE(Ok(bed_->Ctl({"volume", "rm", "vol"})));
  EXPECT_TRUE(Called("VolumeDriver.Remove vol"));
  EXPECT_EQ(bed_->CtlOut({"volume", "ls", "-q"}), "");
}

TEST_F(VolumePluginTest, EachContainerMountsByAnIdOfItsOwnAndAKilledDaemonForgetsNone) {
  for (const char* name : {"one", "two"}) {
    bed_->CtlOut({"run", "-d", "--name", name, "-v", "vol:/x", "--volume-driver", "fake", kImage,
                  "sleep", "600"});
  }
  EXPECT_THAT(driver_->mounts("vol"), SizeIs(2));
  EXPECT_THAT(bed_->Ctl({"volume", "rm", "vol"}).err, HasSubstr("volume is in use"));
  bed_->KillDaemon();
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_THAT(driver_->mounts("vol"), SizeIs(2));
  bed_->CtlOut({"rm", "-f", "one"});
  EXPECT_TRUE(Eventually([&] { return driver_->mounts("vol").size() == 1; }));
  bed_->CtlOut({"rm", "-f", "two"});
  EXPECT_TRUE(Eventually([&] { return driver_->mounts("vol").empty(); }));
  bed_->CtlOut({"volume", "rm", "vol"});
}

TEST_F(VolumePluginTest, ARunningContainerGetsAndGivesUpAVolume) {
  bed_->CtlOut({"volume", "create", "-d", "fake", "vol"});
  bed_->CtlOut({"run", "-d", "--name", "one", kImage, "sleep", "600"});
  EXPECT_EQ(bed_->CtlOut({"set", "-v", "vol:/x", "one"}), "mount /x: done");
  EXPECT_THAT(driver_->mounts("vol"), SizeIs(1));
  EXPECT_EQ(bed_->CtlOut({"exec", "one", "sh", "-c",
                          "echo there > /x/file; grep -c ' /x ' "
                          "/proc/mounts"}),
            "1");
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "-v", "vol:/y", kImage, "cat", "/y/file"}), "there");
  bed_->CtlOut({"restart", "-t", "0", "one"});
  EXPECT_EQ(bed_->CtlOut({"exec", "one", "cat", "/x/file"}), "there");
  EXPECT_EQ(bed_->CtlOut({"set", "--no-mount", "/x", "one"}), "no mount /x: done");
  EXPECT_TRUE(Eventually([&] { return driver_->mounts("vol").empty(); }));
  bed_->CtlOut({"rm", "-f", "one"});
  bed_->CtlOut({"volume", "rm", "vol"});
}

TEST_F(VolumePluginTest, WhatACrashLeftMountedIsUnmountedByTheNextStart) {
  bed_->CtlOut({"volume", "create", "-d", "fake", "vol"});
  for (const char* point : {"volume.mount_noted", "volume.plugin_mounted"}) {
    bed_->StopDaemon();
    ASSERT_TRUE(bed_->StartDaemon({{"GANTRY_CRASH_POINT", point}})) << point;
    EXPECT_FALSE(bed_->Ctl({"run", "--rm", "-v", "vol:/x", kImage, "true"}).ok());
    EXPECT_NE(bed_->WaitDaemonGone(), -1) << point;
    ASSERT_TRUE(bed_->StartDaemon());
    EXPECT_TRUE(Eventually([&] { return driver_->mounts("vol").empty(); })) << point;
    EXPECT_EQ(bed_->CtlOut({"run", "--rm", "-v", "vol:/x", kImage, "echo", "works"}), "works");
  }
  bed_->CtlOut({"volume", "rm", "vol"});
}

TEST_F(VolumePluginTest, OneThatIsAwayHoldsUpNobodyElse) {
  bed_->CtlOut({"volume", "create", "-d", "fake", "vol"});
  bed_->CtlOut({"volume", "create", "ours"});
  driver_.reset();
  const Outcome listed = bed_->Ctl({"volume", "ls", "-q"}, "", absl::Seconds(20));
  EXPECT_THAT(listed.out, HasSubstr("ours\nvol\n"));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "-v", "ours:/x", kImage, "echo", "works"}), "works");
  EXPECT_THAT(bed_->Ctl({"volume", "rm", "vol"}).err, HasSubstr("plugin \"fake\" not found"));
  EXPECT_TRUE(Ok(bed_->Ctl({"volume", "rm", "-f", "vol"})));
  EXPECT_EQ(bed_->CtlOut({"volume", "ls", "-q"}), "ours");
}

// What a driver answers is not believed: no mount of what it has no right to name as a path, and no
// answer holds the daemon up or fills its memory.
TEST_F(VolumePluginTest, HostileAnswersStartNoContainer) {
  bed_->CtlOut({"volume", "create", "-d", "fake", "vol"});
  for (const char* mountpoint : {"relative", "", "/no/such/place", "/a\\u0000b"}) {
    driver_->AnswerNext("VolumeDriver.Mount",
                        {.body = absl::StrCat("{\"Mountpoint\":\"", mountpoint, "\"}")});
    const Outcome outcome = bed_->Ctl({"run", "--rm", "-v", "vol:/x:nocopy", kImage, "true"});
    EXPECT_EQ(outcome.code, 125) << mountpoint;
    EXPECT_THAT(outcome.err, HasSubstr("volume plugin fake")) << mountpoint;
  }
  EXPECT_TRUE(Eventually([&] { return driver_->mounts("vol").empty(); }));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "-v", "vol:/x", kImage, "echo", "works"}), "works");
}

}  // namespace
}  // namespace gantry::integration
