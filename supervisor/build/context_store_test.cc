#include "supervisor/build/context_store.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::build {
namespace {

v1::ContextEntry Directory(const std::string& path, uint32_t mode = 0755) {
  v1::ContextEntry entry;
  entry.set_path(path);
  entry.set_mode(S_IFDIR | mode);
  entry.set_mtime_seconds(1000);
  return entry;
}

v1::ContextEntry Regular(const std::string& path, int64_t size, const std::string& version) {
  v1::ContextEntry entry;
  entry.set_path(path);
  entry.set_mode(S_IFREG | 0640);
  entry.set_size_bytes(size);
  entry.set_mtime_seconds(2000);
  entry.set_mtime_nanos(5);
  entry.set_version(version);
  return entry;
}

v1::ContextEntry Link(const std::string& path, const std::string& target) {
  v1::ContextEntry entry;
  entry.set_path(path);
  entry.set_mode(S_IFLNK | 0777);
  entry.set_link_target(target);
  return entry;
}

class ContextStoreTest : public testing::Test {
 protected:
  // One whole update; `content` goes into every file that is wanted. The wanted paths.
  std::vector<std::string> Sync(const std::vector<v1::ContextEntry>& listing,
                                const std::string& content) {
    auto update = store_.Begin("/home/me/app");
    EXPECT_TRUE(update.ok()) << update.status();
    for (const v1::ContextEntry& entry : listing) EXPECT_TRUE((*update)->Add(entry).ok());
    auto wanted = (*update)->Wanted();
    EXPECT_TRUE(wanted.ok()) << wanted.status();
    std::vector<std::string> paths;
    for (const uint32_t index : *wanted) {
      paths.push_back(listing[index].path());
      EXPECT_TRUE((*update)->Write(index, content).ok());
      EXPECT_TRUE((*update)->Close(index, false).ok());
    }
    auto tree = (*update)->Finish();
    EXPECT_TRUE(tree.ok()) << tree.status();
    tree_ = *std::move(tree);
    return paths;
  }
  std::string Read(const std::string& path) {
    return ReadFile(absl::StrCat(tree_->path(), "/", path), 1 << 20).value_or("-");
  }
  struct stat Look(const std::string& path) {
    struct stat info = {};
    EXPECT_EQ(lstat(absl::StrCat(tree_->path(), "/", path).c_str(), &info), 0) << path;
    return info;
  }

