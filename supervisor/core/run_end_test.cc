// What is kept of the end of a run: by which call it came, by which signal, and for how long.
#include "supervisor/core/run_end.h"

#include <signal.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/task_supervision.h"

namespace gantry::core {
namespace {

class RunEndTest : public ContainerFixture {
 protected:
  // Notes ends before they are settled, as the daemon does.
  class Observer final : public ExitObserver {
   public:
    Observer(RunEnds& ends, ContainerRecovery& recovery) : ends_(ends), recovery_(recovery) {}
    void OnExit(const std::string& ns, const Process& process) override {
      ends_.NoteEnded(ns, process);
      recovery_.OnExit(ns, process);
    }

   private:
    RunEnds& ends_;
    ContainerRecovery& recovery_;
  };

  RunEndTest() { Observe(); }
  ~RunEndTest() override { End(); }

  void Observe() {
    ends_ = std::make_unique<RunEnds>(RunEnds::Parts{records_.get(), &tasks_->view(), &events_});
    observer_ = std::make_unique<Observer>(*ends_, *recovery_);
    TaskSupervision(*tasks_).SetExitObserver(observer_.get());
  }
  absl::StatusOr<record::v1::RunEnd> Read(const std::string& id) {
    const absl::StatusOr<LoadedContainer> loaded = records_->Load(context_, id);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return ends_->Read(*loaded);
  }
  // The end of a run that is settled.
  record::v1::RunEnd Ended(const std::string& id) {
    // A stop settles an end itself, perhaps before it has been noted.
    EXPECT_TRUE(Eventually([&] { return Read(id).ok(); }));
    const absl::StatusOr<record::v1::RunEnd> end = Read(id);
    EXPECT_TRUE(end.ok()) << end.status();
    return end.value_or(record::v1::RunEnd());
  }
  // Ends the process as a signal does: the shim notes which before it tells.
  void EndBySignal(const std::string& id, const std::string& signal) {
    const std::string bundle = tasks_->view().BundleDirectory(kNs, id).value();
    ASSERT_TRUE(WriteFile(bundle + "/exit.signal", signal).ok());
    Shim(id).Exit("", 128 + 15);
  }
  absl::Status Kill(const std::string& id, const std::string& signal) {
    return lifecycle_->Kill(context_, id, signal);
  }
  std::string PathOf(const std::string& id) { return records_->Directory(kNs, id) + "/last-end"; }

  std::unique_ptr<RunEnds> ends_;
  std::unique_ptr<Observer> observer_;
};

TEST_F(RunEndTest, AnEndByItselfHasItsCodeAndTimesAndNoRequest) {
  const std::string id = Make("web");
  EXPECT_TRUE(absl::IsNotFound(Read(id).status()));
  ASSERT_TRUE(Start(id).ok());
  EXPECT_TRUE(absl::IsNotFound(Read(id).status()));
  Shim(id).Exit("", 7);
  const record::v1::RunEnd end = Ended(id);
  EXPECT_EQ(end.exit_code(), 7u);
  EXPECT_EQ(end.exit_signal(), 0u);
  EXPECT_FALSE(end.oom_killed());
  EXPECT_FALSE(end.has_request());
  EXPECT_EQ(end.finished_at().seconds(), Stored(id).finished_at().seconds());
  EXPECT_TRUE(end.has_started_at());
}

TEST_F(RunEndTest, AKillForWantOfMemoryIsKept) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Exit("", 137, /*oom_killed=*/true);
  EXPECT_TRUE(Ended(id).oom_killed());
}

TEST_F(RunEndTest, TheSignalIsTheOneThatTheShimNoted) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  EndBySignal(id, "15");
  EXPECT_EQ(Ended(id).exit_signal(), 15u);
  const std::string damaged = Make("damaged");
  ASSERT_TRUE(Start(damaged).ok());
  EndBySignal(damaged, "fifteen");
  EXPECT_EQ(Ended(damaged).exit_signal(), 0u);
}

// The stop is published when it is over, and by then the end may be written down.
TEST_F(RunEndTest, AStopIsTheRequestAlsoWhenTheEndWasNotedBeforeItWasOver) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Stop(id, 10).ok());
  const record::v1::RunEnd end = Ended(id);
  EXPECT_EQ(end.request().call(), "stop");
  EXPECT_EQ(end.request().signal(), static_cast<uint32_t>(SIGTERM));
  EXPECT_FALSE(end.request().forced());
  EXPECT_TRUE(end.request().has_at());
}

TEST_F(RunEndTest, AStopThatHadToInsistSaysSo) {
  v1::ContainerConfig config = Config();
  config.set_stop_signal("SIGUSR1");  // which the fake's processes do not act on
  const std::string id = Make("web", config);
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Stop(id, 0).ok());
  const record::v1::RunEnd end = Ended(id);
  EXPECT_EQ(end.request().call(), "stop");
  EXPECT_EQ(end.request().signal(), static_cast<uint32_t>(SIGUSR1));
  EXPECT_TRUE(end.request().forced());
}

