#include "supervisor/core/mount_activations.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "supervisor/gc/world.h"

namespace gantry::core {
namespace {

using Labels = std::map<std::string, std::string>;

class MountActivationsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    ASSERT_TRUE(MakeDirectories(Root()).ok());
    Reopen("boot");
    world_.collector.CollectMounts(*this_collects_.get());
  }
  void TearDown() override {
    if (activations_ == nullptr) return;
    for (const auto& each : activations_->Activations())
      EXPECT_TRUE(activations_->Remove(each.ns, each.name).ok());
    EXPECT_EQ(Left(), std::vector<std::string>());
  }

  std::string Root() const { return dir_.Join("data"); }
  std::vector<std::string> Left() const {
    return ListDirectory(dir_.Join("state/activations")).value();
  }
  void Reopen(const std::string& boot_id) {
    MountActivations::Parts parts;
    parts.db = world_.db.get();
    parts.root_directory = Root();
    parts.state_directory = dir_.Join("state");
    parts.boot_id = boot_id;
    activations_ = std::make_unique<MountActivations>(parts);
    ASSERT_TRUE(activations_->Open().ok());
  }
  absl::StatusOr<MountActivation> Activate(const std::string& name,
                                           std::vector<snapshot::Mount> mounts, Labels labels = {},
                                           bool temporary = false, const std::string& lease = "") {
    return activations_->Activate({.ns = "ns", .lease = lease, .cancel = nullptr},
                                  {.name = name,
                                   .mounts = std::move(mounts),
                                   .labels = std::move(labels),
                                   .temporary = temporary});
  }
  static snapshot::Mount Tmpfs() { return {.type = "tmpfs", .source = "tmpfs", .target = ""}; }
  static snapshot::Mount Bind(const std::string& source) {
    return {.type = "format/bind", .source = source, .target = "", .options = {"rbind"}};
  }
  static bool Mounted(const std::string& path) {
    return absl::StrContains(ReadFile("/proc/self/mountinfo", 4 << 20).value(),
                             absl::StrCat(" ", path, " "));
  }

  // Hands the collector's questions to whatever is open.
  class Forward final : public gc::MountSource {
   public:
    explicit Forward(std::unique_ptr<MountActivations>& to) : to_(to) {}
    std::vector<Activation> Activations() override { return to_->Activations(); }
    absl::Status Remove(const std::string& ns, const std::string& name) override {
      return to_->Remove(ns, name);
    }

   private:
    std::unique_ptr<MountActivations>& to_;
  };

  const CallContext context_ = {.ns = "ns", .lease = "", .cancel = nullptr};
  TempDir dir_;
  gc::World world_{dir_.Join("world"), Clock::Real()};
  std::unique_ptr<MountActivations> activations_;
  std::unique_ptr<Forward> this_collects_ = std::make_unique<Forward>(activations_);
};

