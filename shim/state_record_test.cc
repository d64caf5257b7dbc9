#include "shim/state_record.h"

#include <string>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry::shim {
namespace {

v1::Event Oom() {
  v1::Event event;
  event.mutable_oom();
  return event;
}

class StateRecordTest : public testing::Test {
 protected:
  StateRecordTest() { state_.set_container_id("web"); }

  TempDir bundle_;
  EventLog events_;
  v1::InfoResponse state_;
  StateRecorder recorder_{bundle_.path(), &events_, [this](v1::InfoResponse* state) {
                            *state = state_;
                            state->set_last_event(events_.last_number());
                          }};
};

TEST_F(StateRecordTest, EachEventLeavesTheStateOfItsTime) {
  EXPECT_TRUE(absl::IsNotFound(ReadStateRecord(bundle_.path()).status()));
  state_.mutable_init()->set_status(v1::STATUS_RUNNING);
  events_.Append(Oom());
  ASSERT_TRUE(ReadStateRecord(bundle_.path()).ok());
  EXPECT_EQ(ReadStateRecord(bundle_.path())->init().status(), v1::STATUS_RUNNING);
  EXPECT_EQ(ReadStateRecord(bundle_.path())->last_event(), 1u);

  state_.mutable_init()->set_status(v1::STATUS_PAUSED);
  state_.add_execs()->set_exec_id("shell");
  events_.Append(Oom());
  const v1::InfoResponse read = *ReadStateRecord(bundle_.path());
  EXPECT_EQ(read.init().status(), v1::STATUS_PAUSED);
  EXPECT_EQ(read.last_event(), 2u);
  ASSERT_EQ(read.execs_size(), 1);
  EXPECT_EQ(read.execs(0).exec_id(), "shell");
}

TEST_F(StateRecordTest, WhatWasDeletedIsNotRecorded) {
  state_.Clear();
  events_.Append(Oom());
  EXPECT_TRUE(absl::IsNotFound(ReadStateRecord(bundle_.path()).status()));
}

TEST_F(StateRecordTest, DamageIsNotTakenForAState) {
  for (const std::string bytes : {"", "\x0a\xff", "no message"}) {
    ASSERT_TRUE(WriteFile(bundle_.Join("state"), bytes).ok());
    EXPECT_TRUE(absl::IsDataLoss(ReadStateRecord(bundle_.path()).status())) << bytes;
  }
}

}  // namespace
}  // namespace gantry::shim
