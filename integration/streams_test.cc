// Where the streams of programs and containers go when their other end is closed, slow or stopped.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

constexpr char kImage[] = "busybox:test";

// Executes the words that follow with descriptors 0 to 2 closed.
const std::vector<std::string> kClosingAll = {"/bin/sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"};

class StreamsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
  }
  void Start(Testbed::Options options = {}) {
    bed_ = std::make_unique<Testbed>(std::move(options));
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  std::unique_ptr<Testbed> bed_;
};

TEST_F(StreamsTest, ADaemonStartedWithoutStandardStreamsRunsContainers) {
  Testbed::Options options;
  options.daemon_wrapper = kClosingAll;
  Start(std::move(options));
  const Outcome outcome = bed_->Ctl({"run", "--rm", kImage, "echo", "here"});
  EXPECT_TRUE(Ok(outcome));
  EXPECT_EQ(outcome.out, "here\n");
  // Nothing of the daemon's own has become a standard stream.
  for (const int fd : {0, 1, 2}) {
    char target[64] = {};
    EXPECT_GT(readlink(absl::StrCat("/proc/", bed_->daemon_pid(), "/fd/", fd).c_str(), target,
                       sizeof target - 1),
              0);
    EXPECT_STREQ(target, "/dev/null") << fd;
  }
}

TEST_F(StreamsTest, CtlWithoutStandardStreamsEndsAsItsContainerDoes) {
  Start();
  std::vector<std::string> command = kClosingAll;
  for (const std::string& word : bed_->CtlCommand(
           {"run", "--rm", "-i", kImage, "sh", "-c", "echo out; echo err >&2; cat; exit 7"})) {
    command.push_back(word);
  }
  EXPECT_EQ(RunProgram(command).code, 7);
}

}  // namespace
}  // namespace gantry::integration
