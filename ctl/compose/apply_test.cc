#include "ctl/compose/apply.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::compose {
namespace {

using ::testing::ElementsAre;

const std::atomic<bool> kGoOn{false};

TEST(InOrderTest, StepsWaitForThoseBefore) {
  const std::vector<std::vector<size_t>> after = {{}, {0}, {1}, {1}, {2, 3}};
  absl::Mutex mutex;
  std::vector<size_t> done;
  const absl::Status status = InOrder(
      after.size(), 4, kGoOn, [&](size_t i) -> const std::vector<size_t>& { return after[i]; },
      [&](size_t i) {
        absl::MutexLock lock(&mutex);
        for (const size_t before : after[i])
          EXPECT_NE(std::find(done.begin(), done.end(), before), done.end());
        done.push_back(i);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(done.size(), after.size());
}

TEST(InOrderTest, IndependentStepsRunSideBySide) {
  const std::vector<size_t> none;
  absl::Barrier* all = new absl::Barrier(3);  // the last to leave deletes it
  const absl::Status status = InOrder(
      3, 3, kGoOn, [&](size_t) -> const std::vector<size_t>& { return none; },
      [&](size_t) {
        if (all->Block()) delete all;
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok());
}

TEST(InOrderTest, FailureStopsWhatHasNotBegun) {
  const std::vector<std::vector<size_t>> after = {{}, {0}, {1}};
  std::vector<size_t> done;
  const absl::Status status = InOrder(
      3, 2, kGoOn, [&](size_t i) -> const std::vector<size_t>& { return after[i]; },
      [&](size_t i) {
        done.push_back(i);
        return i == 1 ? absl::InternalError("no") : absl::OkStatus();
      });
  EXPECT_EQ(status, absl::InternalError("no"));
  EXPECT_THAT(done, ElementsAre(0, 1));
}

TEST(InOrderTest, InterruptBeginsNothingMore) {
  std::atomic<bool> interrupted{false};
  const std::vector<std::vector<size_t>> after = {{}, {0}};
  std::vector<size_t> done;
  const absl::Status status = InOrder(
      2, 2, interrupted, [&](size_t i) -> const std::vector<size_t>& { return after[i]; },
      [&](size_t i) {
        done.push_back(i);
        interrupted = true;
        return absl::OkStatus();
      });
  EXPECT_TRUE(absl::IsCancelled(status));
  EXPECT_THAT(done, ElementsAre(0));
}

TEST(InOrderTest, NothingToDoIsDone) {
  const std::vector<size_t> none;
  EXPECT_TRUE(InOrder(
                  0, 4, kGoOn, [&](size_t) -> const std::vector<size_t>& { return none; },
                  [](size_t) { return absl::OkStatus(); })
                  .ok());
}

}  // namespace
}  // namespace gantry::compose
