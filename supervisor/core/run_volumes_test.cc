// Volumes that are there only while containers run with them, and the parts of volumes.
#include "supervisor/core/run_volumes.h"

#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/id_map.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/volume_fixture.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class RunVolumesTest : public VolumeFixture {
 protected:
  absl::Status Enter(const LoadedContainer& loaded) {
    return runs_of_volumes_->Enter(context_, loaded);
  }
  void Leave(const LoadedContainer& loaded) { runs_of_volumes_->Leave(context_, loaded); }
};

TEST_F(RunVolumesTest, AVolumeWithOptionsIsMountedFromTheFirstContainerToTheLast) {
  CreateTmpfs("scratch");
  const LoadedContainer one = MakeWith("one", {VolumeMount("scratch", "/a")});
  const LoadedContainer two = MakeWith("two", {VolumeMount("scratch", "/b")});
  EXPECT_FALSE(Mounted(Data("scratch")));
  ASSERT_TRUE(Enter(one).ok());
  ASSERT_TRUE(Mounted(Data("scratch")));
  Write("scratch", "note", "kept");
  ASSERT_TRUE(Enter(two).ok());
  EXPECT_EQ(ReadIn("scratch", "note"), "kept");  // not mounted over
  Leave(one);
  EXPECT_TRUE(Mounted(Data("scratch")));
  Leave(one);  // an end that is noted twice counts once
  EXPECT_TRUE(Mounted(Data("scratch")));
  Leave(two);
  EXPECT_FALSE(Mounted(Data("scratch")));
}

TEST_F(RunVolumesTest, AVolumeMayComeAndGoWhileTheContainerRuns) {
  CreateTmpfs("scratch");
  CreateTmpfs("later");
  const LoadedContainer one = MakeWith("one", {VolumeMount("scratch", "/a")});
  ASSERT_TRUE(Enter(one).ok());
  ASSERT_TRUE(runs_of_volumes_->EnterOne(context_, one, VolumeMount("later", "/b")).ok());
  EXPECT_TRUE(Mounted(Data("later")));
  runs_of_volumes_->LeaveOne(context_, one, VolumeMount("later", "/b"));
  EXPECT_FALSE(Mounted(Data("later")));
  EXPECT_TRUE(Mounted(Data("scratch")));
  Leave(one);
  EXPECT_FALSE(Mounted(Data("scratch")));
}

TEST_F(RunVolumesTest, APlainVolumeIsNotMounted) {
  CreateVolume("data");
  Write("data", "note", "kept");
  const LoadedContainer one = MakeWith("one", {VolumeMount("data", "/a")});
  ASSERT_TRUE(Enter(one).ok());
  EXPECT_FALSE(Mounted(Data("data")));
  Leave(one);
  EXPECT_EQ(ReadIn("data", "note"), "kept");
}

TEST_F(RunVolumesTest, MountAndUnmountArePublishedPerContainer) {
  CreateVolume("data");
  v1::Mount read_only = VolumeMount("data", "/a");
  read_only.set_read_only(true);
  const LoadedContainer one = MakeWith("one", {read_only, VolumeMount("data", "/b")});
  std::vector<std::string> seen;
  const auto subscription =
      events_.Subscribe([](const Event& event) { return event.kind == EventKind::kVolume; }, [] {});
  ASSERT_TRUE(Enter(one).ok());
  Leave(one);
  Leave(one);
  while (const EventPtr event = subscription->Pop()) {
    EXPECT_EQ(event->id, "data");
    EXPECT_EQ(event->attributes.at("container"), one.id());
    EXPECT_EQ(event->attributes.at("driver"), "local");
    std::string text = event->action;
    if (event->action == "mount")
      text += " " + event->attributes.at("destination") + " " + event->attributes.at("read/write");
    seen.push_back(text);
  }
  EXPECT_THAT(seen, ElementsAre("mount /a false", "mount /b true", "unmount"));
}

