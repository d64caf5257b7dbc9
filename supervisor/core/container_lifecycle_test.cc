// The life cycle on fake shims: what may be done in which state, and what becomes of calls that
// meet.
#include "supervisor/core/container_lifecycle.h"

#include <signal.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "supervisor/core/container_fixture.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ContainerLifecycleTest : public ContainerFixture {
 protected:
  // A container that ended and waits a minute for its restart.
  std::string Restarting(const std::string& name) {
    const std::string id = Make(name, Config("always"));
    EXPECT_TRUE(Start(id).ok());
    LoadedContainer loaded = records_->Load(context_, id).value();
    EXPECT_TRUE(
        records_
            ->UpdateState(loaded,
                          [](record::v1::ContainerState& state) { state.set_restart_count(50); })
            .ok());
    Shim(id).Exit("", 1);
    EXPECT_TRUE(Eventually([&] { return Stored(id).has_restart_at(); }));
    return id;
  }

  // A container whose process ignores the signal that a stop sends.
  std::string MakeDeaf() {
    v1::ContainerConfig config = Config();
    config.set_stop_signal("SIGUSR1");
    return Make("web", config);
  }

  std::vector<std::string> Listed(const std::string& key, const std::string& value) {
    v1::ListContainersRequest request;
    v1::Filter* filter = request.add_filters();
    filter->set_key(key);
    filter->set_value(value);
    std::vector<std::string> names;
    const absl::StatusOr<v1::ListContainersResponse> listed = view_->List(context_, request);
    for (const auto& container : listed->containers()) names.push_back(container.name());
    return names;
  }

  // What a list of ids holds, newest first.
  std::vector<std::string> Ids(const v1::ListContainersRequest& request) {
    v1::ListContainersRequest ids = request;
    ids.set_ids_only(true);
    std::vector<std::string> found;
    const absl::StatusOr<v1::ListContainersResponse> listed = view_->List(context_, ids);
    EXPECT_TRUE(listed.ok()) << listed.status();
    for (const auto& container : listed->containers()) found.push_back(container.id());
    return found;
  }
  std::vector<std::string> Ids(const std::string& key, const std::string& value) {
    v1::ListContainersRequest request;
    v1::Filter* filter = request.add_filters();
    filter->set_key(key);
    filter->set_value(value);
    return Ids(request);
  }
  void DamageRecord(const std::string& id) {
    const absl::Status damaged = db_->Run([&](metadata::Transaction& tx) {
      return tx.Put(metadata::Family::kContainers, metadata::MakeKey(kNs, id), "\xff\xff\xff");
    });
    ASSERT_TRUE(damaged.ok()) << damaged;
  }

  absl::Status Kill(const std::string& id, const std::string& signal = "") {
    return lifecycle_->Kill(context_, id, signal);
  }
};

TEST_F(ContainerLifecycleTest, StartAndExitAreInTheRecord) {
  const std::string id = Make("web");
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_CREATED);
  ASSERT_TRUE(Start(id).ok());
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
  EXPECT_FALSE(Stored(id).starting());
  Shim(id).Exit("", 7);
  ASSERT_TRUE(
      Eventually([&] { return Stored(id).status() == record::v1::ContainerState::STOPPED; }));
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_EXITED);
  EXPECT_EQ(Stored(id).exit_code(), 7u);
}

TEST_F(ContainerLifecycleTest, AStartFromACheckpointIsRefusedAndNotMadeAPlainOne) {
  const std::string id = Make("web");
  v1::StartContainerRequest request;
  request.set_container(id);
  request.set_checkpoint("before");
  const absl::Status refused = lifecycle_->Start(context_, request).status();
  EXPECT_TRUE(absl::IsUnimplemented(refused)) << refused;
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_CREATED);
}

TEST_F(ContainerLifecycleTest, ExitBeforeTheCreatesAnswerIsSettled) {
  const std::string id = Make("web");
  launcher_.OnLaunch(
      [](runtime::FakeShim& shim) { shim.BeforeAnswer([&shim] { shim.Exit("", 3); }); });
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(
      Eventually([&] { return Stored(id).status() == record::v1::ContainerState::STOPPED; }));
  EXPECT_EQ(Stored(id).exit_code(), 3u);
}

