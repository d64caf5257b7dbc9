// The creation of tasks: what the shim and the runtime are asked for, and what is left when a step
// of it fails.
#include <unistd.h>

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/file.h"
#include "proto/containerd/types/runc/options/oci.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_fixture.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kSpec[] =
    R"({"ociVersion":"1.0.0","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"},)"
    R"("linux":{"cgroupsPath":"/gantry-test-nowhere/c"}})";

class TaskCreationTest : public ContainerFixture {
 protected:
  static CreateTask Wanted(bool start = true) {
    CreateTask create;
    create.container_id = "c";
    create.spec_json = kSpec;
    create.start = start;
    return create;
  }
  absl::Status Create(const CreateTask& create) {
    return tasks_->Create(context_, create).status();
  }
  static CreateTask WithOptions(const containerd::runc::v1::Options& options) {
    CreateTask create = Wanted();
    create.runtime_options_type_url = "containerd.runc.v1.Options";
    create.runtime_options = options.SerializeAsString();
    return create;
  }
  std::string BundlePath() const { return dir_.Join("state/tasks/default/c"); }
  // Nothing of the task is left, and it can be made all the same.
  void ExpectNothing() {
    EXPECT_FALSE(tasks_->view().Exists(kNs, "c"));
    EXPECT_EQ(access(BundlePath().c_str(), F_OK), -1);
    EXPECT_THAT(tasks_->view().List(kNs), IsEmpty());
    const absl::Status created = Create(Wanted());
    EXPECT_TRUE(created.ok()) << created;
  }
  ProcessStatus StatusNow() { return tasks_->view().Get(kNs, "c", "")->status; }
};

TEST_F(TaskCreationTest, ATaskThatIsNotStartedWaitsForItsStart) {
  ASSERT_TRUE(Create(Wanted(/*start=*/false)).ok());
  EXPECT_EQ(StatusNow(), ProcessStatus::kCreated);
  const absl::StatusOr<int32_t> pid = tasks_->Start(context_, "c", "");
  ASSERT_TRUE(pid.ok()) << pid.status();
  EXPECT_EQ(StatusNow(), ProcessStatus::kRunning);
  EXPECT_EQ(tasks_->view().Get(kNs, "c", "")->pid, *pid);
  EXPECT_NE(tasks_->view().Get(kNs, "c", "")->started_at, absl::InfinitePast());
}

TEST_F(TaskCreationTest, AContainerHasOneTask) {
  ASSERT_TRUE(Create(Wanted()).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(Create(Wanted())));
  EXPECT_EQ(StatusNow(), ProcessStatus::kRunning);
  // The same id in another namespace is another container.
  CallContext other = context_;
  other.ns = "k8s.io";
  EXPECT_TRUE(tasks_->Create(other, Wanted()).ok());
  EXPECT_EQ(tasks_->view().List(kNs).size(), 1u);
  EXPECT_EQ(tasks_->view().List("").size(), 2u);
}

TEST_F(TaskCreationTest, TheRuntimeIsGivenTheSpecAsItCame) {
  ASSERT_TRUE(Create(Wanted()).ok());
  EXPECT_EQ(ReadFile(BundlePath() + "/config.json", 1 << 16).value(), kSpec);
  EXPECT_EQ(*tasks_->view().BundleDirectory(kNs, "c"), BundlePath());
  EXPECT_TRUE(absl::IsNotFound(tasks_->view().BundleDirectory(kNs, "nothing").status()));
}

TEST_F(TaskCreationTest, TheShimIsAskedForWhatWasWanted) {
  CreateTask create = Wanted();
  create.rootfs = {{.type = "bind", .source = "/tree", .options = {"rbind", "ro"}}};
  create.discard_rootfs = true;
  create.netns = "/run/netns/c";
  create.resolver = "/run/resolver";
  create.stdio.set_stdout("fifo:///out");
  create.stdio.set_terminal(true);
  ASSERT_TRUE(Create(create).ok());
  const shim::v1::CreateRequest asked = Shim("c").create_request();
  ASSERT_EQ(asked.rootfs_size(), 1);
  EXPECT_EQ(asked.rootfs(0).source(), "/tree");
  EXPECT_THAT(asked.rootfs(0).options(), ElementsAre("rbind", "ro"));
  EXPECT_TRUE(asked.discard_rootfs());
  EXPECT_TRUE(asked.start());
  EXPECT_EQ(asked.resolver().netns(), "/run/netns/c");
  EXPECT_EQ(asked.resolver().file(), "/run/resolver");
  EXPECT_EQ(asked.stdio().stdout(), "fifo:///out");
  EXPECT_EQ(asked.runtime().path(), dir_.Join("crun"));
  const absl::StatusOr<Process> init = tasks_->view().Get(kNs, "c", "");
  EXPECT_TRUE(init->terminal);
  EXPECT_EQ(init->stdout_uri, "fifo:///out");
}

