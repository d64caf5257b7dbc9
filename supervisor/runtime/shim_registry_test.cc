#include "supervisor/runtime/shim_registry.h"

#include <signal.h>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "supervisor/runtime/shim_launcher.h"

namespace gantry::runtime {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(10);

class ShimRegistryTest : public testing::Test {
 protected:
  // A process that stands for a shim.
  std::shared_ptr<Shim> Start(const std::string& id) {
    Command command;
    command.argv = {"sleep", "1000"};
    processes_.push_back(Spawn(command).value());
    const pid_t pid = processes_.back().pid();
    const ShimProcess process{pid, ReadStartTime(pid).value()};
    Bundle bundle({"default", id}, dir_.Join(id), dir_.Join(id + ".sock"), LaunchRecord());
    return std::make_shared<Shim>(std::move(bundle), process, OpenShimPidfd(process).value());
  }
  void OnGone(std::shared_ptr<Shim> shim) {
    absl::MutexLock lock(&mu_);
    gone_.push_back(shim->key().container_id);
  }
  bool AwaitGone(const std::vector<std::string>& ids) {
    absl::MutexLock lock(&mu_);
    const auto equal = [&] { return gone_ == ids; };
    return mu_.AwaitWithTimeout(absl::Condition(&equal), kLimit);
  }
  TempDir dir_;
  absl::Mutex mu_;
  std::vector<std::string> gone_;
  std::vector<Process> processes_;
  ShimRegistry registry_{[this](std::shared_ptr<Shim> shim) { OnGone(std::move(shim)); }};
};

TEST_F(ShimRegistryTest, DeathIsReportedOnceAndTheShimForgotten) {
  const auto one = Start("one");
  const auto two = Start("two");
  ASSERT_TRUE(registry_.Add(one).ok());
  ASSERT_TRUE(registry_.Add(two).ok());
  EXPECT_EQ(registry_.Find(one->key()), one);
  ASSERT_TRUE(one->KillShim().ok());
  ASSERT_TRUE(AwaitGone({"one"}));
  EXPECT_EQ(registry_.Find(one->key()), nullptr);
  EXPECT_EQ(registry_.List(), (std::vector<std::shared_ptr<Shim>>{two}));
  ASSERT_TRUE(two->KillShim().ok());
  ASSERT_TRUE(AwaitGone({"one", "two"}));
}

TEST_F(ShimRegistryTest, RemovedShimIsNoNews) {
  const auto one = Start("one");
  const auto two = Start("two");
  ASSERT_TRUE(registry_.Add(one).ok());
  ASSERT_TRUE(registry_.Add(two).ok());
  EXPECT_EQ(registry_.Remove(one->key()), one);
  EXPECT_EQ(registry_.Remove(one->key()), nullptr);
  ASSERT_TRUE(one->KillShim().ok());
  ASSERT_TRUE(one->WaitGone(kLimit).ok());
  ASSERT_TRUE(two->KillShim().ok());
  EXPECT_TRUE(AwaitGone({"two"}));
}

TEST_F(ShimRegistryTest, OneShimPerTask) {
  const auto first = Start("one");
  ASSERT_TRUE(registry_.Add(first).ok());
  EXPECT_EQ(registry_.Add(Start("one")).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(registry_.Find(first->key()), first);
}

TEST_F(ShimRegistryTest, ShimDeadBeforeItIsAddedIsReportedToo) {
  const auto one = Start("one");
  ASSERT_TRUE(one->KillShim().ok());
  ASSERT_TRUE(one->WaitGone(kLimit).ok());
  ASSERT_TRUE(registry_.Add(one).ok());
  EXPECT_TRUE(AwaitGone({"one"}));
}

TEST_F(ShimRegistryTest, WaitGoneEndsByItsTimeout) {
  const auto one = Start("one");
  EXPECT_EQ(one->WaitGone(absl::Milliseconds(1)).code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace gantry::runtime
