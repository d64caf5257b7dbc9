#include "third_party/grpc_event_engine.h"

#include <dirent.h>
#include <grpc/event_engine/event_engine.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace gantry {
namespace {

using grpc_event_engine::experimental::CreateEventEngine;
using grpc_event_engine::experimental::EventEngine;

int Threads() {
  int threads = 0;
  DIR* const tasks = opendir("/proc/self/task");
  while (readdir(tasks) != nullptr) ++threads;
  closedir(tasks);
  return threads;
}

class LazyEventEngineTest : public testing::Test {
 protected:
  LazyEventEngineTest() {
    UseLazyEventEngine();
    engine_ = CreateEventEngine();
  }
  std::shared_ptr<EventEngine> engine_;
};

TEST_F(LazyEventEngineTest, MakesItsThreadWhenThereIsSomethingToRun) {
  const int before = Threads();
  const std::shared_ptr<EventEngine> engine = CreateEventEngine();
  EXPECT_EQ(Threads(), before);
  absl::Notification ran;
  bool by_a_worker = false;
  engine->Run([&] {
    by_a_worker = engine->IsWorkerThread();
    ran.Notify();
  });
  ran.WaitForNotification();
  EXPECT_TRUE(by_a_worker);
  EXPECT_FALSE(engine->IsWorkerThread());
  EXPECT_EQ(Threads(), before + 1);
}

TEST_F(LazyEventEngineTest, RunsWhatIsDueLaterInTheOrderOfTime) {
  absl::Mutex mu;
  std::vector<int> order;
  const auto note = [&](int number) {
    return [&mu, &order, number] {
      absl::MutexLock lock(&mu);
      order.push_back(number);
    };
  };
  engine_->RunAfter(std::chrono::milliseconds(40), note(3));
  engine_->RunAfter(std::chrono::milliseconds(10), note(2));
  engine_->Run(note(1));
  absl::MutexLock lock(&mu);
  const auto all = [&order] { return order.size() == 3; };
  mu.Await(absl::Condition(&all));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST_F(LazyEventEngineTest, WhatIsCancelledDoesNotRun) {
  bool ran = false;
  absl::Notification later;
  const EventEngine::TaskHandle handle =
      engine_->RunAfter(std::chrono::milliseconds(5), [&ran] { ran = true; });
  engine_->RunAfter(std::chrono::milliseconds(20), [&later] { later.Notify(); });
  EXPECT_TRUE(engine_->Cancel(handle));
  EXPECT_FALSE(engine_->Cancel(handle));
  later.WaitForNotification();
  EXPECT_FALSE(ran);
}

TEST_F(LazyEventEngineTest, EndsInTheMiddleOfAClosure) {
  absl::Notification begun, end, ended;
  engine_->Run([&] {
    begun.Notify();
    end.WaitForNotification();
    ended.Notify();
  });
  begun.WaitForNotification();
  engine_.reset();
  end.Notify();
  ended.WaitForNotification();
}

}  // namespace
}  // namespace gantry
