#include "supervisor/core/health_check.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"

namespace gantry::core {
namespace {

HealthOptions Options(int retries, absl::Duration start_period = absl::ZeroDuration()) {
  v1::ContainerConfig config;
  config.mutable_health_check()->add_test("CMD-SHELL");
  config.mutable_health_check()->add_test("true");
  config.mutable_health_check()->set_retries(retries);
  config.mutable_health_check()->mutable_start_period()->set_seconds(
      absl::ToInt64Seconds(start_period));
  return *HealthOptionsOf(config);
}

ProbeResult Result(int code, std::string output = "") {
  return {absl::UnixEpoch(), absl::UnixEpoch(), code, std::move(output)};
}

TEST(HealthOptionsTest, DefaultsAreDockers) {
  const HealthOptions options = Options(0);
  EXPECT_EQ(options.command, (std::vector<std::string>{"/bin/sh", "-c", "true"}));
  EXPECT_EQ(options.interval, absl::Seconds(30));
  EXPECT_EQ(options.timeout, absl::Seconds(30));
  EXPECT_EQ(options.start_period, absl::ZeroDuration());
  EXPECT_EQ(options.retries, 3);
}

TEST(HealthOptionsTest, NoneAndNothingAndNonsenseAreNoCheck) {
  v1::ContainerConfig config;
  EXPECT_FALSE(HealthOptionsOf(config).has_value());
  config.mutable_health_check()->mutable_interval()->set_seconds(1);
  EXPECT_FALSE(HealthOptionsOf(config).has_value());
  config.mutable_health_check()->add_test("NONE");
  EXPECT_FALSE(HealthOptionsOf(config).has_value());
  config.mutable_health_check()->set_test(0, "BOGUS");
  config.mutable_health_check()->add_test("x");
  EXPECT_FALSE(HealthOptionsOf(config).has_value());
}

TEST(NoteProbeTest, SoManyFailuresInARowMakeUnhealthyAndOneSuccessHealthy) {
  const HealthOptions options = Options(2);
  v1::HealthState health = InitialHealth();
  EXPECT_EQ(health.status(), "starting");
  EXPECT_FALSE(NoteProbe(options, absl::Seconds(30), Result(1), health));
  EXPECT_TRUE(NoteProbe(options, absl::Seconds(60), Result(0), health));
  EXPECT_EQ(health.status(), "healthy");
  EXPECT_FALSE(NoteProbe(options, absl::Seconds(90), Result(-1), health));
  EXPECT_EQ(health.status(), "healthy");
  EXPECT_EQ(health.failing_streak(), 1);
  EXPECT_TRUE(NoteProbe(options, absl::Seconds(120), Result(1), health));
  EXPECT_EQ(health.status(), "unhealthy");
  EXPECT_FALSE(NoteProbe(options, absl::Seconds(150), Result(1), health));
  EXPECT_EQ(health.failing_streak(), 3);
  EXPECT_TRUE(NoteProbe(options, absl::Seconds(180), Result(0), health));
  EXPECT_EQ(health.status(), "healthy");
  EXPECT_EQ(health.failing_streak(), 0);
}

TEST(NoteProbeTest, FailuresInTheStartPeriodDoNotCount) {
  const HealthOptions options = Options(1, absl::Seconds(60));
  v1::HealthState health = InitialHealth();
  EXPECT_FALSE(NoteProbe(options, absl::Seconds(59), Result(1), health));
  EXPECT_EQ(health.failing_streak(), 0);
  EXPECT_EQ(ProbeDelay(options, absl::Seconds(59), health), absl::Seconds(5));
  EXPECT_EQ(ProbeDelay(options, absl::Seconds(60), health), absl::Seconds(30));
  EXPECT_TRUE(NoteProbe(options, absl::Seconds(60), Result(1), health));
  EXPECT_EQ(health.status(), "unhealthy");

  // A success ends it early.
  health = InitialHealth();
  EXPECT_TRUE(NoteProbe(options, absl::Seconds(5), Result(0), health));
  EXPECT_EQ(ProbeDelay(options, absl::Seconds(5), health), absl::Seconds(30));
  EXPECT_TRUE(NoteProbe(options, absl::Seconds(35), Result(1), health));
  EXPECT_EQ(health.status(), "unhealthy");
}

TEST(NoteProbeTest, FiveResultsAndSoMuchOutputAreKept) {
  v1::HealthState health = InitialHealth();
  for (int i = 0; i < 7; ++i)
    NoteProbe(Options(3), absl::Seconds(i), Result(i, std::string(5000, 'x')), health);
  ASSERT_EQ(health.log_size(), 5);
  EXPECT_EQ(health.log(0).exit_code(), 2);
  EXPECT_EQ(health.log(4).exit_code(), 6);
  EXPECT_EQ(health.log(4).output().size(), kMaxProbeOutput);
}

TEST(NoteProbeTest, OutputIsTextThatCanBeStoredAndRead) {
  // 4095 bytes, then a character of two: the cut does not divide it.
  for (const std::string& output :
       {std::string("caf\xe9"), std::string(4095, 'x') + "\xc3\xa9", std::string(5000, '\xe9')}) {
    v1::HealthState health = InitialHealth();
    NoteProbe(Options(3), absl::ZeroDuration(), Result(1, output), health);
    v1::HealthState again;
    EXPECT_TRUE(again.ParseFromString(health.SerializeAsString()));
    EXPECT_LE(health.log(0).output().size(), kMaxProbeOutput);
  }
  v1::HealthState health = InitialHealth();
  NoteProbe(Options(3), absl::ZeroDuration(), Result(1, "caf\xe9"), health);
  EXPECT_EQ(health.log(0).output(), "caf\xef\xbf\xbd");
}

TEST(CheckHealthCheckTest, WhatMakesNoSenseIsRefused) {
  v1::HealthCheck check;
  EXPECT_TRUE(CheckHealthCheck(check).ok());
  check.add_test("CMD");
  EXPECT_TRUE(absl::IsInvalidArgument(CheckHealthCheck(check)));
  check.add_test("true");
  EXPECT_TRUE(CheckHealthCheck(check).ok());
  check.mutable_timeout()->set_nanos(999999);
  EXPECT_TRUE(absl::IsInvalidArgument(CheckHealthCheck(check)));
}

}  // namespace
}  // namespace gantry::core
