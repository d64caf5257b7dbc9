#include "supervisor/volume/local_driver.h"

#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::volume {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class LocalDriverTest : public testing::Test {
 protected:
  std::vector<std::string> Names(const std::string& below = "volumes") {
    return ListDirectory(dir_.Join(below)).value();
  }
  bool IsThere(const std::string& path) { return access(path.c_str(), F_OK) == 0; }
  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFile(driver_->DataDirectory(volume_) + "/" + name, text).ok());
  }

  TempDir dir_;
  std::unique_ptr<LocalDriver> driver_ = LocalDriver::Open(dir_.path()).value();
  const VolumeKey volume_ = {"default", "data"};
};

TEST(CheckVolumeNameTest, NamesAreDockers) {
  for (const char* good : {"ab", "a.", "Data-1_x.y", "0a"})
    EXPECT_TRUE(CheckVolumeName(good).ok()) << good;
  for (const char* bad :
       {"", "a", ".a", "-a", "_a", "a/b", "..", "a b", "a:b", "a\nb", "\xc3\xa4x"})
    EXPECT_TRUE(absl::IsInvalidArgument(CheckVolumeName(bad))) << bad;
  EXPECT_TRUE(CheckVolumeName(std::string(255, 'a')).ok());
  EXPECT_FALSE(CheckVolumeName(std::string(256, 'a')).ok());
  EXPECT_FALSE(CheckVolumeName(std::string("a\0b", 3)).ok());
  EXPECT_THAT(CheckVolumeName("a/b").message(), HasSubstr("use absolute path"));
}