TEST_F(ContainerLifecycleTest, OneThatRemovesItselfAndDoesNotStartIsRemoved) {
  v1::ContainerConfig config = Config();
  config.set_auto_remove(true);
  const std::string id = Make("web", config);
  launcher_.OnLaunch([](runtime::FakeShim& shim) {
    shim.FailCalls("Create", absl::InternalError("no such program"));
  });
  EXPECT_THAT(std::string(Start(id).message()), testing::HasSubstr("no such program"));
  EXPECT_TRUE(absl::IsNotFound(view_->Inspect(context_, id, /*size=*/false).status()));
}

TEST_F(ContainerLifecycleTest, StartThatFailsSaysWhyAndCanBeRepeated) {
  const std::string id = Make("web");
  launcher_.OnLaunch([](runtime::FakeShim& shim) {
    shim.FailCalls("Create", absl::InternalError("no such program"));
  });
  EXPECT_FALSE(Start(id).ok());
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_CREATED);
  EXPECT_THAT(Inspect(id).error(), testing::HasSubstr("no such program"));
  EXPECT_FALSE(Stored(id).starting());
  launcher_.OnLaunch(nullptr);
  EXPECT_TRUE(Start(id).ok());
}

TEST_F(ContainerLifecycleTest, RestartingIsItsStateInListInspectAndFilter) {
  const std::string id = Restarting("web");
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RESTARTING);
  EXPECT_EQ(Inspect(id).summary().exit_code(), 1u);
  EXPECT_THAT(Listed("status", "restarting"), ElementsAre("web"));
  EXPECT_THAT(Listed("status", "exited"), IsEmpty());
  EXPECT_THAT(Listed("name", "web"), ElementsAre("web"));  // without --all: it is active
}

TEST_F(ContainerLifecycleTest, IdsAreThoseOfTheWholeList) {
  const std::string created = Make("created");
  const std::string exited = Make("exited");
  const std::string running = Make("running");
  const std::string restarting = Restarting("restarting");
  ASSERT_TRUE(Start(exited).ok());
  Shim(exited).Exit("", 3);
  ASSERT_TRUE(
      Eventually([&] { return Stored(exited).status() == record::v1::ContainerState::STOPPED; }));
  ASSERT_TRUE(Start(running).ok());
  v1::ListContainersRequest all;
  all.set_all(true);
  EXPECT_THAT(Ids(all), ElementsAre(restarting, running, exited, created));
  EXPECT_THAT(Ids({}), ElementsAre(restarting, running));
  all.set_limit(2);
  EXPECT_THAT(Ids(all), ElementsAre(restarting, running));
  EXPECT_THAT(Ids("status", "restarting"), ElementsAre(restarting));
  EXPECT_THAT(Ids("status", "created"), ElementsAre(created));
  EXPECT_THAT(Ids("exited", "3"), ElementsAre(exited));
  EXPECT_THAT(Ids("name", "^run"), ElementsAre(running));
  EXPECT_THAT(Ids("ancestor", "image"), ElementsAre(restarting, running));
  EXPECT_TRUE(Stop(restarting, 1).ok());
  EXPECT_THAT(Ids({}), ElementsAre(running));
}

TEST_F(ContainerLifecycleTest, WaitingForARestartIsKnownToTheNextDaemon) {
  const std::string id = Restarting("web");
  BeginAgain();
  EXPECT_THAT(Ids({}), ElementsAre(id));
}

TEST_F(ContainerLifecycleTest, ListsOfWhatRunsAndOfIdsReadNoOtherRecords) {
  const std::string other = Make("other");
  const std::string running = Make("running");
  ASSERT_TRUE(Start(running).ok());
  // A record that is read shows its damage.
  DamageRecord(other);
  DamageRecord(running);
  v1::ListContainersRequest all;
  all.set_all(true);
  EXPECT_THAT(Ids(all), ElementsAre(running, other));
  EXPECT_THAT(Ids({}), ElementsAre(running));
  EXPECT_THAT(Ids("status", "created"), ElementsAre(other));
  EXPECT_THAT(Ids("status", "dead"), testing::SizeIs(2));
}

