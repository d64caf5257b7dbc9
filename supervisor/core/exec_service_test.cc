// Execs as objects, on fake shims.
#include "supervisor/core/exec_service.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/container_streams.pb.h"
#include "supervisor/core/attach_client.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/task_supervision.h"

namespace gantry::core {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ExecServiceTest : public ContainerFixture, public ExitObserver {
 protected:
  ExecServiceTest() {
    MakeService();
    id_ = Make("web");
    EXPECT_TRUE(Start(id_).ok());
  }
  void MakeService() {
    execs_ = std::make_unique<ExecService>(
        ExecService::Parts{records_.get(), nullptr, tasks_.get(), &host_, &time_});
    TaskSupervision(*tasks_).SetExitObserver(this);
  }
  // A new daemon, whose tasks are what their shims report.
  void RestartDaemon() {
    End();
    Begin();
    MakeService();
    TaskSupervision(*tasks_).Recover(runtime::RecoverShims(*bundles_, kPatience).value());
    workers_->WaitIdle();
    EXPECT_TRUE(recovery_->Reconcile().ok());
  }
  // As containerd's door does.
  absl::Status Add(const std::string& exec_id, const std::string& container = "") {
    return execs_->Add(
        context_, container.empty() ? id_ : container, exec_id,
        R"({"args":["sleep","9"],"cwd":"/srv","user":{"uid":5,"gid":6},"terminal":false})", {});
  }
  absl::StatusOr<Exit> DeleteProcess(const std::string& exec_id) {
    return tasks_->Delete(context_, id_, exec_id);
  }
  ~ExecServiceTest() override { End(); }

  // As the daemon does.
  void OnExit(const std::string& ns, const Process& process) override {
    if (!process.exec_id.empty()) {
      Process exec = process;
      exec.exited_at = time_.Now();
      execs_->OnExit(ns, exec);
    }
    recovery_->OnExit(ns, process);
  }

  static v1::ExecConfig Command(const std::string& word = "true") {
    v1::ExecConfig config;
    config.add_command(word);
    config.set_attach_stdout(true);
    return config;
  }
  std::string Create(const v1::ExecConfig& config = Command()) {
    const absl::StatusOr<std::string> exec_id = execs_->Create(context_, "web", config);
    EXPECT_TRUE(exec_id.ok()) << exec_id.status();
    return exec_id.value_or("");
  }
  ExecState Inspect(const std::string& exec_id) {
    const absl::StatusOr<ExecState> state = execs_->Inspect(context_, exec_id);
    EXPECT_TRUE(state.ok()) << state.status();
    return state.ok() ? *state : ExecState();
  }
  // True once the service has the code of an exec that was deleted. The task shows an exit before
  // the observer is called, which happens on a worker: until then a deleted exec is not found.
  bool KeepsCode(const std::string& exec_id, uint32_t code, const std::string& container = "") {
    return Eventually([&] {
      const absl::StatusOr<ExecState> ended = execs_->Inspect(context_, exec_id, container);
      return ended.ok() && ended->exit_code == code;
    });
  }
  absl::Status StartDetached(const std::string& exec_id) {
    return execs_->Start(context_, exec_id, nullptr).status();
  }

