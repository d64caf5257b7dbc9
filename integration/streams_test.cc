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

// A client whose standard output and error are a pipe that is not read yet.
struct SlowClient {
  SlowClient(const Testbed& bed, std::vector<std::string> args) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read_end.reset(ends[0]);
    const UniqueFd write_end(ends[1]);
    absl::StatusOr<Process> started = bed.SpawnCtl(std::move(args), write_end.get());
    EXPECT_TRUE(started.ok()) << started.status();
    if (started.ok()) process = *std::move(started);
  }
  // Reads to the end, and waits for the end of the client.
  size_t ReadAll() {
    size_t total = 0;
    std::vector<char> buffer(1 << 16);
    for (ssize_t count; (count = read(read_end.get(), buffer.data(), buffer.size())) > 0;) {
      total += static_cast<size_t>(count);
      last.assign(buffer.data(), static_cast<size_t>(count));
    }
    const absl::StatusOr<ExitStatus> ended = process.Wait(absl::Seconds(30));
    code = ended.ok() ? ended->code : -1;
    return total;
  }
  UniqueFd read_end;
  Process process;
  std::string last;  // of what was read
  int code = -1;
};

// More than the connections take in.
constexpr size_t kMuch = 64 << 20;
const std::vector<std::string> kWriteMuch = {"head", "-c", "67108864", "/dev/zero"};

