#include "base/in_root.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

namespace fs = std::filesystem;

class InRootTest : public testing::Test {
 protected:
  InRootTest() {
    fs::create_directories(dir_.Join("root/etc"));
    root_.reset(open(dir_.Join("root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  void Link(const std::string& target, const std::string& at) {
    fs::create_symlink(target, dir_.Join("root/" + at));
  }
  bool IsDirectory(const std::string& path) const { return fs::is_directory(dir_.Join(path)); }

  TempDir dir_;
  UniqueFd root_;
};

TEST_F(InRootTest, AbsoluteLinksAndDotsStayInside) {
  Link("/etc", "absolute");
  Link("../../../etc", "dots");
  EXPECT_EQ(FollowLinksInRoot(root_.get(), "/absolute/x").value(), "/etc/x");
  EXPECT_EQ(FollowLinksInRoot(root_.get(), "dots/../../y").value(), "/y");
  EXPECT_TRUE(OpenInRoot(root_.get(), "/absolute", O_PATH | O_DIRECTORY).valid());
}

TEST_F(InRootTest, LinksInACircleEnd) {
  Link("two", "one");
  Link("one", "two");
  EXPECT_FALSE(FollowLinksInRoot(root_.get(), "/one").ok());
  EXPECT_FALSE(OpenOrMakeInRoot(root_.get(), "/one", /*directory=*/true).ok());
}

TEST_F(InRootTest, TheTargetOfADanglingLinkIsMade) {
  Link("/srv/app", "work");
  Link("work", "again");
  ASSERT_TRUE(OpenOrMakeInRoot(root_.get(), "/again", /*directory=*/true).ok());
  EXPECT_TRUE(IsDirectory("root/srv/app"));
  EXPECT_TRUE(fs::is_symlink(dir_.Join("root/work")));
}

TEST_F(InRootTest, NothingIsMadeOutside) {
  Link("../../outside", "up");
  Link(dir_.Join("elsewhere"), "host");
  ASSERT_TRUE(OpenOrMakeInRoot(root_.get(), "/up", /*directory=*/true).ok());
  ASSERT_TRUE(OpenOrMakeInRoot(root_.get(), "/host/file", /*directory=*/false).ok());
  EXPECT_FALSE(IsDirectory("outside"));
  EXPECT_FALSE(IsDirectory("elsewhere"));
  EXPECT_TRUE(IsDirectory("root/outside"));
  EXPECT_TRUE(fs::is_regular_file(dir_.Join("root" + dir_.Join("elsewhere/file"))));
}

TEST_F(InRootTest, AFileInTheWayIsAnError) {
  ASSERT_TRUE(WriteFile(dir_.Join("root/file"), "x").ok());
  EXPECT_FALSE(OpenOrMakeInRoot(root_.get(), "/file/below", /*directory=*/true).ok());
  EXPECT_FALSE(OpenOrMakeInRoot(root_.get(), "/file", /*directory=*/true).ok());
}

}  // namespace
}  // namespace gantry
