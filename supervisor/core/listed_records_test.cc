#include "supervisor/core/listed_records.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

class ListedRecordsTest : public testing::Test {
 protected:
  using Rows = std::vector<std::pair<std::string, std::string>>;  // id and bytes

  // The records that a walk over `rows` sees; `read_` counts those that were read.
  std::vector<std::shared_ptr<const ListedRecord>> Walk(const Rows& rows,
                                                        const std::string& ns = "a",
                                                        bool keep = true) {
    std::vector<std::shared_ptr<const ListedRecord>> out;
    ListedRecords::Pass pass(records_, ns);
    for (const auto& [id, bytes] : rows) {
      out.push_back(pass.Of(id, bytes, [&, id = id, bytes = bytes] {
        ++read_;
        ListedRecord record;
        record.summary.set_id(id);
        record.summary.set_image(bytes);
        return record;
      }));
    }
    if (keep) pass.Keep();
    return out;
  }

  ListedRecords records_;
  int read_ = 0;
};

TEST_F(ListedRecordsTest, WhatHasNotChangedIsNotReadAgain) {
  const auto first = Walk({{"1", "x"}, {"3", "x"}, {"5", "y"}});
  EXPECT_EQ(read_, 3);
  const auto second = Walk({{"1", "x"}, {"3", "x"}, {"5", "y"}});
  EXPECT_EQ(read_, 3);
  EXPECT_EQ(first, second);
  EXPECT_EQ(second[2]->summary.image(), "y");
}

TEST_F(ListedRecordsTest, WhatHasChangedOrIsNewIsRead) {
  Walk({{"1", "x"}, {"3", "x"}, {"5", "x"}});
  const auto changed = Walk({{"0", "x"}, {"1", "x"}, {"3", "changed"}, {"4", "x"}, {"5", "x"}});
  EXPECT_EQ(read_, 3 + 3);
  EXPECT_EQ(changed[0]->summary.id(), "0");
  EXPECT_EQ(changed[2]->summary.image(), "changed");
  EXPECT_EQ(changed[4]->summary.id(), "5");
  // One that was removed and made again is another one, if it says something else.
  Walk({{"1", "x"}});
  EXPECT_EQ(read_, 6);
  EXPECT_EQ(Walk({{"1", "x"}, {"3", "again"}})[1]->summary.image(), "again");
  EXPECT_EQ(read_, 7);
}

TEST_F(ListedRecordsTest, NamespacesAreApartAndAPassThatBrokeOffKeepsNothing) {
  Walk({{"1", "x"}});
  Walk({{"1", "x"}}, "b");
  EXPECT_EQ(read_, 2);
  Walk({}, "b");
  Walk({{"1", "x"}}, "b");
  EXPECT_EQ(read_, 3);
  Walk({{"1", "x"}, {"2", "x"}}, "a", /*keep=*/false);
  Walk({{"1", "x"}, {"2", "x"}}, "a");
  EXPECT_EQ(read_, 5);
}

TEST_F(ListedRecordsTest, ThereIsAnEndToWhatIsKept) {
  Rows rows;
  for (size_t i = 0; i < ListedRecords::kMostKept + 10; ++i)
    rows.emplace_back(absl::StrFormat("%06d", i), "x");
  Walk(rows);
  const int all = read_;
  EXPECT_EQ(Walk(rows).back()->summary.id(), rows.back().first);
  EXPECT_EQ(read_, all + 10);
}

}  // namespace
}  // namespace gantry::core