TEST_F(MountActivationsTest, WhatTheKernelDoesAloneIsLeftToTheClient) {
  EXPECT_TRUE(absl::IsUnimplemented(Activate("m", {Tmpfs()}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Activate("", {Bind("x")}).status()));
  EXPECT_TRUE(absl::IsNotFound(activations_->Deactivate(context_, "m")));
}

TEST_F(MountActivationsTest, MountsAreMadeAndWhatRefersToThemIsReturned) {
  const auto made = Activate("m", {Tmpfs(), Bind("{{ mount 0 }}/sub")}, {{"l", "v"}});
  ASSERT_TRUE(made.ok()) << made.status();
  ASSERT_EQ(made->active.size(), 1u);
  const std::string at = made->active[0].mount_point;
  EXPECT_TRUE(Mounted(at));
  EXPECT_EQ(made->system,
            (std::vector<snapshot::Mount>{
                {.type = "bind", .source = at + "/sub", .target = "", .options = {"rbind"}}}));
  EXPECT_TRUE(absl::IsAlreadyExists(Activate("m", {Tmpfs(), Bind("x")}).status()));
  EXPECT_EQ(activations_->Info(context_, "m")->labels, (Labels{{"l", "v"}}));
  EXPECT_EQ(activations_->List(context_).size(), 1u);
  EXPECT_EQ(activations_->List({.ns = "other", .lease = "", .cancel = nullptr}).size(), 0u);
  EXPECT_EQ(activations_->Update(context_, "m", {{"k", "w"}}, {"labels.k"})->labels,
            (Labels{{"k", "w"}, {"l", "v"}}));
  ASSERT_TRUE(activations_->Deactivate(context_, "m").ok());
  EXPECT_FALSE(Mounted(at));
  EXPECT_TRUE(absl::IsNotFound(activations_->Info(context_, "m").status()));
}

TEST_F(MountActivationsTest, ATemporaryActivationMountsAllAndBindsTheLast) {
  const auto made = Activate("m", {Tmpfs(), Tmpfs()}, {}, /*temporary=*/true);
  ASSERT_TRUE(made.ok()) << made.status();
  ASSERT_EQ(made->active.size(), 2u);
  ASSERT_EQ(made->system.size(), 1u);
  EXPECT_EQ(made->system[0].source, made->active[1].mount_point);
}

TEST_F(MountActivationsTest, AFailureLeavesNothing) {
  EXPECT_FALSE(Activate("m", {Tmpfs(), {.type = "nonsense", .source = "x"}}, {}, true).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Activate("m", {Tmpfs(), Bind("{{ mount 5 }}")}).status()));
  EXPECT_EQ(Left(), std::vector<std::string>());
  EXPECT_TRUE(Activate("m", {Tmpfs(), Bind("{{ mount 0 }}")}).ok());
}

TEST_F(MountActivationsTest, DirectoriesAreMadeBelowTheRootOnly) {
  snapshot::Mount mount = {.type = "mkdir/bind", .source = Root() + "/new", .target = ""};
  mount.options = {"rbind", absl::StrCat("X-containerd.mkdir.path=", Root(), "/new:0751:7:8")};
  const auto made = Activate("m", {mount});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(made->active.empty());
  EXPECT_EQ(made->system[0].type, "bind");
  EXPECT_EQ(made->system[0].options, std::vector<std::string>{"rbind"});
  struct stat info;
  ASSERT_EQ(stat((Root() + "/new").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0751u);
  EXPECT_EQ(info.st_uid, 7u);
  EXPECT_EQ(info.st_gid, 8u);
  ASSERT_EQ(symlink("/", (Root() + "/out").c_str()), 0);
  for (const std::string& outside : {std::string("/nowhere/x"), Root() + "/../x",
                                     Root() + "/out/gantry-must-not-be", Root() + "/.."}) {
    mount.options = {absl::StrCat("X-containerd.mkdir.path=", outside)};
    EXPECT_FALSE(Activate("n", {mount}).ok()) << outside;
  }
  EXPECT_NE(access("/gantry-must-not-be", F_OK), 0);
}

TEST_F(MountActivationsTest, ARestartKeepsWhatIsCompleteAndEndsWhatIsNot) {
  const auto whole = Activate("whole", {Tmpfs(), Bind("{{ mount 0 }}")}, {{"l", "v"}});
  const auto half = Activate("half", {Tmpfs(), Bind("{{ mount 0 }}")});
  ASSERT_TRUE(whole.ok() && half.ok());
  // As a crash between the two records leaves it.
  const std::string at = half->active[0].mount_point;
  const std::string record = at.substr(0, at.rfind('/')) + "/record.json";
  std::string text = ReadFile(record, 1 << 20).value();
  text.replace(text.find("\"complete\":true"), 15, "\"complete\":false");
  ASSERT_TRUE(WriteFile(record, text).ok());
  Reopen("boot");
  EXPECT_FALSE(Mounted(at));
  EXPECT_TRUE(absl::IsNotFound(activations_->Info(context_, "half").status()));
  const auto again = activations_->Info(context_, "whole");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->system, whole->system);
  EXPECT_EQ(again->labels, (Labels{{"l", "v"}}));
  EXPECT_TRUE(Mounted(again->active[0].mount_point));
  EXPECT_TRUE(absl::IsAlreadyExists(Activate("whole", {Tmpfs(), Bind("x")}).status()));
  // Nothing of an earlier boot is still mounted.
  Reopen("next boot");
  EXPECT_TRUE(activations_->List(context_).empty());
  EXPECT_EQ(Left(), std::vector<std::string>());
}