std::vector<std::string> With(std::vector<std::string> words,
                              const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST_F(StreamsTest, ASlowReaderOfARunGetsEveryByteAfterTheContainerHasEnded) {
  Start();
  SlowClient client(*bed_, With({"run", "--name", "web", kImage}, kWriteMuch));
  EXPECT_TRUE(bed_->StatusBecomes("web", "exited"));
  EXPECT_TRUE(Ok(bed_->Ctl({"rm", "web"})));
  EXPECT_EQ(client.ReadAll(), kMuch);
  EXPECT_EQ(client.code, 0);
}

TEST_F(StreamsTest, ASlowReaderGetsEveryByteOfAContainerThatRemovesItself) {
  Start();
  SlowClient client(*bed_, With({"run", "--rm", "--log-opt", "max-size=100k", kImage}, kWriteMuch));
  EXPECT_TRUE(Eventually([&] { return !bed_->CtlOut({"ps", "-aq"}).empty(); }));
  EXPECT_TRUE(Eventually([&] { return bed_->Bundles().empty(); }));
  EXPECT_EQ(client.ReadAll(), kMuch);
  EXPECT_EQ(client.code, 0);
}

TEST_F(StreamsTest, WithoutALogTheContainerWaitsForItsReader) {
  Start();
  SlowClient client(*bed_,
                    With({"run", "--name", "web", "--log-driver", "none", kImage}, kWriteMuch));
  EXPECT_FALSE(bed_->StatusBecomes("web", "exited", absl::Seconds(2)));
  EXPECT_EQ(client.ReadAll(), kMuch);
  EXPECT_EQ(client.code, 0);
}

TEST_F(StreamsTest, AnExecWaitsForItsReader) {
  Start();
  bed_->CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
  SlowClient client(*bed_,
                    {"exec", "web", "sh", "-c", "head -c 67108864 /dev/zero; touch /finished"});
  EXPECT_FALSE(Eventually(
      [&] {
        return bed_->Ctl({"exec", "web", "ls", "/finished"}).ok();
      },
      absl::Seconds(2)));
  EXPECT_EQ(client.ReadAll(), kMuch);
  EXPECT_EQ(client.code, 0);
  EXPECT_TRUE(Ok(bed_->Ctl({"exec", "web", "ls", "/finished"})));
}

TEST_F(StreamsTest, AClientThatIsStoppedGetsEveryByteWhenItGoesOn) {
  Start();
  SlowClient client(
      *bed_, {"run", "--name", "web", kImage, "sh", "-c", "sleep 1; head -c 67108864 /dev/zero"});
  EXPECT_TRUE(bed_->StatusBecomes("web", "running"));
  EXPECT_TRUE(client.process.Kill(SIGSTOP).ok());
  EXPECT_TRUE(bed_->StatusBecomes("web", "exited"));
  EXPECT_TRUE(client.process.Kill(SIGCONT).ok());
  EXPECT_EQ(client.ReadAll(), kMuch);
  EXPECT_EQ(client.code, 0);
}

TEST_F(StreamsTest, TheDeathOfAShimIsToldAsSuch) {
  Start();
  SlowClient client(*bed_, {"run", "--name", "web", kImage, "sleep", "1000"});
  EXPECT_TRUE(bed_->StatusBecomes("web", "running"));
  SlowClient follower(*bed_, {"logs", "-f", "web"});
  const pid_t shim = bed_->ShimPid(bed_->Inspect("web", "{{.Id}}"));
  ASSERT_GT(shim, 0);
  ASSERT_EQ(kill(shim, SIGKILL), 0);
  client.ReadAll();
  EXPECT_EQ(client.code, 125);
  EXPECT_TRUE(absl::StrContains(client.last, "shim")) << client.last;
  EXPECT_FALSE(absl::StrContains(client.last, "gantryd")) << client.last;
  follower.ReadAll();
  EXPECT_NE(follower.code, 0);
  EXPECT_TRUE(bed_->StatusBecomes("web", "exited"));
  EXPECT_TRUE(absl::StrContains(bed_->Inspect("web", "{{.State.Error}}"), "shim died"));
  const Outcome again = bed_->Ctl({"logs", "-f", "web"});
  EXPECT_NE(again.code, 0);
  EXPECT_TRUE(absl::StrContains(again.err, "shim died")) << again.err;
}

TEST_F(StreamsTest, BytesThatAreNoTextAreReplacedInArgumentsAndRefusedInPaths) {
  Start();
  const std::string replaced = "caf\xef\xbf\xbd";
  const Outcome run = bed_->Ctl({"run", "--rm", "-e", "NAME=caf\xe9", "-l", "a=caf\xe9", kImage,
                                 "sh", "-c", "echo $NAME $0", "caf\xe9"});
  EXPECT_TRUE(Ok(run));
  EXPECT_EQ(run.out, absl::StrCat(replaced, " ", replaced, "\n"));
  const Outcome refused =
      bed_->Ctl({"run", "--rm", "-v", bed_->scratch() + "/caf\xe9:/mnt", kImage, "true"});
  EXPECT_NE(refused.code, 0);
  EXPECT_TRUE(absl::StrContains(refused.err, "not UTF-8")) << refused.err;
  bed_->CtlOut({"run", "-d", "--name", "web", kImage, "sleep", "1000"});
  const Outcome exec = bed_->Ctl({"exec", "-e", "NAME=caf\xe9", "web", "sh", "-c",
                                  "echo $NAME $0; printf 'caf\\351'", "caf\xe9"});
  EXPECT_TRUE(Ok(exec));
  EXPECT_EQ(exec.out, absl::StrCat(replaced, " ", replaced, "\ncaf\xe9"));
}

TEST_F(StreamsTest, AHealthCheckThatPrintsBytesThatAreNoTextCanBeInspected) {
  Start();
  bed_->CtlOut({"run", "-d", "--name", "web", "--health-cmd", "printf 'caf\\351'; exit 1",
                "--health-interval", "200ms", "--health-retries", "1", kImage, "sleep", "1000"});
  EXPECT_TRUE(
      Eventually([&] { return bed_->Inspect("web", "{{.State.Health.Status}}") == "unhealthy"; }));
  EXPECT_TRUE(absl::StrContains(bed_->Ctl({"inspect", "web"}).out, "caf\xef\xbf\xbd"));
}

}  // namespace
}  // namespace gantry::integration