  FakeClock time_{absl::FromUnixSeconds(1000)};
  std::string id_;
  std::unique_ptr<ExecService> execs_;
};

TEST_F(ExecServiceTest, CreatedCostsTheContainerNothing) {
  const std::string exec_id = Create();
  EXPECT_THAT(exec_id, StartsWith(kExecPrefix));
  const ExecState state = Inspect(exec_id);
  EXPECT_EQ(state.container_id, id_);
  EXPECT_EQ(state.config->command(0), "true");
  EXPECT_FALSE(state.started);
  EXPECT_FALSE(state.running());
  EXPECT_EQ(state.created_at, time_.Now());
  EXPECT_THAT(Shim(id_).calls(), testing::Not(testing::Contains("Exec")));
}

TEST_F(ExecServiceTest, ItsCodeIsKnownForAWhileAfterItsEnd) {
  const std::string exec_id = Create();
  ASSERT_TRUE(StartDetached(exec_id).ok());
  EXPECT_TRUE(Inspect(exec_id).running());
  EXPECT_GT(Inspect(exec_id).pid, 0);
  Shim(id_).Exit(exec_id, 42);
  ASSERT_TRUE(Eventually([&] { return Inspect(exec_id).exit_code.has_value(); }));
  EXPECT_EQ(Inspect(exec_id).exit_code, 42u);
  EXPECT_FALSE(Inspect(exec_id).running());
  // The task forgets it; its state stays.
  ASSERT_TRUE(
      Eventually([&] { return absl::IsNotFound(tasks_->view().Get(kNs, id_, exec_id).status()); }));
  time_.Advance(ExecService::kKept);
  Create();
  EXPECT_EQ(Inspect(exec_id).exit_code, 42u);
  time_.Advance(absl::Seconds(1));
  Create();
  EXPECT_TRUE(absl::IsNotFound(execs_->Inspect(context_, exec_id).status()));
}

TEST_F(ExecServiceTest, WhatRunsIsKeptHoweverLong) {
  const std::string runs = Create();
  ASSERT_TRUE(StartDetached(runs).ok());
  time_.Advance(absl::Hours(100));
  Create();
  EXPECT_TRUE(Inspect(runs).running());
}

TEST_F(ExecServiceTest, TheNumberKeptIsLimitedByDroppingTheOldestThatDoNotRun) {
  const std::string runs = Create();
  ASSERT_TRUE(StartDetached(runs).ok());
  time_.Advance(absl::Seconds(1));
  const std::string oldest = Create();
  time_.Advance(absl::Seconds(1));
  for (size_t i = 2; i < ExecService::kMaxKept; ++i) Create();
  EXPECT_TRUE(execs_->Inspect(context_, oldest).ok());
  Create();
  EXPECT_TRUE(absl::IsNotFound(execs_->Inspect(context_, oldest).status()));
  EXPECT_TRUE(Inspect(runs).running());
}

TEST_F(ExecServiceTest, ItIsStartedOnce) {
  const std::string exec_id = Create();
  ASSERT_TRUE(StartDetached(exec_id).ok());
  const absl::Status again = StartDetached(exec_id);
  EXPECT_TRUE(absl::IsFailedPrecondition(again)) << again;
  EXPECT_THAT(std::string(again.message()), HasSubstr("already been started"));
  Shim(id_).Exit(exec_id, 0);
  ASSERT_TRUE(Eventually([&] { return Inspect(exec_id).exit_code.has_value(); }));
  EXPECT_TRUE(absl::IsFailedPrecondition(StartDetached(exec_id)));
}

TEST_F(ExecServiceTest, AStartThatFailedCanBeRepeated) {
  const std::string exec_id = Create();
  Shim(id_).FailCalls("Exec", absl::InternalError("no such program"));
  EXPECT_FALSE(StartDetached(exec_id).ok());
  EXPECT_FALSE(Inspect(exec_id).started);
  Shim(id_).FailCalls("Exec", absl::OkStatus());
  EXPECT_TRUE(StartDetached(exec_id).ok());
  EXPECT_TRUE(Inspect(exec_id).running());
}

TEST_F(ExecServiceTest, AnAttachedStartThatFailedLeavesNothingInTheTask) {
  const std::string exec_id = Create();
  Shim(id_).FailCalls("Start", absl::InternalError("no such program"));
  AttachClient client;
  EXPECT_FALSE(execs_->Start(context_, exec_id, &client).ok());
  EXPECT_TRUE(absl::IsNotFound(tasks_->view().Get(kNs, id_, exec_id).status()));
  EXPECT_FALSE(Inspect(exec_id).started);
}

TEST_F(ExecServiceTest, StreamsAreConnectedBeforeItStarts) {
  const std::string exec_id = Create();
  AttachClient client;
  absl::StatusOr<ExecService::StartedExec> started = execs_->Start(context_, exec_id, &client);
  ASSERT_TRUE(started.ok()) << started.status();
  client.Use(std::move(started->stream));
  Shim(id_).Output("hello");
  EXPECT_TRUE(Eventually([&] { return client.text() == "hello"; }));
  Shim(id_).Exit(exec_id, 3);
  EXPECT_TRUE(Eventually([&] { return client.exit_code() == 3u; }));
}

TEST_F(ExecServiceTest, OneCallLeavesNoStateWhenItFails) {
  Shim(id_).FailCalls("Exec", absl::InternalError("no such program"));
  v1::ExecInput::Open open;
  open.set_container("web");
  *open.mutable_config() = Command();
  EXPECT_FALSE(execs_->Exec(context_, open, nullptr).ok());
  Shim(id_).FailCalls("Exec", absl::OkStatus());
  const absl::StatusOr<ExecService::StartedExec> started = execs_->Exec(context_, open, nullptr);
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(started->container_id, id_);
  EXPECT_TRUE(Inspect(started->exec_id).running());
}

TEST_F(ExecServiceTest, TheEndThatAClientSawIsKnownAtOnceAndTheFirstCounts) {
  const std::string exec_id = Create();
  ASSERT_TRUE(StartDetached(exec_id).ok());
  execs_->NoteExit(kNs, exec_id, 5, time_.Now());
  EXPECT_EQ(Inspect(exec_id).exit_code, 5u);
  execs_->NoteExit(kNs, exec_id, 6, time_.Now());
  EXPECT_EQ(Inspect(exec_id).exit_code, 5u);
  execs_->NoteExit(kNs, "of-another-client", 1, time_.Now());
  EXPECT_TRUE(absl::IsNotFound(execs_->Inspect(context_, "of-another-client").status()));
}

TEST_F(ExecServiceTest, AnotherNamespaceDoesNotSeeIt) {
  const std::string exec_id = Create();
  CallContext other;
  other.ns = "other";
  EXPECT_TRUE(absl::IsNotFound(execs_->Inspect(other, exec_id).status()));
}

TEST_F(ExecServiceTest, OnlyWhatRunsIsResizedAndToASize) {
  v1::TerminalSize size;
  size.set_width(80);
  size.set_height(24);
  const std::string exec_id = Create();
  EXPECT_TRUE(absl::IsFailedPrecondition(execs_->Resize(context_, exec_id, size)));
  ASSERT_TRUE(StartDetached(exec_id).ok());
  EXPECT_TRUE(execs_->Resize(context_, exec_id, size).ok());
  size.set_width(0);
  EXPECT_TRUE(absl::IsInvalidArgument(execs_->Resize(context_, exec_id, size)));
  EXPECT_TRUE(absl::IsNotFound(execs_->Resize(context_, "nothing", [] {
    v1::TerminalSize good;
    good.set_width(1);
    good.set_height(1);
    return good;
  }())));
}

TEST_F(ExecServiceTest, WithoutACommandThereIsNone) {
  EXPECT_TRUE(absl::IsInvalidArgument(execs_->Create(context_, "web", {}).status()));
}

TEST_F(ExecServiceTest, TheStateOfTheContainerForbidsIt) {
  const auto create = [this](const std::string& container) {
    const absl::Status status = execs_->Create(context_, container, Command()).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    return std::string(status.message());
  };
  Make("created");
  EXPECT_THAT(create("created"), HasSubstr("container created is not running"));
  ASSERT_TRUE(lifecycle_->Pause(context_, id_).ok());
  EXPECT_THAT(create("web"), HasSubstr("web is paused, unpause the container before exec"));
  const std::string restarting = Make("restarting", Config("always"));
  ASSERT_TRUE(Start(restarting).ok());
  LoadedContainer loaded = records_->Load(context_, restarting).value();
  ASSERT_TRUE(
      records_->UpdateState(loaded, [](record::v1::ContainerState& s) { s.set_restart_count(50); })
          .ok());
  Shim(restarting).Exit("", 1);
  ASSERT_TRUE(Eventually([&] { return Stored(restarting).has_restart_at(); }));
  EXPECT_THAT(create("restarting"),
              HasSubstr("is restarting, wait until the container is running"));
}

TEST_F(ExecServiceTest, OneThatWasCreatedIsNotStartedInAContainerThatHasEnded) {
  const std::string exec_id = Create();
  Shim(id_).Exit("", 0);
  ASSERT_TRUE(Eventually([&] { return StateIs(id_) == v1::CONTAINER_STATE_EXITED; }));
  EXPECT_TRUE(absl::IsFailedPrecondition(StartDetached(exec_id)));
  EXPECT_FALSE(Inspect(exec_id).started);
}

TEST_F(ExecServiceTest, WhetherItCanBeStartedIsKnownBefore) {
  const std::string exec_id = Create();
  EXPECT_EQ(execs_->Startable(context_, exec_id).value().exec_id, exec_id);
  EXPECT_FALSE(Inspect(exec_id).started);
  ASSERT_TRUE(lifecycle_->Pause(context_, id_).ok());
  EXPECT_THAT(std::string(execs_->Startable(context_, exec_id).status().message()),
              HasSubstr("is paused"));
  ASSERT_TRUE(lifecycle_->Unpause(context_, id_).ok());
  ASSERT_TRUE(StartDetached(exec_id).ok());
  EXPECT_THAT(std::string(execs_->Startable(context_, exec_id).status().message()),
              HasSubstr("already been started"));
  EXPECT_TRUE(absl::IsNotFound(execs_->Startable(context_, "none").status()));
  const std::string other = Create();
  Shim(id_).Exit("", 0);
  ASSERT_TRUE(Eventually([&] { return StateIs(id_) == v1::CONTAINER_STATE_EXITED; }));
  const absl::Status ended = execs_->Startable(context_, other).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(ended)) << ended;
  EXPECT_THAT(std::string(ended.message()), HasSubstr("is not running"));
}

