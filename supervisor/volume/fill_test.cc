#include "supervisor/volume/fill.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry::volume {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class FillTest : public testing::Test {
 protected:
  FillTest() {
    EXPECT_TRUE(MakeDirectories(volume_ + "/_data").ok());
    EXPECT_TRUE(MakeDirectories(image_).ok());
  }
  absl::StatusOr<bool> Fill() {
    const UniqueFd source(open(image_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return FillVolume(volume_, source.get(), /*sync=*/true);
  }
  std::string Text(const std::string& name) {
    return ReadFile(volume_ + "/_data/" + name, 1 << 20).value_or("(none)");
  }
  std::vector<std::string> Names(const std::string& path) { return ListDirectory(path).value(); }
  static mode_t ModeOf(const std::string& path) {
    struct stat entry;
    return lstat(path.c_str(), &entry) == 0 ? entry.st_mode & 07777 : 0;
  }

  TempDir dir_;
  const std::string volume_ = dir_.Join("volume");
  const std::string image_ = dir_.Join("image");
};

TEST_F(FillTest, AnEmptyVolumeGetsContentAndAttributes) {
  ASSERT_TRUE(MakeDirectories(image_ + "/sub").ok());
  ASSERT_TRUE(WriteFile(image_ + "/sub/file", "text").ok());
  ASSERT_EQ(chmod((image_ + "/sub/file").c_str(), 04751), 0);
  ASSERT_EQ(link((image_ + "/sub/file").c_str(), (image_ + "/twin").c_str()), 0);
  ASSERT_EQ(symlink("/etc/passwd", (image_ + "/link").c_str()), 0);
  ASSERT_EQ(chmod(image_.c_str(), 0710), 0);
  EXPECT_TRUE(Fill().value());
  EXPECT_THAT(Names(volume_ + "/_data"), ElementsAre("link", "sub", "twin"));
  EXPECT_EQ(Text("sub/file"), "text");
  EXPECT_EQ(ModeOf(volume_ + "/_data/sub/file"), 04751u);
  struct stat one, two;
  ASSERT_EQ(lstat((volume_ + "/_data/sub/file").c_str(), &one), 0);
  ASSERT_EQ(lstat((volume_ + "/_data/twin").c_str(), &two), 0);
  EXPECT_EQ(one.st_ino, two.st_ino);
  EXPECT_EQ(ModeOf(volume_ + "/_data"), 0710u);
  EXPECT_THAT(Names(volume_), ElementsAre("_data"));
}

TEST_F(FillTest, AnEmptyDirectoryStillGivesItsMode) {
  ASSERT_EQ(chmod(image_.c_str(), 01777), 0);
  EXPECT_TRUE(Fill().value());
  EXPECT_EQ(ModeOf(volume_ + "/_data"), 01777u);
}

TEST_F(FillTest, AVolumeThatIsNotEmptyIsLeftAlone) {
  ASSERT_TRUE(WriteFile(volume_ + "/_data/mine", "m").ok());
  ASSERT_TRUE(WriteFile(image_ + "/theirs", "t").ok());
  ASSERT_EQ(chmod(image_.c_str(), 0700), 0);
  EXPECT_FALSE(Fill().value());
  EXPECT_THAT(Names(volume_ + "/_data"), ElementsAre("mine"));
  EXPECT_EQ(ModeOf(volume_ + "/_data"), 0755u);
}

TEST_F(FillTest, ACopyThatWasCutOffIsMadeAnew) {
  ASSERT_TRUE(MakeDirectories(volume_ + "/.filling").ok());
  ASSERT_TRUE(WriteFile(volume_ + "/.filling/half", "h").ok());
  ASSERT_TRUE(WriteFile(image_ + "/whole", "w").ok());
  EXPECT_TRUE(Fill().value());
  EXPECT_THAT(Names(volume_ + "/_data"), ElementsAre("whole"));
}

TEST_F(FillTest, ACommittedCopyIsMovedInAndKeepsWhatAContainerMade) {
  ASSERT_TRUE(MakeDirectories(volume_ + "/.filled").ok());
  ASSERT_TRUE(WriteFile(volume_ + "/.filled/a", "image").ok());
  ASSERT_TRUE(WriteFile(volume_ + "/.filled/b", "image").ok());
  ASSERT_TRUE(WriteFile(volume_ + "/_data/b", "container").ok());
  ASSERT_TRUE(EndCutOffFill(volume_).ok());
  EXPECT_EQ(Text("a"), "image");
  EXPECT_EQ(Text("b"), "container");
  EXPECT_THAT(Names(volume_), ElementsAre("_data"));
}

TEST_F(FillTest, ALinkInPlaceOfTheDataIsNotFollowed) {
  ASSERT_TRUE(MakeDirectories(dir_.Join("host")).ok());
  ASSERT_EQ(rmdir((volume_ + "/_data").c_str()), 0);
  ASSERT_EQ(symlink(dir_.Join("host").c_str(), (volume_ + "/_data").c_str()), 0);
  ASSERT_TRUE(WriteFile(image_ + "/file", "x").ok());
  EXPECT_FALSE(Fill().ok());
  EXPECT_THAT(Names(dir_.Join("host")), IsEmpty());
}

TEST_F(FillTest, NothingOfATreeThatIsTooDeepIsLeft) {
  std::string path = image_;
  for (int i = 0; i < 450; ++i) {
    path += "/d";
    ASSERT_TRUE(MakeDirectories(path).ok());
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Fill().status()));
  EXPECT_THAT(Names(volume_), ElementsAre("_data"));
  EXPECT_THAT(Names(volume_ + "/_data"), IsEmpty());
}

TEST_F(FillTest, AMountedVolumeIsFilledFromWithin) {
  ASSERT_TRUE(WriteFile(image_ + "/file", "x").ok());
  ASSERT_EQ(chmod(image_.c_str(), 0711), 0);
  const std::string data = volume_ + "/_data";
  // What a cut-off copy left there does not count as content.
  ASSERT_TRUE(MakeDirectories(data + "/.gantry-filling").ok());
  const UniqueFd source(open(image_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_TRUE(FillMounted(data, source.get()).value());
  EXPECT_THAT(Names(data), ElementsAre("file"));
  EXPECT_EQ(ModeOf(data), 0711u);
  EXPECT_FALSE(FillMounted(data, source.get()).value());
}

TEST_F(FillTest, SpecialFilesAreCopiedNotOpened) {
  ASSERT_EQ(mkfifo((image_ + "/pipe").c_str(), 0600), 0);
  EXPECT_TRUE(Fill().value());
  struct stat entry;
  ASSERT_EQ(lstat((volume_ + "/_data/pipe").c_str(), &entry), 0);
  EXPECT_TRUE(S_ISFIFO(entry.st_mode));
}

}  // namespace
}  // namespace gantry::volume