  TempDir directory_;
  Trash trash_{directory_.Join("trash")};
  ContextStore store_{directory_.Join("contexts"), trash_};
  std::unique_ptr<ContextTree> tree_;
};

using Paths = std::vector<std::string>;

TEST_F(ContextStoreTest, OnlyWhatChangedIsWantedAgain) {
  EXPECT_EQ(Sync({Directory("d"), Regular("d/a", 1, "1"), Regular("d/b", 1, "1")}, "x"),
            (Paths{"d/a", "d/b"}));
  tree_.reset();
  EXPECT_EQ(Sync({Directory("d"), Regular("d/a", 1, "1"), Regular("d/b", 1, "2")}, "y"),
            Paths{"d/b"});
  EXPECT_EQ(Read("d/a"), "x");
  EXPECT_EQ(Read("d/b"), "y");
  EXPECT_EQ(Look("d").st_mtime, 1000);
  EXPECT_EQ(Look("d/b").st_mode, S_IFREG | 0640u);
  EXPECT_EQ(Look("d/b").st_mtim.tv_nsec, 5);
  EXPECT_EQ(tree_->DigestOf("d/b"), content::Digest::Sha256Of("y").str());
  tree_.reset();
  EXPECT_EQ(Sync({Directory("d"), Regular("d/a", 1, "1"), Regular("d/b", 1, "2")}, "z"), Paths{});
}

TEST_F(ContextStoreTest, ExtendedAttributesComeWithTheirFiles) {
  v1::ContextEntry file = Regular("d/a", 1, "1");
  (*file.mutable_attributes())["user.note"] = "one";
  v1::ContextEntry folder = Directory("d");
  (*folder.mutable_attributes())["user.note"] = "of d";
  (*folder.mutable_attributes())["user.gone"] = "x";
  Sync({folder, file}, "x");
  const auto attribute = [&](const std::string& path, const char* name) {
    char value[100];
    const ssize_t n =
        getxattr(absl::StrCat(tree_->path(), "/", path).c_str(), name, value, sizeof value);
    return n < 0 ? std::string(strerror(errno)) : std::string(value, static_cast<size_t>(n));
  };
  if (attribute("d/a", "user.note") == strerror(ENOTSUP))
    GTEST_SKIP() << "the file system of temporary files has no attributes";
  EXPECT_EQ(attribute("d/a", "user.note"), "one");
  EXPECT_EQ(attribute("d", "user.note"), "of d");
  // Its digest alone does not say what the file is.
  EXPECT_EQ(tree_->DigestOf("d/a"), "");
  tree_.reset();
  EXPECT_EQ(Sync({folder, file}, "y"), Paths{});
  tree_.reset();
  (*file.mutable_attributes())["user.note"] = "two";
  folder.mutable_attributes()->erase("user.gone");
  EXPECT_EQ(Sync({folder, file}, "z"), Paths{"d/a"});
  EXPECT_EQ(attribute("d/a", "user.note"), "two");
  EXPECT_EQ(attribute("d", "user.gone"), strerror(ENODATA));
  auto update = store_.Begin("other");
  ASSERT_TRUE(update.ok());
  (*file.mutable_attributes())["security.selinux"] = "x";
  file.set_path("b");
  EXPECT_TRUE(absl::IsInvalidArgument((*update)->Add(file)));
}

TEST_F(ContextStoreTest, LargeFilesHaveTheirDigestsToo) {
  auto update = store_.Begin("/home/me/large");
  ASSERT_TRUE(update.ok());
  ASSERT_TRUE((*update)->Add(Regular("a", 0, "1")).ok());
  ASSERT_TRUE((*update)->Add(Regular("b", 0, "1")).ok());
  ASSERT_TRUE((*update)->Wanted().ok());
  std::string contents[2];
  for (int round = 0; round < 40; ++round) {
    for (const uint32_t index : {0u, 1u}) {
      const std::string piece((round % 3 + 1) * (100 << 10),
                              static_cast<char>('a' + round + index));
      contents[index] += piece;
      ASSERT_TRUE((*update)->Write(index, piece).ok());
    }
  }
  for (const uint32_t index : {0u, 1u}) ASSERT_TRUE((*update)->Close(index, false).ok());
  const auto tree = (*update)->Finish();
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ((*tree)->DigestOf("a"), content::Digest::Sha256Of(contents[0]).str());
  EXPECT_EQ((*tree)->DigestOf("b"), content::Digest::Sha256Of(contents[1]).str());
  EXPECT_EQ(ReadFile((*tree)->path() + "/b", 100 << 20).value_or(""), contents[1]);
}

TEST_F(ContextStoreTest, AFileWithoutVersionIsAlwaysWanted) {
  Sync({Regular("a", 1, "")}, "x");
  tree_.reset();
  EXPECT_EQ(Sync({Regular("a", 1, "")}, "y"), Paths{"a"});
  EXPECT_EQ(Read("a"), "y");
}

TEST_F(ContextStoreTest, WhatTheListingLacksIsRemoved) {
  Sync({Directory("d"), Directory("d/e"), Regular("d/e/a", 1, "1"), Regular("f", 1, "1")}, "x");
  tree_.reset();
  // A directory becomes a link, a file a directory.
  EXPECT_EQ(Sync({Link("d", "f"), Directory("f"), Regular("f/a", 1, "1")}, "y"), Paths{"f/a"});
  EXPECT_TRUE(S_ISLNK(Look("d").st_mode));
  EXPECT_EQ(Read("f/a"), "y");
}

TEST_F(ContextStoreTest, AHardLinkFollowsTheFileThatIsRewritten) {
  v1::ContextEntry second = Regular("b", 1, "1");
  second.set_hard_link_to("a");
  Sync({Regular("a", 1, "1"), second}, "x");
  EXPECT_EQ(Look("a").st_ino, Look("b").st_ino);
  EXPECT_EQ(tree_->DigestOf("b"), content::Digest::Sha256Of("x").str());
  tree_.reset();
  EXPECT_EQ(Sync({Regular("a", 1, "2"), second}, "y"), Paths{"a"});
  EXPECT_EQ(Read("b"), "y");
}

TEST_F(ContextStoreTest, PathsThatClimbOutOrHaveNoDirectoryAreRefused) {
  auto update = store_.Begin("k");
  ASSERT_TRUE(update.ok());
  ASSERT_TRUE((*update)->Add(Link("l", "/etc")).ok());
  for (const char* path : {"/a", "../a", "d/../a", "./a", "a//b", "", "d/a", "l/passwd", "a/"}) {
    EXPECT_EQ((*update)->Add(Regular(path, 1, "1")).code(), absl::StatusCode::kInvalidArgument)
        << path;
  }
  ASSERT_TRUE((*update)->Add(Regular("a", 1, "1")).ok());
  EXPECT_FALSE((*update)->Add(Regular("a", 1, "1")).ok());
  EXPECT_FALSE((*update)->Add(Regular("a/b", 1, "1")).ok());
}

TEST_F(ContextStoreTest, ContentThatIsNotWantedIsRefused) {
  auto update = store_.Begin("k");
  ASSERT_TRUE(update.ok());
  ASSERT_TRUE((*update)->Add(Directory("d")).ok());
  ASSERT_TRUE((*update)->Add(Regular("d/a", 1, "1")).ok());
  ASSERT_EQ((*update)->Wanted()->size(), 1u);
  EXPECT_FALSE((*update)->Write(0, "x").ok());
  EXPECT_FALSE((*update)->Write(9, "x").ok());
  EXPECT_EQ((*update)->Finish().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(ContextStoreTest, AFileThatVanishedIsNotThereNextTimeEither) {
  auto update = store_.Begin("/home/me/app");
  ASSERT_TRUE((*update)->Add(Regular("a", 1, "1")).ok());
  ASSERT_EQ((*update)->Wanted()->size(), 1u);
  ASSERT_TRUE((*update)->Write(0, "x").ok());
  ASSERT_TRUE((*update)->Close(0, /*missing=*/true).ok());
  tree_ = *(*update)->Finish();
  EXPECT_EQ(access((tree_->path() + "/a").c_str(), F_OK), -1);
  tree_.reset();
  EXPECT_EQ(Sync({Regular("a", 1, "1")}, "y"), Paths{"a"});
}

TEST_F(ContextStoreTest, WhatCameBeforeAClientLeftStays) {
  {
    auto update = store_.Begin("/home/me/app");
    ASSERT_TRUE((*update)->Add(Regular("a", 1, "1")).ok());
    ASSERT_TRUE((*update)->Add(Regular("b", 2, "1")).ok());
    ASSERT_EQ((*update)->Wanted()->size(), 2u);
    ASSERT_TRUE((*update)->Write(0, "x").ok());
    ASSERT_TRUE((*update)->Close(0, false).ok());
    ASSERT_TRUE((*update)->Write(1, "h").ok());  // the half of it
  }
  EXPECT_EQ(Sync({Regular("a", 1, "1"), Regular("b", 2, "1")}, "yy"), Paths{"b"});
  EXPECT_EQ(Read("a"), "x");
  EXPECT_EQ(Read("b"), "yy");
}

TEST_F(ContextStoreTest, BuildsOfOneDirectoryAtOnceHaveATreeEach) {
  Sync({Regular("a", 1, "1")}, "x");
  const std::string first = tree_->path();
  const std::unique_ptr<ContextTree> held = std::move(tree_);
  EXPECT_EQ(Sync({Regular("a", 1, "1")}, "y"), Paths{"a"});
  EXPECT_NE(tree_->path(), first);
  EXPECT_EQ(ReadFile(first + "/a", 10).value_or(""), "x");
}

TEST_F(ContextStoreTest, ATreeWithoutAnIndexOfThisBootIsThrownAway) {
  Sync({Regular("a", 1, "1")}, "x");
  const std::string home = tree_->path().substr(0, tree_->path().rfind('/'));
  tree_.reset();
  ASSERT_EQ(unlink((home + "/index").c_str()), 0);
  EXPECT_EQ(Sync({Regular("b", 1, "1")}, "y"), Paths{"b"});
  EXPECT_EQ(access((tree_->path() + "/a").c_str(), F_OK), -1);
}

TEST_F(ContextStoreTest, AListHasSizeAndKeyAndARemovalSparesWhatIsInUse) {
  Sync({Regular("a", 3, "1")}, "xyz");
  auto list = store_.Directories();
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->size(), 1u);
  EXPECT_TRUE(list->front().in_use);
  EXPECT_FALSE(*store_.RemoveDirectory(list->front().id));
  tree_.reset();
  list = store_.Directories();
  EXPECT_FALSE(list->front().in_use);
  EXPECT_EQ(list->front().size_bytes, 3);
  EXPECT_EQ(list->front().description, "build context /home/me/app");
  EXPECT_TRUE(*store_.RemoveDirectory(list->front().id));
  EXPECT_TRUE(store_.Directories()->empty());
  trash_.Drain();
  EXPECT_TRUE(ListDirectory(directory_.Join("trash"))->empty());
  EXPECT_EQ(Sync({Regular("a", 3, "1")}, "abc"), Paths{"a"});
}

}  // namespace
}  // namespace gantry::build
