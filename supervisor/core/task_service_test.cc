// The task service on fake shims: what is known, published and answered, in whatever order it
// arrives.
#include "supervisor/core/task_service.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/temp_dir.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/exit_observer.h"
#include "supervisor/core/task_supervision.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/fake_launcher.h"
#include "supervisor/runtime/runtime_probe.h"
#include "supervisor/runtime/shim_recovery.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(20);
constexpr char kNs[] = "default";
constexpr char kSpec[] =
    R"({"ociVersion":"1.0.2","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"},)"
    R"("linux":{"cgroupsPath":"/gantry-test-nowhere/c"}})";

// The answer to one wait.
class Answer {
 public:
  std::function<void(absl::StatusOr<Exit>)> callback() {
    return [this](absl::StatusOr<Exit> exit) {
      absl::MutexLock lock(&mu_);
      ++count_;
      exit_ = std::move(exit);
    };
  }
  // kDeadlineExceeded: none came.
  absl::StatusOr<Exit> Await() {
    absl::MutexLock lock(&mu_);
    const auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return count_ > 0; };
    if (!mu_.AwaitWithTimeout(absl::Condition(&there), kPatience))
      return absl::DeadlineExceededError("no answer to the wait");
    return exit_;
  }
  int count() {
    absl::MutexLock lock(&mu_);
    return count_;
  }

 private:
  absl::Mutex mu_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
  absl::StatusOr<Exit> exit_ ABSL_GUARDED_BY(mu_) = absl::UnknownError("");
};

// Exits that were handed to the observer.
class Exits : public ExitObserver {
 public:
  void OnExit(const std::string&, const Process& process) override {
    std::function<void()> then;
    {
      absl::MutexLock lock(&mu_);
      seen_.push_back(process);
      then = then_;
    }
    if (then) then();
  }
  void Then(std::function<void()> then) {
    absl::MutexLock lock(&mu_);
    then_ = std::move(then);
  }
  std::vector<Process> seen() {
    absl::MutexLock lock(&mu_);
    return seen_;
  }
  // Returns once so many were seen, or with fewer after a while.
  std::vector<Process> Await(size_t count) {
    absl::MutexLock lock(&mu_);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return seen_.size() >= count; };
    mu_.AwaitWithTimeout(absl::Condition(&there), kPatience);
    return seen_;
  }

 private:
  absl::Mutex mu_;
  std::vector<Process> seen_ ABSL_GUARDED_BY(mu_);
  std::function<void()> then_ ABSL_GUARDED_BY(mu_);
};

class TaskServiceTest : public testing::Test {
 protected:
  TaskServiceTest() {
    context_.ns = kNs;
    EXPECT_TRUE(
        WriteFile(runtime_, "#!/bin/sh\necho \"crun version 1.8.1\"\necho \"spec: 1.0.0\"\n").ok());
    EXPECT_EQ(chmod(runtime_.c_str(), 0755), 0);
    runtime::RuntimeSettings settings;
    settings.path = runtime_;
    settings.state_root = dir_.Join("runtime");
    runtimes_ = std::make_unique<runtime::RuntimeProbe>(
        std::map<std::string, runtime::RuntimeSettings>{{"fake", settings}}, dir_.path(), "fake");
    bundles_ = runtime::BundleStore::Open(dir_.Join("state"), /*private_mount=*/false).value();
    all_ = events_.Subscribe([](const Event&) { return true; }, [] {});
    Begin();
  }
  ~TaskServiceTest() override { End(); }

  // A daemon's life.
  void Begin() {
    workers_ = std::make_unique<Executor>("worker", 4);
    TaskService::Parts parts;
    parts.bundles = bundles_.get();
    parts.runtimes = runtimes_.get();
    parts.launcher = &launcher_;
    parts.warmer = nullptr;
    parts.events = &events_;
    parts.workers = workers_.get();
    parts.host = &host_;
    parts.shim_patience = absl::Milliseconds(200);
    tasks_ = std::make_unique<TaskService>(parts);
    TaskSupervision(*tasks_).SetExitObserver(&exits_);
  }
  void End() {
    if (tasks_ == nullptr) return;
    TaskSupervision(*tasks_).Stop();
    workers_.reset();
    tasks_.reset();
  }

