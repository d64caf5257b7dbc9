// Kernel namespaces that outlive the thread that made them.
#include "supervisor/core/pod_namespaces.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "supervisor/core/own_mounts.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class PodNamespacesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { EnterOwnMounts(); }
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes namespaces, which needs root";
    ASSERT_TRUE(MakeDirectories(pod_, 0711).ok());
  }
  void TearDown() override { EXPECT_TRUE(RemovePodNamespaces(pod_).ok()); }

  // Runs `work` on a thread in the namespace that is kept at `path`.
  static void Inside(const std::string& path, int kind, const std::function<void()>& work) {
    std::thread thread([&] {
      const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
      ASSERT_TRUE(fd.valid());
      ASSERT_EQ(setns(fd.get(), kind), 0) << path;
      work();
    });
    thread.join();
  }
  static bool Mounted(const std::string& path) {
    return absl::StrContains(ReadFile("/proc/self/mountinfo", 4 << 20).value(),
                             absl::StrCat(" ", path, " "));
  }
  std::vector<std::string> Pinned() const {
    std::vector<std::string> names;
    for (const char* name : {"shm", "net", "ipc", "uts"}) {
      if (Mounted(absl::StrCat(pod_, "/", name))) names.push_back(name);
    }
    return names;
  }

  TempDir dir_;
  const std::string pod_ = dir_.Join("pods/default/p1");
};

TEST_F(PodNamespacesTest, EachNamespaceIsKeptUntilItIsRemoved) {
  PodNamespaces wanted;
  wanted.hostname = "web-host";
  const absl::Status made = MakePodNamespaces(pod_, wanted);
  ASSERT_TRUE(made.ok()) << made;
  EXPECT_THAT(Pinned(), ElementsAre("shm", "net", "ipc", "uts"));
  Inside(pod_ + "/uts", CLONE_NEWUTS, [] {
    utsname name = {};
    ASSERT_EQ(uname(&name), 0);
    EXPECT_STREQ(name.nodename, "web-host");
  });
  utsname own = {};
  ASSERT_EQ(uname(&own), 0);
  EXPECT_STRNE(own.nodename, "web-host");
  Inside(pod_ + "/net", CLONE_NEWNET, [] {
    EXPECT_FALSE(absl::StrContains(ReadFile("/proc/thread-self/net/dev", 1 << 16).value(), "eth"));
  });
  EXPECT_TRUE(HasPodNamespaces(pod_, wanted));
  ASSERT_TRUE(RemovePodNamespaces(pod_).ok());
  EXPECT_FALSE(HasPodNamespaces(pod_, wanted));
  EXPECT_THAT(Pinned(), ElementsAre());
  EXPECT_TRUE(RemovePodNamespaces(pod_).ok());  // nothing is left to do
}

TEST_F(PodNamespacesTest, WhatThePodDoesNotHaveIsNotMade) {
  PodNamespaces wanted;
  wanted.network = false;
  wanted.uts = false;
  ASSERT_TRUE(MakePodNamespaces(pod_, wanted).ok());
  EXPECT_THAT(Pinned(), ElementsAre("shm", "ipc"));
  ASSERT_TRUE(RemovePodNamespaces(pod_).ok());
  wanted.ipc = false;
  ASSERT_TRUE(MakePodNamespaces(pod_, wanted).ok());
  EXPECT_THAT(Pinned(), ElementsAre());
}

TEST_F(PodNamespacesTest, SharedMemoryIsATmpfsOfTheSizeAskedFor) {
  PodNamespaces wanted;
  wanted.shm_size_bytes = 1 << 20;
  ASSERT_TRUE(MakePodNamespaces(pod_, wanted).ok());
  struct stat info = {};
  ASSERT_EQ(stat((pod_ + "/shm").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 01777u);
  struct statfs fs = {};
  ASSERT_EQ(statfs((pod_ + "/shm").c_str(), &fs), 0);
  EXPECT_EQ(static_cast<uint64_t>(fs.f_blocks) * static_cast<uint64_t>(fs.f_bsize), 1u << 20);
}

TEST_F(PodNamespacesTest, SystemControlsAreThePodsOwn) {
  const std::string path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
  const std::string before = ReadFile(path, 100).value();
  PodNamespaces wanted;
  wanted.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "77"}};
  ASSERT_TRUE(MakePodNamespaces(pod_, wanted).ok());
  Inside(pod_ + "/net", CLONE_NEWNET, [&] {
    EXPECT_EQ(ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", 100).value(), "77\n");
  });
  EXPECT_EQ(ReadFile(path, 100).value(), before);
}

