#include "ctl/compose/service_update.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::compose {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// Containers as names; what is done to them as lines.
class FakeExchange final : public ContainerExchange {
 public:
  absl::StatusOr<std::string> Create(const OldContainer& old) override {
    Note(absl::StrCat("create for ", old.id)).IgnoreError();
    return absl::StrCat("new-", old.number);
  }
  absl::Status Start(const std::string& id) override { return Note("start " + id); }
  absl::Status Stop(const std::string& id) override { return Note("stop " + id); }
  absl::Status Remove(const std::string& id) override { return Note("remove " + id); }
  absl::Status Rename(const std::string& id, const std::string& name) override {
    return Note(absl::StrCat("rename ", id, " ", name));
  }
  absl::Status AwaitReady(const std::string& id, const OldContainer&,
                          absl::Duration monitor) override {
    {
      absl::MutexLock lock(&mutex_);
      monitored[id] = monitor;
    }
    const auto found = never_ready.find(id);
    return found == never_ready.end() ? absl::OkStatus() : found->second;
  }
  absl::Status Pause(absl::Duration delay) override {
    return Note(absl::StrCat("pause ", absl::ToInt64Seconds(delay)));
  }
  void Show(const OldContainer&, absl::string_view, bool) override {}

  std::map<std::string, absl::Status> never_ready;
  std::map<std::string, absl::Duration> monitored;
  std::vector<std::string> lines;

 private:
  absl::Status Note(const std::string& line) {
    absl::MutexLock lock(&mutex_);
    lines.push_back(line);
    return absl::OkStatus();
  }
  absl::Mutex mutex_;
};

Node Service(std::vector<std::pair<std::string, std::string>> update_config) {
  Node config = Node::Map();
  for (const auto& [key, value] : update_config) config.Set(key, Node::String(value));
  Node deploy = Node::Map();
  deploy.Set("update_config", std::move(config));
  Node service = Node::Map();
  service.Set("deploy", std::move(deploy));
  return service;
}

Node Published(const std::string& port) {
  Node published = Node::Map();
  published.Set("published", Node::String(port));
  Node ports = Node::List();
  ports.Append(std::move(published));
  return ports;
}

const std::vector<OldContainer> kTwo = {{"old-1", "p-web-1", 1, true},
                                        {"old-2", "p-web-2", 2, true}};

TEST(UpdatePolicyTest, NothingAskedForIsNoPolicy) {
  EXPECT_FALSE(UpdatePolicyOf(Node::Map(), /*rollback=*/false).has_value());
}

TEST(UpdatePolicyTest, ReadsTheFile) {
  const auto policy = UpdatePolicyOf(Service({{"parallelism", "2"},
                                              {"delay", "10s"},
                                              {"monitor", "1m0s"},
                                              {"failure_action", "continue"},
                                              {"order", "start-first"}}),
                                     /*rollback=*/false);
  ASSERT_TRUE(policy.has_value());
  EXPECT_EQ(policy->parallelism, 2);
  EXPECT_EQ(policy->delay, absl::Seconds(10));
  EXPECT_EQ(policy->monitor, absl::Minutes(1));
  EXPECT_EQ(policy->on_failure, UpdatePolicy::OnFailure::kContinue);
  EXPECT_TRUE(policy->start_first);
}

TEST(UpdatePolicyTest, TheCommandLineAsksForTheWayBackAndOldOnesServeMeanwhile) {
  const auto policy = UpdatePolicyOf(Node::Map(), /*rollback=*/true);
  ASSERT_TRUE(policy.has_value());
  EXPECT_EQ(policy->on_failure, UpdatePolicy::OnFailure::kRollback);
  EXPECT_TRUE(policy->start_first);
}

TEST(UpdatePolicyTest, TwoThatPublishOnePortDoNotOverlap) {
  Node service = Service({{"order", "start-first"}});
  service.Set("ports", Published("8080"));
  EXPECT_EQ(CannotOverlap(service), "it publishes port 8080");
  EXPECT_FALSE(UpdatePolicyOf(service, /*rollback=*/true)->start_first);
  Node range = Node::Map();
  range.Set("ports", Published("8080-8090"));
  EXPECT_TRUE(UpdatePolicyOf(range, /*rollback=*/true)->start_first);
}

TEST(UpdatePolicyTest, TwoThatWriteToAVolumeOverlapOnlyWhenTheFileSaysSo) {
  Node mount = Node::Map();
  mount.Set("type", Node::String("volume"));
  Node volumes = Node::List();
  volumes.Append(std::move(mount));
  Node service = Node::Map();
  service.Set("volumes", volumes);
  EXPECT_FALSE(UpdatePolicyOf(service, /*rollback=*/true)->start_first);
  Node asked = Service({{"order", "start-first"}});
  asked.Set("volumes", volumes);
  EXPECT_TRUE(UpdatePolicyOf(asked, /*rollback=*/false)->start_first);
}