  CreateTask Wanted(const std::string& id) {
    CreateTask create;
    create.container_id = id;
    create.spec_json = kSpec;
    create.start = true;
    return create;
  }
  runtime::FakeShim& Shim(const std::string& id) { return launcher_.Find({kNs, id}); }

  // Actions published so far, in order.
  std::vector<std::string> Actions() {
    while (EventPtr event = all_->Pop()) actions_.push_back(event->action);
    return actions_;
  }

  TempDir dir_;
  const std::string runtime_ = dir_.Join("crun");
  CallContext context_;
  oci::HostFacts host_;
  EventBus events_;
  std::shared_ptr<Subscription> all_;
  std::vector<std::string> actions_;
  Exits exits_;
  std::unique_ptr<runtime::RuntimeProbe> runtimes_;
  std::unique_ptr<runtime::BundleStore> bundles_;
  runtime::FakeLauncher launcher_;
  std::unique_ptr<Executor> workers_;
  std::unique_ptr<TaskService> tasks_;
};

using Actionlist = std::vector<std::string>;

TEST_F(TaskServiceTest, AnExitIsPublishedRecordedAndAnswered) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  Shim("c").Exit("", 7);
  absl::StatusOr<Exit> exit = answer.Await();
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->status, 7u);
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kStopped);
  const std::vector<Process> seen = exits_.Await(1);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].exit_status, 7u);
  EXPECT_EQ(Actions(), (Actionlist{"task_create", "start", "die"}));
}

TEST_F(TaskServiceTest, TheEventsOfAnExecHaveItsCommandIdAndStatus) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Actions();
  const auto heard = events_.Subscribe(
      [](const Event& event) { return event.attributes.contains("execID"); }, nullptr);
  ASSERT_TRUE(tasks_
                  ->Exec(context_, "c", "e", R"({"args":["sh","-c","exit 4"],"cwd":"/"})",
                         shim::v1::Stdio(), true)
                  .ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "e", answer.callback());
  Shim("c").Exit("e", 4);
  ASSERT_TRUE(answer.Await().ok());
  std::vector<std::string> seen;
  std::string status;
  while (EventPtr event = heard->Pop()) {
    EXPECT_EQ(event->kind, EventKind::kContainer);
    EXPECT_EQ(event->id, "c");
    EXPECT_EQ(event->attributes.at("execID"), "e");
    seen.push_back(event->ActionText());
    if (event->action == action::kExecDie) status = event->attributes.at("exitCode");
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"exec_create: sh -c exit 4", "exec_start: sh -c exit 4",
                                            "exec_die"}));
  EXPECT_EQ(status, "4");
}

TEST_F(TaskServiceTest, AnExitBeforeTheCreatesAnswerIsKeptInOrder) {
  Answer answer;
  launcher_.OnLaunch([&](runtime::FakeShim& shim) {
    shim.BeforeAnswer([&] {
      tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
      shim.Exit("", 3);
      // The create is answered when its end is known already.
      EXPECT_EQ(answer.Await()->status, 3u);
    });
  });
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kStopped);
  EXPECT_EQ(Actions(), (Actionlist{"task_create", "start", "die"}));
}

TEST_F(TaskServiceTest, AFailedCreateAnswersThoseWhoWait) {
  Answer answer;
  launcher_.OnLaunch([](runtime::FakeShim& shim) {
    shim.FailCalls("Create", absl::InternalError("no such program"));
  });
  CreateTask create = Wanted("c");
  create.before_create = [&](runtime::Shim&) {
    tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  };
  EXPECT_TRUE(absl::IsInternal(tasks_->Create(context_, create).status()));
  EXPECT_TRUE(absl::IsNotFound(answer.Await().status())) << answer.Await().status();
  EXPECT_FALSE(tasks_->view().Exists(kNs, "c"));
}

