// Builds that are cut off: the daemon killed, the client gone, the disk full, at each step. Nothing
// is left of them, and the next build takes over what was finished.
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

// Each step waits for a file of a cache mount that the test makes, so that the test decides where
// the build stands. The step that has begun is known by the file that it makes itself.
constexpr char kSteps[] =
    "FROM busybox:test AS side\n"
    "RUN echo side > /side\n"
    "FROM busybox:test\n"
    "COPY file /file\n"
    "RUN --mount=type=cache,target=/gate touch /gate/at1; while test ! -e /gate/go1; do sleep "
    "0.05; "
    "done; echo 1 > /one\n"
    "WORKDIR /w\n"
    "RUN --mount=type=cache,target=/gate touch /gate/at2; while test ! -e /gate/go2; do sleep "
    "0.05; "
    "done; echo 2 > two\n"
    "COPY --from=side /side /side\n"
    "RUN --mount=type=cache,target=/gate touch /gate/at3; while test ! -e /gate/go3; do sleep "
    "0.05; "
    "done; echo 3 > three\n";
constexpr int kGates = 3;

class BuildFaultsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  }
  void Begin(Testbed::Options options = {}) {
    options.config = "[network]\ndefault = \"none\"\n";
    bed_ = std::make_unique<Testbed>(options);
    if (options.start) Prepare();
  }
  void Prepare() {
    ASSERT_TRUE(bed_->LoadBusybox("busybox:test"));
    context_ = bed_->scratch() + "/context";
    std::filesystem::create_directories(context_);
    ASSERT_TRUE(WriteFile(context_ + "/file", "file\n").ok());
    ASSERT_TRUE(WriteFile(context_ + "/Dockerfile", kSteps).ok());
  }
  std::vector<std::string> Command() const {
    return {"build", "--progress", "plain", "-t", "made", context_};
  }
  // The file of that name in the cache mount; "" before there is one.
  std::string Gate() const {
    const std::string caches = bed_->root() + "/build-caches";
    if (!std::filesystem::exists(caches)) return "";
    for (const auto& one : std::filesystem::recursive_directory_iterator(caches)) {
      if (one.path().filename() == "at1") return one.path().parent_path();
    }
    return "";
  }
  bool Stands(int gate) const {
    const std::string directory = Gate();
    return !directory.empty() && std::filesystem::exists(absl::StrCat(directory, "/at", gate));
  }
  void Open(int gate) const { ASSERT_TRUE(WriteFile(absl::StrCat(Gate(), "/go", gate), "").ok()); }
  // Steps up to `gate` are let through; true once the build stands there. The side stage, which is
  // built at the same time, is in the cache by then.
  bool RunTo(int gate) {
    const auto side_done = [this] {
      return absl::StrContains(bed_->Ctl({"builder", "du"}).out, "echo side");
    };
    if (!Eventually(side_done)) return false;
    for (int i = 1; i < gate; ++i) {
      if (!Eventually([&] { return Stands(i); })) return false;
      Open(i);
    }
    return Eventually([&] { return Stands(gate); });
  }
  void ExpectNothingLeft() {
    EXPECT_TRUE(Eventually([&] { return bed_->CtlOut({"ps", "-aq"}).empty(); }));
    EXPECT_TRUE(Eventually([&] {
      const std::string builds = bed_->root() + "/builds";
      return !std::filesystem::exists(builds) || std::filesystem::is_empty(builds);
    }));
    const std::string mounts = ReadFile("/proc/self/mountinfo", 1 << 22).value_or("");
    EXPECT_FALSE(absl::StrContains(mounts, bed_->state() + "/mounts/")) << mounts;
  }
  // The build again, with all gates open; `cached` of its steps with a gate come from the cache.
  void ExpectGoesOn(int cached) {
    for (int i = 1; i <= kGates; ++i) Open(i);
    const Outcome built = bed_->Ctl(Command());
    ASSERT_TRUE(Ok(built));
    for (int i = 1; i <= kGates; ++i) std::filesystem::remove(absl::StrCat(Gate(), "/at", i));
    int hits = 0;
    for (size_t at = built.err.find("CACHED"); at != std::string::npos;
         at = built.err.find("CACHED", at + 1))
      ++hits;
    EXPECT_GE(hits, cached) << built.err;
    EXPECT_EQ(
        bed_->CtlOut({"run", "--rm", "made", "cat", "/file", "/one", "two", "/side", "three"}),
        "file\n1\n2\nside\n3");
  }

  std::unique_ptr<Testbed> bed_;
  std::string context_;
};