TEST(ServiceUpdateTest, OldOnesServeUntilAllNewOnesAreReady) {
  FakeExchange exchange;
  UpdatePolicy policy;
  policy.start_first = true;
  std::vector<std::string> ids;
  EXPECT_TRUE(UpdateService("web", kTwo, policy, exchange, &ids).ok());
  EXPECT_THAT(exchange.lines,
              ElementsAre("create for old-1", "start new-1", "pause 0", "create for old-2",
                          "start new-2", "stop old-1", "remove old-1", "rename new-1 p-web-1",
                          "stop old-2", "remove old-2", "rename new-2 p-web-2"));
  EXPECT_THAT(ids, ElementsAre("new-1", "new-2"));
}

TEST(ServiceUpdateTest, OldOneStopsFirstAndIsRemovedLast) {
  FakeExchange exchange;
  EXPECT_TRUE(UpdateService("web", {kTwo[0]}, UpdatePolicy(), exchange, nullptr).ok());
  EXPECT_THAT(exchange.lines, ElementsAre("create for old-1", "stop old-1", "start new-1",
                                          "remove old-1", "rename new-1 p-web-1"));
}

TEST(ServiceUpdateTest, AllGoBackWhenOneIsNotReady) {
  FakeExchange exchange;
  exchange.never_ready["new-2"] = absl::FailedPreconditionError("container x is unhealthy");
  UpdatePolicy policy;
  policy.on_failure = UpdatePolicy::OnFailure::kRollback;
  std::vector<std::string> ids;
  const absl::Status status = UpdateService("web", kTwo, policy, exchange, &ids);
  EXPECT_EQ(status.message(),
            "service web: container x is unhealthy; the service is back at its last good state");
  EXPECT_THAT(
      exchange.lines,
      ElementsAre("create for old-1", "stop old-1", "start new-1", "pause 0", "create for old-2",
                  "stop old-2", "start new-2", "stop new-1", "remove new-1", "start old-1",
                  "stop new-2", "remove new-2", "start old-2"));
  EXPECT_THAT(ids, ElementsAre("old-1", "old-2"));
}

TEST(ServiceUpdateTest, PauseKeepsWhatIsReadyAndLeavesTheRest) {
  FakeExchange exchange;
  exchange.never_ready["new-1"] = absl::FailedPreconditionError("exited (1)");
  UpdatePolicy policy;
  policy.start_first = true;
  std::vector<std::string> ids;
  EXPECT_THAT(UpdateService("web", kTwo, policy, exchange, &ids).message(),
              HasSubstr("exited (1)"));
  EXPECT_THAT(exchange.lines,
              ElementsAre("create for old-1", "start new-1", "stop new-1", "remove new-1"));
  EXPECT_THAT(ids, ElementsAre("old-1", "old-2"));
}

TEST(ServiceUpdateTest, ContinueExchangesTheOthers) {
  FakeExchange exchange;
  exchange.never_ready["new-1"] = absl::FailedPreconditionError("exited (1)");
  UpdatePolicy policy;
  policy.on_failure = UpdatePolicy::OnFailure::kContinue;
  std::vector<std::string> ids;
  EXPECT_FALSE(UpdateService("web", kTwo, policy, exchange, &ids).ok());
  EXPECT_THAT(ids, ElementsAre("old-1", "new-2"));
}

TEST(ServiceUpdateTest, AnInterruptGoesBackWhateverThePolicy) {
  FakeExchange exchange;
  exchange.never_ready["new-1"] = absl::CancelledError("interrupted");
  std::vector<std::string> ids;
  const absl::Status status = UpdateService("web", {kTwo[0]}, UpdatePolicy(), exchange, &ids);
  EXPECT_TRUE(absl::IsCancelled(status));
  EXPECT_THAT(ids, ElementsAre("old-1"));
}

TEST(ServiceUpdateTest, OneThatDidNotRunIsNotStartedOnTheWayBack) {
  FakeExchange exchange;
  exchange.never_ready["new-1"] = absl::FailedPreconditionError("exited (1)");
  UpdatePolicy policy;
  policy.on_failure = UpdatePolicy::OnFailure::kRollback;
  EXPECT_FALSE(
      UpdateService("web", {{"old-1", "p-web-1", 1, false}}, policy, exchange, nullptr).ok());
  EXPECT_THAT(exchange.lines,
              ElementsAre("create for old-1", "start new-1", "stop new-1", "remove new-1"));
}

