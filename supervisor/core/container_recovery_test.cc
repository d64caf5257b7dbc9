// What a daemon makes of what the one before it left, on fake shims.
#include "supervisor/core/container_recovery.h"

#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/core/container_fixture.h"

namespace gantry::core {
namespace {

using State = record::v1::ContainerState;

class ContainerRecoveryTest : public ContainerFixture {
 protected:
  void Change(const std::string& id, const std::function<void(State&)>& change) {
    LoadedContainer loaded = records_->Load(context_, id).value();
    ASSERT_TRUE(records_->UpdateState(loaded, change).ok());
  }
  static v1::ContainerConfig RemovingItself() {
    v1::ContainerConfig config = Config();
    config.set_auto_remove(true);
    return config;
  }
};

TEST_F(ContainerRecoveryTest, RunningStaysRunning) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  BeginAgain();
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
  Shim(id).Exit("", 4);
  EXPECT_TRUE(Eventually([&] { return Stored(id).status() == State::STOPPED; }));
  EXPECT_EQ(Stored(id).exit_code(), 4u);
}

TEST_F(ContainerRecoveryTest, ExitWhileNoDaemonRanIsSettled) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  End();
  Shim(id).Exit("", 4);
  BeginAgain();
  EXPECT_TRUE(Eventually([&] { return Stored(id).status() == State::STOPPED; }));
  EXPECT_EQ(Stored(id).exit_code(), 4u);
}

TEST_F(ContainerRecoveryTest, StartOfARunThatWasCutOffIsRemoved) {
  const std::string cut_off = Make("run", RemovingItself(), /*starting=*/true);
  const std::string created = Make("created", RemovingItself());
  BeginAgain();
  EXPECT_TRUE(Eventually([&] { return !Exists(cut_off); }));
  EXPECT_EQ(StateIs(created), v1::CONTAINER_STATE_CREATED);
}

// Of the shim of such a start that answers no daemon any more, and dies when all are served.
TEST_F(ContainerRecoveryTest, StartThatWasCutOffIsSettledByTheEndOfItsShim) {
  const std::string run = Make("run", RemovingItself(), /*starting=*/true);
  const std::string other = Make("web", Config(), /*starting=*/true);
  const std::string created = Make("created", RemovingItself());
  Process ended;
  ended.exit_status = 137;
  for (const std::string& id : {run, other, created}) {
    ended.container_id = id;
    recovery_->OnExit(context_.ns, ended);
  }
  EXPECT_TRUE(Eventually([&] { return !Exists(run); }));
  EXPECT_THAT(Inspect(other).error(), testing::HasSubstr("while it was being started"));
  EXPECT_EQ(StateIs(created), v1::CONTAINER_STATE_CREATED);
}

TEST_F(ContainerRecoveryTest, StartThatWasCutOffIsToldInItsError) {
  const std::string id = Make("web", Config(), /*starting=*/true);
  BeginAgain();
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_CREATED);
  EXPECT_THAT(Inspect(id).error(), testing::HasSubstr("while it was being started"));
  EXPECT_TRUE(Start(id).ok());
}

TEST_F(ContainerRecoveryTest, WhatWentDownWithTheMachineHasEnded) {
  const std::string id = Make("web");
  Change(id, [](State& state) { state.set_status(State::RUNNING); });
  BeginAgain();
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_EXITED);
  EXPECT_EQ(Stored(id).exit_code(), 255u);
}

TEST_F(ContainerRecoveryTest, WhatWentDownWithTheMachineIsRemovedOrStartedAsAsked) {
  const std::string removed = Make("removed", RemovingItself());
  const std::string started = Make("started", Config("unless-stopped"));
  for (const std::string& id : {removed, started})
    Change(id, [](State& state) { state.set_status(State::RUNNING); });
  BeginAgain();
  EXPECT_TRUE(Eventually([&] { return !Exists(removed); }));
  EXPECT_TRUE(Eventually([&] { return StateIs(started) == v1::CONTAINER_STATE_RUNNING; }));
}

TEST_F(ContainerRecoveryTest, RestartThatWasDueIsKept) {
  const std::string id = Make("web", Config("on-failure"));
  Change(id, [](State& state) {
    state.set_status(State::STOPPED);
    state.set_exit_code(1);
    state.mutable_restart_at()->set_seconds(1);
  });
  BeginAgain();
  EXPECT_TRUE(Eventually([&] { return StateIs(id) == v1::CONTAINER_STATE_RUNNING; }));
  EXPECT_EQ(Stored(id).restart_count(), 1u);
}

TEST_F(ContainerRecoveryTest, AlwaysComesBackAfterAStopButUnlessStoppedDoesNot) {
  const std::string always = Make("always", Config("always"));
  const std::string unless = Make("unless", Config("unless-stopped"));
  for (const std::string& id : {always, unless}) {
    ASSERT_TRUE(Start(id).ok());
    ASSERT_TRUE(Stop(id, 0).ok());
  }
  BeginAgain();
  EXPECT_TRUE(Eventually([&] { return StateIs(always) == v1::CONTAINER_STATE_RUNNING; }));
  EXPECT_EQ(StateIs(unless), v1::CONTAINER_STATE_EXITED);
}

TEST_F(ContainerRecoveryTest, StopDuringRecoveryKeepsItStopped) {
  const std::string id = Make("web", Config("on-failure"));
  ASSERT_TRUE(Start(id).ok());
  End();
  Shim(id).Exit("", 1);
  // The shim is slow to take its task away; the stop comes in between.
  Shim(id).Freeze("Delete");
  BeginAgain(/*settled=*/false);
  std::thread stopper([&] { EXPECT_TRUE(Stop(id, 1).ok()); });
  Shim(id).Unfreeze();
  stopper.join();
  EXPECT_TRUE(Eventually([&] { return StateIs(id) == v1::CONTAINER_STATE_EXITED; }));
  EXPECT_TRUE(Stored(id).stopped_by_user());
  EXPECT_FALSE(Stored(id).has_restart_at());
}

TEST_F(ContainerRecoveryTest, DirectoriesWithoutARecordAreSwept) {
  const std::string kept = Make("web");
  const std::string left = records_->Directory(kNs, "left");
  ASSERT_TRUE(MakeDirectories(left, 0700).ok());
  BeginAgain();
  EXPECT_TRUE(absl::IsNotFound(ListDirectory(left).status()));
  EXPECT_TRUE(ListDirectory(records_->Directory(kNs, kept)).ok());
}

}  // namespace
}  // namespace gantry::core
