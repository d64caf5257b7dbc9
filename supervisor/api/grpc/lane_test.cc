#include "supervisor/api/grpc/lane.h"

#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

#include "base/executor.h"

namespace gantry::api {
namespace {

TEST(LaneTest, ConnectionsTakeTurns) {
  Executor executor("test", 1);
  Lane lane(executor, /*share=*/10);
  absl::Notification go;
  ASSERT_TRUE(lane.Schedule("busy", [&] { go.WaitForNotification(); }));
  std::string order;  // one thread writes it
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(lane.Schedule("busy", [&] { order += 'b'; }));
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(lane.Schedule("quiet", [&] { order += 'q'; }));
  go.Notify();
  executor.WaitIdle();
  EXPECT_EQ(order, "qbqbbbb");
}

TEST(LaneTest, AConnectionKeepsToItsShareUntilItsAnswersAreTaken) {
  Executor executor("test", 4);
  Lane lane(executor, /*share=*/2);
  absl::Mutex mu;
  int busy = 0, quiet = 0;
  const auto count = [&mu](int& what) {
    return [&mu, &what] {
      absl::MutexLock lock(&mu);
      ++what;
    };
  };
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(lane.Enter("busy", count(busy)));
  ASSERT_TRUE(lane.Enter("quiet", count(quiet)));
  executor.WaitIdle();
  // No answer was taken yet: the work of two is done and the others wait, without holding up the
  // other connection.
  EXPECT_EQ(busy, 2);
  EXPECT_EQ(quiet, 1);
  lane.Leave("quiet");
  for (int begun = 3; begun <= 5; ++begun) {
    lane.Leave("busy");
    executor.WaitIdle();
    EXPECT_EQ(busy, begun);
  }
  lane.Leave("busy");
  lane.Leave("busy");
}

TEST(LaneTest, WorkOfOneConnectionKeepsItsOrder) {
  Executor executor("test", 1);
  Lane lane(executor, /*share=*/10);
  std::vector<int> order;
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(lane.Schedule("one", [&order, i] { order.push_back(i); }));
  executor.WaitIdle();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

}  // namespace
}  // namespace gantry::api
