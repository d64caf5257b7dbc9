// The room's parts together, with the real gantry-shim and the real runtimes, but no daemon.

#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/dead_task.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_launcher.h"
#include "supervisor/runtime/shim_recovery.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::runtime {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(30);

std::string ShimProgram() {
  if (const char* path = getenv("GANTRY_SHIM")) return path;
  const char* sources = getenv("TEST_SRCDIR");
  const char* workspace = getenv("TEST_WORKSPACE");
  if (sources == nullptr || workspace == nullptr) return "out/bin/shim/gantry-shim";
  return absl::StrCat(sources, "/", workspace, "/shim/gantry-shim");
}

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kLimit;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

class RealShimTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    // Not TempDir: sockets need a short path.
    char base[] = "/tmp/rs-XXXXXX";
    ASSERT_NE(mkdtemp(base), nullptr);
    base_ = base;
    Open();
    for (const char* name : {"/bin", "/proc", "/dev"}) {
      ASSERT_TRUE(MakeDirectories(absl::StrCat(base_, "/rootfs", name), 0755).ok());
    }
    Command copy;
    copy.argv = {"cp", "/bin/busybox", base_ + "/rootfs/bin/busybox"};
    ASSERT_TRUE(RunCommand(copy)->status.ok());
    for (const char* name : {"sh", "sleep"}) {
      ASSERT_EQ(symlink("busybox", absl::StrCat(base_, "/rootfs/bin/", name).c_str()), 0);
    }
    probe_ =
        std::make_unique<RuntimeProbe>(std::map<std::string, RuntimeSettings>(), base_ + "/state");
    ShimLauncher::Options options;
    options.shim_path = ShimProgram();
    launcher_ = std::make_unique<ShimLauncher>(options);
  }
  void TearDown() override {
    if (base_.empty()) return;
    launcher_.reset();
    const absl::StatusOr<std::vector<FoundBundle>> left = store_->List();
    ASSERT_TRUE(left.ok()) << left.status();
    for (const FoundBundle& found : *left) {
      if (found.bundle.ok()) (void)ReapDeadTask(*found.bundle, "end of the test", kLimit);
      EXPECT_TRUE(store_->Remove(found.key).ok());
    }
    EXPECT_TRUE(store_->ReleaseMount().ok());
    EXPECT_TRUE(RemoveTree(base_).ok());
  }
  void Open() {
    auto store = BundleStore::Open(base_ + "/state");
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  absl::StatusOr<Bundle> Prepare(const std::string& id, const std::string& script) {
    auto runtime = probe_->Resolve(GetParam());
    if (!runtime.ok()) return runtime.status();
    LaunchRecord launch;
    launch.created_at = absl::Now();
    launch.cgroup_path = absl::StrCat("/gantry-real-shim-test/", base_.substr(5), id);
    launch.private_pid_namespace = true;
    *launch.create.mutable_runtime() = runtime->ForShim("test");
    launch.create.set_start(true);
    const std::string config = absl::StrCat(
        R"({"ociVersion":")", runtime->oci_version_max,
        R"(","process":{"cwd":"/","args":["/bin/sh","-c",")", script,
        R"("],"env":["PATH=/bin"],"user":{"uid":0,"gid":0}},"root":{"path":")", base_,
        R"(/rootfs"},)",
        R"("mounts":[{"destination":"/proc","type":"proc","source":"proc"}],"linux":{"cgroupsPath":")",
        launch.cgroup_path,
        R"(","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network"}]}})");
    return store_->Create({"test", id}, config, launch);
  }
  // Exit status of the init process, or -1.
  static int ExitOf(Shim& shim) {
    const auto ended = shim.client().Wait({});
    EXPECT_TRUE(ended.ok()) << ended.status();
    return ended.ok() ? static_cast<int>(ended->exit_status()) : -1;
  }
  // Bundle, shim, container.
  std::shared_ptr<Shim> Run(const std::string& id, const std::string& script) {
    absl::StatusOr<Bundle> bundle = Prepare(id, script);
    EXPECT_TRUE(bundle.ok()) << bundle.status();
    if (!bundle.ok()) return nullptr;
    absl::StatusOr<LaunchedShim> launched = launcher_->Launch(*bundle, "");
    EXPECT_TRUE(launched.ok()) << launched.status();
    if (!launched.ok()) return nullptr;
    auto shim = std::make_shared<Shim>(*bundle, launched->process, std::move(launched->pidfd));
    const auto created = shim->client().Create(bundle->launch().create);
    EXPECT_TRUE(created.ok()) << created.status();
    return created.ok() ? shim : nullptr;
  }
  std::vector<std::string> Cgroups(const Bundle& bundle) {
    return FindCgroups(bundle.launch().cgroup_path, bundle.key().container_id, "/sys/fs/cgroup");
  }
  // The shim that stands by; 0 if there is none.
  pid_t StandbyPid() const {
    const pid_t zygote = launcher_->zygote_pid();
    const auto children =
        ReadFile(absl::StrCat("/proc/", zygote, "/task/", zygote, "/children"), 64 << 10);
    if (!children.ok()) return 0;
    for (absl::string_view child : absl::StrSplit(*children, ' ', absl::SkipWhitespace())) {
      pid_t pid = 0;
      const auto title = ReadFile(absl::StrCat("/proc/", child, "/cmdline"), 4096);
      if (title.ok() && absl::StrContains(*title, "--standby") && absl::SimpleAtoi(child, &pid)) {
        return pid;
      }
    }
    return 0;
  }
  static bool Alive(pid_t pid) { return access(absl::StrCat("/proc/", pid).c_str(), F_OK) == 0; }

  std::string base_;
  std::unique_ptr<BundleStore> store_;
  std::unique_ptr<RuntimeProbe> probe_;
  std::unique_ptr<ShimLauncher> launcher_;
};

