// Logs under a flood: while the daemon is dead, while the log's disk is full and after it was
// freed, and with a collector that goes away. The container always goes on in the end, and each
// line is either in the log or counted as missing.
//
// GANTRY_FLOOD_SECONDS (2) and GANTRY_FLOOD_MIB (50) a second say how much is printed: `./dev test
// logs` makes it a minute.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "flood:test";
constexpr absl::Duration kPatience = absl::Minutes(10);

int64_t Setting(const char* name, int64_t otherwise) {
  const char* const text = getenv(name);
  int64_t number = 0;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : otherwise;
}

// What a log holds of numbered lines.
struct Kept {
  int64_t lines = 0;     // that are there
  int64_t counted = 0;   // as missing, by the log itself
  int64_t printed = -1;  // by the container, as its last line says; -1: that one is not there
  bool in_order = true;
};

Kept Read(const std::string& file) {
  Kept kept;
  std::ifstream log(file);
  std::string line;
  int64_t last = -1;
  while (std::getline(log, line)) {
    constexpr absl::string_view kBegin = R"({"log":")";
    if (!absl::StartsWith(line, kBegin)) {
      kept.in_order = false;  // torn
      continue;
    }
    const absl::string_view text = absl::string_view(line).substr(kBegin.size());
    int64_t number = 0;
    if (absl::StartsWith(text, "[gantry] ")) {
      const absl::string_view count = text.substr(9, text.find(' ', 9) - 9);
      if (absl::SimpleAtoi(count, &number) && absl::StrContains(text, "could not be written"))
        kept.counted += number;
      continue;
    }
    if (!absl::SimpleAtoi(text.substr(0, 12), &number)) {
      kept.in_order = false;
      continue;
    }
    if (absl::StartsWith(text.substr(12), " end")) {
      kept.printed = number;
      continue;
    }
    if (number <= last) kept.in_order = false;
    last = number;
    ++kept.lines;
  }
  return kept;
}

class LogFloodTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    const std::string root = bed_->scratch() + "/image";
    ASSERT_TRUE(MakeBusyboxRoot(root).ok());
    const absl::StatusOr<std::string> program = ReadFile("integration/dying", 64 << 20);
    ASSERT_TRUE(program.ok()) << program.status();
    ASSERT_TRUE(WriteFile(root + "/dying", *program, 0755).ok());
    ASSERT_EQ(chmod((root + "/dying").c_str(), 0755), 0);
    ImageOptions options;
    options.names = {kImage};
    const std::string archive = bed_->scratch() + "/image.tar";
    ASSERT_TRUE(WriteDockerArchive(archive, {root}, options).ok());
    ASSERT_TRUE(Ok(bed_->Ctl({"load", "-i", archive})));
  }
  void TearDown() override {
    if (bed_ == nullptr) return;
    (void)bed_->Ctl({"rm", "-f", "flood"});
    if (mounted_) {
      // Its directory is removed in the background.
      EXPECT_TRUE(Eventually([&] { return umount(Logs().c_str()) == 0; })) << strerror(errno);
    }
  }

  // The directory with the directories of containers, which hold their logs.
  std::string Logs() const { return absl::StrCat(bed_->root(), "/containers/", bed_->ns()); }
  // A disk of its own for the logs.
  void MountSmall(const std::string& size) {
    ASSERT_TRUE(MakeDirectories(Logs(), 0711).ok());
    ASSERT_EQ(mount("small", Logs().c_str(), "tmpfs", 0, ("mode=0711,size=" + size).c_str()), 0)
        << strerror(errno);
    mounted_ = true;
  }
  void Flood(std::vector<std::string> flags) {
    std::vector<std::string> args = {"run",       "-d",   "--name",    "flood",
                                     "--network", "none", "--log-opt", "max-size=64g"};
    args.insert(args.end(), flags.begin(), flags.end());
    args.insert(args.end(),
                {kImage, "/dying", "flood", absl::StrCat(Setting("GANTRY_FLOOD_MIB", 50)),
                 absl::StrCat(Setting("GANTRY_FLOOD_SECONDS", 2))});
    ASSERT_TRUE(Ok(bed_->Ctl(std::move(args))));
    ASSERT_TRUE(absl::SimpleAtoi(bed_->Inspect("flood", "{{.State.Pid}}"), &pid_));
    id_ = bed_->Inspect("flood", "{{.Id}}");
  }
  // It has gone on to its end: it has printed everything and ended.
  bool Ends() {
    return Eventually([&] { return kill(pid_, 0) != 0; }, kPatience);
  }
  std::string LogFile() const { return absl::StrCat(Logs(), "/", id_, "/container.log"); }

  std::unique_ptr<Testbed> bed_;
  bool mounted_ = false;
  pid_t pid_ = 0;
  std::string id_;
};

