// Containers as they are stored, and what events say of them: found, changed by several at once,
// damaged, gone.
#include "supervisor/core/container_records.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/brief_containers.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/scope.h"

namespace gantry::core {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class ContainerRecordsTest : public ContainerFixture {
 protected:
  void Damage(metadata::Family family, const std::string& id) {
    const absl::Status written = db_->Run(
        [&](metadata::Transaction& tx) {
          return tx.Put(family, metadata::MakeKey(kNs, id), "\xff\xff\xff");
        },
        metadata::Durability::kSynced);
    ASSERT_TRUE(written.ok()) << written;
  }
  LoadedContainer Load(const std::string& container) {
    absl::StatusOr<LoadedContainer> loaded = records_->Load(context_, container);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *std::move(loaded) : LoadedContainer();
  }
};

TEST_F(ContainerRecordsTest, LoadGivesWhatWasAskedForAndTheState) {
  v1::ContainerConfig config = Config("always");
  (*config.mutable_labels())["team"] = "blue";
  const std::string id = Make("web", config);
  const LoadedContainer web = Load("web");
  EXPECT_EQ(web.id(), id);
  EXPECT_EQ(web.name, "web");
  EXPECT_EQ(web.ShownName(), "web");
  EXPECT_TRUE(web.ours);
  EXPECT_FALSE(web.damaged);
  EXPECT_EQ(web.config.restart_policy().name(), "always");
  EXPECT_EQ(web.state.status(), record::v1::ContainerState::CREATED);
  EXPECT_EQ(web.image_id, "");  // it has no image of ours
  EXPECT_TRUE(ContainerRecords::CheckReadable(web).ok());
}

TEST_F(ContainerRecordsTest, ChangesOfManyAtOnceAllCount) {
  const std::string id = Make("web");
  constexpr int kThreads = 4;
  constexpr int kEach = 25;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      LoadedContainer mine = records_->Load(context_, id).value();
      for (int n = 0; n < kEach; ++n) {
        EXPECT_TRUE(records_
                        ->UpdateState(
                            mine,
                            [](record::v1::ContainerState& state) {
                              state.set_restart_count(state.restart_count() + 1);
                            },
                            metadata::Durability::kBuffered)
                        .ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Stored(id).restart_count(), static_cast<uint32_t>(kThreads * kEach));
}

TEST_F(ContainerRecordsTest, AnErrorThatIsNoTextDoesNotDamageTheRecord) {
  const std::string id = Make("web");
  LoadedContainer loaded = Load(id);
  ASSERT_TRUE(records_
                  ->UpdateState(loaded,
                                [](record::v1::ContainerState& state) {
                                  state.set_error("port 80 is used by caf\xe9 (pid 7)");
                                  state.set_removal_waits_for("umount caf\xe9: busy");
                                })
                  .ok());
  EXPECT_EQ(Stored(id).error(), "port 80 is used by caf\xef\xbf\xbd (pid 7)");
  EXPECT_EQ(Stored(id).removal_waits_for(), "umount caf\xef\xbf\xbd: busy");
}

TEST_F(ContainerRecordsTest, AChangeStartsFromWhatOthersStoredMeanwhile) {
  const std::string id = Make("web");
  LoadedContainer first = Load(id);
  LoadedContainer second = Load(id);
  ASSERT_TRUE(records_
                  ->UpdateState(
                      first, [](record::v1::ContainerState& state) { state.set_error("no disk"); })
                  .ok());
  ASSERT_TRUE(
      records_
          ->UpdateState(second,
                        [](record::v1::ContainerState& state) { state.set_stopped_by_user(true); })
          .ok());
  EXPECT_EQ(Stored(id).error(), "no disk");
  EXPECT_TRUE(Stored(id).stopped_by_user());
  EXPECT_EQ(second.state.error(), "no disk");  // the loaded one is what is stored
  EXPECT_FALSE(first.state.stopped_by_user());
}

TEST_F(ContainerRecordsTest, TheStateOfAContainerThatIsGoneIsNotWritten) {
  const std::string id = Make("web");
  LoadedContainer late = Load(id);
  ASSERT_TRUE(Remove(id).ok());
  const absl::Status status = records_->UpdateState(
      late, [](record::v1::ContainerState& state) { state.set_starting(true); });
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_FALSE(stores_.containers.GetState({kNs, ""}, id)->has_value());
}

TEST_F(ContainerRecordsTest, ADamagedRecordIsLoadedByNameAndRefused) {
  const std::string id = Make("web");
  Damage(metadata::Family::kContainers, id);
  const LoadedContainer web = Load("web");
  EXPECT_TRUE(web.damaged);
  EXPECT_EQ(web.id(), id);
  EXPECT_EQ(web.name, "web");
  EXPECT_FALSE(web.ours);
  const absl::Status status = ContainerRecords::CheckReadable(web);
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(id), HasSubstr("only be removed")));
}

TEST_F(ContainerRecordsTest, ADamagedStateDoesNotHideTheRecord) {
  const std::string id = Make("web");
  Damage(metadata::Family::kContainerStates, id);
  const LoadedContainer web = Load(id);
  EXPECT_TRUE(web.damaged);
  EXPECT_TRUE(web.ours);
  EXPECT_EQ(web.config.image(), "image");
}

