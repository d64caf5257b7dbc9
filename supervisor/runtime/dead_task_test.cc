#include "supervisor/runtime/dead_task.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "shim/exit_record.h"
#include "shim/runtime_guard.h"

namespace gantry::runtime {
namespace {

class FindCgroupsTest : public testing::Test {
 protected:
  void Make(const std::string& path) {
    ASSERT_TRUE(MakeDirectories(dir_.path() + path, 0755).ok());
  }
  std::vector<std::string> Find(const std::string& cgroups_path) {
    std::vector<std::string> found;
    for (const std::string& path : FindCgroups(cgroups_path, "web", dir_.path())) {
      found.push_back(path.substr(dir_.path().size()));
    }
    return found;
  }
  using Paths = std::vector<std::string>;
  TempDir dir_;
};

TEST_F(FindCgroupsTest, V1HasOneInEachHierarchy) {
  Make("/memory/default/web");
  Make("/pids/default/web");
  Make("/cpu");
  Make("/unified/default/web");
  EXPECT_EQ(Find("/default/web"),
            (Paths{"/memory/default/web", "/pids/default/web", "/unified/default/web"}));
}

TEST_F(FindCgroupsTest, UnifiedHasOne) {
  ASSERT_TRUE(WriteFile(dir_.Join("cgroup.controllers"), "cpu memory\n").ok());
  Make("/default/web");
  Make("/memory/default/web");  // a cgroup that happens to be called so
  EXPECT_EQ(Find("/default/web"), (Paths{"/default/web"}));
}

TEST_F(FindCgroupsTest, SystemdNamesASliceAndAScope) {
  ASSERT_TRUE(WriteFile(dir_.Join("cgroup.controllers"), "cpu\n").ok());
  Make("/kubepods.slice/kubepods-burstable.slice/cri-web.scope");
  Make("/system.slice/gantry-web.scope");
  EXPECT_EQ(Find("kubepods-burstable.slice:cri:web"),
            (Paths{"/kubepods.slice/kubepods-burstable.slice/cri-web.scope"}));
  EXPECT_EQ(Find(":gantry:web"), (Paths{"/system.slice/gantry-web.scope"}));
}

TEST_F(FindCgroupsTest, NoPathMeansTheContainersId) {
  Make("/memory/web");
  EXPECT_EQ(Find(""), (Paths{"/memory/web"}));
}

TEST_F(FindCgroupsTest, TheRootAndWhatLiesOutsideAreNobodysCgroup) {
  Make("/memory");
  EXPECT_EQ(Find("/"), Paths{});
  EXPECT_EQ(Find("//."), Paths{});
  EXPECT_EQ(Find("/../memory"), Paths{});
  EXPECT_EQ(Find("/default/../../memory"), Paths{});
}

class ReapTest : public testing::Test {
 protected:
  ReapTest() : store_(BundleStore::Open(dir_.Join("state"), false, "boot").value()) {}

  // A program that stands for the runtime; what it was called with ends up in a file.
  std::string FakeRuntime(const std::string& script) {
    const std::string path = dir_.Join("runtime.sh");
    EXPECT_TRUE(
        WriteFile(path, "#!/bin/sh\necho \"$@\" >>" + dir_.Join("calls") + "\n" + script, 0755)
            .ok());
    return path;
  }
  Bundle Make(const std::string& runtime_path) {
    LaunchRecord launch;
    launch.create.mutable_runtime()->set_name("fake");
    launch.create.mutable_runtime()->set_path(runtime_path);
    launch.create.mutable_runtime()->set_state_root(dir_.Join("root"));
    launch.cgroup_path = "/gantry-dead-task-test/none";
    return store_->Create({"default", "web"}, "{}", launch).value();
  }
  TempDir dir_;
  std::unique_ptr<BundleStore> store_;
};

TEST_F(ReapTest, WithoutARecordTheExitIsMadeUpOnceAndKept) {
  const Bundle bundle = Make("/nonexistent/runtime");
  ASSERT_TRUE(MakeDirectories(dir_.Join("root/web"), 0700).ok());
  ASSERT_TRUE(WriteFile(dir_.Join("root/web/status"), R"({"pid":4711,"rootfs":"/x"})").ok());
  EXPECT_EQ(ReadTaskExit(bundle).status().code(), absl::StatusCode::kNotFound);
  const absl::StatusOr<TaskExit> exit = ReapDeadTask(bundle, "shim was killed", absl::Seconds(5));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->exit_status, 137u);
  EXPECT_EQ(exit->pid, 4711);
  EXPECT_TRUE(exit->synthesised);
  EXPECT_EQ(exit->reason, "shim was killed");
  const absl::StatusOr<TaskExit> again = ReapDeadTask(bundle, "something else", absl::Seconds(5));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->reason, "shim was killed");
}

