#include "supervisor/core/restart_monitor.h"

#include "gtest/gtest.h"

namespace gantry::core {
namespace {

constexpr char kStatus[] = "containerd.io/restart.status";
constexpr char kPolicy[] = "containerd.io/restart.policy";
constexpr char kCount[] = "containerd.io/restart.count";
constexpr char kStopped[] = "containerd.io/restart.explicitly-stopped";

Process Is(ProcessStatus status, uint32_t exit_status = 0) {
  Process process;
  process.status = status;
  process.exit_status = exit_status;
  return process;
}

TEST(RestartWishTest, WithoutTheLabelNothingIsWanted) {
  EXPECT_EQ(WishOf({}, std::nullopt), RestartWish::kNothing);
  EXPECT_EQ(WishOf({{kPolicy, "always"}}, Is(ProcessStatus::kStopped)), RestartWish::kNothing);
}

TEST(RestartWishTest, WhatHasEndedOrNeverWasIsStarted) {
  for (const char* policy : {"", "always", "unless-stopped"}) {
    const Labels labels = {{kStatus, "running"}, {kPolicy, policy}};
    EXPECT_EQ(WishOf(labels, Is(ProcessStatus::kStopped)), RestartWish::kRun) << policy;
    EXPECT_EQ(WishOf(labels, std::nullopt), RestartWish::kRun) << policy;
    for (ProcessStatus alive : {ProcessStatus::kCreated, ProcessStatus::kRunning,
                                ProcessStatus::kPaused, ProcessStatus::kUnknown}) {
      EXPECT_EQ(WishOf(labels, Is(alive)), RestartWish::kNothing);
    }
  }
}

TEST(RestartWishTest, APersonsStopCounts) {
  EXPECT_EQ(WishOf({{kStatus, "running"}, {kStopped, "true"}}, Is(ProcessStatus::kStopped)),
            RestartWish::kNothing);
  EXPECT_EQ(WishOf({{kStatus, "running"}, {kStopped, "false"}}, Is(ProcessStatus::kStopped)),
            RestartWish::kRun);
}

TEST(RestartWishTest, OnFailureLooksAtTheStatusAndCounts) {
  const Labels twice = {{kStatus, "running"}, {kPolicy, "on-failure:2"}};
  EXPECT_EQ(WishOf(twice, Is(ProcessStatus::kStopped, 0)), RestartWish::kNothing);
  EXPECT_EQ(WishOf(twice, Is(ProcessStatus::kStopped, 1)), RestartWish::kRun);
  EXPECT_EQ(WishOf(twice, std::nullopt), RestartWish::kNothing);
  Labels counted = twice;
  counted[kCount] = "1";
  EXPECT_EQ(WishOf(counted, Is(ProcessStatus::kStopped, 1)), RestartWish::kRun);
  counted[kCount] = "2";
  EXPECT_EQ(WishOf(counted, Is(ProcessStatus::kStopped, 1)), RestartWish::kNothing);
  counted[kPolicy] = "on-failure";
  EXPECT_EQ(WishOf(counted, Is(ProcessStatus::kStopped, 1)), RestartWish::kRun);
}

TEST(RestartWishTest, WhatIsNotUnderstoodIsNotActedOn) {
  for (const char* policy : {"no", "sometimes", "always:3", "on-failure:x", "on-failure:"}) {
    EXPECT_EQ(WishOf({{kStatus, "running"}, {kPolicy, policy}}, Is(ProcessStatus::kStopped, 1)),
              RestartWish::kNothing)
        << policy;
  }
  EXPECT_EQ(WishOf({{kStatus, "paused"}}, Is(ProcessStatus::kStopped)), RestartWish::kNothing);
  EXPECT_EQ(WishOf({{kStatus, "running"}, {kPolicy, "on-failure:2"}, {kCount, "many"}},
                   Is(ProcessStatus::kStopped, 1)),
            RestartWish::kNothing);
}

TEST(RestartWishTest, StoppedIsWantedToo) {
  const Labels labels = {{kStatus, "stopped"}};
  EXPECT_EQ(WishOf(labels, Is(ProcessStatus::kRunning)), RestartWish::kStop);
  EXPECT_EQ(WishOf(labels, Is(ProcessStatus::kPaused)), RestartWish::kStop);
  EXPECT_EQ(WishOf(labels, Is(ProcessStatus::kStopped)), RestartWish::kNothing);
  EXPECT_EQ(WishOf(labels, std::nullopt), RestartWish::kNothing);
}

}  // namespace
}  // namespace gantry::core