TEST_F(RunVolumesTest, APartIsShownAtAPlaceOfTheContainersUntilItsTaskIsMade) {
  CreateVolume("data");
  Write("data", "site/index.html", "hello");
  Write("data", "site.conf", "port 80");
  const LoadedContainer one = MakeWith(
      "one", {VolumeMount("data", "/www", "site"), VolumeMount("data", "/conf", "site.conf")});
  ASSERT_TRUE(Enter(one).ok());
  const std::string directory = runs_of_volumes_->Place(one.id(), 0);
  const std::string file = runs_of_volumes_->Place(one.id(), 1);
  EXPECT_EQ(ReadFile(directory + "/index.html", 100).value_or("?"), "hello");
  EXPECT_EQ(ReadFile(file, 100).value_or("?"), "port 80");
  runs_of_volumes_->Started(one);
  EXPECT_THAT(Places(), IsEmpty());
  runs_of_volumes_->Started(one);  // nothing is there any more
  Leave(one);
  EXPECT_EQ(ReadIn("data", "site/index.html"), "hello");
}

TEST_F(RunVolumesTest, APartLeadsNowhereElse) {
  CreateVolume("data");
  CreateVolume("other");
  Write("data", "real/file", "x");
  Write("other", "secret", "s");
  ASSERT_EQ(symlink("real", (Data("data") + "/link").c_str()), 0);
  ASSERT_EQ(symlink("/etc", (Data("data") + "/etc").c_str()), 0);
  ASSERT_EQ(mkfifo((Data("data") + "/pipe").c_str(), 0600), 0);
  const std::vector<std::pair<std::string, std::string>> refusals = {
      {"missing", "No such file or directory"},
      {"real/file/deeper", "Not a directory"},
      {"link", "it leads over a symbolic link"},
      {"link/file", "it leads over a symbolic link"},
      {"etc/passwd", "it leads over a symbolic link"},
      {"../../other/_data/secret", "cannot access path"},
      {"pipe", "neither a directory nor a file"}};
  int number = 0;
  for (const auto& [subpath, reason] : refusals) {
    const LoadedContainer one =
        MakeWith("c" + std::to_string(number++), {VolumeMount("data", "/x", subpath)});
    const absl::Status refused = Enter(one);
    EXPECT_FALSE(refused.ok()) << subpath;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(reason)) << subpath;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(subpath));
    EXPECT_THAT(Places(), IsEmpty()) << subpath;
  }
}

