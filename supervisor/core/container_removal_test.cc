// Removal on fake shims: it ends, whatever is in its way.
#include "supervisor/core/container_removal.h"

#include <string>
#include <thread>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/core/container_fixture.h"
#include "supervisor/metadata/scope.h"

namespace gantry::core {
namespace {

class ContainerRemovalTest : public ContainerFixture {
 protected:
  // Overwrites what is stored for a container with bytes that are no record.
  void Damage(metadata::Family family, const std::string& id) {
    const absl::Status written = db_->Run(
        [&](metadata::Transaction& tx) {
          return tx.Put(family, metadata::MakeKey(kNs, id), "\xff\xff\xff");
        },
        metadata::Durability::kSynced);
    ASSERT_TRUE(written.ok()) << written;
  }
};

TEST_F(ContainerRemovalTest, RunningIsRemovedOnlyByForce) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Remove(id)));
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
  EXPECT_TRUE(Remove(id, /*force=*/true).ok());
  EXPECT_FALSE(Exists(id));
  EXPECT_FALSE(tasks_->view().Exists(kNs, id));
}

TEST_F(ContainerRemovalTest, TakesTheSnapshotTheNameAndTheDirectoryAlong) {
  const std::string id = Make("web");
  ASSERT_TRUE(Remove("web").ok());
  EXPECT_TRUE(absl::IsNotFound(stores_.Snapshots("native", {kNs, ""})->Stat(id).status()));
  workers_->WaitIdle();
  EXPECT_TRUE(absl::IsNotFound(ListDirectory(records_->Directory(kNs, id)).status()));
  EXPECT_NE(Make("web"), "");
}

TEST_F(ContainerRemovalTest, IsFinishedByTheNextDaemon) {
  const std::string id = Make("web");
  LoadedContainer loaded = records_->Load(context_, id).value();
  ASSERT_TRUE(
      records_
          ->UpdateState(loaded, [](record::v1::ContainerState& state) { state.set_removing(true); })
          .ok());
  BeginAgain();
  EXPECT_TRUE(Eventually([&] { return !Exists(id); }));
}

TEST_F(ContainerRemovalTest, DamagedRecordIsShownAndRemoved) {
  const std::string id = Make("web");
  Make("db");
  Damage(metadata::Family::kContainers, id);
  v1::ListContainersRequest all;
  all.set_all(true);
  const absl::StatusOr<v1::ListContainersResponse> listed = view_->List(context_, all);
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_EQ(listed->containers_size(), 2);
  EXPECT_EQ(StateIs("web"), v1::CONTAINER_STATE_DEAD);
  EXPECT_THAT(Inspect("web").error(), testing::HasSubstr("damaged"));
  EXPECT_EQ(Start("web").code(), absl::StatusCode::kDataLoss);
  BeginAgain();  // expects that it starts
  EXPECT_TRUE(Remove("web").ok());
  EXPECT_FALSE(Exists(id));
}

TEST_F(ContainerRemovalTest, DamagedStateIsShownAndRemoved) {
  const std::string id = Make("web");
  Damage(metadata::Family::kContainerStates, id);
  EXPECT_EQ(StateIs("web"), v1::CONTAINER_STATE_DEAD);
  BeginAgain();
  EXPECT_TRUE(Remove("web").ok());
  EXPECT_FALSE(Exists(id));
}

TEST_F(ContainerRemovalTest, WhatHoldsItsSnapshotIsNamedAndWaitedFor) {
  const std::string id = Make("web");
  metadata::SnapshotNamespace snapshots = stores_.Snapshots("native", {kNs, ""}).value();
  ASSERT_TRUE(Remove(id).ok());
  // Another container's key names a committed snapshot that a third one stands on.
  const std::string held = Make("held");
  ASSERT_TRUE(snapshots.Commit("taken", held, {}).ok());
  ASSERT_TRUE(snapshots.Prepare("child", "taken", {}).ok());
  record::v1::Container record = records_->Load(context_, held)->record;
  record.set_snapshot_key("taken");
  ASSERT_TRUE(stores_.containers.Update({kNs, ""}, record, {"snapshotkey"}).ok());

  const absl::Status status = Remove("held");
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("its removal goes on by itself"));
  EXPECT_EQ(StateIs("held"), v1::CONTAINER_STATE_REMOVING);
  EXPECT_THAT(Inspect("held").error(), testing::StartsWith("removal waits for: "));
  EXPECT_EQ(Start("held").code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(snapshots.Remove("child").ok());
  EXPECT_TRUE(Eventually([&] { return !Exists(held); }));
  EXPECT_TRUE(absl::IsNotFound(snapshots.Stat("taken").status()));
}

TEST_F(ContainerRemovalTest, PartsThatAreGoneAlreadyDoNotKeepTheRest) {
  const std::string id = Make("web");
  ASSERT_TRUE(stores_.Snapshots("native", {kNs, ""})->Remove(id).ok());
  ASSERT_TRUE(RemoveTree(records_->Directory(kNs, id)).ok());
  EXPECT_TRUE(Remove("web").ok());
  EXPECT_FALSE(Exists(id));
  EXPECT_FALSE(stores_.containers.GetState({kNs, ""}, id)->has_value());
}

TEST_F(ContainerRemovalTest, TheSnapshotOfAnotherClientsContainerIsItsOwn) {
  metadata::SnapshotNamespace snapshots = stores_.Snapshots("native", {kNs, ""}).value();
  ASSERT_TRUE(snapshots.Prepare("theirs", "", {}).ok());
  metadata::NewContainer fresh;
  fresh.record.set_id("theirs");
  fresh.record.mutable_runtime()->set_name("runc");
  fresh.record.mutable_spec()->set_value("{}");
  fresh.record.set_snapshotter("native");
  fresh.record.set_snapshot_key("theirs");
  ASSERT_TRUE(stores_.containers.Create({kNs, ""}, fresh).ok());
  ASSERT_TRUE(Remove("theirs").ok());
  EXPECT_FALSE(Exists("theirs"));
  EXPECT_TRUE(snapshots.Stat("theirs").ok());
}

TEST_F(ContainerRemovalTest, TwoAtOnceRemoveItOnce) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  absl::Status first;
  std::thread other([&] { first = Remove(id, /*force=*/true); });
  const absl::Status second = Remove(id, /*force=*/true);
  other.join();
  for (const absl::Status& status : {first, second})
    EXPECT_TRUE(status.ok() || absl::IsNotFound(status)) << status;
  EXPECT_TRUE(first.ok() || second.ok());
  EXPECT_FALSE(Exists(id));
  EXPECT_TRUE(absl::IsNotFound(Remove(id)));
}

}  // namespace
}  // namespace gantry::core