TEST_F(TaskCreationTest, TheEventOfTheCreationHasItsSetup) {
  const auto seen = events_.Subscribe(
      [](const Event& event) { return event.action == action::kTaskCreate; }, [] {});
  CreateTask create = Wanted();
  create.rootfs = {{.type = "bind", .source = "/tree"}};
  create.stdio.set_stdin("fifo:///in");
  ASSERT_TRUE(Create(create).ok());
  const EventPtr event = seen->Pop();
  ASSERT_NE(event, nullptr);
  const auto& facts = std::get<ProcessFacts>(event->facts);
  EXPECT_EQ(facts.pid, tasks_->view().Get(kNs, "c", "")->pid);
  ASSERT_NE(facts.setup, nullptr);
  EXPECT_EQ(facts.setup->bundle, BundlePath());
  EXPECT_EQ(facts.setup->stdin_uri, "fifo:///in");
  ASSERT_EQ(facts.setup->rootfs.size(), 1u);
  EXPECT_EQ(facts.setup->rootfs[0].source, "/tree");
  EXPECT_EQ(seen->Pop(), nullptr);  // once
}

TEST_F(TaskCreationTest, OptionsOfContainerdsClientsReachTheRuntime) {
  containerd::runc::v1::Options options;
  options.set_root("/elsewhere");
  options.set_systemd_cgroup(true);
  options.set_no_pivot_root(true);
  options.set_no_new_keyring(true);
  options.set_io_uid(7);
  options.set_io_gid(8);
  CreateTask create = WithOptions(options);
  create.spec_json =
      R"({"ociVersion":"1.0.0","process":{"args":["true"],"cwd":"/"},"root":{"path":"rootfs"},)"
      R"("linux":{"cgroupsPath":"system.slice:gantry:c"}})";
  ASSERT_TRUE(Create(create).ok());
  const shim::v1::CreateRequest asked = Shim("c").create_request();
  EXPECT_EQ(asked.runtime().state_root(), "/elsewhere/default");
  EXPECT_TRUE(asked.runtime().systemd_cgroup());
  EXPECT_TRUE(asked.runtime().no_pivot_root());
  EXPECT_TRUE(asked.runtime().no_new_keyring());
  EXPECT_EQ(asked.stdio().owner_uid(), 7u);
  EXPECT_EQ(asked.stdio().owner_gid(), 8u);
}

// A spec names its cgroup for one driver or the other, and settings change.
TEST_F(TaskCreationTest, WhoMakesTheCgroupFollowsFromTheSpec) {
  containerd::runc::v1::Options options;
  options.set_systemd_cgroup(true);
  ASSERT_TRUE(Create(WithOptions(options)).ok());
  EXPECT_FALSE(Shim("c").create_request().runtime().systemd_cgroup());
}

TEST_F(TaskCreationTest, WhatCannotBeUnderstoodLeavesNothing) {
  CreateTask malformed = Wanted();
  malformed.runtime_options_type_url = "containerd.runc.v1.Options";
  malformed.runtime_options = "\xff\xff";
  EXPECT_TRUE(absl::IsInvalidArgument(Create(malformed)));
  CreateTask spec = Wanted();
  spec.spec_json = "{";
  EXPECT_TRUE(absl::IsInvalidArgument(Create(spec)));
  CreateTask runtime = Wanted();
  runtime.runtime = "no-such-runtime";
  EXPECT_TRUE(absl::IsNotFound(Create(runtime)));
  ExpectNothing();
}

TEST_F(TaskCreationTest, ACgroupForTheShimHasToBeThere) {
  containerd::runc::v1::Options options;
  options.set_shim_cgroup("relative");
  const absl::Status relative = Create(WithOptions(options));
  EXPECT_TRUE(absl::IsInvalidArgument(relative));
  EXPECT_THAT(std::string(relative.message()), HasSubstr("\"relative\": not an absolute path"));
  options.set_shim_cgroup("/gantry-test-nowhere/shim");
  const absl::Status missing = Create(WithOptions(options));
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr("make it before the task"));
  ExpectNothing();
}