TEST_F(ContainerRecordsTest, AllAreListedWithTheDamagedOnesMarked) {
  const std::string a = Make("a");
  const std::string b = Make("b");
  const std::string c = Make("c");
  Damage(metadata::Family::kContainers, a);
  Damage(metadata::Family::kContainerStates, b);
  const absl::StatusOr<std::vector<LoadedContainer>> all = AllBriefly(stores_, kNs);
  ASSERT_TRUE(all.ok()) << all.status();
  std::vector<std::pair<std::string, bool>> shown;
  for (const LoadedContainer& one : *all) shown.emplace_back(one.name, one.damaged);
  EXPECT_THAT(shown, ElementsAre(Pair("a", true), Pair("b", true), Pair("c", false)));
  EXPECT_EQ(all->at(0).id(), a);
  EXPECT_EQ(all->at(2).id(), c);
  EXPECT_TRUE(AllBriefly(stores_, "k8s.io")->empty());
}

TEST_F(ContainerRecordsTest, AWaitForTheLockEndsWithTheCall) {
  const std::string id = Make("web");
  OperationLock held;
  ASSERT_TRUE(records_->LoadLocked(context_, id, held).ok());
  CancelToken cancel;
  CallContext impatient = context_;
  impatient.cancel = &cancel;
  absl::Notification done;
  absl::Status status;
  std::thread waiter([&] {
    OperationLock lock;
    status = records_->LoadLocked(impatient, "web", lock).status();
    done.Notify();
  });
  cancel.Cancel();
  EXPECT_TRUE(done.WaitForNotificationWithTimeout(kPatience));
  waiter.join();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  held = OperationLock();
  OperationLock lock;
  EXPECT_TRUE(records_->LoadLocked(context_, "web", lock).ok());
}

TEST_F(ContainerRecordsTest, WhoWaitedForTheLockSeesWhatItsHolderDid) {
  const std::string id = Make("web");
  auto held = std::make_unique<OperationLock>();
  LoadedContainer first = records_->LoadLocked(context_, id, *held).value();
  bool starting = false;
  std::thread waiter([&] {
    OperationLock lock;
    absl::StatusOr<LoadedContainer> loaded = records_->LoadLocked(context_, id, lock);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (loaded.ok()) starting = loaded->state.starting();
  });
  ASSERT_TRUE(
      records_
          ->UpdateState(first, [](record::v1::ContainerState& state) { state.set_starting(true); })
          .ok());
  held.reset();
  waiter.join();
  EXPECT_TRUE(starting);
}

TEST_F(ContainerRecordsTest, ANamelessContainerIsShownByTheBeginningOfItsId) {
  metadata::NewContainer fresh;
  fresh.record.set_id("0123456789abcdef0123");
  fresh.record.mutable_runtime()->set_name("runc");
  fresh.record.mutable_spec()->set_value("{}");
  ASSERT_TRUE(stores_.containers.Create({kNs, ""}, fresh).ok());
  const LoadedContainer theirs = Load("0123");
  EXPECT_EQ(theirs.ShownName(), "0123456789ab");
  EXPECT_FALSE(theirs.ours);
  EXPECT_EQ(*records_->ResolveId(context_, "0123"), "0123456789abcdef0123");
}

TEST_F(ContainerRecordsTest, AnIntentOfAnotherKindIsNotOurs) {
  record::v1::Container record;
  EXPECT_FALSE(ReadIntent(record).has_value());
  v1::ContainerConfig config = Config();
  config.set_hostname("box");
  WriteIntent(config, record);
  ASSERT_TRUE(ReadIntent(record).has_value());
  EXPECT_EQ(ReadIntent(record)->hostname(), "box");
  // A client of containerd's API may use the same key for something else.
  (*record.mutable_extensions())["gantry"].set_type_url("their.Type");
  EXPECT_FALSE(ReadIntent(record).has_value());
  WriteIntent(config, record);
  (*record.mutable_extensions())["gantry"].set_value("\xff\xff");
  EXPECT_FALSE(ReadIntent(record).has_value());
}

using EventSubjectsTest = ContainerRecordsTest;

TEST_F(EventSubjectsTest, SaysNameImageAndLabelsAlsoOfWhatHasGone) {
  v1::ContainerConfig config = Config();
  (*config.mutable_labels())["team"] = "blue";
  (*config.mutable_labels())["name"] = "a label cannot take the name's place";
  const std::string id = Make("web", config);
  const auto what =
      UnorderedElementsAre(Pair("name", "web"), Pair("image", "image"), Pair("team", "blue"));
  EXPECT_THAT(subjects_.Of(kNs, id), what);
  ASSERT_TRUE(Remove(id).ok());
  EXPECT_THAT(subjects_.Of(kNs, id), what);
  EXPECT_THAT(subjects_.Of("k8s.io", id), IsEmpty());
  EXPECT_THAT(subjects_.Of(kNs, "nobody"), IsEmpty());
}

TEST_F(EventSubjectsTest, ARecordThatIsThereWins) {
  const std::string id = Make("web");
  subjects_.Departs(kNs, id);
  ASSERT_TRUE(names_.Rename({kNs, ""}, id, "shop").ok());
  EXPECT_EQ(subjects_.Of(kNs, id).at("name"), "shop");
}

TEST_F(EventSubjectsTest, OnlyTheLastThatWentAreKept) {
  EventSubjects few(containers_, names_, 2);
  std::vector<std::string> ids;
  for (const char* name : {"a", "b", "c"}) ids.push_back(Make(name));
  for (const std::string& id : ids) few.Departs(kNs, id);
  few.Departs(kNs, ids[2]);  // twice counts once
  for (const std::string& id : ids) ASSERT_TRUE(Remove(id).ok());
  EXPECT_THAT(few.Of(kNs, ids[0]), IsEmpty());
  EXPECT_EQ(few.Of(kNs, ids[1]).at("name"), "b");
  EXPECT_EQ(few.Of(kNs, ids[2]).at("name"), "c");
}

}  // namespace
}  // namespace gantry::core
