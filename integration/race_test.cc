// A directory that containers share is changed under us while a container is set up or its files
// are copied: what we were about to walk into becomes a link that leads to the host's tree, and
// back, as fast as the kernel allows. Nothing of the host is read, written, made or mounted.

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

// Two names of one directory that change places without a pause, in one step each.
class Swapper {
 public:
  Swapper(std::string one, std::string other) {
    thread_ = std::thread([this, one = std::move(one), other = std::move(other)] {
      while (!stop_) {
        if (renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0)
          ++swaps_;
      }
    });
  }
  ~Swapper() {
    stop_ = true;
    thread_.join();
  }
  Swapper(const Swapper&) = delete;
  Swapper& operator=(const Swapper&) = delete;
  int swaps() const { return swaps_; }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int> swaps_{0};
  std::thread thread_;
};

class RaceTest : public testing::Test {
 protected:
  // Most starts may fail, which says nothing of those that do not: there must be one.
  static bool GoOn(int round, int rounds, int started) {
    return round < rounds || (started == 0 && round < 20 * rounds);
  }
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
    shared_ = bed_->scratch() + "/shared";
    canary_ = bed_->scratch() + "/canary";
    ASSERT_TRUE(MakeDirectories(canary_, 0755).ok());
    ASSERT_TRUE(WriteFile(canary_ + "/secret", "HOST FILE\n").ok());
    ASSERT_TRUE(MakeDirectories(shared_ + "/spot", 0755).ok());
    ASSERT_TRUE(WriteFile(shared_ + "/spot/secret", "ours\n").ok());
    // Absolute for who resolves it in the host's tree, and by the way up for who begins at the
    // shared directory.
    ASSERT_EQ(symlink(canary_.c_str(), (shared_ + "/link").c_str()), 0);
  }
  // The host's directory is as it was, but for empty mount points of these names.
  void ExpectCanaryUntouched(const std::set<std::string>& empty_ones = {}) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(canary_)) {
      const std::string name = entry.path().filename();
      // Nothing is mounted there either: then it could not be removed.
      if (empty_ones.count(name) > 0 && std::filesystem::is_empty(entry.path()) &&
          std::filesystem::remove(entry.path())) {
        continue;
      }
      names.push_back(name);
    }
    EXPECT_THAT(names, testing::ElementsAre("secret"));
    EXPECT_EQ(ReadFile(canary_ + "/secret", 100).value(), "HOST FILE\n");
    struct stat info;
    ASSERT_EQ(stat(canary_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0755u);
  }
  std::unique_ptr<Testbed> bed_;
  std::string shared_;
  std::string canary_;
};

TEST_F(RaceTest, CopiesFromAndToASharedDirectoryStayInTheContainer) {
  constexpr int kRounds = 60;
  bed_->CtlOut({"run", "-d", "--name", "web", "-v", shared_ + ":/vol", kImage, "sleep", "1000"});
  const std::string source = bed_->scratch() + "/source";
  ASSERT_TRUE(MakeDirectories(source + "/sub", 0700).ok());
  ASSERT_TRUE(WriteFile(source + "/secret", "from outside\n", 0600).ok());
  ASSERT_TRUE(WriteFile(source + "/sub/secret", "from outside\n", 0600).ok());
  int in = 0;
  int out = 0;
  {
    const Swapper swapper(shared_ + "/spot", shared_ + "/link");
    for (int round = 0; round < kRounds; ++round) {
      const std::string got = absl::StrCat(bed_->scratch(), "/got", round);
      for (const char* from : {"web:/vol/spot/secret", "web:/vol/spot/."}) {
        const Outcome copy = bed_->Ctl({"cp", from, got});
        if (!copy.ok()) continue;
        ++out;
        for (const std::string& file : {got, got + "/secret"}) {
          const absl::StatusOr<std::string> text = ReadFile(file, 100);
          if (text.ok()) {
            EXPECT_NE(*text, "HOST FILE\n") << from;
          }
        }
        ASSERT_TRUE(RemoveTree(got).ok());
      }
      for (const char* to : {"web:/vol/spot", "web:/vol/spot/secret"}) {
        in += bed_->Ctl({"cp", source + "/secret", to}).ok() ? 1 : 0;
      }
      in += bed_->Ctl({"cp", source + "/.", "web:/vol/spot"}).ok() ? 1 : 0;
    }
    EXPECT_GT(swapper.swaps(), 1000);
  }
  EXPECT_GT(in, 0);
  EXPECT_GT(out, 0);
  ExpectCanaryUntouched();
}