TEST_F(LogFloodTest, WithoutADaemonEveryLineIsInTheLog) {
  Flood({});
  bed_->KillDaemon();
  ASSERT_TRUE(Ends());
  ASSERT_TRUE(bed_->StartDaemon());
  EXPECT_TRUE(bed_->StatusBecomes("flood", "exited", kPatience));
  const Kept kept = Read(LogFile());
  EXPECT_TRUE(kept.in_order);
  EXPECT_EQ(kept.lines, kept.printed);
  EXPECT_EQ(kept.counted, 0);
}

TEST_F(LogFloodTest, LinesThatAFullDiskDoesNotTakeAreCounted) {
  MountSmall("24m");
  Flood({});
  // Full, and then freed while it prints.
  EXPECT_TRUE(Eventually([&] {
    struct stat info;
    return stat(LogFile().c_str(), &info) == 0 && info.st_size > (20 << 20);
  }));
  ASSERT_EQ(mount("small", Logs().c_str(), nullptr, MS_REMOUNT, "size=16g"), 0) << strerror(errno);
  ASSERT_TRUE(Ends());
  EXPECT_TRUE(bed_->StatusBecomes("flood", "exited", kPatience));
  Kept kept;
  // The line that counts comes with the next one that fits, or when the shim is done with the log.
  EXPECT_TRUE(Eventually([&] {
    kept = Read(LogFile());
    return kept.printed >= 0 && kept.lines + kept.counted == kept.printed;
  })) << kept.lines
      << " lines, " << kept.counted << " counted as missing, of " << kept.printed;
  EXPECT_TRUE(kept.in_order);
}

// A collector that takes what comes for a moment and then goes.
TEST_F(LogFloodTest, ACollectorThatGoesHoldsNothingUpAndIsCounted) {
  const std::string path = bed_->scratch() + "/fluent";
  std::atomic<bool> stop = false;
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  std::thread collector([&] {
    const UniqueFd peer(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    char buffer[65536];
    int64_t taken = 0;
    while (!stop && taken < (4 << 20)) {
      const ssize_t size = recv(peer.get(), buffer, sizeof buffer, 0);
      if (size <= 0) break;
      taken += size;
    }
    listener.reset();
    unlink(path.c_str());
  });
  Flood({"--log-driver", "fluentd", "--log-opt", "fluentd-address=unix://" + path, "--log-opt",
         "max-buffer-size=64k"});
  ASSERT_TRUE(Ends());
  stop = true;
  collector.join();
  EXPECT_TRUE(bed_->StatusBecomes("flood", "exited", kPatience));
  const Kept kept = Read(LogFile());
  EXPECT_EQ(kept.lines, kept.printed);  // the copy has them all
  const auto number = [&](const std::string& field) {
    int64_t value = -1;
    (void)absl::SimpleAtoi(
        bed_->CtlOut({"why", "--format", "{{.LogDelivery." + field + "}}", "flood"}), &value);
    return value;
  };
  EXPECT_TRUE(Eventually([&] {
    return number("DeliveredLines") + number("DroppedLines") == kept.printed + 1;
  })) << number("DeliveredLines")
      << " delivered, " << number("DroppedLines") << " dropped, of " << kept.printed + 1;
  EXPECT_GT(number("DroppedLines"), 0);
}

}  // namespace
}  // namespace gantry::integration