TEST_F(TaskServiceTest, AFailedExecAnswersThoseWhoWait) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Shim("c").Freeze("Exec");
  Shim("c").FailCalls("Exec", absl::InternalError("no such user"));
  absl::Status added;
  std::thread client(
      [&] { added = tasks_->Exec(context_, "c", "e", "{}", shim::v1::Stdio(), false).status(); });
  ASSERT_TRUE(Shim("c").AwaitCalls("Exec"));
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "e", answer.callback());
  Shim("c").Unfreeze();
  client.join();
  EXPECT_TRUE(absl::IsInternal(added));
  EXPECT_TRUE(absl::IsNotFound(answer.Await().status())) << answer.Await().status();
}

TEST_F(TaskServiceTest, ADeletedExecAnswersThoseWhoWait) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  ASSERT_TRUE(tasks_->Exec(context_, "c", "e", "{}", shim::v1::Stdio(), false).ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "e", answer.callback());
  ASSERT_TRUE(tasks_->Delete(context_, "c", "e").ok());
  EXPECT_TRUE(absl::IsNotFound(answer.Await().status())) << answer.Await().status();
}

TEST_F(TaskServiceTest, WaitersOfExecsAreAnsweredWhenTheTaskGoes) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  ASSERT_TRUE(tasks_->Exec(context_, "c", "e", "{}", shim::v1::Stdio(), false).ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "e", answer.callback());
  ASSERT_TRUE(tasks_->Delete(context_, "c", "", /*force=*/true).ok());
  EXPECT_FALSE(absl::IsDeadlineExceeded(answer.Await().status()));
}

TEST_F(TaskServiceTest, ACancelledWaitIsAnsweredOnce) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Answer answer, other;
  const uint64_t ticket = tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  tasks_->waits().WaitAsync(kNs, "c", "", other.callback());
  tasks_->waits().CancelWait(ticket);
  EXPECT_TRUE(absl::IsCancelled(answer.Await().status()));
  Shim("c").Exit("", 1);
  EXPECT_EQ(other.Await()->status, 1u);
  tasks_->waits().CancelWait(ticket);
  EXPECT_EQ(answer.count(), 1);
}

TEST_F(TaskServiceTest, StopAnswersThoseWhoWait) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  TaskSupervision(*tasks_).Stop();
  EXPECT_TRUE(absl::IsUnavailable(answer.Await().status())) << answer.Await().status();
}

TEST_F(TaskServiceTest, TwoKillsAndAnExitAreOneExit) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  // The second kill may find the process ended already.
  absl::Status first, second;
  std::thread client([&] { first = tasks_->Kill(context_, "c", "", SIGKILL, false); });
  second = tasks_->Kill(context_, "c", "", SIGKILL, false);
  client.join();
  Shim("c").Exit("", 0);
  EXPECT_EQ(answer.Await()->status, 137u);
  EXPECT_TRUE(first.ok() || absl::IsNotFound(first)) << first;
  EXPECT_TRUE(second.ok() || absl::IsNotFound(second)) << second;
  EXPECT_TRUE(first.ok() || second.ok());
  EXPECT_TRUE(absl::IsNotFound(tasks_->Kill(context_, "c", "", SIGKILL, false)));
  EXPECT_EQ(exits_.Await(1).size(), 1u);
  EXPECT_EQ(Actions(), (Actionlist{"task_create", "start", "die"}));
}

