#include "supervisor/distribution/walk_budget.h"

#include <memory>

#include "gtest/gtest.h"

#include "base/cancel_token.h"
#include "base/temp_dir.h"
#include "content-store/local_store.h"
#include "content-store/store.h"

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

// As many manifests may name one configuration; what is charged is what was read, whatever a
// descriptor says of its size.
TEST(WalkBudgetTest, ABlobIsChargedEachTimeItIsRead) {
  const TempDir root;
  const std::unique_ptr<content::LocalStore> store = *content::LocalStore::Open(root.Join("store"));
  const content::Digest digest = *content::WriteBlob(*store, "config", "0123456789");
  WalkBudget::Limits limits;
  limits.max_bytes = 25;
  WalkBudget budget(nullptr, limits);
  EXPECT_EQ(budget.ReadBytes(*store, digest, 10).value(), "0123456789");
  EXPECT_TRUE(budget.ReadBytes(*store, digest, 10).ok());
  EXPECT_TRUE(budget.ReadBytes(*store, digest, 10).ok());
  EXPECT_EQ(budget.ReadBytes(*store, digest, 10).status().code(),
            absl::StatusCode::kResourceExhausted);
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
