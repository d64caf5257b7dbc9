#include "supervisor/core/restart_policy.h"

#include "gtest/gtest.h"

namespace gantry::core {
namespace {

v1::RestartPolicy Policy(const std::string& name, int most = 0) {
  v1::RestartPolicy policy;
  policy.set_name(name);
  policy.set_maximum_retry_count(most);
  return policy;
}

record::v1::ContainerState Ended(uint32_t exit_code, uint32_t restarts = 0, int ran_seconds = 1) {
  record::v1::ContainerState state;
  state.set_status(record::v1::ContainerState::STOPPED);
  state.set_exit_code(exit_code);
  state.set_restart_count(restarts);
  state.mutable_started_at()->set_seconds(1000);
  state.mutable_finished_at()->set_seconds(1000 + ran_seconds);
  return state;
}

TEST(RestartPolicyTest, NoneAndNoNeverRestart) {
  EXPECT_FALSE(RestartDelay(Policy(""), Ended(1)).has_value());
  EXPECT_FALSE(RestartDelay(Policy("no"), Ended(1)).has_value());
}

TEST(RestartPolicyTest, OnFailureRestartsFailuresUpToItsMaximum) {
  EXPECT_FALSE(RestartDelay(Policy("on-failure"), Ended(0)).has_value());
  EXPECT_TRUE(RestartDelay(Policy("on-failure"), Ended(1, 1000)).has_value());
  EXPECT_TRUE(RestartDelay(Policy("on-failure", 3), Ended(1, 2)).has_value());
  EXPECT_FALSE(RestartDelay(Policy("on-failure", 3), Ended(1, 3)).has_value());
}

TEST(RestartPolicyTest, AlwaysAndUnlessStoppedRestartAnyEnd) {
  EXPECT_TRUE(RestartDelay(Policy("always"), Ended(0)).has_value());
  EXPECT_TRUE(RestartDelay(Policy("unless-stopped"), Ended(0)).has_value());
}

TEST(RestartPolicyTest, PersonsStopAndRemovalEndRestarts) {
  record::v1::ContainerState state = Ended(1);
  state.set_stopped_by_user(true);
  EXPECT_FALSE(RestartDelay(Policy("always"), state).has_value());
  state.set_stopped_by_user(false);
  state.set_removing(true);
  EXPECT_FALSE(RestartDelay(Policy("always"), state).has_value());
}

TEST(RestartPolicyTest, DelayDoublesUpToAMinuteAndBeginsAnewAfterALongRun) {
  EXPECT_EQ(RestartDelay(Policy("always"), Ended(1, 0)), absl::Milliseconds(100));
  EXPECT_EQ(RestartDelay(Policy("always"), Ended(1, 1)), absl::Milliseconds(200));
  EXPECT_EQ(RestartDelay(Policy("always"), Ended(1, 5)), absl::Milliseconds(3200));
  EXPECT_EQ(RestartDelay(Policy("always"), Ended(1, 100)), absl::Minutes(1));
  EXPECT_EQ(RestartDelay(Policy("always"), Ended(1, 100, 10)), absl::Milliseconds(100));
}

TEST(RestartPolicyTest, DaemonStartsWhatWaitedForItsRestartAndWhatIsAlwaysToRun) {
  EXPECT_FALSE(StartsWithDaemon(Policy("on-failure"), Ended(1)));
  EXPECT_TRUE(StartsWithDaemon(Policy("always"), Ended(0)));
  EXPECT_FALSE(StartsWithDaemon(Policy("always"), record::v1::ContainerState()));  // never started
  record::v1::ContainerState waiting = Ended(1);
  waiting.mutable_restart_at()->set_seconds(2000);
  EXPECT_TRUE(StartsWithDaemon(Policy("on-failure"), waiting));
  waiting.set_removing(true);
  EXPECT_FALSE(StartsWithDaemon(Policy("on-failure"), waiting));
}

}  // namespace
}  // namespace gantry::core