TEST_P(RealShimTest, WholeLifeThroughTheZygote) {
  const auto shim = Run("life", "exit 5");
  ASSERT_NE(shim, nullptr);
  EXPECT_GT(launcher_->zygote_pid(), 0);
  EXPECT_EQ(shim->bundle().ReadShimProcess().value(), shim->process());
  EXPECT_EQ(ExitOf(*shim), 5);
  const auto deleted = shim->client().Delete({});
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ(deleted->exit_status(), 5u);
  EXPECT_TRUE(shim->WaitGone(kLimit).ok()) << "the shim stays after its container is deleted";
  EXPECT_TRUE(Cgroups(shim->bundle()).empty());
  EXPECT_TRUE(store_->Remove(shim->key()).ok());
}

TEST_P(RealShimTest, DirectSpawnDoesTheSame) {
  ShimLauncher::Options options;
  options.shim_path = ShimProgram();
  options.use_zygote = false;
  launcher_ = std::make_unique<ShimLauncher>(options);
  const auto shim = Run("direct", "exit 6");
  ASSERT_NE(shim, nullptr);
  EXPECT_EQ(launcher_->zygote_pid(), 0);
  EXPECT_EQ(ExitOf(*shim), 6);
  EXPECT_TRUE(shim->client().Delete({}).ok());
  EXPECT_TRUE(shim->WaitGone(kLimit).ok());
  EXPECT_FALSE(Alive(shim->process().pid)) << "a zombie is left";
}

TEST_P(RealShimTest, KilledZygoteIsReplacedAndItsShimsLiveOn) {
  const auto first = Run("first", "exec sleep 1000");
  ASSERT_NE(first, nullptr);
  const pid_t zygote = launcher_->zygote_pid();
  ASSERT_EQ(kill(zygote, SIGKILL), 0);
  const auto second = Run("second", "exit 0");
  ASSERT_NE(second, nullptr);
  EXPECT_NE(launcher_->zygote_pid(), zygote);
  EXPECT_EQ(first->client().Info()->init().status(), shim::v1::STATUS_RUNNING);
  shim::v1::DeleteRequest force;
  force.set_force(true);
  EXPECT_TRUE(first->client().Delete(force).ok());
  EXPECT_TRUE(second->client().Delete(force).ok());
}

TEST_P(RealShimTest, AShimStandsByAndTheNextContainerGetsIt) {
  ASSERT_TRUE(probe_->Resolve(GetParam()).ok());  // which mounts something to try the runtime
  ASSERT_TRUE(launcher_->WarmUp().ok());
  pid_t standby = 0;
  ASSERT_TRUE(Eventually([&] { return (standby = StandbyPid()) != 0; }));
  const auto first = Run("first", "exit 4");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->process().pid, standby);
  EXPECT_EQ(ExitOf(*first), 4);
  EXPECT_TRUE(first->client().Delete({}).ok());
  EXPECT_TRUE(first->WaitGone(kLimit).ok());
  const auto title = ReadFile(absl::StrCat("/proc/", launcher_->zygote_pid(), "/cmdline"), 4096);
  EXPECT_TRUE(title.ok() && absl::StrContains(*title, "--zygote"))
      << "a shim's title is the zygote's";
  ASSERT_TRUE(Eventually([&] { return (standby = StandbyPid()) != 0; })) << "no successor";
}

