#include "supervisor/network/netns_pool.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <functional>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

bool Eventually(const std::function<bool()>& holds) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!holds()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

class NetnsPoolTest : public testing::Test {
 protected:
  NetnsPool::Make Counting() {
    return [this]() -> absl::StatusOr<OpenNetns> {
      ++made_;
      if (fails_) return absl::ResourceExhaustedError("no more");
      OpenNetns one;
      one.fd.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
      return one;
    };
  }
  static NetnsPool::Limits Soon(absl::Duration idle = absl::Minutes(5)) {
    NetnsPool::Limits limits;
    limits.most = 3;
    limits.quiet = absl::Milliseconds(1);
    limits.idle = idle;
    return limits;
  }

  std::atomic<int> made_ = 0;
  std::atomic<bool> fails_ = false;
};

TEST_F(NetnsPoolTest, MakesNothingBeforeTheFirstUse) {
  NetnsPool pool(Soon(), Counting());
  absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(made_, 0);
}

TEST_F(NetnsPoolTest, NextOneIsThereAlready) {
  NetnsPool pool(Soon(), Counting());
  ASSERT_TRUE(pool.Take().ok());
  ASSERT_TRUE(Eventually([&] { return pool.size() == 1; }));
  const int before = made_;
  ASSERT_TRUE(pool.Take()->fd.valid());
  EXPECT_TRUE(Eventually([&] { return pool.size() == 1; }));
  EXPECT_EQ(made_, before + 1);
}

TEST_F(NetnsPoolTest, GrowsWithUseUpToItsLimit) {
  NetnsPool::Limits limits = Soon();
  limits.quiet = absl::Milliseconds(50);
  NetnsPool pool(limits, Counting());
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(pool.Take().ok());
  EXPECT_TRUE(Eventually([&] { return pool.size() == 2; }));
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(pool.Take().ok());
  EXPECT_TRUE(Eventually([&] { return pool.size() == 3; }));
}

TEST_F(NetnsPoolTest, NoneIsLeftAfterAWhileWithoutUse) {
  NetnsPool pool(Soon(absl::Milliseconds(100)), Counting());
  ASSERT_TRUE(pool.Take().ok());
  ASSERT_TRUE(Eventually([&] { return made_ == 2; }));
  EXPECT_TRUE(Eventually([&] { return pool.size() == 0; }));
  ASSERT_TRUE(pool.Take().ok());
  EXPECT_TRUE(Eventually([&] { return pool.size() == 1; }));
}

TEST_F(NetnsPoolTest, FailureIsTheTakersToSay) {
  fails_ = true;
  NetnsPool pool(Soon(), Counting());
  EXPECT_EQ(pool.Take().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Eventually([&] { return made_ >= 2; }));
  fails_ = false;
  EXPECT_TRUE(pool.Take().ok());
  EXPECT_TRUE(Eventually([&] { return pool.size() == 1; }));
}

TEST(ContainerNetnsTest, OnlyLoopbackIsUpAndOtherDevicesHaveNoIpv6) {
  if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
  NetnsPool pool;
  const absl::StatusOr<OpenNetns> taken = pool.Take();
  ASSERT_TRUE(taken.ok()) << taken.status();
  const auto links = taken->inside->List();
  ASSERT_TRUE(links.ok());
  ASSERT_EQ(links->size(), 1u);
  EXPECT_EQ(links->front().name, "lo");
  EXPECT_TRUE(links->front().up);
  EXPECT_EQ(
      InNetns(taken->fd.get(),
              [] {
                EXPECT_EQ(
                    ReadFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", 8).value_or("1\n"),
                    "1\n");
                return absl::OkStatus();
              }),
      absl::OkStatus());
}

}  // namespace
}  // namespace gantry::network
