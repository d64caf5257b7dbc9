#include "supervisor/runtime/shim_launcher.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/temp_dir.h"

namespace gantry::runtime {
namespace {

// The zygote itself is tried with the real program, in integration/. Here: what happens when the
// program is not as it should be.
class ShimLauncherTest : public testing::Test {
 protected:
  ShimLauncherTest()
      : store_(BundleStore::Open(dir_.Join("state"), false, "boot").value()),
        bundle_(store_->Create({"default", "web"}, "{}", {}).value()) {}

  ShimLauncher::Options Options(const std::string& program) {
    ShimLauncher::Options options;
    options.shim_path = program;
    options.timeout = absl::Seconds(5);
    return options;
  }
  std::string Script(const std::string& text) {
    const std::string path = dir_.Join("shim.sh");
    EXPECT_TRUE(WriteFile(path, "#!/bin/sh\n" + text, 0755).ok());
    return path;
  }
  TempDir dir_;
  std::unique_ptr<BundleStore> store_;
  Bundle bundle_;
};

TEST_F(ShimLauncherTest, MissingProgramIsNotFoundAndNamesIt) {
  ShimLauncher launcher(Options("/nonexistent/gantry-shim"));
  const absl::StatusOr<LaunchedShim> shim = launcher.Launch(bundle_, "");
  EXPECT_EQ(shim.status().code(), absl::StatusCode::kNotFound) << shim.status();
  EXPECT_NE(shim.status().message().find("default/web"), std::string::npos);
  EXPECT_NE(shim.status().message().find("/nonexistent/gantry-shim"), std::string::npos);
  EXPECT_EQ(launcher.zygote_pid(), 0);
}

TEST_F(ShimLauncherTest, ShimThatDiesAtOnceIsAnErrorAndLeavesNoProcess) {
  ShimLauncher launcher(Options("/bin/false"));
  const absl::StatusOr<LaunchedShim> shim = launcher.Launch(bundle_, "");
  EXPECT_EQ(shim.status().code(), absl::StatusCode::kInternal) << shim.status();
  EXPECT_EQ(bundle_.ReadShimProcess().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ShimLauncherTest, ShimThatNeverListensIsKilledAtTheDeadline) {
  ShimLauncher::Options options =
      Options(Script("echo $$ >" + dir_.Join("pid") + "\nexec sleep 1000\n"));
  options.use_zygote = false;
  options.timeout = absl::Milliseconds(300);
  ShimLauncher launcher(options);
  const absl::StatusOr<LaunchedShim> shim = launcher.Launch(bundle_, "");
  EXPECT_EQ(shim.status().code(), absl::StatusCode::kDeadlineExceeded) << shim.status();
  const int pid = std::stoi(ReadFile(dir_.Join("pid"), 64).value());
  EXPECT_EQ(ReadStartTime(pid).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ShimLauncherTest, DirectShimIsToldWhatItNeedsAndIsWrittenDown) {
  // The report "I listen" is the shim's; any program that makes it counts as one here.
  ShimLauncher::Options options = Options(Script("echo \"$@\" >" + dir_.Join("args") +
                                                 "\necho ready >&3\nexec 3>&-\nexec sleep 1000\n"));
  options.use_zygote = false;
  ShimLauncher launcher(options);
  const absl::StatusOr<LaunchedShim> shim = launcher.Launch(bundle_, "");
  const std::string args = ReadFile(dir_.Join("args"), 4096).value();
  EXPECT_NE(args.find("--namespace default --id web --bundle " + bundle_.path() + " --socket " +
                      bundle_.socket_path() + " --ready-fd 3"),
            std::string::npos)
      << args;
  ASSERT_TRUE(shim.ok()) << shim.status();
  EXPECT_EQ(bundle_.ReadShimProcess().value(), shim->process);
  EXPECT_EQ(kill(shim->process.pid, SIGKILL), 0);
  pollfd ended = {shim->pidfd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 10000), 1);
  ReapIfChild(shim->pidfd.get());
  EXPECT_EQ(ReadStartTime(shim->process.pid).status().code(), absl::StatusCode::kNotFound);
}

TEST(OpenShimPidfdTest, AnotherProcessWithTheSameNumberIsNotFound) {
  const uint64_t start = ReadStartTime(getpid()).value();
  EXPECT_TRUE(OpenShimPidfd({getpid(), start}).ok());
  EXPECT_EQ(OpenShimPidfd({getpid(), start + 1}).status().code(), absl::StatusCode::kNotFound);
}

TEST(OpenShimPidfdTest, EndedProcessIsNotFoundAlsoWhileItIsAZombie) {
  Command command;
  command.argv = {"true"};
  Process process = Spawn(command).value();
  const absl::StatusOr<uint64_t> start = ReadStartTime(process.pid());
  ASSERT_TRUE(start.ok());
  const ShimProcess named{process.pid(), *start};
  // A zombie until it is waited for, which pidfd tells by being readable.
  absl::StatusOr<UniqueFd> pidfd = OpenShimPidfd(named);
  while (pidfd.ok()) pidfd = OpenShimPidfd(named);
  EXPECT_EQ(pidfd.status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(process.Wait().ok());
  EXPECT_EQ(OpenShimPidfd(named).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace gantry::runtime