TEST_F(TaskServiceTest, AnExitThatIsQueuedWhenTheDaemonStopsMayStillDelete) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  absl::Notification stopped;
  exits_.Then([&] {
    stopped.WaitForNotification();
    (void)tasks_->Delete(context_, "c", "", /*force=*/true);
  });
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  Shim("c").Exit("", 0);
  ASSERT_TRUE(answer.Await().ok());
  ASSERT_EQ(exits_.Await(1).size(), 1u);
  TaskSupervision(*tasks_).Stop();
  stopped.Notify();
  workers_->WaitIdle();
  EXPECT_EQ(exits_.seen().size(), 1u);
}

TEST_F(TaskServiceTest, TheNextExitMayBeOfATaskThatIsNotThereYet) {
  Answer answer;
  tasks_->waits().WaitNextExitAsync(kNs, "c", answer.callback());
  launcher_.OnLaunch([](runtime::FakeShim& shim) { shim.BeforeAnswer([&] { shim.Exit("", 3); }); });
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  EXPECT_EQ(answer.Await()->status, 3u);
}

TEST_F(TaskServiceTest, TheNextExitIsNotThatOfAnExecOrOfAnother) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  ASSERT_TRUE(tasks_->Create(context_, Wanted("other")).ok());
  ASSERT_TRUE(tasks_->Exec(context_, "c", "e", "{}", shim::v1::Stdio(), true).ok());
  Answer answer, of_exec, of_other;
  tasks_->waits().WaitNextExitAsync(kNs, "c", answer.callback());
  tasks_->waits().WaitAsync(kNs, "c", "e", of_exec.callback());
  tasks_->waits().WaitAsync(kNs, "other", "", of_other.callback());
  Shim("c").Exit("e", 1);
  Shim("other").Exit("", 2);
  ASSERT_TRUE(of_exec.Await().ok());
  ASSERT_TRUE(of_other.Await().ok());
  EXPECT_EQ(answer.count(), 0);
  Shim("c").Exit("", 3);
  EXPECT_EQ(answer.Await()->status, 3u);
}

TEST_F(TaskServiceTest, ARemovedContainerHasNoNextExit) {
  Answer answer;
  tasks_->waits().WaitNextExitAsync(kNs, "c", answer.callback());
  tasks_->waits().EndNextExitWaits(kNs, "c");
  EXPECT_TRUE(absl::IsNotFound(answer.Await().status())) << answer.Await().status();
}

TEST_F(TaskServiceTest, AnEndedTaskIsRemovedThoughItsShimHangs) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  Shim("c").Exit("", 7);
  ASSERT_TRUE(answer.Await().ok());
  Shim("c").Freeze();
  ASSERT_TRUE(tasks_->Delete(context_, "c", "").ok());
  EXPECT_TRUE(launcher_.Ended({kNs, "c"}));
}

// ---- removal ----

TEST_F(TaskServiceTest, AForcedRemovalKillsAShimThatHangs) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  Shim("c").Freeze();
  absl::StatusOr<Exit> gone = tasks_->Delete(context_, "c", "", /*force=*/true);
  ASSERT_TRUE(gone.ok()) << gone.status();
  EXPECT_EQ(gone->status, 137u);
  EXPECT_EQ(answer.Await()->status, 137u);
  EXPECT_TRUE(launcher_.Ended({kNs, "c"}));
  EXPECT_FALSE(tasks_->view().Exists(kNs, "c"));
  EXPECT_TRUE(absl::IsNotFound(bundles_->Load({kNs, "c"}).status()));
  EXPECT_EQ(Actions(), (Actionlist{"task_create", "start", "die", "task_delete"}));
}

TEST_F(TaskServiceTest, ARemovalThatIsNotForcedGivesUpOnAShimThatHangs) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Shim("c").Freeze();
  const absl::Time begin = absl::Now();
  const absl::Status refused = tasks_->Delete(context_, "c", "").status();
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "its shim does not answer")) << refused;
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));  // of the minute that the runtime is given
  Shim("c").Unfreeze();
  EXPECT_FALSE(launcher_.Ended({kNs, "c"}));
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kRunning);
  Shim("c").Exit("", 7);
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  EXPECT_EQ(answer.Await()->status, 7u);
}

