#include "supervisor/distribution/range_sink.h"

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace gantry::distribution {
namespace {

class Collected : public RangeSink {
 public:
  using RangeSink::RangeSink;
  std::string text;
  absl::Status taker = absl::OkStatus();

 private:
  absl::Status Take(int64_t, absl::string_view bytes) override {
    if (taker.ok()) text.append(bytes.data(), bytes.size());
    return taker;
  }
};

RegistryResponse Answer(int status, std::vector<std::pair<std::string, std::string>> headers) {
  RegistryResponse response;
  response.status = status;
  response.headers = std::move(headers);
  return response;
}

TEST(ContentRangeTest, SaysFirstLastAndTotal) {
  const std::optional<ContentRange> range = ParseContentRange("bytes 5-9/20");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->first, 5);
  EXPECT_EQ(range->last, 9);
  EXPECT_EQ(range->total, 20);
  EXPECT_EQ(ParseContentRange("bytes 0-0/*")->total, -1);
}

TEST(ContentRangeTest, NonsenseIsNoRange) {
  for (const char* text : {"", "bytes", "bytes 5/20", "bytes 9-5/20", "bytes 5-20/20", "5-9/20",
                           "bytes -1-9/20", "bytes 5-9", "bytes x-9/20", "bytes 5-9/x"}) {
    EXPECT_FALSE(ParseContentRange(text).has_value()) << text;
  }
}

TEST(RangeSinkTest, RangeIsHandedOnAsItIs) {
  std::atomic<int64_t> received = 0;
  Collected sink(3, 6, 10, &received);
  ASSERT_TRUE(
      sink.Begin(Answer(206, {{"content-range", "bytes 3-5/10"}, {"content-length", "3"}})).ok());
  ASSERT_TRUE(sink.Write("de").ok());
  ASSERT_TRUE(sink.Write("f").ok());
  EXPECT_EQ(sink.text, "def");
  EXPECT_TRUE(sink.partial());
  EXPECT_EQ(sink.offset(), sink.end());
  EXPECT_EQ(received, 3);
}

TEST(RangeSinkTest, WholeBlobInsteadOfItsRestLosesItsBeginning) {
  std::atomic<int64_t> received = 0;
  Collected sink(3, -1, 10, &received);
  ASSERT_TRUE(sink.Begin(Answer(200, {{"content-length", "10"}})).ok());
  ASSERT_TRUE(sink.Write("ab").ok());
  ASSERT_TRUE(sink.Write("cdefghij").ok());
  EXPECT_EQ(sink.text, "defghij");
  EXPECT_FALSE(sink.partial());
  EXPECT_EQ(received, 10);
}

TEST(RangeSinkTest, ContradictionsAreDamage) {
  const std::vector<std::vector<std::pair<std::string, std::string>>> answers = {
      {},
      {{"content-range", "bytes 3-5/11"}},
      {{"content-range", "bytes 2-5/10"}},
      {{"content-range", "bytes 3-6/10"}},
      {{"content-range", "bytes 3-5/10"}, {"content-length", "4"}}};
  for (const auto& headers : answers) {
    Collected sink(3, 6, 10, nullptr);
    EXPECT_TRUE(absl::IsDataLoss(sink.Begin(Answer(206, headers))));
    EXPECT_FALSE(sink.contradiction().ok());
  }
  Collected whole(0, -1, 10, nullptr);
  EXPECT_TRUE(absl::IsDataLoss(whole.Begin(Answer(200, {{"content-length", "9"}}))));
  Collected other(0, -1, 10, nullptr);
  EXPECT_TRUE(absl::IsDataLoss(other.Begin(Answer(204, {}))));
}

TEST(RangeSinkTest, MoreBytesThanPromisedAreDamage) {
  Collected sink(0, -1, 3, nullptr);
  ASSERT_TRUE(sink.Begin(Answer(200, {})).ok());
  EXPECT_TRUE(absl::IsDataLoss(sink.Write("abcd")));
  EXPECT_EQ(sink.text, "");
}

TEST(RangeSinkTest, ErrorOfTheTakerIsToldFromTheRegistrys) {
  Collected sink(0, -1, 3, nullptr);
  sink.taker = absl::ResourceExhaustedError("disk full");
  ASSERT_TRUE(sink.Begin(Answer(200, {})).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(sink.Write("a")));
  EXPECT_TRUE(sink.taker_failed());
  EXPECT_TRUE(sink.contradiction().ok());
}

}  // namespace
}  // namespace gantry::distribution
