#include "snapshotter/tree_usage.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry::snapshot {
namespace {

// What a directory and its entries take, summed up while they are made.
class Tree {
 public:
  explicit Tree(const std::string& root) : at_(open(root.c_str(), O_RDONLY | O_DIRECTORY)) {
    Note(at_.get());
  }

  void File(const std::string& name, size_t size) {
    const UniqueFd fd(openat(at_.get(), name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    const std::string bytes(size, 'x');
    ASSERT_EQ(write(fd.get(), bytes.data(), size), static_cast<ssize_t>(size));
    ASSERT_EQ(fsync(fd.get()), 0);  // blocks are given out late
    Note(fd.get());
  }
  void Directory(const std::string& name) {
    ASSERT_EQ(mkdirat(at_.get(), name.c_str(), 0755), 0);
    Note(UniqueFd(openat(at_.get(), name.c_str(), O_RDONLY | O_DIRECTORY)).get());
  }
  void Enter(const std::string& name) {
    at_ = UniqueFd(openat(at_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(at_.valid());
  }

  const Usage& usage() const { return usage_; }

 private:
  void Note(int fd) {
    struct stat stat;
    ASSERT_EQ(fstat(fd, &stat), 0);
    usage_.size_bytes += int64_t{stat.st_blocks} * 512;
    ++usage_.inodes;
  }

  UniqueFd at_;
  Usage usage_;
};

// Siblings before and after the way down are there to be counted on the way back.
TEST(TreeUsageTest, CountsDeeperThanThereAreDescriptors) {
  TempDir dir;
  Tree tree(dir.path());
  for (int i = 0; i < 2000; ++i) {
    tree.Directory("down");
    if (i % 50 == 0) {
      tree.Directory("aside");
      tree.File(absl::StrCat("file-", i), 5000);
    }
    tree.Enter("down");
    ASSERT_FALSE(HasFatalFailure()) << i;
  }
  tree.File("bottom", 100000);

  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const absl::Cleanup restore = [&before] { setrlimit(RLIMIT_NOFILE, &before); };
  const rlimit few = {64, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const absl::StatusOr<Usage> usage = UsageOfTree(dir.path());
  ASSERT_TRUE(usage.ok()) << usage.status();
  EXPECT_EQ(usage->inodes, tree.usage().inodes);
  EXPECT_EQ(usage->size_bytes, tree.usage().size_bytes);
}

}  // namespace
}  // namespace gantry::snapshot
