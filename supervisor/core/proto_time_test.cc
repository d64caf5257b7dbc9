#include "supervisor/core/proto_time.h"

#include "gtest/gtest.h"

namespace gantry::core {
namespace {

google::protobuf::Timestamp Stamp(absl::Time at) {
  google::protobuf::Timestamp out;
  SetTimestamp(at, &out);
  return out;
}

TEST(SetTimestampTest, AnyYearKeepsItsSeconds) {
  EXPECT_EQ(Stamp(absl::FromUnixSeconds(-62135596799)).seconds(), -62135596799);  // the year 1
  EXPECT_EQ(Stamp(absl::FromUnixSeconds(32503680000)).seconds(), 32503680000);    // the year 3000
}

TEST(SetTimestampTest, NanosecondsCountForwardAlsoBefore1970) {
  const google::protobuf::Timestamp stamp = Stamp(absl::UnixEpoch() - absl::Milliseconds(250));
  EXPECT_EQ(stamp.seconds(), -1);
  EXPECT_EQ(stamp.nanos(), 750'000'000);
}

TEST(SetTimestampTest, NeverLeavesTheMessageEmpty) {
  EXPECT_EQ(Stamp(absl::InfinitePast()).ByteSizeLong(), 0u);
}

}  // namespace
}  // namespace gantry::core