TEST_F(ContainerLifecycleTest, PruneKeepsWhatIsRestarting) {
  const std::string id = Restarting("web");
  Make("old");
  const absl::StatusOr<v1::PruneContainersResponse> pruned =
      lifecycle_->Prune(context_, v1::PruneContainersRequest());
  ASSERT_TRUE(pruned.ok()) << pruned.status();
  EXPECT_EQ(pruned->deleted_size(), 1);
  EXPECT_TRUE(Exists(id));
  EXPECT_FALSE(Exists("old"));
}

TEST_F(ContainerLifecycleTest, RestartingIsRemovedOnlyByForce) {
  const std::string id = Restarting("web");
  const absl::Status refused = Remove(id);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("is restarting"));
  EXPECT_TRUE(Remove(id, /*force=*/true).ok());
  EXPECT_FALSE(Exists(id));
}

TEST_F(ContainerLifecycleTest, StopAndKillCallARestartOff) {
  for (const bool kill : {false, true}) {
    const std::string id = Restarting(kill ? "killed" : "stopped");
    EXPECT_TRUE((kill ? Kill(id) : Stop(id, 1)).ok());
    EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_EXITED);
    EXPECT_TRUE(Remove(id).ok());
  }
}

TEST_F(ContainerLifecycleTest, PolicyStartsItAgainAndCounts) {
  const std::string id = Make("web", Config("on-failure"));
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Exit("", 1);
  ASSERT_TRUE(Eventually([&] { return Stored(id).restart_count() == 1; }));
  ASSERT_TRUE(Eventually([&] { return StateIs(id) == v1::CONTAINER_STATE_RUNNING; }));
  EXPECT_TRUE(Eventually([&] { return !Stored(id).has_restart_at(); }));
}

TEST_F(ContainerLifecycleTest, KillKeepsWhatOthersChangedMeanwhile) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Freeze("Kill");
  std::thread killer([&] { (void)Kill(id); });
  ASSERT_TRUE(Shim(id).AwaitCalls("Kill"));
  LoadedContainer loaded = records_->Load(context_, id).value();
  ASSERT_TRUE(
      records_
          ->UpdateState(loaded, [](record::v1::ContainerState& state) { state.set_removing(true); })
          .ok());
  Shim(id).Unfreeze();
  killer.join();
  EXPECT_TRUE(Stored(id).removing());
  EXPECT_TRUE(Stored(id).stopped_by_user());
}

TEST_F(ContainerLifecycleTest, KillReturnsWhenTheProcessIsDead) {
  const std::string id = Make("web");
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Start(id).ok()) << i;
    ASSERT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING) << i;
    ASSERT_TRUE(Kill(id).ok()) << i;
    ASSERT_EQ(StateIs(id), v1::CONTAINER_STATE_EXITED) << i;
  }
  EXPECT_TRUE(Remove(id).ok());
}

TEST_F(ContainerLifecycleTest, TwoKillsAndAnExitLeaveOneEnd) {
  for (int i = 0; i < 10; ++i) {
    const std::string id = Make("web" + std::to_string(i), Config("always"));
    ASSERT_TRUE(Start(id).ok());
    std::thread first([&] { (void)Kill(id); });
    std::thread second([&] { (void)Kill(id); });
    Shim(id).Exit("", 5);
    first.join();
    second.join();
    // Either the exit came first and the policy starts it again, or a kill did and it stays
    // stopped; never half of each.
    const bool settled = Eventually([&] {
      const record::v1::ContainerState state = Stored(id);
      if (state.stopped_by_user())
        return !state.has_restart_at() && StateIs(id) == v1::CONTAINER_STATE_EXITED;
      return state.restart_count() == 1 && StateIs(id) == v1::CONTAINER_STATE_RUNNING;
    });
    EXPECT_TRUE(settled) << Stored(id).ShortDebugString();
    EXPECT_TRUE(Remove(id, /*force=*/true).ok());
  }
}

