#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry {
namespace {

std::set<std::string> Names(const std::string& directory) {
  std::set<std::string> names;
  DIR* d = ::opendir(directory.c_str());
  while (struct dirent* entry = ::readdir(d)) names.insert(entry->d_name);
  ::closedir(d);
  names.erase(".");
  names.erase("..");
  return names;
}

bool Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

TEST(ReadFileTest, ReadsExactlyUpToTheLimit) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir.Join("f"), "12345").ok());
  EXPECT_EQ(*ReadFile(dir.Join("f"), 5), "12345");
  EXPECT_EQ(ReadFile(dir.Join("f"), 4).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ReadFileTest, ReadsFilesWithoutASize) {
  EXPECT_NE(ReadFile("/proc/self/status", 1 << 20)->find("Pid:"), std::string::npos);
}

TEST(ReadFileTest, MissingFileIsNotFound) {
  TempDir dir;
  EXPECT_EQ(ReadFile(dir.Join("none"), 1).status().code(), absl::StatusCode::kNotFound);
}

TEST(WriteFileAtomicTest, ReplacesContentAndModeAndLeavesNothingElse) {
  TempDir dir;
  ASSERT_TRUE(WriteFileAtomic(dir.Join("f"), "old", 0644).ok());
  ASSERT_TRUE(WriteFileAtomic(dir.Join("f"), "new", 0600).ok());
  EXPECT_EQ(*ReadFile(dir.Join("f"), 10), "new");
  struct stat st;
  ASSERT_EQ(::stat(dir.Join("f").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  EXPECT_EQ(Names(dir.path()), std::set<std::string>{"f"});
}

TEST(WriteFileAtomicTest, FailureKeepsTheOldContent) {
  TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir.Join("f/inside")).ok());
  EXPECT_FALSE(WriteFileAtomic(dir.Join("f"), "new").ok());
  EXPECT_EQ(Names(dir.path()), std::set<std::string>{"f"});
  EXPECT_TRUE(Exists(dir.Join("f/inside")));
}

TEST(WriteFileAtomicTest, LongestNameWorks) {
  TempDir dir;
  const std::string name(255, 'n');
  EXPECT_TRUE(WriteFileAtomic(dir.Join(name), "x").ok());
  EXPECT_EQ(Names(dir.path()), std::set<std::string>{name});
}

TEST(MakeDirectoriesTest, MakesWhatIsMissing) {
  TempDir dir;
  EXPECT_TRUE(MakeDirectories(dir.Join("a/b/c/")).ok());
  EXPECT_TRUE(MakeDirectories(dir.Join("a/b/c")).ok());
  EXPECT_TRUE(Exists(dir.Join("a/b/c")));
}

TEST(MakeDirectoriesTest, FileOnTheWayIsAnError) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir.Join("f"), "").ok());
  EXPECT_EQ(MakeDirectories(dir.Join("f")).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(MakeDirectories(dir.Join("f/x")).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(RemoveTreeTest, NothingThereIsFine) {
  TempDir dir;
  EXPECT_TRUE(RemoveTree(dir.Join("none")).ok());
  EXPECT_TRUE(RemoveTree(dir.Join("none/deeper")).ok());
}

TEST(RemoveTreeTest, RemovesLinksAndNotWhatTheyPointAt) {
  TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir.Join("kept")).ok());
  ASSERT_TRUE(WriteFile(dir.Join("kept/file"), "x").ok());
  ASSERT_TRUE(MakeDirectories(dir.Join("tree/sub")).ok());
  ASSERT_EQ(::symlink(dir.Join("kept").c_str(), dir.Join("tree/sub/link").c_str()), 0);
  ASSERT_EQ(::symlink(dir.Join("kept").c_str(), dir.Join("top").c_str()), 0);
  EXPECT_TRUE(RemoveTree(dir.Join("tree")).ok());
  EXPECT_TRUE(RemoveTree(dir.Join("top")).ok());
  EXPECT_EQ(Names(dir.path()), std::set<std::string>{"kept"});
  EXPECT_TRUE(Exists(dir.Join("kept/file")));
}

TEST(RemoveTreeTest, RemovesWideTreesAndForbiddenDirectories) {
  TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir.Join("tree/closed")).ok());
  for (int i = 0; i < 2000; ++i)
    ASSERT_TRUE(WriteFile(dir.Join(absl::StrCat("tree/closed/", i)), "").ok());
  ASSERT_EQ(::chmod(dir.Join("tree/closed").c_str(), 0), 0);
  EXPECT_TRUE(RemoveTree(dir.Join("tree")).ok());
  EXPECT_FALSE(Exists(dir.Join("tree")));
}

TEST(RemoveTreeTest, DepthIsNotBoundByPathLengthOrDescriptors) {
  TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir.Join("tree")).ok());
  UniqueFd at(::open(dir.Join("tree").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "directory", 0755), 0);
    at.reset(::openat(at.get(), "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at.valid());
  }
  at.reset();
  EXPECT_TRUE(RemoveTree(dir.Join("tree")).ok());
  EXPECT_FALSE(Exists(dir.Join("tree")));
}

TEST(RemoveTreeTest, NeverEntersAMount) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can mount";
  TempDir dir;
  ASSERT_TRUE(MakeDirectories(dir.Join("tree/mnt")).ok());
  ASSERT_TRUE(WriteFile(dir.Join("tree/other"), "x").ok());
  ASSERT_TRUE(MakeDirectories(dir.Join("kept")).ok());
  ASSERT_TRUE(WriteFile(dir.Join("kept/file"), "x").ok());
  if (::mount(dir.Join("kept").c_str(), dir.Join("tree/mnt").c_str(), nullptr, MS_BIND, nullptr) !=
      0) {
    GTEST_SKIP() << "mounting is not allowed here";
  }
  const absl::Status status = RemoveTree(dir.Join("tree"));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_TRUE(Exists(dir.Join("kept/file")));
  EXPECT_FALSE(Exists(dir.Join("tree/other")));
  ASSERT_EQ(::umount2(dir.Join("tree/mnt").c_str(), MNT_DETACH), 0);
}

TEST(RemoveTreeAtTest, TakesOneNameOnly) {
  for (const char* name : {"", ".", "..", "a/b"}) {
    EXPECT_EQ(RemoveTreeAt(AT_FDCWD, name).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

}  // namespace
}  // namespace gantry