TEST_F(ExecServiceTest, TheEndOfTheContainerEndsIt) {
  const std::string exec_id = Create();
  ASSERT_TRUE(StartDetached(exec_id).ok());
  ASSERT_TRUE(Remove(id_, /*force=*/true).ok());
  EXPECT_TRUE(Eventually([&] { return Inspect(exec_id).exit_code.has_value(); }));
}

TEST_F(ExecServiceTest, AnotherDoorsExecIsSeenStartedAndEndedHere) {
  ASSERT_TRUE(Add("e").ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Add("e")));
  ExecState state = Inspect("e");
  EXPECT_EQ(state.container_id, id_);
  EXPECT_FALSE(state.started);
  EXPECT_THAT(state.config->command(), testing::ElementsAre("sleep", "9"));
  EXPECT_EQ(state.config->user(), "5:6");
  EXPECT_EQ(state.config->working_dir(), "/srv");
  EXPECT_THAT(view_->Inspect(context_, id_, false)->exec_ids(), testing::ElementsAre("e"));

  AttachClient client;
  EXPECT_TRUE(absl::IsFailedPrecondition(execs_->Start(context_, "e", &client).status()));
  ASSERT_TRUE(StartDetached("e").ok());
  EXPECT_TRUE(Inspect("e").running());
  EXPECT_GT(Inspect("e").pid, 0);
  ASSERT_TRUE(execs_->SignalExec(context_, "web", "e", "KILL").ok());
  ASSERT_TRUE(Eventually([&] { return Inspect("e").exit_code == 137u; }));
  EXPECT_TRUE(absl::IsFailedPrecondition(execs_->SignalExec(context_, "", "e", "KILL")));
  EXPECT_THAT(view_->Inspect(context_, id_, false)->exec_ids(), testing::IsEmpty());

  // It belongs to its client, who deletes it. Its code stays for a while.
  ASSERT_TRUE(DeleteProcess("e").ok());
  EXPECT_TRUE(KeepsCode("e", 137u));
  EXPECT_THAT(Inspect("e").config->command(), testing::ElementsAre("sleep", "9"));
  time_.Advance(ExecService::kKept + absl::Seconds(1));
  Create();
  EXPECT_TRUE(absl::IsNotFound(execs_->Inspect(context_, "e").status()));
}

