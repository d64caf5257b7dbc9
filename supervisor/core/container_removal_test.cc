// Removal on fake shims: it ends, whatever is in its way.
#include "supervisor/core/container_removal.h"

#include <string>

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
  EXPECT_FALSE(tasks_->Exists(kNs, id));
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

}  // namespace
}  // namespace gantry::core
