// buildkitd with its containerd worker, built from its Go module by `./dev test`, which says where
// the programs are by $GANTRY_BUILDKITD and $GANTRY_BUILDCTL: its executor is our task service, its
// caches are our snapshots and blobs, held by its leases.
//
// Run apart from the other tests, for it needs a Go toolchain and the module; without the programs
// it fails, and does not skip: it is `./dev test` that leaves it out, by name, where they cannot be
// built.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "integration/images.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::HasSubstr;

class BuildkitTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(geteuid(), 0u) << "containers need root";
    const char* daemon = getenv("GANTRY_BUILDKITD");
    const char* client = getenv("GANTRY_BUILDCTL");
    ASSERT_TRUE(daemon != nullptr && client != nullptr)
        << "GANTRY_BUILDKITD or GANTRY_BUILDCTL names no program; run ./dev test clients";
    client_ = client;
    bed_ = std::make_unique<Testbed>();
    context_ = bed_->scratch() + "/context";
    ASSERT_TRUE(MakeDirectories(context_, 0755).ok());
    ASSERT_TRUE(MakeBusyboxRoot(context_ + "/root").ok());
    ASSERT_TRUE(StartBuildkitd(daemon));
  }

  void TearDown() override {
    if (buildkitd_.pid() > 0) {
      EXPECT_TRUE(Ok(Buildctl({"prune", "--all"})));
      EXPECT_TRUE(buildkitd_.Kill(SIGTERM).ok());
      EXPECT_TRUE(buildkitd_.Wait(absl::Seconds(60)).ok()) << "buildkitd does not stop";
    }
    if (HasFailure() && bed_ != nullptr) {
      const absl::StatusOr<std::string> log = ReadFile(LogPath(), 64 << 20);
      if (log.ok()) std::fprintf(stderr, "--- buildkitd's log ---\n%s\n", log->c_str());
    }
    bed_.reset();
  }

  testing::AssertionResult StartBuildkitd(const std::string& daemon) {
    UniqueFd log(open(LogPath().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    const std::string config = bed_->scratch() + "/buildkitd.toml";
    if (absl::Status written = WriteFile(
            config,
            absl::StrCat(
                "[worker.oci]\nenabled = false\n[worker.containerd]\nenabled = true\naddress = \"",
                bed_->address(), "\"\nnamespace = \"", bed_->ns(),
                "\"\nnetworkMode = \"host\"\ndefaultCgroupParent = \"/gantry\"\n"),
            0600);
        !written.ok())
      return testing::AssertionFailure() << written;
    Command command;
    // exec all the way: what is spawned is buildkitd itself, in a network namespace that ends with
    // it.
    command.argv = {
        "unshare", "--net",    "sh",   "-c",     "ip link set lo up && exec \"$@\"", "sh",
        daemon,    "--config", config, "--root", bed_->scratch() + "/buildkit",      "--addr",
        Address()};
    command.stdout_fd = log.get();
    command.stderr_fd = log.get();
    command.new_session = true;
    absl::StatusOr<Process> started = Spawn(command);
    if (!started.ok()) return testing::AssertionFailure() << started.status();
    buildkitd_ = *std::move(started);
    bool answers = false;
    pollfd end = {buildkitd_.pidfd(), POLLIN, 0};
    Eventually(
        [&] {
          return (answers = Buildctl({"debug", "workers"}).ok()) || poll(&end, 1, 0) != 0;
        },
        absl::Seconds(60));
    if (!answers) return testing::AssertionFailure() << "buildkitd does not answer";
    return testing::AssertionSuccess();
  }

  std::string LogPath() const { return bed_->scratch() + "/buildkitd.log"; }
  std::string Address() const {
    return absl::StrCat("unix://", bed_->scratch(), "/buildkitd.sock");
  }
  Outcome Buildctl(std::vector<std::string> args) const {
    std::vector<std::string> argv = {client_, "--addr", Address()};
    argv.insert(argv.end(), args.begin(), args.end());
    return RunProgram(std::move(argv), "", absl::Seconds(120), {{"HOME", bed_->scratch()}});
  }
  // What it says of its progress is in `err`.
  Outcome Build(const std::string& dockerfile, const std::string& output) const {
    EXPECT_TRUE(WriteFile(context_ + "/Dockerfile", dockerfile, 0644).ok());
    return Buildctl({"build", "--progress", "plain", "--frontend", "dockerfile.v0", "--local",
                     "context=" + context_, "--local", "dockerfile=" + context_, "--opt",
                     "image-resolve-mode=local", "--output", output});
  }
  std::string RunImage(const std::string& image) const {
    const Outcome outcome = bed_->Ctr({"run", "--rm", image, "built"});
    EXPECT_TRUE(Ok(outcome));
    return outcome.out;
  }

  std::string client_;
  std::unique_ptr<Testbed> bed_;
  std::string context_;
  Process buildkitd_;
};

TEST_F(BuildkitTest, BuildsImagesThatRun) {
  const std::string dockerfile =
      "FROM scratch\n"
      "COPY root /\n"
      "RUN echo hello > /hello\n"
      "RUN --mount=type=cache,target=/cache echo x >> /cache/f && cp /cache/f /f\n"
      "CMD [\"cat\", \"/hello\"]\n";
  const std::string image = "type=image,unpack=true,name=docker.io/library/";
  ASSERT_TRUE(Ok(Build(dockerfile, image + "built:1")));
  EXPECT_EQ(RunImage("docker.io/library/built:1"), "hello\n");

  const Outcome again = Build(dockerfile, image + "built:2");
  ASSERT_TRUE(Ok(again));
  EXPECT_THAT(again.err, HasSubstr("CACHED"));

  // Layers that are made anew, compressed otherwise.
  ASSERT_TRUE(Ok(Build(
      dockerfile, image + "built:3,oci-mediatypes=true,compression=zstd,force-compression=true")));
  EXPECT_EQ(RunImage("docker.io/library/built:3"), "hello\n");

  // An image that stands on one of ours, and a step that fails.
  ASSERT_TRUE(
      Ok(Build("FROM docker.io/library/built:1\nRUN cat /hello /hello > /hello2\n"
               "CMD [\"cat\", \"/hello2\"]\n",
               image + "built:4")));
  EXPECT_EQ(RunImage("docker.io/library/built:4"), "hello\nhello\n");
  const Outcome failed = Build("FROM docker.io/library/built:1\nRUN exit 4\n", image + "built:5");
  EXPECT_NE(failed.code, 0);
  EXPECT_THAT(failed.err, HasSubstr("exit code: 4"));
}

TEST_F(BuildkitTest, ExportsWhatOthersCanLoad) {
  const std::string dockerfile = "FROM scratch\nCOPY root /\nCMD [\"echo\", \"out\"]\n";
  for (const std::string type : {"oci", "docker"}) {
    const std::string archive = absl::StrCat(bed_->scratch(), "/", type, ".tar");
    const std::string name = absl::StrCat("docker.io/library/out:", type);
    ASSERT_TRUE(
        Ok(Build(dockerfile, absl::StrCat("type=", type, ",name=", name, ",dest=", archive))));
    ASSERT_TRUE(Ok(bed_->Ctr({"images", "import", archive})));
    EXPECT_EQ(RunImage(name), "out\n");
  }
}

}  // namespace
}  // namespace gantry::integration
