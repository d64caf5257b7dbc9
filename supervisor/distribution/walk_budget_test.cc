#include "supervisor/distribution/walk_budget.h"

#include "gtest/gtest.h"

namespace gantry::distribution {
namespace {

TEST(WalkBudgetTest, DocumentsAreCounted) {
  WalkBudget::Limits limits;
  limits.max_documents = 2;
  WalkBudget budget(nullptr, limits);
  EXPECT_TRUE(budget.Charge(1, 0).ok());
  EXPECT_TRUE(budget.Charge(1, 1).ok());
  EXPECT_EQ(budget.Charge(1, 1).code(), absl::StatusCode::kResourceExhausted);
}

TEST(WalkBudgetTest, BytesAreCounted) {
  WalkBudget::Limits limits;
  limits.max_bytes = 10;
  WalkBudget budget(nullptr, limits);
  EXPECT_TRUE(budget.Charge(10, 0).ok());
  EXPECT_EQ(budget.Charge(1, 0).code(), absl::StatusCode::kResourceExhausted);
}

TEST(WalkBudgetTest, DepthIsBounded) {
  WalkBudget budget;
  EXPECT_TRUE(budget.Charge(1, 8).ok());
  EXPECT_EQ(budget.Charge(1, 9).code(), absl::StatusCode::kInvalidArgument);
}

TEST(WalkBudgetTest, TimeIsBounded) {
  WalkBudget::Limits limits;
  limits.max_time = -absl::Seconds(1);
  WalkBudget budget(nullptr, limits);
  EXPECT_EQ(budget.Charge(1, 0).code(), absl::StatusCode::kResourceExhausted);
}

TEST(WalkBudgetTest, EndsWithItsCaller) {
  CancelToken cancel;
  WalkBudget budget(&cancel);
  EXPECT_TRUE(budget.Charge(1, 0).ok());
  cancel.Cancel("the client is gone");
  EXPECT_EQ(budget.Charge(1, 0).code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace gantry::distribution