TEST_F(BuildFaultsTest, TheCeilingOfTheCacheHolds) {
  constexpr int64_t kCeiling = 40'000'000;
  Testbed::Options options;
  options.config =
      absl::StrCat("[network]\ndefault = \"none\"\n[build]\ncache_bytes = ", kCeiling, "\n");
  bed_ = std::make_unique<Testbed>(options);
  Prepare();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(WriteFile(context_ + "/Dockerfile",
                          absl::StrCat("FROM busybox:test\n"
                                       "RUN dd if=/dev/urandom of=/f bs=1000000 count=8 && echo ",
                                       i, "\nRUN --mount=type=cache,target=/c,id=", i,
                                       " dd if=/dev/urandom of=/c/f bs=1000000 count=4\n"))
                    .ok());
    ASSERT_TRUE(Ok(bed_->Ctl({"build", "-q", "-t", "made", context_})));
    int64_t total = 0;
    const std::string rows = bed_->CtlOut({"builder", "du", "--format", "{{.Size}}"});
    for (absl::string_view row : absl::StrSplit(rows, '\n', absl::SkipWhitespace())) {
      double size = 0;
      ASSERT_TRUE(absl::SimpleAtod(row.substr(0, row.find_first_not_of("0123456789.")), &size));
      const absl::string_view unit = row.substr(row.find_first_not_of("0123456789."));
      total += static_cast<int64_t>(size * (absl::StartsWith(unit, "M")   ? 1e6
                                            : absl::StartsWith(unit, "k") ? 1e3
                                                                          : 1));
    }
    EXPECT_LE(total, kCeiling * 105 / 100) << rows;
    EXPECT_GE(total, i < 4 ? 0 : kCeiling / 2) << "more went than had to\n" << rows;
  }
  // What has gone from the cache goes from the disk, but for what images hold.
  ASSERT_TRUE(Ok(bed_->Ctl({"rmi", "-f", "made"})));
  ASSERT_TRUE(Ok(bed_->Ctl({"image", "prune", "-f"})));  // those that have lost the name
  EXPECT_TRUE(Eventually([&] {
    bed_->Ctl({"gc"});
    int64_t used = 0;
    for (const char* part : {"/content", "/snapshots", "/build-caches"}) {
      const Outcome du = RunProgram({"du", "-sk", bed_->root() + part});
      int64_t kilobytes = 0;
      if (absl::SimpleAtoi(du.out.substr(0, du.out.find('\t')), &kilobytes))
        used += kilobytes * 1024;
    }
    return used < kCeiling * 13 / 10;  // the base image is beside it
  }));
}

TEST_F(BuildFaultsTest, ADaemonThatIsKilledAtAStep) {
  for (int gate = 1; gate <= kGates; ++gate) {
    SCOPED_TRACE(gate);
    Begin();
    absl::StatusOr<Process> client = bed_->SpawnCtl(Command());
    ASSERT_TRUE(client.ok());
    ASSERT_TRUE(RunTo(gate));
    bed_->KillDaemon();
    EXPECT_NE(client->Wait(absl::Seconds(30)).value().code, 0);
    ASSERT_TRUE(bed_->StartDaemon());
    ExpectNothingLeft();
    // The side stage's step and the copy, then what lies before the gate.
    ExpectGoesOn(gate == 1 ? 2 : gate == 2 ? 4 : 6);
  }
}