TEST_F(TaskServiceTest, AForcedRemovalDoesNotNeedTheRuntimesConsent) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Shim("c").FailCalls("Delete", absl::InternalError("OCI runtime delete failed: no"));
  EXPECT_TRUE(absl::IsInternal(tasks_->Delete(context_, "c", "").status()));
  EXPECT_TRUE(tasks_->view().Exists(kNs, "c"));
  ASSERT_TRUE(tasks_->Delete(context_, "c", "", /*force=*/true).ok());
  EXPECT_TRUE(launcher_.Ended({kNs, "c"}));
  EXPECT_FALSE(tasks_->view().Exists(kNs, "c"));
}

TEST_F(TaskServiceTest, ARemovalThatTakesItsTimeIsWaitedForWhileTheShimAnswers) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Shim("c").Freeze("Delete");
  absl::StatusOr<Exit> gone = absl::UnknownError("");
  std::thread client([&] { gone = tasks_->Delete(context_, "c", "", /*force=*/true); });
  ASSERT_TRUE(Shim("c").AwaitCalls("Info", 3));
  Shim("c").Unfreeze();
  client.join();
  ASSERT_TRUE(gone.ok()) << gone.status();
  EXPECT_FALSE(launcher_.Ended({kNs, "c"}));  // the shim did it
}

TEST_F(TaskServiceTest, ARemovalWithoutABundleEnds) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Shim("c").Freeze();
  ASSERT_TRUE(RemoveTree(bundles_->PathOf({kNs, "c"})).ok());
  EXPECT_TRUE(tasks_->Delete(context_, "c", "", /*force=*/true).ok());
  EXPECT_FALSE(tasks_->view().Exists(kNs, "c"));
}

TEST_F(TaskServiceTest, AnOperationUnderWayIsNamedAndWaitedForOnlyAsLongAsTheCallerLives) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Shim("c").Freeze("Delete");
  std::thread first([&] { (void)tasks_->Delete(context_, "c", "", /*force=*/true); });
  ASSERT_TRUE(Shim("c").AwaitCalls("Delete"));
  CancelToken token;
  CallContext second = context_;
  second.cancel = &token;
  token.Cancel("the client is gone");
  EXPECT_TRUE(absl::IsCancelled(tasks_->Delete(second, "c", "", /*force=*/true).status()));
  Shim("c").Unfreeze();
  first.join();
}

TEST_F(TaskServiceTest, ADeadShimsTaskEndsByItself) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  launcher_.Kill({kNs, "c"});
  EXPECT_EQ(answer.Await()->status, 137u);
  const std::vector<Process> seen = exits_.Await(1);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].reason, "its shim died unexpectedly");
}

TEST_F(TaskServiceTest, OneSlowShimHoldsUpNobodysStatistics) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("slow")).ok());
  ASSERT_TRUE(tasks_->Create(context_, Wanted("quick")).ok());
  Shim("slow").Freeze();
  const auto stats =
      tasks_->view().Stats(context_, std::vector<std::string>{"slow", "quick", "nobody"});
  ASSERT_EQ(stats.size(), 3u);
  EXPECT_TRUE(absl::IsDeadlineExceeded(stats[0].status())) << stats[0].status();
  EXPECT_TRUE(stats[1].ok()) << stats[1].status();
  EXPECT_TRUE(absl::IsNotFound(stats[2].status())) << stats[2].status();
}

// ---- a daemon's restart ----

