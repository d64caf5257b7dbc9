// Images and flags that try to reach out of the container while it is set up: device nodes and
// directories that are links, working directories that are open handles of other processes. What is started
// may not reach the host's files; what cannot be started safely is refused.

#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";
constexpr char kCorePattern[] = "/proc/sys/kernel/core_pattern";

// What an image puts in the place of something that the runtime makes, masks or mounts over.
struct Trap {
  const char* name;
  const char* path;    // in the image
  const char* target;  // of a link; null: a FIFO; "": a file
};

class TrapTest : public testing::TestWithParam<Trap> {};

TEST_P(TrapTest, MasksHoldAndTheHostIsOutOfReach) {
  if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  const Trap& trap = GetParam();
  Testbed bed;
  const std::string root = bed.scratch() + "/root";
  ASSERT_TRUE(MakeBusyboxRoot(root).ok());
  const std::string path = absl::StrCat(root, trap.path);
  ASSERT_TRUE(RemoveTree(path).ok());
  ASSERT_TRUE(MakeDirectories(path.substr(0, path.rfind('/')), 0755).ok());
  if (trap.target == nullptr) {
    ASSERT_EQ(mkfifo(path.c_str(), 0666), 0);
  } else if (*trap.target == '\0') {
    ASSERT_TRUE(WriteFile(path, "planted").ok());
  } else {
    ASSERT_EQ(symlink(trap.target, path.c_str()), 0);
  }
  const std::string archive = bed.scratch() + "/trap.tar";
  ImageOptions options;
  options.names = {"trap:test"};
  ASSERT_TRUE(WriteDockerArchive(archive, {root}, options).ok());
  ASSERT_TRUE(Ok(bed.Ctl({"load", "-i", archive})));
  const std::string pattern = ReadFile(kCorePattern, 4096).value();

  for (const char* runtime : {"crun", "runc"}) {
    const Outcome outcome = bed.Ctl(
        {"run", "--rm", "--runtime", runtime, "trap:test", "sh", "-c",
         // What is written may be a file of the container's own that was mounted there; the host's
         // is looked at below.
         "(echo pwned >/proc/sys/kernel/core_pattern) 2>/dev/null;"
         "(echo x >/proc/sysrq-trigger) 2>/dev/null && echo sysrq is writable;"
         "[ \"$(cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c)\" = 0 ] ||"
         "  echo a masked file has content;"
         "[ -z \"$(ls /proc/scsi /sys/firmware 2>/dev/null | grep -v :)\" ] ||"
         "  echo a masked directory has entries;"
         "[ \"$(stat -c %t:%T /dev/null)\" = 1:3 ] || echo /dev/null is not null;"
         "echo checked"});
    EXPECT_TRUE(outcome.out == "checked\n" || (outcome.code == 125 && !outcome.err.empty()))
        << runtime << ": " << outcome.code << "\n"
        << outcome.out << outcome.err;
    EXPECT_EQ(ReadFile(kCorePattern, 4096).value(), pattern);
    EXPECT_TRUE(WriteFile(kCorePattern, pattern).ok());
  }
  EXPECT_EQ(bed.CtlOut({"ps", "-aq"}), "");
}

INSTANTIATE_TEST_SUITE_P(
    All, TrapTest,
    testing::Values(Trap{"null_is_a_link", "/dev/null", kCorePattern},
                    Trap{"null_is_a_fifo", "/dev/null", nullptr},
                    Trap{"null_is_a_file", "/dev/null", ""},
                    Trap{"zero_is_a_link", "/dev/zero", kCorePattern},
                    Trap{"ptmx_is_a_link", "/dev/ptmx", kCorePattern},
                    Trap{"shm_is_a_link", "/dev/shm", "/proc/sys/kernel"},
                    Trap{"shm_is_a_file", "/dev/shm", ""},
                    Trap{"console_is_a_link", "/dev/console", kCorePattern},
                    Trap{"core_is_a_link", "/dev/core", "/proc/sysrq-trigger"},
                    Trap{"dev_is_a_link_into_proc", "/dev", "/proc/sys/kernel"},
                    Trap{"dev_leads_out", "/dev", "../../../../../../../../dev"},
                    Trap{"proc_is_a_link", "/proc", "/tmp"}, Trap{"sys_is_a_link", "/sys", "/tmp"},
                    Trap{"hosts_is_a_link", "/etc/hosts", kCorePattern},
                    Trap{"resolv_is_a_link", "/etc/resolv.conf", "../../../../../etc/shadow"}),
    [](const testing::TestParamInfo<Trap>& info) { return std::string(info.param.name); });

// A handle of the host's tree that was left open while the container is entered can be the working
// directory of what is started in it. Whether the runtime leaves one open or not, it is refused.
class HandleTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
    ASSERT_TRUE(WriteFile(bed_->scratch() + "/canary", "HOST FILE").ok());
    // From any directory of the host up to its root and down again.
    up_ = absl::StrCat("../../../../../../../../../../../..", bed_->scratch(), "/canary");
  }
  static void ExpectInside(const Outcome& outcome, const std::string& what) {
    EXPECT_FALSE(absl::StrContains(outcome.out, "HOST FILE")) << what;
    EXPECT_NE(outcome.code, 0) << what << ": " << outcome.out;
    EXPECT_TRUE(absl::StrContains(outcome.err, "a handle of a process")) << what << outcome.err;
  }
  std::unique_ptr<Testbed> bed_;
  std::string up_;
};

TEST_F(HandleTest, NoWorkingDirectoryOfARunLeadsOut) {
  for (const char* runtime : {"crun", "runc"}) {
    for (int fd = 0; fd <= 20; ++fd) {
      const std::string directory = absl::StrCat("/proc/self/fd/", fd);
      ExpectInside(
          bed_->Ctl({"run", "--rm", "--runtime", runtime, "-w", directory, kImage, "cat", up_}),
          absl::StrCat(runtime, " ", directory));
    }
  }
}

TEST_F(HandleTest, NoWorkingDirectoryOfAnExecLeadsOut) {
  for (const char* runtime : {"crun", "runc"}) {
    bed_->CtlOut({"run", "-d", "--name", runtime, "--runtime", runtime, kImage, "sleep", "1000"});
    for (int fd = 0; fd <= 20; ++fd) {
      const std::string directory = absl::StrCat("/proc/self/fd/", fd);
      ExpectInside(bed_->Ctl({"exec", "-w", directory, runtime, "cat", up_}),
                   absl::StrCat(runtime, " ", directory));
    }
  }
}

TEST_F(HandleTest, AProcessHasItsThreeDescriptorsAndNoMore) {
  for (const char* runtime : {"crun", "runc"}) {
    bed_->CtlOut({"run", "-d", "--name", runtime, "--runtime", runtime, kImage, "sleep", "1000"});
    EXPECT_EQ(bed_->CtlOut({"exec", runtime, "sh", "-c", "ls /proc/1/fd | tr '\\n' ' '"}),
              "0 1 2 ");
    // A process that shows its own: the fourth is the directory it is reading.
    EXPECT_EQ(bed_->CtlOut({"exec", runtime, "ls", "/proc/self/fd"}), "0\n1\n2\n3");
    bed_->CtlOut({"run", "-d", "-t", "--name", absl::StrCat(runtime, "-t"), "--runtime", runtime,
                  kImage, "sleep", "1000"});
    EXPECT_EQ(bed_->CtlOut({"exec", absl::StrCat(runtime, "-t"), "sh", "-c",
                            "ls /proc/1/fd | tr '\\n' ' '"}),
              "0 1 2 ");
  }
}

}  // namespace
}  // namespace gantry::integration
