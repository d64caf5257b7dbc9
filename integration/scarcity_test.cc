// When the machine gives less than was asked for: a sync that fails, no memory, no descriptors.
// What was acknowledged holds, what could not be done says so, the daemon serves on or is back
// after a restart, and containers notice nothing.

#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
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

// A disk that once says that it could not keep what it had taken: from then on those bytes may be
// gone, whatever later syncs say.
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

// The records' own sync: the call is not acknowledged, the daemon ends rather than go on with what
// it cannot know, and the next one finds what was acknowledged before, and the containers.
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

// The daemon takes all descriptors it may have; what it starts has what it was given itself, or the
// usual 1024 where that is less, also when it was started in a hard hour.
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

// A group of the test's own with a limit on processes and threads.
class PidsGroup {
 public:
  explicit PidsGroup(const std::string& name)
      : path_((access("/sys/fs/cgroup/pids", F_OK) == 0 ? "/sys/fs/cgroup/pids/"
                                                        : "/sys/fs/cgroup/") +
              name) {
    made_ = mkdir(path_.c_str(), 0755) == 0 && access((path_ + "/pids.max").c_str(), W_OK) == 0;
  }
  ~PidsGroup() {
    // Back where they came from; what has been started in it meanwhile goes along.
    EXPECT_TRUE(Eventually([this] {
      for (const pid_t pid : Members()) Write(path_ + "/../cgroup.procs", pid);
      return rmdir(path_.c_str()) == 0 || errno == ENOENT;
    })) << path_;
  }
  PidsGroup(const PidsGroup&) = delete;
  PidsGroup& operator=(const PidsGroup&) = delete;

  bool made() const { return made_; }
  bool Add(pid_t pid) { return Write(path_ + "/cgroup.procs", pid); }
  // How many more than there are. Negative: no limit.
  void Leave(int more) {
    const int current = std::stoi(ReadFile(path_ + "/pids.current", 100).value());
    EXPECT_TRUE(
        WriteFile(path_ + "/pids.max", more < 0 ? "max" : absl::StrCat(current + more)).ok());
  }

 private:
  static bool Write(const std::string& file, pid_t pid) {
    return WriteFile(file, absl::StrCat(pid)).ok();
  }
  std::vector<pid_t> Members() const {
    std::ifstream list(path_ + "/cgroup.procs");
    return {std::istream_iterator<pid_t>(list), std::istream_iterator<pid_t>()};
  }
  const std::string path_;
  bool made_ = false;
};

TEST_F(ScarcityTest, WithoutProcessesCallsFailWithTheRemedyAndTheDaemonServesOn) {
  PidsGroup group(bed_->ns() + "-pids");
  ASSERT_TRUE(group.made()) << "no pids controller here";
  const pid_t daemon = bed_->daemon_pid();
  ASSERT_TRUE(group.Add(daemon));
  // The next zygote is a child of it.
  ASSERT_EQ(kill(bed_->ZygotePid(), SIGKILL), 0);
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", kImage, "echo", "new"}), "new");
  const std::string archive = bed_->scratch() + "/image.tar";
  ASSERT_TRUE(WriteBusyboxArchive(archive, "more:test").ok());
  int failed = 0;
  int named = 0;
  for (const int more : {0, 1, 2, 3, 4, 6, 8, 12, 16, 24}) {
    for (const std::vector<std::string>& call :
         {std::vector<std::string>{"run", "--rm", kImage, "echo", "new"},
          {"exec", "web", "true"},
          {"cp", "web:/etc/passwd", bed_->scratch() + "/got"},
          {"load", "-i", archive}}) {
      group.Leave(more);
      const Outcome outcome = bed_->Ctl(call, "", absl::Seconds(30));
      if (outcome.ok()) continue;
      ++failed;
      EXPECT_FALSE(outcome.err.empty()) << call[0] << " with " << more;
      named += absl::StrContains(outcome.err, "raise TasksMax") ? 1 : 0;
    }
    group.Leave(0);
    EXPECT_TRUE(absl::StrContains(bed_->CtlOut({"ps"}), "web")) << "with " << more;
    ASSERT_EQ(bed_->WaitDaemonGone(absl::ZeroDuration()), -1) << bed_->daemon_log();
  }
  EXPECT_GT(failed, 4) << "nothing was scarce";
  EXPECT_GT(named, 0) << "nothing says what to do";
  group.Leave(-1);
  EXPECT_EQ(bed_->daemon_pid(), daemon);
  ExpectAllIsWell();
  EXPECT_TRUE(Ok(bed_->Ctl({"load", "-i", archive})));
  EXPECT_EQ(bed_->CtlOut({"ps", "-aq"}).size(), 12u) << bed_->CtlOut({"ps", "-a"});
}

// Followers of logs are woken by inotify where there is an instance to be had. Where there is none
// they look by themselves.
TEST_F(ScarcityTest, WithoutInotifyInstancesLogsAreFollowedAllTheSame) {
  std::vector<UniqueFd> taken;
  const auto take_all = [&taken] {
    while (true) {
      UniqueFd fd(inotify_init1(IN_CLOEXEC));
      if (!fd.valid()) break;
      taken.push_back(std::move(fd));
      ASSERT_LT(taken.size(), 100000u) << "this machine does not run out of them";
    }
    ASSERT_EQ(errno, EMFILE);
  };
  // Other programs of the machine give some back now and then: until none was free all the while.
  bool scarce = false;
  for (int attempt = 0; attempt < 10 && !scarce; ++attempt) {
    take_all();
    const std::string name = absl::StrCat("chatty-", attempt);
    bed_->CtlOut({"run", "-d", "--name", name, kImage, "sh", "-c",
                  "for i in 1 2 3; do echo $i; sleep 0.2; done"});
    const Outcome followed = bed_->Ctl({"logs", "--follow", name});
    EXPECT_TRUE(Ok(followed));
    EXPECT_EQ(followed.out, "1\n2\n3\n");
    scarce = !UniqueFd(inotify_init1(IN_CLOEXEC)).valid();
  }
  EXPECT_TRUE(scarce) << "inotify instances were free each time";
  taken.clear();
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