class TaskRecoveryTest : public TaskServiceTest {
 protected:
  // Looks until it holds; false after twenty seconds.
  template <class Condition>
  static bool Eventually(Condition condition) {
    const absl::Time limit = absl::Now() + absl::Seconds(20);
    while (!condition()) {
      if (absl::Now() > limit) return false;
      absl::SleepFor(absl::Milliseconds(2));
    }
    return true;
  }
  // What the next daemon finds of "c".
  runtime::RecoveredTask Found(runtime::Verdict verdict, bool answered) {
    runtime::RecoveredTask found;
    found.key = {kNs, "c"};
    found.verdict = verdict;
    found.bundle = bundles_->Load(found.key).value();
    found.shim = launcher_.Adopt(*found.bundle);
    if (answered) {
      found.info = found.shim->client().Info().value();
    } else {
      found.reason = "its shim did not answer in time";
    }
    return found;
  }
  // The number up to which this daemon has noted a container's events.
  uint64_t SeenEventsOf(const std::string& id) {
    uint64_t number = 0;
    const absl::StatusOr<std::string> text =
        ReadFile(bundles_->Load({kNs, id})->path() + "/events.seen", 64);
    return text.ok() && absl::SimpleAtoi(*text, &number) ? number : 0;
  }
  int Recover(runtime::RecoveredTask found) {
    std::vector<runtime::RecoveredTask> all;
    all.push_back(std::move(found));
    return TaskSupervision(*tasks_).Recover(std::move(all));
  }
};

TEST_F(TaskRecoveryTest, AnExitWhileNoDaemonRanIsToldOnce) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  End();
  Shim("c").Exit("", 7);
  Begin();
  EXPECT_EQ(Recover(Found(runtime::Verdict::kAdopt, true)), 1);
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->exit_status, 7u);
  const std::vector<Process> seen = exits_.Await(1);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].exit_status, 7u);
  // Events that the former daemon had not noted as seen are published again; so is the exit.
  const Actionlist actions = Actions();
  EXPECT_EQ(std::count(actions.begin(), actions.end(), "die"), 1);
}

TEST_F(TaskRecoveryTest, ARecordedStateIsListenedToOnceTheDoorsAreOpen) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  ASSERT_TRUE(Eventually([&] { return SeenEventsOf("c") == 2u; }));
  End();
  Begin();
  runtime::RecoveredTask found = Found(runtime::Verdict::kAdopt, true);
  found.info_is_recorded = true;
  const int streams = Shim("c").event_streams();
  EXPECT_EQ(Recover(std::move(found)), 1);
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kRunning);
  EXPECT_EQ(Shim("c").event_streams(), streams);
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  Shim("c").Exit("", 7);  // before anybody listens
  TaskSupervision(*tasks_).Follow();
  EXPECT_EQ(answer.Await()->status, 7u);
  EXPECT_EQ(exits_.Await(1).size(), 1u);
}

TEST_F(TaskRecoveryTest, WhatHappenedAfterTheRecordedStateIsToldBeforeTheDoorsOpen) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  ASSERT_TRUE(Eventually([&] { return SeenEventsOf("c") == 2u; }));
  End();
  Shim("c").Exit("", 7);
  Begin();
  runtime::RecoveredTask found = Found(runtime::Verdict::kAdopt, true);
  found.info_is_recorded = true;
  EXPECT_EQ(Recover(std::move(found)), 1);
  EXPECT_EQ(exits_.Await(1).size(), 1u);
  const Actionlist actions = Actions();
  EXPECT_EQ(std::count(actions.begin(), actions.end(), "die"), 1);
}

TEST_F(TaskRecoveryTest, ARecordBehindWhatAFormerDaemonSawIsNotBelieved) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  runtime::RecoveredTask found = Found(runtime::Verdict::kAdopt, true);  // running
  Shim("c").Exit("", 7);
  ASSERT_TRUE(Eventually([&] { return SeenEventsOf("c") == 3u; }));
  End();
  Begin();
  found.shim = launcher_.Adopt(*found.bundle);
  found.info_is_recorded = true;
  EXPECT_EQ(Recover(std::move(found)), 1);
  ASSERT_TRUE(Eventually(
      [&] { return tasks_->view().Get(kNs, "c", "")->status == ProcessStatus::kStopped; }));
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->exit_status, 7u);
}