TEST_P(RealShimTest, AShimThatHasSeenOtherMountsIsNotUsed) {
  ASSERT_TRUE(launcher_->WarmUp().ok());
  pid_t standby = 0;
  ASSERT_TRUE(Eventually([&] { return (standby = StandbyPid()) != 0; }));
  const std::string disk = base_ + "/disk";
  ASSERT_TRUE(MakeDirectories(disk, 0755).ok());
  ASSERT_EQ(mount("none", disk.c_str(), "tmpfs", 0, nullptr), 0);
  const auto shim = Run("fresh", "exit 0");
  EXPECT_EQ(umount(disk.c_str()), 0);
  ASSERT_NE(shim, nullptr);
  EXPECT_NE(shim->process().pid, standby);
  EXPECT_EQ(ExitOf(*shim), 0);
  EXPECT_TRUE(shim->client().Delete({}).ok());
  EXPECT_TRUE(Eventually([&] { return !Alive(standby); })) << "what is of no use stays";
}

TEST_P(RealShimTest, WhatStandsByKeepsNoMountOfTheHostBusy) {
  ASSERT_TRUE(launcher_->WarmUp().ok());
  pid_t standby = 0;
  ASSERT_TRUE(Eventually([&] { return (standby = StandbyPid()) != 0; }));
  const std::string disk = base_ + "/disk";
  ASSERT_TRUE(MakeDirectories(disk, 0755).ok());
  ASSERT_EQ(mount("none", disk.c_str(), "tmpfs", 0, nullptr), 0);
  EXPECT_TRUE(Eventually([&] { return !Alive(standby); }));
  ASSERT_TRUE(Eventually([&] { return (standby = StandbyPid()) != 0; })) << "no successor";
  ASSERT_EQ(umount(disk.c_str()), 0);
  EXPECT_TRUE(Eventually([&] { return !Alive(standby); }));
}

TEST_P(RealShimTest, AShimThatDiedWhileItStoodByIsNotMissed) {
  ASSERT_TRUE(launcher_->WarmUp().ok());
  pid_t standby = 0;
  ASSERT_TRUE(Eventually([&] { return (standby = StandbyPid()) != 0; }));
  ASSERT_EQ(kill(standby, SIGKILL), 0);
  ASSERT_TRUE(Eventually([&] { return !Alive(standby); }));
  const auto shim = Run("cold", "exit 0");
  ASSERT_NE(shim, nullptr);
  EXPECT_EQ(ExitOf(*shim), 0);
  EXPECT_TRUE(shim->client().Delete({}).ok());
}

TEST_P(RealShimTest, WhatStandsByEndsWithTheZygote) {
  ASSERT_TRUE(launcher_->WarmUp().ok());
  pid_t standby = 0;
  ASSERT_TRUE(Eventually([&] { return (standby = StandbyPid()) != 0; }));
  ASSERT_EQ(kill(launcher_->zygote_pid(), SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return !Alive(standby); }));
}

TEST_P(RealShimTest, ShimsOutliveTheSupervisorAndAreAdopted) {
  const auto shim = Run("kept", "exec sleep 1000");
  ASSERT_NE(shim, nullptr);
  launcher_.reset();
  Open();
  absl::StatusOr<std::vector<RecoveredTask>> tasks = RecoverShims(*store_, kLimit);
  ASSERT_TRUE(tasks.ok());
  ASSERT_EQ(tasks->size(), 1u);
  EXPECT_EQ((*tasks)[0].verdict, Verdict::kAdopt) << (*tasks)[0].reason;
  EXPECT_EQ((*tasks)[0].info->init().status(), shim::v1::STATUS_RUNNING);
  shim::v1::DeleteRequest force;
  force.set_force(true);
  EXPECT_TRUE((*tasks)[0].shim->client().Delete(force).ok());
  EXPECT_TRUE((*tasks)[0].shim->WaitGone(kLimit).ok());
}