TEST_F(ReapTest, InitPidIsReadFromTheStateOfEitherRuntime) {
  const Bundle bundle = Make("/nonexistent/runtime");
  EXPECT_EQ(ReadInitPid(bundle), 0);
  ASSERT_TRUE(MakeDirectories(dir_.Join("root/web"), 0700).ok());
  ASSERT_TRUE(WriteFile(dir_.Join("root/web/state.json"), R"({"init_process_pid":12})").ok());
  EXPECT_EQ(ReadInitPid(bundle), 12);
  ASSERT_TRUE(WriteFile(dir_.Join("root/web/status"), "{\"pid\":").ok());
  EXPECT_EQ(ReadInitPid(bundle), 12);
  ASSERT_TRUE(WriteFile(dir_.Join("root/web/status"), R"({"pid":13})").ok());
  EXPECT_EQ(ReadInitPid(bundle), 13);
}

TEST_F(ReapTest, TheShimsOwnRecordIsBelieved) {
  const Bundle bundle = Make("/nonexistent/runtime");
  shim::ExitRecord record;
  record.name_space = "default";
  record.id = "web";
  record.pid = 12;
  record.exit_status = 3;
  record.started_at = absl::FromUnixSeconds(1000);
  record.exited_at = absl::FromUnixSeconds(2000);
  record.oom_killed = true;
  ASSERT_TRUE(shim::WriteExitRecord(bundle.path(), record).ok());
  const absl::StatusOr<TaskExit> exit = ReapDeadTask(bundle, "gone", absl::Seconds(5));
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->exit_status, 3u);
  EXPECT_EQ(exit->exited_at, absl::FromUnixSeconds(2000));
  EXPECT_TRUE(exit->oom_killed);
  EXPECT_FALSE(exit->synthesised);
}

TEST_F(ReapTest, ARuntimeThatTheDeadShimHadAtWorkIsEndedFirst) {
  const Bundle bundle = Make("/nonexistent/runtime");
  UniqueFd guard(open((bundle.path() + shim::kRuntimeGuardFile).c_str(),
                      O_RDONLY | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(flock(guard.get(), LOCK_SH), 0);
  Command command;
  command.argv = {"sleep", "1000"};
  command.extra_fds = {{guard.get(), shim::kRuntimeGuardFd}};
  absl::StatusOr<Process> runtime = Spawn(command);
  ASSERT_TRUE(runtime.ok()) << runtime.status();
  guard.reset();
  ASSERT_TRUE(ReapDeadTask(bundle, "gone", absl::Seconds(20)).ok());
  const absl::StatusOr<ExitStatus> ended = runtime->Wait(absl::ZeroDuration());
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->signal, SIGKILL);
}

TEST_F(ReapTest, TheRuntimeIsToldToForget) {
  const Bundle bundle = Make(FakeRuntime("exit 0\n"));
  ASSERT_TRUE(MakeDirectories(dir_.Join("root/web"), 0700).ok());
  ASSERT_TRUE(ReapDeadTask(bundle, "gone", absl::Seconds(5)).ok());
  EXPECT_EQ(ReadFile(dir_.Join("calls"), 4096).value(),
            "--root " + dir_.Join("root") + " delete --force web\n");
  EXPECT_EQ(access(dir_.Join("root/web").c_str(), F_OK), -1);
}

TEST_F(ReapTest, ARuntimeThatHangsIsCutOffAndItsStateRemoved) {
  const Bundle bundle = Make(FakeRuntime("exec sleep 1000\n"));
  ASSERT_TRUE(MakeDirectories(dir_.Join("root/web"), 0700).ok());
  const absl::StatusOr<TaskExit> exit = ReapDeadTask(bundle, "gone", absl::Milliseconds(200));
  EXPECT_EQ(exit.status().code(), absl::StatusCode::kUnavailable) << exit.status();
  EXPECT_EQ(access(dir_.Join("root/web").c_str(), F_OK), -1);
  EXPECT_EQ(ReadTaskExit(bundle)->exit_status, 137u);
}

}  // namespace
}  // namespace gantry::runtime