TEST_F(TaskRecoveryTest, AShimThatAnswersLateIsTakenUp) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  End();
  Shim("c").ForgetEvents(2);  // a supervisor has seen them
  Shim("c").Freeze();
  Begin();
  EXPECT_EQ(Recover(Found(runtime::Verdict::kKeepUnknown, false)), 1);
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kUnknown);
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  Shim("c").Unfreeze();
  Shim("c").Exit("", 7);
  absl::StatusOr<Exit> exit = answer.Await();
  ASSERT_TRUE(exit.ok()) << exit.status();
  EXPECT_EQ(exit->status, 7u);
  EXPECT_EQ(exits_.Await(1).size(), 1u);
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kStopped);
  const Actionlist actions = Actions();
  EXPECT_EQ(std::count(actions.begin(), actions.end(), "die"), 1);
}

TEST_F(TaskRecoveryTest, AnExitBeforeALateAnswerIsToldToWaitersAndObserver) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  End();
  Shim("c").Freeze();
  Shim("c").Exit("", 9);
  Begin();
  EXPECT_EQ(Recover(Found(runtime::Verdict::kKeepUnknown, false)), 1);
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  Shim("c").Unfreeze();
  EXPECT_EQ(answer.Await()->status, 9u);
  EXPECT_EQ(exits_.Await(1).size(), 1u);
  const Actionlist actions = Actions();
  EXPECT_EQ(std::count(actions.begin(), actions.end(), "die"), 1);
}

TEST_F(TaskRecoveryTest, APausedTaskWhoseShimAnswersLateIsPausedAndCanBeResumed) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  ASSERT_TRUE(tasks_->Pause(context_, "c").ok());
  End();
  Shim("c").Freeze();
  Begin();
  EXPECT_EQ(Recover(Found(runtime::Verdict::kKeepUnknown, false)), 1);
  const auto status = [&] { return tasks_->view().Get(kNs, "c", "")->status; };
  EXPECT_EQ(status(), ProcessStatus::kUnknown);
  Shim("c").Unfreeze();
  ASSERT_TRUE(Eventually([&] { return status() == ProcessStatus::kPaused; }));
  ASSERT_TRUE(tasks_->Resume(context_, "c").ok());
  EXPECT_EQ(status(), ProcessStatus::kRunning);
}

TEST_F(TaskRecoveryTest, AResumeThatNoDaemonSawIsKnownWhenTheShimAnswersLate) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  ASSERT_TRUE(tasks_->Pause(context_, "c").ok());
  const runtime::RecoveredTask other = Found(runtime::Verdict::kAdopt, true);
  End();
  ASSERT_TRUE(other.shim->client().Resume().ok());
  Shim("c").Freeze();
  Begin();
  EXPECT_EQ(Recover(Found(runtime::Verdict::kKeepUnknown, false)), 1);
  Shim("c").Unfreeze();
  ASSERT_TRUE(Eventually(
      [&] { return tasks_->view().Get(kNs, "c", "")->status == ProcessStatus::kRunning; }));
  ASSERT_TRUE(tasks_->Pause(context_, "c").ok());
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kPaused);
}

TEST_F(TaskRecoveryTest, AShimThatDiesWithoutAnAnswerIsAnExit) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  End();
  Shim("c").Freeze();
  Begin();
  EXPECT_EQ(Recover(Found(runtime::Verdict::kKeepUnknown, false)), 1);
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  launcher_.Kill({kNs, "c"});
  EXPECT_EQ(answer.Await()->status, 137u);
}