TEST_F(ExecServiceTest, AnIdThatIsUsedAgainMeansTheExecThatLives) {
  ASSERT_TRUE(Add("e").ok());
  ASSERT_TRUE(StartDetached("e").ok());
  Shim(id_).Exit("e", 1);
  ASSERT_TRUE(Eventually([&] { return Inspect("e").exit_code == 1u; }));
  ASSERT_TRUE(DeleteProcess("e").ok());
  ASSERT_TRUE(Add("e").ok());
  EXPECT_FALSE(Inspect("e").started);
  ASSERT_TRUE(StartDetached("e").ok());
  EXPECT_TRUE(Inspect("e").running());
  Shim(id_).Exit("e", 2);
  ASSERT_TRUE(Eventually([&] { return Inspect("e").exit_code == 2u; }));
  ASSERT_TRUE(DeleteProcess("e").ok());
  EXPECT_TRUE(KeepsCode("e", 2u));
}

TEST_F(ExecServiceTest, AnIdOfSeveralContainersNeedsTheContainer) {
  const std::string other = Make("db");
  ASSERT_TRUE(Start(other).ok());
  ASSERT_TRUE(Add("e").ok());
  ASSERT_TRUE(Add("e", other).ok());
  const absl::Status either = execs_->Inspect(context_, "e").status();
  EXPECT_TRUE(absl::IsInvalidArgument(either)) << either;
  EXPECT_THAT(std::string(either.message()), HasSubstr("name the container"));
  EXPECT_EQ(execs_->Inspect(context_, "e", "db")->container_id, other);
  EXPECT_EQ(execs_->Inspect(context_, "e", "web")->container_id, id_);
  EXPECT_TRUE(absl::IsNotFound(execs_->Inspect(context_, "e", "nothing").status()));
  // Also among those that have ended.
  ASSERT_TRUE(tasks_->Start(context_, other, "e").ok());
  Shim(other).Exit("e", 4);
  ASSERT_TRUE(Eventually([&] { return execs_->Inspect(context_, "e", "db")->exit_code == 4u; }));
  ASSERT_TRUE(tasks_->Delete(context_, other, "e").ok());
  EXPECT_TRUE(KeepsCode("e", 4u, "db"));
  EXPECT_FALSE(execs_->Inspect(context_, "e", "web")->started);
  EXPECT_TRUE(absl::IsInvalidArgument(execs_->Inspect(context_, "e").status()));
}