TEST_F(MountActivationsTest, TheCollectorEndsWhatNothingKeeps) {
  world_.Lease("l", {}, "ns");
  world_.Committed("snapshot", "", {{"containerd.io/gc.root", "yes"}}, "ns");
  world_.Image("image", world_.Blob("x", {}, "ns"), {{"containerd.io/gc.ref.mount", "referred"}},
               "ns");
  const auto make = [&](const std::string& name, const Labels& labels, const std::string& lease) {
    EXPECT_TRUE(Activate(name, {Tmpfs(), Bind("{{ mount 0 }}")}, labels, false, lease).ok());
  };
  make("leased", {}, "l");
  make("root", {{"containerd.io/gc.root", "yes"}}, "");
  make("back", {{"containerd.io/gc.bref.snapshot.native", "snapshot"}}, "");
  make("referred", {}, "");
  make("nobody's", {}, "");
  const auto names = [&] {
    std::string text;
    for (const MountActivation& each : activations_->List(context_)) text += each.name + " ";
    return text;
  };
  world_.Collect();
  EXPECT_EQ(names(), "back leased referred root ");
  ASSERT_TRUE(world_.leases.Delete(metadata::Scope{.ns = "ns"}, "l").ok());
  ASSERT_TRUE(world_.Snapshots("ns").Update("snapshot", {}, {}).ok());
  ASSERT_TRUE(world_.images.Delete(metadata::Scope{.ns = "ns"}, "image").ok());
  world_.Collect();
  world_.Collect();
  EXPECT_EQ(names(), "root ");
  EXPECT_TRUE(absl::IsNotFound(Activate("m", {Bind("x")}, {}, false, "no lease").status()));
}

TEST_F(MountActivationsTest, AFileSystemIsMadeOnFirstUseAndMountedByLoop) {
  if (access("/dev/loop-control", F_OK) != 0 || access("/sbin/mkfs.ext4", X_OK) != 0)
    GTEST_SKIP() << "needs loop devices and mkfs.ext4";
  const std::string image = Root() + "/image";
  const snapshot::Mount loop = {.type = "mkfs/loop",
                                .source = image,
                                .target = "",
                                .options = {"X-containerd.mkfs.size=8MiB"}};
  const snapshot::Mount ext4 = {.type = "format/ext4", .source = "{{ mount 0 }}", .target = ""};
  for (const char* round : {"first", "second"}) {
    const auto made = Activate("m", {loop, ext4}, {}, /*temporary=*/true);
    ASSERT_TRUE(made.ok()) << made.status();
    const std::string file = made->active[1].mount_point + "/file";
    if (std::string(round) == "second") {
      EXPECT_EQ(ReadFile(file, 100).value_or("(gone)"), "first");
    }
    ASSERT_TRUE(WriteFile(file, round).ok());
    char device[64] = {};
    ASSERT_GT(readlink(made->active[0].mount_point.c_str(), device, sizeof(device) - 1), 0);
    Reopen("boot");
    ASSERT_TRUE(activations_->Deactivate(context_, "m").ok());
    const std::string backing =
        absl::StrCat("/sys/block/", std::string(device).substr(5), "/loop/backing_file");
    EXPECT_FALSE(absl::StrContains(ReadFile(backing, 4096).value_or(""), image));
  }
}

}  // namespace
}  // namespace gantry::core