TEST_F(TaskRecoveryTest, AGapInTheEventsIsFilledFromWhatTheShimKnows) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  End();
  Shim("c").Exit("", 7);
  Shim("c").ForgetEvents(3);  // the exit among them
  Begin();
  runtime::RecoveredTask found = Found(runtime::Verdict::kAdopt, true);
  found.info->mutable_init()->set_status(shim::v1::STATUS_RUNNING);  // as it was a moment before
  found.info->mutable_init()->clear_exited_at();
  EXPECT_EQ(Recover(std::move(found)), 1);
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  EXPECT_EQ(answer.Await()->status, 7u);
  EXPECT_EQ(exits_.Await(1).size(), 1u);
  // It is listened to from where the gap ends.
  shim::v1::Event oom;
  oom.mutable_oom();
  Shim("c").Emit(oom);
  ASSERT_TRUE(Shim("c").AwaitCalls("Events", 3));
}

TEST_F(TaskRecoveryTest, StopDuringRecoveryLeavesTheTaskToTheNextDaemon) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  End();
  Shim("c").Freeze();
  Begin();
  EXPECT_EQ(Recover(Found(runtime::Verdict::kKeepUnknown, false)), 1);
  Answer answer;
  tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
  TaskSupervision(*tasks_).Stop();
  EXPECT_TRUE(absl::IsUnavailable(answer.Await().status())) << answer.Await().status();
  Shim("c").Unfreeze();
  End();
  EXPECT_TRUE(bundles_->Load({kNs, "c"}).ok());
  Begin();
  EXPECT_EQ(Recover(Found(runtime::Verdict::kAdopt, true)), 1);
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kRunning);
}

// A shim that is stopped for some of the time while daemons come and go, and an end at some moment:
// the exit is published.
TEST_F(TaskRecoveryTest, AnExitIsToldWheneverItComesAndHoweverSlowTheShim) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
    const int restarts = 1 + static_cast<int>(random() % 2);
    const int ends_in = static_cast<int>(random() % (2 * restarts + 1));
    int step = 0;
    const auto maybe_end = [&] {
      if (step++ == ends_in) Shim("c").Exit("", 7);
    };
    for (int i = 0; i < restarts; ++i) {
      End();
      const bool slow = random() % 2 == 0;
      if (slow) Shim("c").Freeze();
      maybe_end();
      Begin();
      Recover(Found(slow ? runtime::Verdict::kKeepUnknown : runtime::Verdict::kAdopt, !slow));
      maybe_end();
      if (slow) Shim("c").Unfreeze();
    }
    Answer answer;
    tasks_->waits().WaitAsync(kNs, "c", "", answer.callback());
    maybe_end();
    absl::StatusOr<Exit> exit = answer.Await();
    ASSERT_TRUE(exit.ok()) << exit.status();
    EXPECT_EQ(exit->status, 7u);
    ASSERT_TRUE(tasks_->Delete(context_, "c", "", /*force=*/true).ok());
  }
}

TEST_F(TaskRecoveryTest, ADamagedLaunchRecordIsNoObstacle) {
  ASSERT_TRUE(tasks_->Create(context_, Wanted("c")).ok());
  End();
  const std::string launch = bundles_->PathOf({kNs, "c"}) + "/launch.json";
  ASSERT_TRUE(WriteFile(launch, "not a record").ok());
  // Its shim answers: it goes on.
  Begin();
  absl::StatusOr<std::vector<runtime::RecoveredTask>> found =
      runtime::RecoverShims(*bundles_, absl::Seconds(5));
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ((*found)[0].bundle->launch().cgroup_path, "/gantry-test-nowhere/c");
  EXPECT_EQ(TaskSupervision(*tasks_).Recover(*std::move(found)), 1);
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->status, ProcessStatus::kRunning);
  End();
  // It does not: it can be removed all the same.
  Shim("c").Freeze();
  Begin();
  found = runtime::RecoverShims(*bundles_, absl::Milliseconds(100));
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(TaskSupervision(*tasks_).Recover(*std::move(found)), 1);
  EXPECT_TRUE(tasks_->Delete(context_, "c", "", /*force=*/true).ok());
  EXPECT_TRUE(launcher_.Ended({kNs, "c"}));
}

}  // namespace
}  // namespace gantry::core