TEST_F(TaskCreationTest, AContainerThatTheRuntimeRefusesLeavesNothing) {
  launcher_.OnLaunch([](runtime::FakeShim& shim) {
    shim.FailCalls("Create", absl::NotFoundError("exec: \"nothing\": no such file"));
  });
  const absl::Status refused = Create(Wanted());
  EXPECT_TRUE(absl::IsNotFound(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("exec: \"nothing\": no such file"));
  EXPECT_TRUE(launcher_.Ended({kNs, "c"}));
  launcher_.OnLaunch(nullptr);
  ExpectNothing();
}

TEST_F(TaskCreationTest, AShimThatDiesDuringTheCreationLeavesNothing) {
  CreateTask create = Wanted();
  create.before_create = [this](runtime::Shim&) { launcher_.Kill({kNs, "c"}); };
  EXPECT_TRUE(absl::IsUnavailable(Create(create)));
  ExpectNothing();
}

TEST_F(TaskCreationTest, WhoAttachesBeforeTheCreationIsFirst) {
  CreateTask create = Wanted();
  std::vector<std::string> calls;
  create.before_create = [&](runtime::Shim&) { calls = Shim("c").calls(); };
  ASSERT_TRUE(Create(create).ok());
  EXPECT_THAT(calls, testing::Not(testing::Contains("Create")));
  EXPECT_THAT(Shim("c").calls(), testing::Contains("Create"));
}

TEST_F(TaskCreationTest, WhatIsMadeMeanwhileIsAwaitedOnceTheShimIsUp) {
  CreateTask create = Wanted();
  std::vector<std::string> steps;
  create.ready = [&] {
    steps.push_back("ready");
    EXPECT_THAT(Shim("c").calls(), testing::Not(testing::Contains("Create")));
    return absl::OkStatus();
  };
  create.before_create = [&](runtime::Shim&) { steps.push_back("attached"); };
  ASSERT_TRUE(Create(create).ok());
  EXPECT_THAT(steps, ElementsAre("ready", "attached"));
  EXPECT_THAT(Shim("c").calls(), testing::Contains("Create"));
}

TEST_F(TaskCreationTest, WhatCannotBeMadeMeanwhileLeavesNothing) {
  CreateTask create = Wanted();
  bool attached = false;
  create.ready = [] { return absl::ResourceExhaustedError("no memory for a network device"); };
  create.before_create = [&](runtime::Shim&) { attached = true; };
  const absl::Status refused = Create(create);
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(refused.message(), "no memory for a network device");
  EXPECT_FALSE(attached);
  EXPECT_TRUE(launcher_.Ended({kNs, "c"}));
  ExpectNothing();
}

TEST_F(TaskCreationTest, AnImageOfAProcessIsFilledInAndGoesWithTheStart) {
  CreateTask create = Wanted(/*start=*/false);
  std::string filled;
  create.fill_restore_image = [&](const std::string& directory) {
    filled = directory;
    EXPECT_THAT(*ListDirectory(directory), IsEmpty());
    return WriteFile(directory + "/pages-1.img", "memory");
  };
  ASSERT_TRUE(Create(create).ok());
  EXPECT_THAT(filled, testing::StartsWith(BundlePath() + "/"));
  EXPECT_EQ(Shim("c").create_request().restore_image_path(), filled);
  EXPECT_EQ(access(filled.c_str(), F_OK), 0);
  ASSERT_TRUE(tasks_->Start(context_, "c", "").ok());
  EXPECT_EQ(access(filled.c_str(), F_OK), -1);
}

TEST_F(TaskCreationTest, AnImageOfAProcessThatIsAClientsStays) {
  const std::string image = dir_.Join("checkpoint");
  ASSERT_TRUE(MakeDirectories(image, 0700).ok());
  CreateTask create = Wanted(/*start=*/false);
  create.restore_image_path = image;
  ASSERT_TRUE(Create(create).ok());
  EXPECT_EQ(Shim("c").create_request().restore_image_path(), image);
  ASSERT_TRUE(tasks_->Start(context_, "c", "").ok());
  EXPECT_EQ(access(image.c_str(), F_OK), 0);
}

TEST_F(TaskCreationTest, AnImageOfAProcessThatCannotBeFilledInLeavesNothing) {
  CreateTask create = Wanted();
  create.fill_restore_image = [](const std::string& directory) {
    EXPECT_TRUE(WriteFile(directory + "/half", "x").ok());
    return absl::DataLossError("the checkpoint is damaged");
  };
  EXPECT_TRUE(absl::IsDataLoss(Create(create)));
  ExpectNothing();
}

TEST_F(TaskCreationTest, CallsOnWhatIsNotThereSayWhat) {
  const absl::Status missing = tasks_->Start(context_, "c", "").status();
  EXPECT_TRUE(absl::IsNotFound(missing));
  EXPECT_THAT(std::string(missing.message()), HasSubstr("c"));
  EXPECT_TRUE(absl::IsNotFound(tasks_->Pause(context_, "c")));
  EXPECT_TRUE(absl::IsNotFound(tasks_->Resume(context_, "c")));
  EXPECT_TRUE(absl::IsNotFound(tasks_->Update(context_, "c", "{}")));
  EXPECT_TRUE(absl::IsNotFound(tasks_->ResizePty(context_, "c", "", 80, 24)));
  EXPECT_TRUE(absl::IsNotFound(tasks_->CloseStdin(context_, "c", "")));
  EXPECT_TRUE(absl::IsNotFound(tasks_->ReopenLog(context_, "c")));
  EXPECT_TRUE(absl::IsNotFound(tasks_->Checkpoint(context_, "c", {})));
  EXPECT_TRUE(absl::IsNotFound(tasks_->Delete(context_, "c", "").status()));
  EXPECT_TRUE(absl::IsNotFound(tasks_->view().Shim(kNs, "c").status()));
  ASSERT_TRUE(Create(Wanted()).ok());
  EXPECT_TRUE(absl::IsNotFound(tasks_->Kill(context_, "c", "no-such-exec", 15, false)));
  EXPECT_TRUE(
      absl::IsInvalidArgument(tasks_->Exec(context_, "c", "", "{}", {}, /*start=*/true).status()));
}

TEST_F(TaskCreationTest, PausedIsKnownFromTheAnswerOfThePause) {
  ASSERT_TRUE(Create(Wanted()).ok());
  ASSERT_TRUE(tasks_->Pause(context_, "c").ok());
  EXPECT_EQ(StatusNow(), ProcessStatus::kPaused);
  ASSERT_TRUE(tasks_->Resume(context_, "c").ok());
  EXPECT_EQ(StatusNow(), ProcessStatus::kRunning);
  Shim("c").FailCalls("Pause", absl::FailedPreconditionError("frozen by another"));
  EXPECT_TRUE(absl::IsFailedPrecondition(tasks_->Pause(context_, "c")));
  EXPECT_EQ(StatusNow(), ProcessStatus::kRunning);
}

TEST_F(TaskCreationTest, AKillOfWhatHasEndedSaysSo) {
  ASSERT_TRUE(Create(Wanted()).ok());
  Shim("c").Exit("", 0);
  ASSERT_TRUE(Eventually([&] {
    const absl::StatusOr<Process> init = tasks_->view().Get(kNs, "c", "");
    return !init.ok() || init->status == ProcessStatus::kStopped;
  }));
  const absl::Status late = tasks_->Kill(context_, "c", "", 15, false);
  EXPECT_TRUE(absl::IsNotFound(late)) << late;
}

TEST_F(TaskCreationTest, AnExecOfAnIdThatIsTakenIsRefused) {
  ASSERT_TRUE(Create(Wanted()).ok());
  ASSERT_TRUE(tasks_->Exec(context_, "c", "e1", R"({"args":["sh"]})", {}, true).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(
      tasks_->Exec(context_, "c", "e1", R"({"args":["sh"]})", {}, true).status()));
  ASSERT_EQ(tasks_->view().Execs(kNs, "c").size(), 1u);
  EXPECT_EQ(*tasks_->view().Execs(kNs, "c")[0].process_json, R"({"args":["sh"]})");
  EXPECT_EQ(tasks_->view().FindExecs(kNs, "e1").size(), 1u);
  EXPECT_THAT(tasks_->view().FindExecs("k8s.io", "e1"), IsEmpty());
  // The first process is no exec.
  EXPECT_THAT(tasks_->view().FindExecs(kNs, ""), IsEmpty());
}

TEST_F(TaskCreationTest, AWaitWithALimitSaysThatItStillRuns) {
  ASSERT_TRUE(Create(Wanted()).ok());
  const absl::Status late = tasks_->waits().Wait(context_, "c", "", absl::Milliseconds(1)).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(late));
  EXPECT_THAT(std::string(late.message()), HasSubstr("still running after 1ms"));
  CancelToken gone;
  gone.Cancel("the client has gone");
  CallContext context = context_;
  context.cancel = &gone;
  EXPECT_FALSE(tasks_->waits().Wait(context, "c", "", absl::Hours(1)).ok());
}

}  // namespace
}  // namespace gantry::core
