#include "supervisor/distribution/range_spool.h"

#include <string>

#include "gtest/gtest.h"

#include "base/temp_dir.h"

namespace gantry::distribution {
namespace {

const content::Digest kBlob = content::Digest::Sha256Of("blob");

std::string Read(const RangeSpool& spool, int64_t offset, size_t n) {
  std::string text(n, '\0');
  const absl::StatusOr<size_t> got = spool.Get(offset, text.data(), n);
  text.resize(got.value_or(0));
  return text;
}

TEST(RangeSpoolTest, InterruptedDownloadKeepsItsRanges) {
  TempDir dir;
  {
    auto spool = RangeSpool::Open(dir.path(), kBlob, 10, 4).value();
    ASSERT_TRUE(spool->Put(4, "ef").ok());
    spool->Grew(1, 2);
    ASSERT_TRUE(spool->Put(6, "g").ok());
  }
  ASSERT_TRUE(RangeSpool::Left(dir.path(), kBlob, 4));
  auto again = RangeSpool::Open(dir.path(), kBlob, 10, 4).value();
  EXPECT_EQ(again->have(0), 0);
  EXPECT_EQ(again->have(1), 3);
  EXPECT_EQ(again->have(2), 0);
  EXPECT_EQ(Read(*again, 4, 3), "efg");
}

TEST(RangeSpoolTest, ReleasedRangeIsNotPromisedAgain) {
  TempDir dir;
  {
    auto spool = RangeSpool::Open(dir.path(), kBlob, 10, 4).value();
    ASSERT_TRUE(spool->Put(0, "abcd").ok());
    spool->Release(0);
  }
  EXPECT_EQ(RangeSpool::Open(dir.path(), kBlob, 10, 4).value()->have(0), 0);
}

TEST(RangeSpoolTest, CompleteBlobLeavesNothing) {
  TempDir dir;
  auto spool = RangeSpool::Open(dir.path(), kBlob, 10, 4).value();
  ASSERT_TRUE(spool->Put(0, "abcd").ok());
  spool->Remove();
  EXPECT_FALSE(RangeSpool::Left(dir.path(), kBlob, 4));
}

TEST(RangeSpoolTest, SecondTransferOfABlobKeepsToMemory) {
  TempDir dir;
  auto first = RangeSpool::Open(dir.path(), kBlob, 10, 4).value();
  ASSERT_TRUE(first->Put(0, "abcd").ok());
  auto second = RangeSpool::Open(dir.path(), kBlob, 10, 4).value();
  EXPECT_EQ(second->have(0), 0);
  ASSERT_TRUE(second->Put(0, "xxxx").ok());
  EXPECT_EQ(Read(*second, 0, 4), "xxxx");
  EXPECT_EQ(Read(*first, 0, 4), "abcd");
  second->Remove();
  EXPECT_TRUE(RangeSpool::Left(dir.path(), kBlob, 4));
}

}  // namespace
}  // namespace gantry::distribution