TEST_F(PodNamespacesTest, SystemControlsThatCannotBeSetAreNamed) {
  PodNamespaces wanted;
  wanted.sysctls = {{"net.ipv4.no_such_thing", "1"}};
  const absl::Status missing = MakePodNamespaces(pod_, wanted);
  EXPECT_TRUE(absl::IsInvalidArgument(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr("sysctl net.ipv4.no_such_thing: "));
  ASSERT_TRUE(RemovePodNamespaces(pod_).ok());
  wanted.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "many"}};
  const absl::Status bad = MakePodNamespaces(pod_, wanted);
  EXPECT_TRUE(absl::IsInvalidArgument(bad));
  EXPECT_THAT(std::string(bad.message()),
              HasSubstr("sysctl net.ipv4.ip_unprivileged_port_start=many: "));
}

TEST_F(PodNamespacesTest, ARepeatedAttemptIsTakenAwayAsAWhole) {
  ASSERT_TRUE(MakePodNamespaces(pod_, {}).ok());
  ASSERT_TRUE(MakePodNamespaces(pod_, {}).ok());  // over the first
  ASSERT_TRUE(RemovePodNamespaces(pod_).ok());
  EXPECT_THAT(Pinned(), ElementsAre());
}

TEST_F(PodNamespacesTest, WhatIsUnmountedHereDoesNotStayMountedInAShim) {
  const std::string pods = dir_.Join("pods");
  ASSERT_TRUE(SharePodMounts(pods).ok());
  ASSERT_TRUE(SharePodMounts(pods).ok());
  ASSERT_TRUE(MakePodNamespaces(pod_, {}).ok());
  // A shim that was forked meanwhile has a mount namespace of its own.
  absl::Notification forked;
  absl::Notification removed;
  std::thread shim([&] {
    EXPECT_EQ(unshare(CLONE_FS | CLONE_NEWNS), 0);
    const auto mounted = [&] {
      return absl::StrContains(ReadFile("/proc/thread-self/mountinfo", 4 << 20).value(),
                               absl::StrCat(" ", pod_, "/net "));
    };
    EXPECT_TRUE(mounted());
    forked.Notify();
    removed.WaitForNotification();
    EXPECT_FALSE(mounted());
  });
  forked.WaitForNotification();
  // The directory cannot be given back while a pod has mounts below it.
  UnsharePodMounts(pods);
  EXPECT_TRUE(Mounted(pods));
  EXPECT_TRUE(RemovePodNamespaces(pod_).ok());
  removed.Notify();
  shim.join();
  UnsharePodMounts(pods);
  EXPECT_FALSE(Mounted(pods));
}

TEST_F(PodNamespacesTest, WithIdsOfItsOwnAUserNamespaceOwnsTheOthers) {
  PodNamespaces wanted;
  wanted.ids.uids = {{0, 100000, 65536}};
  wanted.ids.gids = {{0, 200000, 65536}};
  wanted.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "77"}};
  const absl::Status made = MakePodNamespaces(pod_, wanted);
  ASSERT_TRUE(made.ok()) << made;
  EXPECT_TRUE(Mounted(pod_ + "/user"));
  const UniqueFd net(open((pod_ + "/net").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd owner(ioctl(net.get(), NS_GET_USERNS));
  ASSERT_TRUE(owner.valid());
  struct stat has = {};
  struct stat wants = {};
  ASSERT_EQ(fstat(owner.get(), &has), 0);
  ASSERT_EQ(stat((pod_ + "/user").c_str(), &wants), 0);
  EXPECT_EQ(has.st_ino, wants.st_ino);
  Inside(pod_ + "/net", CLONE_NEWNET, [&] {
    EXPECT_EQ(ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", 100).value(), "77\n");
  });
  ASSERT_TRUE(RemovePodNamespaces(pod_).ok());
  EXPECT_FALSE(Mounted(pod_ + "/user"));
}

TEST_F(PodNamespacesTest, ADirectoryThatIsNotThereIsSaid) {
  PodNamespaces wanted;
  wanted.ipc = false;
  EXPECT_FALSE(MakePodNamespaces(dir_.Join("nowhere/p2"), wanted).ok());
  EXPECT_TRUE(RemovePodNamespaces(dir_.Join("nowhere/p2")).ok());
}

}  // namespace
}  // namespace gantry::core