TEST_F(RunEndTest, AKillIsTheRequestWithItsSignal) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Kill(id, "KILL").ok());
  const record::v1::RunEnd end = Ended(id);
  EXPECT_EQ(end.request().call(), "kill");
  EXPECT_EQ(end.request().signal(), static_cast<uint32_t>(SIGKILL));
  EXPECT_FALSE(end.request().forced());
}

TEST_F(RunEndTest, TheLastSignalBeforeTheEndIsTheRequest) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Kill(id, "HUP").ok());  // a reload
  ASSERT_TRUE(Kill(id, "INT").ok());
  Shim(id).Exit("", 0);
  EXPECT_EQ(Ended(id).request().signal(), static_cast<uint32_t>(SIGINT));
}

TEST_F(RunEndTest, ARequestIsOfTheRunThatItEnded) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Stop(id, 0).ok());
  ASSERT_TRUE(Ended(id).has_request());
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Exit("", 3);
  ASSERT_TRUE(Eventually([&] { return Read(id)->exit_code() == 3; }));
  EXPECT_FALSE(Read(id)->has_request());
}

TEST_F(RunEndTest, ARestartByAClientIsTheRequest) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  v1::RestartContainerRequest request;
  request.set_container(id);
  request.set_timeout_seconds(0);
  ASSERT_TRUE(lifecycle_->Restart(context_, request).ok());
  const absl::StatusOr<record::v1::RunEnd> end = Read(id);
  ASSERT_TRUE(end.ok()) << end.status();
  // The run that goes on has no end; what is known is about the one before it.
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_RUNNING);
  EXPECT_EQ(end->exit_code(), 143u);
  EXPECT_EQ(end->request().call(), "restart");
}

TEST_F(RunEndTest, EndsOfExecsAreNotTheContainers) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  Process exec;
  exec.container_id = id;
  exec.exec_id = "e1";
  exec.exit_status = 9;
  exec.exited_at = absl::Now();
  ends_->NoteEnded(kNs, exec);
  EXPECT_TRUE(absl::IsNotFound(Read(id).status()));
}

TEST_F(RunEndTest, NothingIsKeptOfOneThatRemovesItself) {
  v1::ContainerConfig config = Config();
  config.set_auto_remove(true);
  const std::string id = Make("run", config);
  const std::string path = PathOf(id);
  ASSERT_TRUE(Start(id).ok());
  Process end = tasks_->view().Get(kNs, id, "").value();
  end.exited_at = absl::Now();
  ends_->NoteEnded(kNs, end);
  EXPECT_EQ(access(path.c_str(), F_OK), -1);
}

TEST_F(RunEndTest, NothingIsKeptOfOneThatIsBeingRemoved) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  Process end = tasks_->view().Get(kNs, id, "").value();
  end.exited_at = absl::Now();
  absl::StatusOr<LoadedContainer> loaded = records_->Load(context_, id);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_TRUE(records_
                  ->UpdateState(
                      *loaded, [](record::v1::ContainerState& state) { state.set_removing(true); },
                      metadata::Durability::kBuffered)
                  .ok());
  ends_->NoteEnded(kNs, end);
  EXPECT_EQ(access(PathOf(id).c_str(), F_OK), -1);
}

TEST_F(RunEndTest, AContainerThatIsGoneLeavesNothing) {
  Process end;
  end.container_id = "0123456789abcdef";
  end.exited_at = absl::Now();
  ends_->NoteEnded(kNs, end);
  EXPECT_EQ(access(PathOf(end.container_id).c_str(), F_OK), -1);
}

TEST_F(RunEndTest, TheEndOutlivesTheDaemon) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Kill(id, "KILL").ok());
  (void)Ended(id);
  End();
  observer_.reset();
  ends_.reset();
  BeginAgain();
  Observe();
  EXPECT_EQ(Read(id)->request().call(), "kill");
}

TEST_F(RunEndTest, ADamagedFileIsSaid) {
  const std::string id = Make("web");
  ASSERT_TRUE(WriteFile(PathOf(id), "\xff\xff\xff").ok());
  const absl::Status damaged = Read(id).status();
  EXPECT_TRUE(absl::IsDataLoss(damaged)) << damaged;
  // The next end takes its place.
  ASSERT_TRUE(Start(id).ok());
  Shim(id).Exit("", 2);
  EXPECT_EQ(Ended(id).exit_code(), 2u);
}

TEST_F(RunEndTest, MoreEventsThanAQueueHoldsDoNotStopIt) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  for (int i = 0; i < 17000; ++i)
    events_.Publish(kNs, Event(EventKind::kContainer, "stop", "another"));
  Shim(id).Exit("", 5);
  EXPECT_EQ(Ended(id).exit_code(), 5u);
  ASSERT_TRUE(Start(id).ok());
  ASSERT_TRUE(Kill(id, "KILL").ok());
  ASSERT_TRUE(Eventually([&] { return Read(id)->exit_code() == 137; }));
  EXPECT_EQ(Read(id)->request().call(), "kill");
}

}  // namespace
}  // namespace gantry::core