TEST_F(ContainerLifecycleTest, ForcedRemovalCutsAStopShort) {
  const std::string id = MakeDeaf();
  ASSERT_TRUE(Start(id).ok());
  std::thread stopper([&] { (void)Stop(id, 3600); });
  ASSERT_TRUE(Shim(id).AwaitCalls("Kill"));
  EXPECT_TRUE(Remove(id, /*force=*/true).ok());
  EXPECT_FALSE(Exists(id));
  stopper.join();
}

TEST_F(ContainerLifecycleTest, KillEndsAStop) {
  const std::string id = MakeDeaf();
  ASSERT_TRUE(Start(id).ok());
  absl::Status patient;
  std::thread stopper([&] { patient = Stop(id, 3600); });
  ASSERT_TRUE(Shim(id).AwaitCalls("Kill"));
  EXPECT_TRUE(Kill(id).ok());
  stopper.join();
  EXPECT_TRUE(patient.ok()) << patient;
}

TEST_F(ContainerLifecycleTest, CallWaitsForItsTurnNoLongerThanItsClient) {
  const std::string id = MakeDeaf();
  ASSERT_TRUE(Start(id).ok());
  std::thread stopper([&] { (void)Stop(id, 3600); });
  ASSERT_TRUE(Shim(id).AwaitCalls("Kill"));
  CancelToken token(absl::Milliseconds(20));
  CallContext hurried = context_;
  hurried.cancel = &token;
  EXPECT_EQ(lifecycle_->Pause(hurried, id).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(Kill(id).ok());
  stopper.join();
}

TEST_F(ContainerLifecycleTest, EndOfTheDaemonEndsAStop) {
  const std::string id = MakeDeaf();
  ASSERT_TRUE(Start(id).ok());
  absl::Status patient;
  std::thread stopper([&] { patient = Stop(id, 3600); });
  ASSERT_TRUE(Shim(id).AwaitCalls("Kill"));
  records_->locks().Stop("gantryd is stopping");
  stopper.join();
  EXPECT_FALSE(patient.ok());
  EXPECT_THAT(std::string(patient.message()), testing::HasSubstr("gantryd is stopping"));
}

TEST_F(ContainerLifecycleTest, RestartKeepsAContainerThatRemovesItself) {
  v1::ContainerConfig config = Config();
  config.set_auto_remove(true);
  const std::string id = Make("web", config);
  ASSERT_TRUE(Start(id).ok());
  v1::RestartContainerRequest request;
  request.set_container(id);
  request.set_timeout_seconds(0);
  const absl::Status restarted = lifecycle_->Restart(context_, request);
  ASSERT_TRUE(restarted.ok()) << restarted;
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
  EXPECT_FALSE(Stored(id).has_restart_at());
}

TEST_F(ContainerLifecycleTest, ANameMayBeWrittenWithASlashBeforeIt) {
  const std::string id = Make("web");
  EXPECT_EQ(records_->Load(context_, "/web")->id(), id);
  EXPECT_EQ(records_->ResolveId(context_, "/web").value(), id);
  EXPECT_TRUE(absl::IsNotFound(records_->ResolveId(context_, "//web").status()));
  EXPECT_TRUE(lifecycle_->Rename(context_, "/web", "/www").ok());
  EXPECT_EQ(records_->Load(context_, id)->name, "www");
}

TEST_F(ContainerLifecycleTest, RenameToItsOwnNameIsRefused) {
  const std::string id = Make("web");
  EXPECT_TRUE(absl::IsInvalidArgument(lifecycle_->Rename(context_, id, "web")));
  EXPECT_TRUE(lifecycle_->Rename(context_, id, "www").ok());
  EXPECT_EQ(Inspect("www").summary().id(), id);
}

TEST_F(ContainerLifecycleTest, UpdateOfNothingIsRefused) {
  const std::string id = Make("web");
  v1::UpdateContainerRequest request;
  request.set_container(id);
  EXPECT_TRUE(absl::IsInvalidArgument(lifecycle_->Update(context_, request).status()));
  request.mutable_restart_policy()->set_name("always");
  EXPECT_TRUE(lifecycle_->Update(context_, request).ok());
  EXPECT_EQ(Inspect(id).config().restart_policy().name(), "always");
}

TEST_F(ContainerLifecycleTest, PausedIsKilledAndStopped) {
  for (const bool kill : {false, true}) {
    const std::string id = Make(kill ? "killed" : "stopped");
    ASSERT_TRUE(Start(id).ok());
    ASSERT_TRUE(lifecycle_->Pause(context_, id).ok());
    EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_PAUSED);
    EXPECT_TRUE((kill ? Kill(id) : Stop(id, 0)).ok());
    EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_EXITED);
  }
}