TEST_F(BuildFaultsTest, AClientThatLeavesAtAStep) {
  for (const int signal : {SIGINT, SIGKILL}) {
    for (int gate = 1; gate <= kGates; ++gate) {
      SCOPED_TRACE(absl::StrCat("signal ", signal, " at ", gate));
      Begin();
      absl::StatusOr<Process> client = bed_->SpawnCtl(Command());
      ASSERT_TRUE(client.ok());
      ASSERT_TRUE(RunTo(gate));
      ASSERT_TRUE(client->Kill(signal).ok());
      ASSERT_TRUE(client->Wait(absl::Seconds(30)).ok());
      ExpectNothingLeft();
      ExpectGoesOn(gate == 1 ? 2 : gate == 2 ? 4 : 6);
    }
  }
}

TEST_F(BuildFaultsTest, AFullDiskIsNamedAndTheNextBuildGoesOn) {
  Testbed::Options options;
  options.start = false;
  Begin(options);
  ASSERT_TRUE(MakeDirectories(bed_->root(), 0711).ok());
  ASSERT_EQ(mount("small", bed_->root().c_str(), "tmpfs", 0, "size=96m"), 0) << strerror(errno);
  const absl::Cleanup unmount = [this] {
    if (bed_->daemon_pid() > 0) bed_->StopDaemon();
    EXPECT_EQ(umount2(bed_->root().c_str(), MNT_DETACH), 0) << strerror(errno);
    bed_->DaemonMayBeDead();
  };
  ASSERT_TRUE(bed_->StartDaemon());
  Prepare();
  // By a command, by a copy, by the context.
  const auto sized = [this](const std::string& name, int megabytes) {
    const std::string directory = bed_->scratch() + "/" + name;
    std::filesystem::create_directories(directory);
    EXPECT_TRUE(Ok(RunProgram({"dd", "if=/dev/urandom", "of=" + directory + "/file", "bs=1M",
                               absl::StrCat("count=", megabytes)})));
    return directory;
  };
  const std::string half = sized("half", 40);
  const std::string whole = sized("whole", 120);
  const std::pair<std::string, std::string> cases[] = {
      {context_,
       "FROM busybox:test\nRUN echo kept > /kept\n"
       "RUN dd if=/dev/urandom of=/full bs=1M count=200\n"},
      {half, "FROM busybox:test\nRUN echo kept > /kept\nCOPY file /a\nCOPY file /b\n"},
      {whole, "FROM busybox:test\nCOPY file /a\n"}};
  for (const auto& [directory, text] : cases) {
    SCOPED_TRACE(text);
    ASSERT_TRUE(WriteFile(directory + "/Dockerfile", text).ok());
    const Outcome failed =
        bed_->Ctl({"build", "--progress", "plain", "-t", "made", directory}, "", absl::Minutes(2));
    EXPECT_NE(failed.code, 0);
    // The kernel's words, or those of the database, which keeps the last bytes for removals.
    EXPECT_THAT(failed.err, testing::AnyOf(testing::HasSubstr("No space left on device"),
                                           testing::ContainsRegex("the disk under .* is full")));
    ExpectNothingLeft();
    bed_->Ctl({"builder", "prune", "-af"});
    // What a failed build had taken comes back.
    EXPECT_TRUE(Eventually([&] {
      return std::filesystem::space(bed_->root()).available > (48 << 20);
    })) << std::filesystem::space(bed_->root()).available;
  }
  ASSERT_TRUE(WriteFile(context_ + "/Dockerfile", kSteps).ok());
  std::filesystem::remove_all(half);
  std::filesystem::remove_all(whole);
  absl::StatusOr<Process> client = bed_->SpawnCtl(Command());
  ASSERT_TRUE(client.ok());
  ASSERT_TRUE(RunTo(kGates));
  Open(kGates);
  EXPECT_EQ(client->Wait(absl::Seconds(60)).value().code, 0);
}

}  // namespace
}  // namespace gantry::integration
