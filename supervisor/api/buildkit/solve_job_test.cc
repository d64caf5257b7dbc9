#include "supervisor/api/buildkit/solve_job.h"

#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "base/cancel_token.h"

namespace gantry::api::buildkit {
namespace {

SolveJob::Status Named(const std::string& name) {
  SolveJob::Status status;
  status.add_vertexes()->set_name(name);
  return status;
}

std::vector<std::string> All(SolveJob& job) {
  std::vector<std::string> names;
  EXPECT_TRUE(job.Follow(nullptr,
                         [&](const SolveJob::Status& status) {
                           names.push_back(status.vertexes(0).name());
                           return absl::OkStatus();
                         })
                  .ok());
  return names;
}

TEST(SolveJobTest, OneThatComesLateIsToldFromTheBeginning) {
  SolveJob job("ref");
  job.Publish(Named("a"));
  std::thread late([&] { EXPECT_EQ(All(job), (std::vector<std::string>{"a", "b"})); });
  job.Publish(Named("b"));
  job.Close();
  late.join();
  EXPECT_EQ(All(job), (std::vector<std::string>{"a", "b"}));
  job.Publish(Named("c"));
  EXPECT_EQ(All(job).size(), 2u);
}

TEST(SolveJobTest, ALongBuildKeepsItsLatestProgressOnly) {
  SolveJob job("ref");
  const std::string large(100 << 10, 'x');
  for (int i = 0; i < 30; ++i) job.Publish(Named(large));
  job.Publish(Named("last"));
  job.Close();
  const std::vector<std::string> kept = All(job);
  EXPECT_LT(kept.size(), 12u);
  EXPECT_EQ(kept.back(), "last");
}

TEST(SolveJobTest, FollowingEndsWithTheToken) {
  SolveJob job("ref");
  CancelToken cancel;
  std::thread follower([&] {
    EXPECT_TRUE(absl::IsCancelled(
        job.Follow(&cancel, [](const SolveJob::Status&) { return absl::OkStatus(); })));
  });
  cancel.Cancel("the client has gone");
  follower.join();
}

TEST(SolveJobTest, WhatTheFunctionReturnsIsBuilt) {
  SolveJob job("ref");
  Solve solve;
  solve.sources.filename = "first";
  const std::string first = job.Plan(solve);
  solve.sources.filename = "second";
  const std::string second = job.Plan(solve);
  EXPECT_NE(first, second);
  EXPECT_TRUE(job.HasPlan(first));
  EXPECT_FALSE(job.HasPlan("other"));
  job.Return(second);
  job.Return(absl::InternalError("too late"));
  const absl::StatusOr<std::optional<Solve>> returned = job.AwaitReturn(nullptr);
  ASSERT_TRUE(returned.ok() && returned->has_value());
  EXPECT_EQ((*returned)->sources.filename, "second");
}

TEST(SolveJobTest, AFunctionMayReturnNothingOrFail) {
  SolveJob nothing("ref");
  nothing.Return(std::string());
  EXPECT_FALSE(nothing.AwaitReturn(nullptr)->has_value());
  SolveJob failed("ref");
  failed.Return(absl::AbortedError("no"));
  EXPECT_TRUE(absl::IsAborted(failed.AwaitReturn(nullptr).status()));
  SolveJob unknown("ref");
  unknown.Return(std::string("other"));
  EXPECT_TRUE(absl::IsInvalidArgument(unknown.AwaitReturn(nullptr).status()));
  SolveJob left("ref");
  CancelToken cancel;
  cancel.Cancel("the client has gone");
  EXPECT_TRUE(absl::IsCancelled(left.AwaitReturn(&cancel).status()));
}

TEST(SolveJobsTest, JobsAreFoundByNameAndForAWhileAfterTheirEnd) {
  SolveJobs jobs;
  const auto first = jobs.Begin("a");
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(jobs.Begin("a").status()));
  EXPECT_EQ(*jobs.Find("a", nullptr), *first);
  EXPECT_TRUE(absl::IsNotFound(jobs.Find("b", nullptr, absl::ZeroDuration()).status()));
  jobs.End(*first);
  EXPECT_EQ(*jobs.Find("a", nullptr), *first);
  for (int i = 0; i < 16; ++i) jobs.End(*jobs.Begin(std::to_string(i)));
  EXPECT_TRUE(absl::IsNotFound(jobs.Find("a", nullptr, absl::ZeroDuration()).status()));
  EXPECT_TRUE(jobs.Begin("15").ok());
}

TEST(SolveJobsTest, OneThatIsAboutToBeginIsWaitedFor) {
  SolveJobs jobs;
  std::thread waits([&] { EXPECT_TRUE(jobs.Find("a", nullptr).ok()); });
  EXPECT_TRUE(jobs.Begin("a").ok());
  waits.join();
}

}  // namespace
}  // namespace gantry::api::buildkit
