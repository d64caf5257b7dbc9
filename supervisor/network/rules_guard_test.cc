// Another program changes the rules of a network namespace of the test's own. Needs root.
#include "supervisor/network/rules_guard.h"

#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/clock.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

constexpr absl::Duration kLong = absl::Seconds(20);

class RulesGuardTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    netns_ = NewNetns().value();
    firewall_ = Firewall::OpenIn(netns_.get()).value();
    FirewallNetwork network;
    network.bridge = "br-one";
    network.subnets = {Prefix::Parse("10.1.0.0/24").value()};
    PublishedPort port;
    port.host_port = 8080;
    port.container = Address::Parse("10.1.0.2").value();
    port.container_port = 80;
    ASSERT_EQ(firewall_->Replace({network}, {port}), absl::OkStatus());
    // Opened before anything happens, so that nothing is missed.
    events_.emplace(firewall_->OpenEvents().value());
  }

  void Nft(const std::string& command) {
    ASSERT_TRUE(InNetns(netns_.get(), [&] {
                  return system(absl::StrCat("/usr/sbin/nft '", command, "'").c_str()) == 0
                             ? absl::OkStatus()
                             : absl::InternalError(command);
                }).ok());
  }
  bool PortIsThere() {
    bool there = false;
    EXPECT_TRUE(InNetns(netns_.get(), [&] {
                  there = system(
                              "/usr/sbin/nft list map inet gantry ports4 2>/dev/null | "
                              "grep -q 8080") == 0;
                  return absl::OkStatus();
                }).ok());
    return there;
  }
  // Waits for the firewall's own next transaction.
  bool Written() {
    const absl::Duration deadline = Clock::Real().Monotonic() + kLong;
    for (;;) {
      const absl::Duration left = deadline - Clock::Real().Monotonic();
      pollfd ready = {events_->fd(), POLLIN, 0};
      if (left <= absl::ZeroDuration() ||
          poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(left))) <= 0)
        return false;
      const RulesetEvents::Batch batch = events_->Read().value();
      for (const RulesetEvents::Change& change : batch.changes) {
        if (firewall_->Made(change.generation)) return true;
      }
    }
  }

  UniqueFd netns_;
  std::unique_ptr<Firewall> firewall_;
  std::optional<RulesetEvents> events_;
};

TEST_F(RulesGuardTest, RulesComeBackAfterAFlushADeletionAndAForeignRule) {
  const auto guard = RulesGuard::Start(*firewall_).value();
  for (const char* change :
       {"flush ruleset", "delete table inet gantry", "flush chain inet gantry forward",
        "delete element inet gantry ports4 { tcp . 8080 }"}) {
    SCOPED_TRACE(change);
    Nft(change);
    EXPECT_TRUE(Written());
    EXPECT_TRUE(PortIsThere());
    EXPECT_TRUE(firewall_->Stands().value());
  }
}

TEST_F(RulesGuardTest, ChangesOfOthersElsewhereAndOurOwnAreLeftAlone) {
  RulesGuard::Pauses pauses;
  pauses.quiet = absl::Milliseconds(1);
  pauses.longest = absl::Milliseconds(1);
  const auto guard = RulesGuard::Start(*firewall_, pauses).value();
  RulesetEvents all = firewall_->OpenEvents().value();
  PublishedPort port;
  port.host_port = 8081;
  port.container = Address::Parse("10.1.0.2").value();
  port.container_port = 80;
  ASSERT_EQ(firewall_->Publish({port}), absl::OkStatus());
  EXPECT_TRUE(Written());
  Nft("add table inet theirs");
  Nft("add chain inet theirs forward { type filter hook forward priority 0; policy drop; }");
  Nft("flush ruleset");
  EXPECT_TRUE(Written());
  // Publish() and what answers the flush.
  const RulesetEvents::Batch batch = all.Read().value();
  int ours = 0;
  for (const RulesetEvents::Change& change : batch.changes)
    ours += firewall_->Made(change.generation) ? 1 : 0;
  EXPECT_EQ(ours, 2);
}

// Two programs that both insist do not keep the machine busy.
TEST_F(RulesGuardTest, PausesGrowWhileAnotherProgramInsists) {
  RulesGuard::Pauses pauses;
  pauses.quiet = absl::Milliseconds(20);
  pauses.longest = absl::Milliseconds(20);
  const auto guard = RulesGuard::Start(*firewall_, pauses).value();
  const absl::Duration begin = Clock::Real().Monotonic();
  for (int i = 0; i < 5; ++i) {
    Nft("flush ruleset");
    ASSERT_TRUE(Written());
  }
  // 20 ms, or 40 because the rules were just written, then 40, 80, 160, 320.
  EXPECT_GE(Clock::Real().Monotonic() - begin, absl::Milliseconds(600));
}

}  // namespace
}  // namespace gantry::network