TEST(UpdatePolicyTest, ReadsTheWayBack) {
  Node back = Node::Map();
  for (const auto& [key, value] : std::map<std::string, std::string>{{"parallelism", "0"},
                                                                     {"delay", "2s"},
                                                                     {"monitor", "3s"},
                                                                     {"order", "start-first"},
                                                                     {"failure_action", "pause"},
                                                                     {"max_failure_ratio", "0.5"}})
    back.Set(key, Node::String(value));
  Node service = Service({{"failure_action", "rollback"}, {"max_failure_ratio", "0.25"}});
  service.Find("deploy")->Set("rollback_config", std::move(back));
  const auto policy = UpdatePolicyOf(service, /*rollback=*/false);
  ASSERT_TRUE(policy.has_value());
  EXPECT_EQ(policy->max_failure_ratio, 0.25);
  EXPECT_EQ(policy->back.parallelism, 0);
  EXPECT_EQ(policy->back.delay, absl::Seconds(2));
  EXPECT_EQ(policy->back.monitor, absl::Seconds(3));
  EXPECT_TRUE(policy->back.start_first);
  EXPECT_FALSE(policy->back.go_on);
  EXPECT_EQ(policy->back.max_failure_ratio, 0.5);
  service.Set("ports", Published("8080"));
  EXPECT_FALSE(UpdatePolicyOf(service, /*rollback=*/false)->back.start_first);
}

TEST(ServiceUpdateTest, AShareMayFailAndTheOthersAreExchanged) {
  FakeExchange exchange;
  exchange.never_ready["new-1"] = absl::FailedPreconditionError("exited (1)");
  UpdatePolicy policy;
  policy.on_failure = UpdatePolicy::OnFailure::kRollback;
  policy.max_failure_ratio = 0.5;
  std::vector<std::string> ids;
  EXPECT_TRUE(UpdateService("web", kTwo, policy, exchange, &ids).ok());
  EXPECT_THAT(ids, ElementsAre("old-1", "new-2"));
}

TEST(ServiceUpdateTest, MoreThanThatShareIsAFailure) {
  FakeExchange exchange;
  exchange.never_ready["new-1"] = absl::FailedPreconditionError("exited (1)");
  exchange.never_ready["new-2"] = absl::FailedPreconditionError("exited (2)");
  UpdatePolicy policy;
  policy.on_failure = UpdatePolicy::OnFailure::kRollback;
  policy.max_failure_ratio = 0.5;
  std::vector<std::string> ids;
  EXPECT_FALSE(UpdateService("web", kTwo, policy, exchange, &ids).ok());
  EXPECT_THAT(ids, ElementsAre("old-1", "old-2"));
}

TEST(ServiceUpdateTest, TheWayBackHasItsOwnOrderPauseAndWatch) {
  FakeExchange exchange;
  exchange.never_ready["new-2"] = absl::FailedPreconditionError("exited (1)");
  UpdatePolicy policy;
  policy.on_failure = UpdatePolicy::OnFailure::kRollback;
  policy.back.start_first = true;
  policy.back.delay = absl::Seconds(4);
  policy.back.monitor = absl::Seconds(9);
  EXPECT_FALSE(UpdateService("web", kTwo, policy, exchange, nullptr).ok());
  EXPECT_THAT(
      exchange.lines,
      ElementsAre("create for old-1", "stop old-1", "start new-1", "pause 0", "create for old-2",
                  "stop old-2", "start new-2", "start old-1", "stop new-1", "remove new-1",
                  "pause 4", "start old-2", "stop new-2", "remove new-2"));
  EXPECT_EQ(exchange.monitored["old-1"], absl::Seconds(9));
}

TEST(ServiceUpdateTest, TheWayBackEndsAtAFailureWhereItIsToldTo) {
  for (const bool go_on : {true, false}) {
    FakeExchange exchange;
    exchange.never_ready["new-2"] = absl::FailedPreconditionError("exited (1)");
    exchange.never_ready["old-1"] = absl::FailedPreconditionError("exited (2)");
    UpdatePolicy policy;
    policy.on_failure = UpdatePolicy::OnFailure::kRollback;
    policy.back.monitor = absl::Seconds(1);
    policy.back.go_on = go_on;
    std::vector<std::string> ids;
    EXPECT_THAT(UpdateService("web", kTwo, policy, exchange, &ids).message(),
                HasSubstr("but: exited (2)"));
    EXPECT_THAT(ids, ElementsAre("old-1", go_on ? "old-2" : "new-2"));
  }
}

TEST(ServiceUpdateTest, GroupsOfTwo) {
  FakeExchange exchange;
  UpdatePolicy policy;
  policy.parallelism = 2;
  policy.start_first = true;
  EXPECT_TRUE(UpdateService("web", kTwo, policy, exchange, nullptr).ok());
  EXPECT_THAT(
      std::vector<std::string>(exchange.lines.begin(), exchange.lines.begin() + 4),
      UnorderedElementsAre("create for old-1", "create for old-2", "start new-1", "start new-2"));
}

}  // namespace
}  // namespace gantry::compose
