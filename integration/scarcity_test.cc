// When the machine gives less than was asked for: a sync that fails, no memory, no descriptors. What was acknowledged holds, what could
// not be done says so, the daemon serves on or is back after a restart, and containers notice nothing.

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

std::string Preload() {
  const std::string sources = getenv("TEST_SRCDIR") == nullptr ? "" : getenv("TEST_SRCDIR");
  return absl::StrCat(sources, "/gantry/integration/libfailing_sync.so");
}

// A disk that once says that it could not keep what it had taken: from then on those bytes may be gone, whatever later syncs say.
TEST(FailedSyncTest, WhatWasNotSyncedIsNeverAcknowledged) {
  if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  Testbed::Options options;
  options.start = false;
  Testbed bed(options);
  bed.DaemonMayBeDead();
  const std::string fault = bed.scratch() + "/fault";
  ASSERT_TRUE(WriteFile(fault, "").ok());
  ASSERT_EQ(access(Preload().c_str(), R_OK), 0) << Preload();
  ASSERT_TRUE(bed.StartDaemon({{"LD_PRELOAD", Preload()}, {"FAILING_SYNC", fault}}));
  const std::string archive = bed.scratch() + "/image.tar";
  ASSERT_TRUE(WriteBusyboxArchive(archive, kImage).ok());

  int failed = 0;
  for (int passing = 0; passing < 100; ++passing) {
    ASSERT_TRUE(WriteFile(fault, absl::StrCat(passing)).ok());
    const Outcome load = bed.Ctl({"load", "-i", archive});
    const bool fired = ReadFile(fault, 100).value().empty();
    ASSERT_TRUE(WriteFile(fault, "").ok());
    if (fired && absl::StrContains(load.err, "lost the connection")) {
      // It was the records' own sync (below).
      EXPECT_EQ(bed.WaitDaemonGone(), 1);
      ASSERT_TRUE(bed.StartDaemon({{"LD_PRELOAD", Preload()}, {"FAILING_SYNC", fault}}));
      EXPECT_EQ(bed.CtlOut({"images", "-q"}), "") << "listed though sync " << passing << " failed";
      ++failed;
      continue;
    }
    if (!fired) {
      EXPECT_TRUE(Ok(load));
      break;
    }
    ++failed;
    EXPECT_NE(load.code, 0) << "acknowledged though sync " << passing << " failed";
    EXPECT_TRUE(absl::StrContains(load.err, "nput/output error")) << load.err;
    EXPECT_EQ(bed.CtlOut({"images", "-q"}), "") << "listed though sync " << passing << " failed";
  }
  EXPECT_GE(failed, 3) << "blobs, snapshots and records are synced";
  EXPECT_EQ(bed.CtlOut({"run", "--rm", kImage, "echo", "whole"}), "whole");
  bed.KillDaemon();
  ASSERT_TRUE(bed.StartDaemon());
  EXPECT_EQ(bed.CtlOut({"run", "--rm", kImage, "echo", "whole"}), "whole");
}

// The records' own sync: the call is not acknowledged, the daemon ends rather than go on with what it cannot know, and the next one
// finds what was acknowledged before, and the containers.
TEST(FailedSyncTest, ADatabaseThatCouldNotBeSyncedIsReadAgain) {
  if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  Testbed::Options options;
  options.start = false;
  Testbed bed(options);
  const std::string fault = bed.scratch() + "/fault";
  ASSERT_TRUE(WriteFile(fault, "").ok());
  ASSERT_TRUE(bed.StartDaemon({{"LD_PRELOAD", Preload()}, {"FAILING_SYNC", fault}}));
  ASSERT_TRUE(bed.LoadBusybox(kImage));
  bed.CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
  const std::string pid = bed.Inspect("web", "{{.State.Pid}}");
  EXPECT_TRUE(Ok(bed.Ctl({"tag", kImage, "before:test"})));

  bed.DaemonMayBeDead();
  ASSERT_TRUE(WriteFile(fault, "0").ok());
  const Outcome tag = bed.Ctl({"tag", kImage, "lost:test"});
  EXPECT_EQ(ReadFile(fault, 100).value(), "") << "no sync was asked for";
  EXPECT_NE(tag.code, 0) << "acknowledged though the sync failed";
  EXPECT_EQ(bed.WaitDaemonGone(), 1) << bed.daemon_log();
  EXPECT_TRUE(absl::StrContains(bed.daemon_log(), "Containers run on")) << bed.daemon_log();

  ASSERT_TRUE(bed.StartDaemon());
  const std::string images = bed.CtlOut({"images", "--format", "{{.Repository}}"});
  EXPECT_TRUE(absl::StrContains(images, "before")) << images;
  EXPECT_EQ(bed.Inspect("web", "{{.State.Status}} {{.State.Pid}}"), "running " + pid);
  EXPECT_TRUE(Ok(bed.Ctl({"tag", kImage, "after:test"})));
}

class ScarcityTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
    bed_->CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
    pid_ = bed_->Inspect("web", "{{.State.Pid}}");
  }
  void Limit(__rlimit_resource resource, rlim_t most) {
    rlimit limit;
    ASSERT_EQ(prlimit(bed_->daemon_pid(), resource, nullptr, &limit), 0);
    limit.rlim_cur = most;
    ASSERT_EQ(prlimit(bed_->daemon_pid(), resource, &limit, nullptr), 0);
  }
  void ExpectAllIsWell() {
    EXPECT_EQ(bed_->Inspect("web", "{{.State.Status}} {{.State.Pid}}"), "running " + pid_);
    EXPECT_EQ(bed_->CtlOut({"exec", "web", "echo", "in"}), "in");
    EXPECT_EQ(bed_->CtlOut({"run", "--rm", kImage, "echo", "new"}), "new");
  }
  std::unique_ptr<Testbed> bed_;
  std::string pid_;
};

// Idle connections take every descriptor that the daemon may have but for a few.
TEST_F(ScarcityTest, WithoutDescriptorsCallsFailAndTheDaemonServesOn) {
  constexpr int kMost = 200;
  Limit(RLIMIT_NOFILE, kMost);
  const std::string directory = absl::StrCat("/proc/", bed_->daemon_pid(), "/fd");
  const auto open_descriptors = [&directory] {
    return std::distance(std::filesystem::directory_iterator(directory),
                         std::filesystem::directory_iterator());
  };
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, bed_->address().data(), bed_->address().size());
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 60; ++i) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    idle.push_back(std::move(fd));
  }
  ASSERT_TRUE(Eventually([&] { return open_descriptors() > 60; }));
  for (const int more : {0, 1, 3, 4, 5, 6, 8, 10, 12, 15, 20}) {
    Limit(RLIMIT_NOFILE, static_cast<rlim_t>(open_descriptors() + more));
    // Where there is no descriptor for the connection either, it waits until there is one.
    const Outcome run = bed_->Ctl({"run", "--rm", kImage, "echo", "new"}, "", absl::Seconds(3));
    if (run.ok()) {
      EXPECT_EQ(run.out, "new\n");
      continue;
    }
    EXPECT_TRUE(run.code == -1 || !run.err.empty()) << "no reason given with " << more;
  }
  EXPECT_TRUE(absl::StrContains(bed_->daemon_log(), "Too many open files")) << "nothing was scarce";
  Limit(RLIMIT_NOFILE, 4096);
  idle.clear();
  EXPECT_TRUE(Eventually([&] { return bed_->Ctl({"ps"}, "", absl::Seconds(5)).ok(); }));
  ExpectAllIsWell();
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}).size(), 12u) << bed_->CtlOut({"ps", "-a"});
}

// The daemon takes all descriptors it may have; what it starts has what it was given itself, or the usual 1024 where that is less, also
// when it was started in a hard hour.
TEST_F(ScarcityTest, ContainersHaveTheUsualLimitOfDescriptorsWhateverTheDaemonHas) {
  rlimit own;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &own), 0);
  const auto limits = [this] {
    return bed_->CtlOut({"run", "--rm", kImage, "sh", "-c", "ulimit -Sn; ulimit -Hn"});
  };
  for (const auto& [given, expected] : {std::pair<rlim_t, rlim_t>(100, 1024), {2048, 2048}}) {
    bed_->KillDaemon();
    const rlimit low = {given, own.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    const testing::AssertionResult started = bed_->StartDaemon();
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &own), 0);
    ASSERT_TRUE(started);
    rlimit daemon;
    ASSERT_EQ(prlimit(bed_->daemon_pid(), RLIMIT_NOFILE, nullptr, &daemon), 0);
    EXPECT_EQ(daemon.rlim_cur, own.rlim_max);
    EXPECT_EQ(limits(), absl::StrCat(expected, "\n", own.rlim_max));
    // The next zygote is started by a daemon that has little itself.
    Limit(RLIMIT_NOFILE, 200);
    ASSERT_EQ(kill(bed_->ZygotePid(), SIGKILL), 0);
    EXPECT_EQ(limits(), absl::StrCat(expected, "\n", own.rlim_max));
  }
  ExpectAllIsWell();
}

TEST_F(ScarcityTest, ADaemonWithoutMemoryHarmsNoContainer) {
  bed_->DaemonMayBeDead();
  std::ifstream statm(absl::StrCat("/proc/", bed_->daemon_pid(), "/statm"));
  rlim_t pages = 0;
  statm >> pages;
  const rlim_t size = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
  const std::string archive = bed_->scratch() + "/image.tar";
  ASSERT_TRUE(WriteBusyboxArchive(archive, "more:test").ok());
  for (const rlim_t more : {4 << 20, 1 << 20, 0}) {
    Limit(RLIMIT_AS, size + more);
    bed_->Ctl({"load", "-i", archive}, "", absl::Seconds(20));
    bed_->Ctl({"run", "--rm", kImage, "true"}, "", absl::Seconds(20));
    if (bed_->WaitDaemonGone(absl::ZeroDuration()) >= 0) {
      ASSERT_TRUE(bed_->StartDaemon());
    }
  }
  // Whether it died of it, is just about to, or lives on: the next one finds everything.
  if (bed_->daemon_pid() > 0) {
    kill(bed_->daemon_pid(), SIGKILL);
    ASSERT_GE(bed_->WaitDaemonGone(), 0);
  }
  ASSERT_TRUE(bed_->StartDaemon());
  ExpectAllIsWell();
  EXPECT_TRUE(Ok(bed_->Ctl({"load", "-i", archive})));
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "more:test", "echo", "whole"}), "whole");
}

}  // namespace
}  // namespace gantry::integration