TEST_F(RunVolumesTest, WithIdsOfItsOwnAVolumeIsShownByThem) {
  CreateVolume("data");
  Write("data", "mine", "x");
  v1::ContainerConfig config = Config();
  *config.add_mounts() = VolumeMount("data", "/a");
  config.mutable_mounts(0)->add_options("idmap");
  IdMaps ids;
  ids.uids = ids.gids = {{0, 100000, 65536}};
  SetIds(ids, config);
  const LoadedContainer one = records_->Load(context_, Make("one", config)).value();
  const absl::Status entered = Enter(one);
  ASSERT_TRUE(entered.ok()) << entered;
  const std::string place = runs_of_volumes_->Place(one.id(), 0);
  struct stat info = {};
  ASSERT_EQ(stat((place + "/mine").c_str(), &info), 0);
  // The host's root is the container's: 0 inside, which the host sees as its 100000.
  EXPECT_EQ(info.st_uid, 100000u);
  ASSERT_EQ(stat((Data("data") + "/mine").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 0u);
  runs_of_volumes_->Started(one);
  Leave(one);
  EXPECT_THAT(Places(), IsEmpty());
}

TEST_F(RunVolumesTest, AVolumeOfADriverThatIsNotThereIsNotMounted) {
  metadata::StoredVolume volume;
  volume.ns = kNs;
  volume.record.set_name("share");
  volume.record.set_driver("sshfs");
  ASSERT_TRUE(store_.Create({kNs, ""}, volume.record).ok());
  const LoadedContainer one = MakeWith("one", {VolumeMount("share", "/a")});
  const absl::Status refused = Enter(one);
  EXPECT_TRUE(absl::IsNotFound(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("plugin \"sshfs\" not found"));
}

TEST_F(RunVolumesTest, AnEntryThatFailsUndoesWhatItDid) {
  CreateTmpfs("scratch");
  CreateVolume("data");
  Write("data", "part/file", "x");
  const LoadedContainer one =
      MakeWith("one", {VolumeMount("scratch", "/a"), VolumeMount("data", "/b", "part"),
                       VolumeMount("data", "/c", "missing")});
  EXPECT_TRUE(absl::IsNotFound(Enter(one)));
  EXPECT_FALSE(Mounted(Data("scratch")));
  EXPECT_THAT(Places(), IsEmpty());
}

TEST_F(RunVolumesTest, AVolumeThatIsGoneIsNamed) {
  const LoadedContainer one = MakeWith("one", {VolumeMount("lost", "/a")});
  const absl::Status refused = Enter(one);
  EXPECT_TRUE(absl::IsNotFound(refused));
  EXPECT_EQ(refused.message(), "get lost: no such volume");
}

TEST_F(RunVolumesTest, WhatCannotBeMountedSaysTheKernelsReason) {
  CreateVolume("share", {{"type", "none"}, {"device", dir_.Join("nowhere")}, {"o", "bind"}});
  const LoadedContainer one = MakeWith("one", {VolumeMount("share", "/a")});
  const absl::Status refused = Enter(one);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("volume share: failed to mount local volume"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("No such file or directory"));
  // It can be once its cause is mended.
  ASSERT_TRUE(MakeDirectories(dir_.Join("nowhere"), 0755).ok());
  EXPECT_TRUE(Enter(one).ok());
  Leave(one);
}

TEST_F(RunVolumesTest, TheNextDaemonKeepsMountedWhatIsUsedAndTakesTheRestAway) {
  CreateTmpfs("used");
  CreateTmpfs("unused");
  CreateVolume("plain");
  const LoadedContainer lives =
      MakeWith("lives", {VolumeMount("used", "/a"), VolumeMount("plain", "/b")});
  const LoadedContainer ended = MakeWith("ended", {VolumeMount("unused", "/a")});
  ASSERT_TRUE(Enter(lives).ok());
  ASSERT_TRUE(Enter(ended).ok());
  MakeServices();
  ASSERT_TRUE(runs_of_volumes_->Reconcile({lives}).ok());
  EXPECT_TRUE(Mounted(Data("used")));
  EXPECT_FALSE(Mounted(Data("unused")));
  Leave(ended);  // no end of a run that this daemon knows of
  Leave(lives);
  EXPECT_FALSE(Mounted(Data("used")));
}

TEST_F(RunVolumesTest, WorkOfOursKeepsAVolumeMounted) {
  CreateTmpfs("scratch");
  const LoadedContainer one = MakeWith("one", {VolumeMount("scratch", "/a")});
  ASSERT_TRUE(runs_of_volumes_->Mount(context_, "scratch", "export").ok());
  ASSERT_TRUE(Enter(one).ok());
  Leave(one);
  EXPECT_TRUE(Mounted(Data("scratch")));
  runs_of_volumes_->Unmount(context_, "scratch", "nobody");
  EXPECT_TRUE(Mounted(Data("scratch")));
  runs_of_volumes_->Unmount(context_, "scratch", "export");
  EXPECT_FALSE(Mounted(Data("scratch")));
  EXPECT_TRUE(absl::IsNotFound(runs_of_volumes_->Mount(context_, "lost", "export").status()));
}

TEST_F(RunVolumesTest, ACallThatWaitsForItsTurnEndsWithItsClient) {
  CreateTmpfs("scratch");
  const absl::StatusOr<OperationLock> turn = runs_of_volumes_->TakeTurn(context_, "scratch");
  ASSERT_TRUE(turn.ok());
  CancelToken gone;
  CallContext impatient = context_;
  impatient.cancel = &gone;
  gone.Cancel("the client has gone");
  EXPECT_TRUE(absl::IsCancelled(runs_of_volumes_->Mount(impatient, "scratch", "export").status()));
  EXPECT_FALSE(Mounted(Data("scratch")));
  // Another volume's turn is another.
  EXPECT_TRUE(runs_of_volumes_->TakeTurn(context_, "data").ok());
}

}  // namespace
}  // namespace gantry::core
