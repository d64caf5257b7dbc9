// What is prepared at each start, on fake shims.
#include "supervisor/core/prepare_run.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/core/container_fixture.h"

namespace gantry::core {
namespace {

using testing::HasSubstr;
using testing::Not;

class PrepareRunTest : public ContainerFixture {
 protected:
  absl::StatusOr<CreateTask> Prepare(const std::string& id) {
    return runs_->PrepareRun(context_, records_->Load(context_, id).value());
  }
  std::string NameFile(const std::string& id, const std::string& name,
                       const v1::ContainerConfig& config = Config()) {
    return ReadFile(records_->GeneratedDirectory(kNs, id, config) + "/" + name, 1 << 16)
        .value_or("cannot be read");
  }
};

TEST_F(PrepareRunTest, NameFilesAreWrittenAtEachStart) {
  const std::string id = Make("web");
  ASSERT_TRUE(Start(id).ok());
  EXPECT_EQ(NameFile(id, "hostname"), id.substr(0, 12) + "\n");
  const std::string hosts = NameFile(id, "hosts");
  EXPECT_THAT(hosts, HasSubstr("localhost"));
  Shim(id).Exit("", 0);
  ASSERT_TRUE(Eventually([&] { return StateIs(id) == v1::CONTAINER_STATE_EXITED; }));
  const std::string directory = records_->GeneratedDirectory(kNs, id, Config());
  ASSERT_TRUE(WriteFile(directory + "/hosts", "192.0.2.1 stale\n", 0644).ok());
  ASSERT_EQ(unlink((directory + "/resolv.conf").c_str()), 0);
  ASSERT_TRUE(Start(id).ok());
  EXPECT_EQ(NameFile(id, "hosts"), hosts);
  EXPECT_EQ(NameFile(id, "resolv.conf"), "");
}

TEST_F(PrepareRunTest, TheFilesOfOneThatRemovesItselfAreInTheStateDirectory) {
  v1::ContainerConfig config = Config();
  config.set_auto_remove(true);
  config.set_hostname("once");
  const std::string id = Make("once", config);
  const absl::StatusOr<CreateTask> task = Prepare(id);
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_TRUE(task->discard_rootfs);
  EXPECT_EQ(NameFile(id, "hostname", config), "once\n");
  EXPECT_THAT(records_->GeneratedDirectory(kNs, id, config), HasSubstr(dir_.Join("state")));
}

TEST_F(PrepareRunTest, TheSpecGoesToTheShimAsItIsStored) {
  const std::string id = Make("web");
  const absl::StatusOr<CreateTask> task = Prepare(id);
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_EQ(task->spec_json, records_->Load(context_, id)->record.spec().value());
  EXPECT_EQ(task->container_id, id);
  EXPECT_FALSE(task->rootfs.empty());
  EXPECT_FALSE(task->discard_rootfs);
}

TEST_F(PrepareRunTest, SharedNamespacesAreThoseOfTheOtherContainersProcessOfNow) {
  const std::string other = Make("other");
  v1::ContainerConfig config = Config();
  config.set_network_mode("container:" + other);
  config.set_pid_mode("container:" + other);
  const std::string id = Make("web", config);
  ASSERT_TRUE(Start(other).ok());
  const std::string proc =
      "/proc/" + std::to_string(tasks_->view().Get(kNs, other, "")->pid) + "/ns/";
  const absl::StatusOr<CreateTask> task = Prepare(id);
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_THAT(task->spec_json, HasSubstr(proc + "net\""));
  EXPECT_THAT(task->spec_json, HasSubstr(proc + "pid\""));
  EXPECT_THAT(task->spec_json, Not(HasSubstr(proc + "ipc\"")));
}

TEST_F(PrepareRunTest, AContainerWhoseNetworkIsSharedMustRun) {
  const std::string other = Make("other");
  v1::ContainerConfig config = Config();
  config.set_network_mode("container:" + other);
  const std::string id = Make("web", config);
  const absl::Status refused = Start(id);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("does not run"));
  EXPECT_EQ(StateIs(id), v1::CONTAINER_STATE_CREATED);
  EXPECT_THAT(Inspect(id).error(), HasSubstr("does not run"));
  ASSERT_TRUE(Start(other).ok());
  EXPECT_TRUE(Start(id).ok());
}

TEST_F(PrepareRunTest, StreamsAreAsConfigured) {
  v1::ContainerConfig config = Config();
  config.set_tty(true);
  config.set_open_stdin(true);
  config.set_stdin_once(true);
  config.mutable_console_size()->set_width(132);
  config.mutable_console_size()->set_height(43);
  const absl::StatusOr<CreateTask> task = Prepare(Make("web", config));
  ASSERT_TRUE(task.ok()) << task.status();
  EXPECT_TRUE(task->stdio.terminal());
  EXPECT_TRUE(task->stdio.attachable());
  EXPECT_TRUE(task->stdio.attach_stdin());
  EXPECT_TRUE(task->stdio.stdin_once());
  EXPECT_EQ(task->stdio.width(), 132u);
  EXPECT_EQ(task->stdio.height(), 43u);
}

TEST_F(PrepareRunTest, TheLogHasTheDaemonsLimitsUnlessTheContainerHasItsOwn) {
  const absl::StatusOr<CreateTask> usual = Prepare(Make("usual"));
  ASSERT_TRUE(usual.ok()) << usual.status();
  EXPECT_EQ(usual->stdio.log().max_size_bytes(), 20 << 20);
  EXPECT_EQ(usual->stdio.log().max_files(), 5);
  v1::ContainerConfig config = Config();
  (*config.mutable_log()->mutable_options())["max-size"] = "10k";
  (*config.mutable_log()->mutable_options())["max-file"] = "2";
  const absl::StatusOr<CreateTask> own = Prepare(Make("own", config));
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->stdio.log().max_size_bytes(), 10 << 10);
  EXPECT_EQ(own->stdio.log().max_files(), 2);
}

TEST_F(PrepareRunTest, TheFirstProcessOfWhatRunsIsFoundByName) {
  const std::string id = Make("web");
  EXPECT_TRUE(absl::IsFailedPrecondition(runs_->InitPid(context_, "web").status()));
  EXPECT_TRUE(absl::IsNotFound(runs_->InitPid(context_, "nothing").status()));
  ASSERT_TRUE(Start(id).ok());
  EXPECT_EQ(*runs_->InitPid(context_, "web"), tasks_->view().Get(kNs, id, "")->pid);
}

}  // namespace
}  // namespace gantry::core