TEST_F(ContainerLifecycleTest, PausedIsNotStarted) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(lifecycle_->Pause(context_, id).ok());
  const absl::Status started = Start(id);
  EXPECT_TRUE(absl::IsFailedPrecondition(started)) << started;
  EXPECT_THAT(std::string(started.message()), HasSubstr("try unpause instead"));
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_PAUSED);
}

TEST_F(ContainerLifecycleTest, WhatDoesNotRunIsNeitherKilledNorPaused) {
  const std::string id = Make("web");
  EXPECT_TRUE(absl::IsFailedPrecondition(Kill(id)));
  EXPECT_TRUE(absl::IsFailedPrecondition(lifecycle_->Pause(context_, id)));
  EXPECT_TRUE(absl::IsFailedPrecondition(lifecycle_->Unpause(context_, id)));
  EXPECT_TRUE(absl::IsNotFound(Kill("nobody")));
}

TEST_F(ContainerLifecycleTest, AStartOfWhatRunsSaysSo) {
  const std::string id = Make("web");
  v1::StartContainerRequest request;
  request.set_container(id);
  EXPECT_FALSE(lifecycle_->Start(context_, request)->already_running());
  EXPECT_TRUE(lifecycle_->Start(context_, request)->already_running());
}

TEST_F(ContainerLifecycleTest, AStopSaysWhetherItHadToKillAndWhetherItRan) {
  const std::string id = MakeDeaf();
  v1::StopContainerRequest request;
  request.set_container(id);
  request.set_timeout_seconds(0);
  EXPECT_TRUE(lifecycle_->Stop(context_, request)->not_running());
  ASSERT_TRUE(Start(id).ok());
  const absl::StatusOr<v1::StopContainerResponse> stopped = lifecycle_->Stop(context_, request);
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_TRUE(stopped->killed());
  EXPECT_FALSE(stopped->not_running());
  EXPECT_EQ(Stored(id).exit_code(), 137u);
  EXPECT_TRUE(Stored(id).stopped_by_user());
}

TEST_F(ContainerLifecycleTest, ASecondStopWithLessPatienceShortensTheFirst) {
  const std::string id = MakeDeaf();
  ASSERT_TRUE(Start(id).ok());
  absl::Status patient;
  std::thread stopper([&] { patient = Stop(id, 3600); });
  ASSERT_TRUE(Shim(id).AwaitCalls("Kill"));
  EXPECT_TRUE(Stop(id, 0).ok());
  stopper.join();
  EXPECT_TRUE(patient.ok()) << patient;
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_EXITED);
}

TEST_F(ContainerLifecycleTest, SignalsThatAreNoneAreRefused) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Kill(id, "SIGNONSENSE")));
  v1::StopContainerRequest request;
  request.set_container(id);
  request.set_signal("4711");
  EXPECT_TRUE(absl::IsInvalidArgument(lifecycle_->Stop(context_, request).status()));
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
}

TEST_F(ContainerLifecycleTest, ASignalThatDoesNotEndItLeavesTheRestartPolicyAlone) {
  const std::string id = Make("web", Config("always"));
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Kill(id, "HUP").ok());
  EXPECT_FALSE(Stored(id).stopped_by_user());
}

TEST_F(ContainerLifecycleTest, PauseAndUnpauseSayWhatIsInTheirWay) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(lifecycle_->Unpause(context_, id)));
  ASSERT_TRUE(lifecycle_->Pause(context_, id).ok());
  const absl::Status again = lifecycle_->Pause(context_, id);
  EXPECT_TRUE(absl::IsFailedPrecondition(again));
  EXPECT_THAT(std::string(again.message()), testing::HasSubstr("already paused"));
  ASSERT_TRUE(lifecycle_->Unpause(context_, id).ok());
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
  const std::string restarting = Restarting("restarting");
  const absl::Status refused = lifecycle_->Pause(context_, restarting);
  EXPECT_THAT(std::string(refused.message()),
              testing::HasSubstr("is restarting, wait until the container is running"));
}