TEST_P(RealShimTest, EventsTellCreateStartAndExitAndAnExitMissedIsStillTold) {
  const auto shim = Run("told", "exit 3");
  ASSERT_NE(shim, nullptr);
  EXPECT_EQ(ExitOf(*shim), 3);
  absl::Mutex mu;
  std::vector<std::string> seen;
  const auto stream = shim->client().Events(
      0,
      [&](const shim::v1::Event& event) {
        absl::MutexLock lock(&mu);
        if (event.has_created()) seen.push_back("created");
        if (event.has_started()) seen.push_back("started");
        if (event.has_exited())
          seen.push_back(absl::StrCat("exited ", event.exited().exit_status()));
      },
      [](const absl::Status&) {});
  EXPECT_TRUE(Eventually([&] {
    absl::MutexLock lock(&mu);
    return seen == std::vector<std::string>{"created", "started", "exited 3"};
  }));
  EXPECT_TRUE(shim->client().Delete({}).ok());
}

TEST_P(RealShimTest, KilledShimIsNoticedAndItsContainerRemovedFromTheMachine) {
  const auto shim = Run("orphan", "exec sleep 1000");
  ASSERT_NE(shim, nullptr);
  const pid_t init = shim->client().Info()->init().pid();
  EXPECT_EQ(ReadInitPid(shim->bundle()), init);
  EXPECT_FALSE(Cgroups(shim->bundle()).empty());
  std::atomic<bool> gone = false;
  ShimRegistry registry([&](std::shared_ptr<Shim>) { gone = true; });
  ASSERT_TRUE(registry.Add(shim).ok());
  ASSERT_TRUE(shim->KillShim().ok());
  ASSERT_TRUE(Eventually([&] { return gone.load(); }));

  const absl::StatusOr<TaskExit> exit = ReapDeadTask(shim->bundle(), "its shim was killed", kLimit);
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->exit_status, 137u);
  EXPECT_EQ(exit->pid, init);
  EXPECT_TRUE(exit->synthesised);
  EXPECT_TRUE(Eventually([&] { return !Alive(init); }));
  EXPECT_TRUE(Cgroups(shim->bundle()).empty());
  EXPECT_EQ(
      access(absl::StrCat(shim->bundle().launch().create.runtime().state_root(), "/orphan").c_str(),
             F_OK),
      -1);
}

TEST_P(RealShimTest, LaunchThatWasNeverFollowedByCreateIsReaped) {
  absl::StatusOr<Bundle> bundle = Prepare("unborn", "exit 0");
  ASSERT_TRUE(bundle.ok());
  absl::StatusOr<LaunchedShim> launched = launcher_->Launch(*bundle, "");
  ASSERT_TRUE(launched.ok()) << launched.status();
  absl::StatusOr<std::vector<RecoveredTask>> tasks = RecoverShims(*store_, kLimit);
  ASSERT_EQ(tasks->size(), 1u);
  EXPECT_EQ((*tasks)[0].verdict, Verdict::kReap) << (*tasks)[0].reason;
  ASSERT_NE((*tasks)[0].shim, nullptr);
  EXPECT_TRUE((*tasks)[0].shim->client().Shutdown({}).ok());
  EXPECT_TRUE((*tasks)[0].shim->WaitGone(kLimit).ok());
}

TEST_P(RealShimTest, NoMountOfAContainerIsSeenOnTheHost) {
  const auto shim = Run("hidden", "exec sleep 1000");
  ASSERT_NE(shim, nullptr);
  const std::string mounts = ReadFile("/proc/self/mountinfo", 16 << 20).value();
  EXPECT_EQ(mounts.find("hidden"), std::string::npos);
  EXPECT_NE(mounts.find(base_ + "/state/tasks"), std::string::npos);
  shim::v1::DeleteRequest force;
  force.set_force(true);
  EXPECT_TRUE(shim->client().Delete(force).ok());
  EXPECT_TRUE(shim->WaitGone(kLimit).ok());
  EXPECT_TRUE(store_->Remove(shim->key()).ok());
  EXPECT_TRUE(store_->ReleaseMount().ok());
  EXPECT_EQ(ReadFile("/proc/self/mountinfo", 16 << 20)->find(base_), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(All, RealShimTest, testing::Values("crun", "runc"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace gantry::runtime
