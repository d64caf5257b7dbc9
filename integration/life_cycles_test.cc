// Containers with volumes, tmpfs, devices and limits come and go beside kills of the daemon and of
// shims: nothing is left, and a volume has what was written to it.
//
// GANTRY_LIFE_CYCLES (15) says how many: `./dev test life-cycles` makes it 1,000.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

int Cycles() {
  const char* const text = getenv("GANTRY_LIFE_CYCLES");
  int number = 0;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : 15;
}

class LifeCyclesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  void Restart() {
    bed_->KillDaemon();
    ASSERT_TRUE(bed_->StartDaemon());
  }
  std::unique_ptr<Testbed> bed_;
};

TEST_F(LifeCyclesTest, NothingIsLeftAndVolumesHaveWhatWasWritten) {
  int written = 0;
  for (int i = 0; i < Cycles(); ++i) {
    SCOPED_TRACE(absl::StrCat("cycle ", i));
    const std::string name = absl::StrCat("c", i);
    // The line is on the volume before it is acknowledged.
    const std::string work = absl::StrCat(
        "[ $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null",
        " | head -n 1) = 67108864 ] && grep -q ' /fast tmpfs' /proc/mounts && [ -c /dev/extra ] &&",
        " echo x > /fast/x && echo x > /anonymous/x && echo ", i,
        " >> /kept/lines && sync && echo written; sleep 1000");
    const Outcome run = bed_->Ctl({"run",          "-d",
                                   "--name",       name,
                                   "-v",           "kept:/kept",
                                   "-v",           "/anonymous",
                                   "--tmpfs",      "/fast:size=1m",
                                   "--device",     "/dev/null:/dev/extra:r",
                                   "-m",           "64m",
                                   "--cpus",       "0.5",
                                   "--pids-limit", "50",
                                   "--network",    "none",
                                   kImage,         "sh",
                                   "-c",           work});
    ASSERT_TRUE(Ok(run));
    ASSERT_TRUE(Eventually([&] {
      return absl::StrContains(bed_->Ctl({"logs", name}).out, "written");
    })) << bed_->Ctl({"logs", name}).err;
    ++written;
    const pid_t shim = bed_->ShimPid(bed_->Inspect(name, "{{.Id}}"));
    switch (i % 5) {
      case 0:
        break;
      case 1:
        ASSERT_NO_FATAL_FAILURE(Restart());
        break;
      case 2:
        ASSERT_GT(shim, 0);
        kill(shim, SIGKILL);
        EXPECT_TRUE(bed_->StatusBecomes(name, "exited"));
        break;
      case 3:
        // Both, in the middle of a removal.
        bed_->KillDaemon();
        kill(shim, SIGKILL);
        ASSERT_TRUE(bed_->StartDaemon());
        break;
      case 4: {
        absl::StatusOr<Process> removal = bed_->SpawnCtl({"rm", "-fv", name});
        ASSERT_TRUE(removal.ok()) << removal.status();
        ASSERT_NO_FATAL_FAILURE(Restart());
        break;
      }
    }
    // What was cut short is done again, or was done.
    EXPECT_TRUE(Eventually([&] {
      (void)bed_->Ctl({"rm", "-fv", name});
      return bed_->CtlOut({"ps", "-aq"}).empty();
    }));
  }
  EXPECT_EQ(bed_->CtlOut({"volume", "ls", "-q"}), "kept");
  EXPECT_EQ(bed_->CtlOut({"run", "--rm", "-v", "kept:/kept", kImage, "sh", "-c",
                          "sort -n /kept/lines | uniq | wc -l; wc -l < /kept/lines"}),
            absl::StrCat(written, "\n", written));
  // Nobody uses it any more.
  EXPECT_TRUE(Ok(bed_->Ctl({"volume", "rm", "kept"})));
}

}  // namespace
}  // namespace gantry::integration
