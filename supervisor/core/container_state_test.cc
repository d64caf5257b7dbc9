#include "supervisor/core/container_state.h"

#include "gtest/gtest.h"

namespace gantry::core {
namespace {

using Record = record::v1::ContainerState;

v1::RestartPolicy Always() {
  v1::RestartPolicy policy;
  policy.set_name("always");
  return policy;
}

Record Stored(Record::Status status) {
  Record record;
  record.set_status(status);
  return record;
}

Process Task(ProcessStatus status, uint32_t exit_status = 0) {
  Process task;
  task.status = status;
  task.exit_status = exit_status;
  return task;
}

TEST(ContainerStateTest, WithoutATaskTheRecordSaysIt) {
  const v1::RestartPolicy none;
  EXPECT_EQ(StateOf(Stored(Record::CREATED), none, nullptr), v1::CONTAINER_STATE_CREATED);
  EXPECT_EQ(StateOf(Stored(Record::STOPPED), none, nullptr), v1::CONTAINER_STATE_EXITED);
  // The machine went down with it, and nothing has looked at it since.
  EXPECT_EQ(StateOf(Stored(Record::RUNNING), none, nullptr), v1::CONTAINER_STATE_EXITED);
}

TEST(ContainerStateTest, LiveTaskSaysIt) {
  const v1::RestartPolicy none;
  const struct {
    ProcessStatus task;
    v1::ContainerState state;
  } kCases[] = {
      {ProcessStatus::kCreated, v1::CONTAINER_STATE_CREATED},
      {ProcessStatus::kRunning, v1::CONTAINER_STATE_RUNNING},
      {ProcessStatus::kPausing, v1::CONTAINER_STATE_PAUSED},
      {ProcessStatus::kPaused, v1::CONTAINER_STATE_PAUSED},
      {ProcessStatus::kStopped, v1::CONTAINER_STATE_EXITED},
      {ProcessStatus::kUnknown, v1::CONTAINER_STATE_DEAD},
  };
  for (const auto& one : kCases) {
    const Process task = Task(one.task);
    EXPECT_EQ(StateOf(Stored(Record::RUNNING), none, &task), one.state)
        << static_cast<int>(one.task);
  }
}

TEST(ContainerStateTest, WhatDoesNotRunSaysWhyAndWhatToDo) {
  const struct {
    v1::ContainerState state;
    const char* message;
  } kCases[] = {
      {v1::CONTAINER_STATE_CREATED, "container web is not running"},
      {v1::CONTAINER_STATE_EXITED, "container web is not running"},
      {v1::CONTAINER_STATE_PAUSED, "container web is paused, unpause the container before exec"},
      {v1::CONTAINER_STATE_RESTARTING,
       "container web is restarting, wait until the container is running"},
      {v1::CONTAINER_STATE_REMOVING, "container web is being removed"},
  };
  for (const auto& one : kCases) {
    const absl::Status refused = CheckRuns(one.state, "web", "exec");
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << one.message;
    EXPECT_EQ(refused.message(), one.message);
  }
  EXPECT_TRUE(CheckRuns(v1::CONTAINER_STATE_RUNNING, "web", "exec").ok());
  EXPECT_TRUE(CheckRuns(v1::CONTAINER_STATE_DEAD, "web", "exec").ok());
}

TEST(ContainerStateTest, RestartingFromTheEndThatIsNotRecordedYet) {
  const Process task = Task(ProcessStatus::kStopped, 1);
  EXPECT_EQ(StateOf(Stored(Record::RUNNING), Always(), &task), v1::CONTAINER_STATE_RESTARTING);
}

TEST(ContainerStateTest, RestartingWhileTheRecordNamesATime) {
  Record record = Stored(Record::STOPPED);
  record.mutable_restart_at()->set_seconds(2000);
  EXPECT_EQ(StateOf(record, Always(), nullptr), v1::CONTAINER_STATE_RESTARTING);
  const Process task = Task(ProcessStatus::kRunning);
  EXPECT_EQ(StateOf(record, Always(), &task), v1::CONTAINER_STATE_RUNNING);
}

TEST(ContainerStateTest, StoppedByAPersonIsExitedUnderAnyPolicy) {
  Record record = Stored(Record::RUNNING);
  record.set_stopped_by_user(true);
  const Process task = Task(ProcessStatus::kStopped, 137);
  EXPECT_EQ(StateOf(record, Always(), &task), v1::CONTAINER_STATE_EXITED);
}

TEST(ContainerStateTest, RemovalIsSeenWhateverTheTaskDoes) {
  Record record = Stored(Record::RUNNING);
  record.set_removing(true);
  const Process task = Task(ProcessStatus::kRunning);
  EXPECT_EQ(StateOf(record, Always(), &task), v1::CONTAINER_STATE_REMOVING);
}

TEST(ContainerStateTest, PruneTakesOnlyWhatWillNotRunAgain) {
  for (int value = v1::ContainerState_MIN; value <= v1::ContainerState_MAX; ++value) {
    if (!v1::ContainerState_IsValid(value)) continue;
    const auto state = static_cast<v1::ContainerState>(value);
    EXPECT_EQ(IsPrunable(state),
              state == v1::CONTAINER_STATE_CREATED || state == v1::CONTAINER_STATE_EXITED)
        << StateName(state);
    EXPECT_FALSE(IsPrunable(state) && IsActive(state)) << StateName(state);
  }
}

TEST(ContainerStateTest, NamesAreReadBack) {
  v1::ContainerState state;
  ASSERT_TRUE(ParseStateName("restarting", &state));
  EXPECT_EQ(state, v1::CONTAINER_STATE_RESTARTING);
  EXPECT_FALSE(ParseStateName("stopped", &state));
}

}  // namespace
}  // namespace gantry::core