TEST_F(LocalDriverTest, MakesADirectoryThatOnlyItsDataIsOpenIn) {
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  EXPECT_EQ(driver_->DataDirectory(volume_), dir_.Join("volumes/data/_data"));
  struct stat entry;
  ASSERT_EQ(stat(driver_->Directory(volume_).c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0701u);
  ASSERT_EQ(stat(driver_->DataDirectory(volume_).c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0755u);
}

TEST_F(LocalDriverTest, NoUserOfTheHostReachesAVolume) {
  struct stat entry;
  ASSERT_EQ(stat(dir_.Join("volumes").c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0700u);
  // An earlier version left it open.
  ASSERT_EQ(chmod(dir_.Join("volumes").c_str(), 0701), 0);
  driver_ = LocalDriver::Open(dir_.path()).value();
  ASSERT_EQ(stat(dir_.Join("volumes").c_str(), &entry), 0);
  EXPECT_EQ(entry.st_mode & 07777, 0700u);
}

TEST_F(LocalDriverTest, NamespacesHaveDirectoriesOfTheirOwn) {
  const VolumeKey other = {"k8s.io", "data"};
  ASSERT_TRUE(driver_->Make(volume_, false).ok());
  ASSERT_TRUE(driver_->Make(other, false).ok());
  EXPECT_NE(driver_->DataDirectory(volume_), driver_->DataDirectory(other));
  ASSERT_TRUE(driver_->Remove(other).ok());
  EXPECT_TRUE(IsThere(driver_->DataDirectory(volume_)));
}

TEST_F(LocalDriverTest, RemoveLeavesNothing) {
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  Write("file", "x");
  ASSERT_TRUE(driver_->Remove(volume_).ok());
  EXPECT_THAT(Names(), IsEmpty());
  EXPECT_TRUE(driver_->Remove(volume_).ok());
}

TEST_F(LocalDriverTest, RemoveDoesNotFollowALinkInPlaceOfTheVolume) {
  ASSERT_TRUE(MakeDirectories(dir_.Join("elsewhere/_data")).ok());
  ASSERT_TRUE(WriteFile(dir_.Join("elsewhere/_data/file"), "x").ok());
  ASSERT_EQ(symlink(dir_.Join("elsewhere").c_str(), driver_->Directory(volume_).c_str()), 0);
  ASSERT_TRUE(driver_->Remove(volume_).ok());
  EXPECT_TRUE(IsThere(dir_.Join("elsewhere/_data/file")));
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(LocalDriverTest, SweepRemovesWhatACrashLeft) {
  // Made and not recorded; on its way in; on its way out; marked, and its record deleted.
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  ASSERT_TRUE(MakeDirectories(dir_.Join("volumes/.new-1/_data")).ok());
  ASSERT_TRUE(MakeDirectories(dir_.Join("volumes/.removed-1/_data")).ok());
  const VolumeKey going = {"other", "going"};
  ASSERT_TRUE(driver_->Make(going, true).ok());
  ASSERT_TRUE(driver_->NoteRecorded(going).ok());
  ASSERT_TRUE(driver_->NoteGoing(going).ok());
  ASSERT_TRUE(driver_->Sweep([](const VolumeKey&) { return false; }).ok());
  EXPECT_THAT(Names(), ElementsAre(".namespaces"));
  EXPECT_THAT(Names("volumes/.namespaces/other"), IsEmpty());
}

TEST_F(LocalDriverTest, SweepKeepsWhatARecordNamesAndTakesItsMark) {
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  Write("file", "x");
  ASSERT_TRUE(driver_->Sweep([](const VolumeKey&) { return true; }).ok());
  // Had the mark stayed, this would remove it.
  ASSERT_TRUE(driver_->Sweep([](const VolumeKey&) { return false; }).ok());
  EXPECT_TRUE(IsThere(driver_->DataDirectory(volume_) + "/file"));
}

TEST_F(LocalDriverTest, DataOfALostDatabaseIsTakenUpAgain) {
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  ASSERT_TRUE(driver_->NoteRecorded(volume_).ok());
  Write("file", "x");
  ASSERT_TRUE(driver_->Sweep([](const VolumeKey&) { return false; }).ok());
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  EXPECT_TRUE(IsThere(driver_->DataDirectory(volume_) + "/file"));
}

TEST_F(LocalDriverTest, WhatAFailedRemovalLeftIsNotANewVolumesContent) {
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  ASSERT_TRUE(driver_->NoteRecorded(volume_).ok());
  Write("file", "x");
  ASSERT_TRUE(driver_->NoteGoing(volume_).ok());
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  EXPECT_FALSE(IsThere(driver_->DataDirectory(volume_) + "/file"));
}

TEST_F(LocalDriverTest, ARenameIsDoneOrUndone) {
  const VolumeKey renamed = {"default", "renamed"};
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  ASSERT_TRUE(driver_->NoteRecorded(volume_).ok());
  Write("file", "x");
  ASSERT_TRUE(driver_->Rename(volume_, "renamed").ok());
  // The record still has the old name.
  ASSERT_TRUE(driver_->Sweep([](const VolumeKey& v) { return v.name == "data"; }).ok());
  EXPECT_TRUE(IsThere(driver_->DataDirectory(volume_) + "/file"));
  EXPECT_FALSE(IsThere(driver_->Directory(renamed)));
  EXPECT_THAT(Names("volumes/data"), ElementsAre("_data"));
  // It has the new one.
  ASSERT_TRUE(driver_->Rename(volume_, "renamed").ok());
  ASSERT_TRUE(driver_->Sweep([](const VolumeKey& v) { return v.name == "renamed"; }).ok());
  EXPECT_TRUE(IsThere(driver_->DataDirectory(renamed) + "/file"));
  EXPECT_THAT(Names("volumes/renamed"), ElementsAre("_data"));
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  EXPECT_FALSE(driver_->Rename(renamed, "data").ok()) << "there is one of that name";
  EXPECT_TRUE(IsThere(driver_->DataDirectory(renamed) + "/file"));
}

TEST_F(LocalDriverTest, SizeIsThatOfTheData) {
  ASSERT_TRUE(driver_->Make(volume_, true).ok());
  const int64_t empty = driver_->SizeBytes(volume_).value();
  Write("file", std::string(1 << 20, 'x'));
  EXPECT_GE(driver_->SizeBytes(volume_).value(), empty + (1 << 20));
}

}  // namespace
}  // namespace gantry::volume