TEST_F(RaceTest, MountsBelowASharedDirectoryStayInTheContainer) {
  constexpr int kRounds = 20;
  const std::string extra = bed_->scratch() + "/extra";
  ASSERT_TRUE(MakeDirectories(extra, 0755).ok());
  ASSERT_TRUE(WriteFile(extra + "/file", "mounted\n").ok());
  for (const char* runtime : {"crun", "runc"}) {
    SCOPED_TRACE(runtime);
    int started = 0;
    const Swapper swapper(shared_ + "/spot", shared_ + "/link");
    for (int round = 0; GoOn(round, kRounds, started); ++round) {
      const Outcome run =
          bed_->Ctl({"run", "--rm", "--runtime", runtime, "-v", shared_ + ":/vol", "-v",
                     extra + ":/vol/spot/deep", "-v", extra + "/file:/vol/spot/file", kImage, "sh",
                     "-c", "cat /vol/spot/secret; touch /vol/spot/made; true"});
      EXPECT_FALSE(absl::StrContains(run.out, "HOST FILE")) << runtime;
      EXPECT_TRUE(run.ok() || (run.code == 125 && !run.err.empty())) << run.code << run.err;
      started += run.ok() ? 1 : 0;
      const std::string mounts = ReadFile("/proc/self/mountinfo", 1 << 20).value();
      EXPECT_FALSE(absl::StrContains(mounts, canary_)) << mounts;
    }
    EXPECT_GT(started, 0) << runtime;
    // runc before 1.1.14 can be led to make a mount point outside (CVE-2024-45310); it mounts
    // nothing there.
    const bool may_be_led = absl::string_view(runtime) == "runc";
    ExpectCanaryUntouched(may_be_led ? std::set<std::string>{"deep", "file"}
                                     : std::set<std::string>());
  }
}

// As below, without the race: what a runtime finds as /dev/null is the kernel's file each time.
TEST_F(RaceTest, NothingStartsWhereMasksWouldBeALinksTarget) {
  constexpr char kCorePattern[] = "/proc/sys/kernel/core_pattern";
  const std::string pattern = ReadFile(kCorePattern, 4096).value();
  const std::string dev = bed_->scratch() + "/dev";
  ASSERT_TRUE(MakeDirectories(dev, 0755).ok());
  ASSERT_EQ(symlink(kCorePattern, (dev + "/null").c_str()), 0);
  for (const char* runtime : {"crun", "runc"}) {
    const Outcome run =
        bed_->Ctl({"run", "--rm", "--runtime", runtime, "-v", dev + ":/dev", kImage, "sh", "-c",
                   "for f in kcore keys timer_list latency_stats sched_debug; do"
                   "  [ -e /proc/$f ] || continue;"
                   "  [ -z \"$(head -c 10 /proc/$f)\" ] || echo $f has content;"
                   "done; echo checked"});
    EXPECT_TRUE(run.out == "checked\n" || (run.code == 125 && !run.err.empty()))
        << runtime << ": " << run.code << "\n"
        << run.out << run.err;
    EXPECT_EQ(ReadFile(kCorePattern, 4096).value(), pattern) << runtime;
    EXPECT_TRUE(WriteFile(kCorePattern, pattern).ok());
  }
}

// What hides a file of /proc is the container's /dev/null. A /dev that a sibling shares could have,
// for the moment that counts, a link to a file of the kernel's in its place, which would then be
// open for writing under the hidden file's name.
TEST_F(RaceTest, MasksAreWhatTheySeemAlsoWhenDevIsShared) {
  constexpr int kRounds = 40;
  constexpr char kCorePattern[] = "/proc/sys/kernel/core_pattern";
  const std::string pattern = ReadFile(kCorePattern, 4096).value();
  const std::string dev = bed_->scratch() + "/dev";
  ASSERT_TRUE(MakeDirectories(dev, 0755).ok());
  ASSERT_EQ(mknod((dev + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(symlink(kCorePattern, (dev + "/link").c_str()), 0);
  for (const char* runtime : {"crun", "runc"}) {
    int started = 0;
    const Swapper swapper(dev + "/null", dev + "/link");
    for (int round = 0; GoOn(round, kRounds, started); ++round) {
      const Outcome run =
          bed_->Ctl({"run", "--rm", "--runtime", runtime, "-v", dev + ":/dev", kImage, "sh", "-c",
                     "for f in kcore keys timer_list latency_stats sched_debug; do"
                     "  [ -e /proc/$f ] || continue;"
                     "  (echo pwned >/proc/$f) 2>&3;"
                     "  [ -z \"$(head -c 10 /proc/$f 2>&3)\" ] || echo $f has content;"
                     "done 3>/tmp/errors; echo checked"});
      started += run.ok() ? 1 : 0;
      EXPECT_TRUE(run.out == "checked\n" || (run.code != 0 && !run.err.empty()))
          << runtime << ": " << run.code << "\n"
          << run.out << run.err;
      EXPECT_EQ(ReadFile(kCorePattern, 4096).value(), pattern) << runtime << ", round " << round;
      EXPECT_TRUE(WriteFile(kCorePattern, pattern).ok());
    }
    EXPECT_GT(started, 0) << runtime;
  }
}

}  // namespace
}  // namespace gantry::integration