TEST_F(ExecServiceTest, ClientsDoNotChooseIdsOfOurs) {
  const absl::Status refused = Add(std::string(kExecPrefix) + "1");
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
  EXPECT_THAT(Shim(id_).calls(), testing::Not(testing::Contains("Exec")));
}

TEST_F(ExecServiceTest, WhatRunsIsKnownToTheNextDaemon) {
  const std::string ours = Create(Command("serve"));
  ASSERT_TRUE(StartDetached(ours).ok());
  ASSERT_TRUE(Add("theirs").ok());
  ASSERT_TRUE(StartDetached("theirs").ok());
  const int pid = Inspect(ours).pid;
  RestartDaemon();

  const ExecState state = Inspect(ours);
  EXPECT_TRUE(state.running());
  EXPECT_EQ(state.container_id, id_);
  EXPECT_EQ(state.pid, pid);
  EXPECT_THAT(state.config->command(), testing::ElementsAre("serve"));
  EXPECT_TRUE(absl::IsFailedPrecondition(StartDetached(ours)));
  EXPECT_TRUE(Inspect("theirs").running());
  EXPECT_THAT(view_->Inspect(context_, id_, false)->exec_ids(),
              testing::UnorderedElementsAre(ours, "theirs"));

  ASSERT_TRUE(execs_->SignalExec(context_, "", ours, "KILL").ok());
  Shim(id_).Exit("theirs", 3);
  ASSERT_TRUE(Eventually(
      [&] { return Inspect(ours).exit_code == 137u && Inspect("theirs").exit_code == 3u; }));
  // Ours is removed at its end, as ever; its code is kept.
  ASSERT_TRUE(
      Eventually([&] { return absl::IsNotFound(tasks_->view().Get(kNs, id_, ours).status()); }));
  EXPECT_EQ(Inspect(ours).exit_code, 137u);
}

TEST_F(ExecServiceTest, WhatEndedWithoutADaemonHasItsCodeInTheNextOne) {
  const std::string ours = Create();
  ASSERT_TRUE(StartDetached(ours).ok());
  End();
  Shim(id_).Exit(ours, 9);
  RestartDaemon();
  ASSERT_TRUE(
      Eventually([&] { return absl::IsNotFound(tasks_->view().Get(kNs, id_, ours).status()); }));
  EXPECT_EQ(Inspect(ours).exit_code, 9u);
}

}  // namespace
}  // namespace gantry::core
