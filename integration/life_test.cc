// What a container sees, may do and keeps, with real containers, and changes of it while it runs.
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

class LifeTest : public testing::Test {
 protected:
  void Start(Testbed::Options options = {}) {
    bed_ = std::make_unique<Testbed>(std::move(options));
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  }
  std::string Exec(const std::string& name, const std::string& command) {
    return bed_->CtlOut({"exec", name, "sh", "-c", command});
  }
  std::unique_ptr<Testbed> bed_;
};

TEST_F(LifeTest, WhatIsMountedBelowAReadOnlyBindIsReadOnly) {
  Start();
  const std::string outer = bed_->scratch() + "/outer";
  ASSERT_TRUE(MakeDirectories(outer, 0755).ok());
  const auto touch = [&](const std::string& option) {
    return bed_
        ->Ctl({"run", "--rm", "--mount",
               absl::StrCat("type=bind,src=/sys,dst=/mnt,readonly", option), kImage, "sh", "-c",
               "grep ' /mnt/' /proc/self/mountinfo | grep -vc ' ro[, ]' || true"})
        .out;
  };
  EXPECT_EQ(touch(""), "0\n");
  EXPECT_NE(touch(",bind-recursive=writable"), "0\n");
}

TEST_F(LifeTest, MountsOfARunningContainerChange) {
  Start();
  const std::string directory = bed_->scratch() + "/shown";
  ASSERT_TRUE(MakeDirectories(directory, 0755).ok());
  ASSERT_TRUE(WriteFile(directory + "/note", "here\n", 0644).ok());
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "cm", kImage, "sleep", "1000"})));
  const Outcome set = bed_->Ctl({"set", "-v", absl::StrCat(directory, ":/shown:ro"), "-v",
                                 "kept:/kept", "--mount", "type=tmpfs,dst=/fast", "cm"});
  ASSERT_TRUE(Ok(set));
  EXPECT_EQ(set.out, "mount /shown: done\nmount /kept: done\nmount /fast: done\n");
  EXPECT_EQ(Exec("cm", "cat /shown/note; touch /shown/x 2>/dev/null || echo refused"),
            "here\nrefused");
  EXPECT_EQ(Exec("cm", "echo a > /kept/f; grep -c ' /fast tmpfs' /proc/mounts"), "1");
  ASSERT_TRUE(Ok(bed_->Ctl({"restart", "-t", "0", "cm"})));
  EXPECT_EQ(Exec("cm", "cat /shown/note /kept/f"), "here\na");
  EXPECT_EQ(bed_->Ctl({"set", "--no-mount", "/shown", "cm"}).out, "no mount /shown: done\n");
  EXPECT_EQ(Exec("cm", "ls /shown"), "");
  EXPECT_EQ(bed_->Ctl({"volume", "rm", "kept"}).code, 1);
  EXPECT_EQ(bed_->Inspect("cm", "{{len .Mounts}}"), "2");
}

// Each probe starts two processes, of which the shell waits for one.
TEST_F(LifeTest, AProbeThatTakesTooLongEndsWithAllThatItStarted) {
  Start();
  ASSERT_TRUE(Ok(bed_->Ctl({"run", "-d", "--name", "ch", "--health-cmd", "sleep 777 & sleep 778",
                            "--health-interval", "500ms", "--health-timeout", "500ms", kImage,
                            "sleep", "1000"})));
  EXPECT_TRUE(Eventually([&] {
    int streak = 0;
    return absl::SimpleAtoi(bed_->Inspect("ch", "{{.State.Health.FailingStreak}}"), &streak) &&
           streak >= 4;
  }));
  int left = 99;
  EXPECT_TRUE(absl::SimpleAtoi(Exec("ch", "ps | grep -c '[s]leep 77' || true"), &left));
  EXPECT_LE(left, 3);  // of one probe that is under way
}

}  // namespace
}  // namespace gantry::integration