TEST_F(ContainerLifecycleTest, ARestartOfWhatDoesNotRunStartsIt) {
  const std::string id = Make("web");
  v1::RestartContainerRequest request;
  request.set_container(id);
  ASSERT_TRUE(lifecycle_->Restart(context_, request).ok());
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
}

TEST_F(ContainerLifecycleTest, ARestartByAClientCountsNoRestartOfThePolicy) {
  const std::string id = Restarting("web");
  EXPECT_EQ(Stored(id).restart_count(), 50u);
  v1::RestartContainerRequest request;
  request.set_container(id);
  ASSERT_TRUE(lifecycle_->Restart(context_, request).ok());
  EXPECT_EQ(Stored(id).restart_count(), 0u);
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
}

TEST_F(ContainerLifecycleTest, ANameThatIsTakenOrCannotBeOneIsRefused) {
  const std::string id = Make("web");
  Make("db");
  EXPECT_TRUE(absl::IsAlreadyExists(lifecycle_->Rename(context_, id, "db")));
  EXPECT_TRUE(absl::IsInvalidArgument(lifecycle_->Rename(context_, id, "-web")));
  EXPECT_EQ(Inspect(id).summary().name(), "web");
}

TEST_F(ContainerLifecycleTest, AnUpdateThatTheShimRefusesIsNotOnRecord) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  Shim(id).FailCalls("Update", absl::InternalError("the kernel refuses"));
  v1::UpdateContainerRequest request;
  request.set_container(id);
  request.mutable_resources()->set_memory_bytes(64 << 20);
  EXPECT_FALSE(lifecycle_->Update(context_, request).ok());
  EXPECT_EQ(Inspect(id).config().resources().memory_bytes(), 0);
  Shim(id).FailCalls("Update", absl::OkStatus());
  const auto updated = lifecycle_->Update(context_, request);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(Inspect(id).config().resources().memory_bytes(), 64 << 20);
  EXPECT_THAT(records_->Load(context_, id)->record.spec().value(), testing::HasSubstr("67108864"));
}

TEST_F(ContainerLifecycleTest, OneThatRemovesItselfGetsNoRestartPolicy) {
  v1::ContainerConfig config = Config();
  config.set_auto_remove(true);
  const std::string id = Make("once", config);
  v1::UpdateContainerRequest request;
  request.set_container(id);
  request.mutable_restart_policy()->set_name("always");
  EXPECT_TRUE(absl::IsFailedPrecondition(lifecycle_->Update(context_, request).status()));
}

TEST_F(ContainerLifecycleTest, PruneTakesWhatItsFiltersLeave) {
  v1::ContainerConfig config = Config();
  (*config.mutable_labels())["keep"] = "yes";
  const std::string kept = Make("kept", config);
  const std::string pruned = Make("pruned");
  const std::string runs = Make("runs");
  ASSERT_TRUE(Start(runs).ok());
  v1::PruneContainersRequest request;
  v1::Filter* filter = request.add_filters();
  filter->set_key("label!");
  filter->set_value("keep=yes");
  const auto response = lifecycle_->Prune(context_, request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_THAT(response->deleted(), ElementsAre(pruned));
  EXPECT_TRUE(Exists(kept));
  EXPECT_TRUE(Exists(runs));
  filter->set_key("bogus");
  EXPECT_TRUE(absl::IsInvalidArgument(lifecycle_->Prune(context_, request).status()));
}

TEST_F(ContainerLifecycleTest, PruneUntilAMomentKeepsWhatIsYounger) {
  const std::string id = Make("web");
  v1::PruneContainersRequest request;
  v1::Filter* filter = request.add_filters();
  filter->set_key("until");
  filter->set_value("1h");
  ASSERT_TRUE(lifecycle_->Prune(context_, request).ok());
  EXPECT_TRUE(Exists(id));
}

}  // namespace
}  // namespace gantry::core
