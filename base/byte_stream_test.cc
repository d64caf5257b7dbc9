#include "base/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace gantry {
namespace {

TEST(ByteStreamTest, StringSourceEndsAndStaysEnded) {
  StringSource source("abc");
  char buffer[2];
  EXPECT_EQ(*source.Read(buffer, 2), 2u);
  EXPECT_EQ(*source.Read(buffer, 2), 1u);
  EXPECT_EQ(buffer[0], 'c');
  EXPECT_EQ(*source.Read(buffer, 2), 0u);
  EXPECT_EQ(*source.Read(buffer, 2), 0u);
}

TEST(ByteStreamTest, DescriptorsCarryBytesBothWays) {
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  {
    FdSink sink{UniqueFd(fds[1])};
    EXPECT_TRUE(sink.Write("hello ").ok());
    EXPECT_TRUE(sink.Write("world").ok());
  }
  FdSource source{UniqueFd(fds[0])};
  EXPECT_EQ(*ReadAll(source, 100), "hello world");
}

TEST(ByteStreamTest, FdSourceReportsErrors) {
  FdSource source(-1);
  char c;
  EXPECT_EQ(source.Read(&c, 1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ByteStreamTest, ReadExactlyWantsAllOfIt) {
  StringSource source("abc");
  char buffer[4];
  EXPECT_EQ(ReadExactly(source, buffer, 4), absl::DataLossError("stream ends after 3 of 4 bytes"));
}

TEST(ByteStreamTest, ReadAllIsBounded) {
  StringSource fits("12345"), exceeds("123456");
  EXPECT_EQ(*ReadAll(fits, 5), "12345");
  EXPECT_EQ(ReadAll(exceeds, 5).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ByteStreamTest, CopyStreamCounts) {
  StringSource source(std::string(300000, 'x'));
  StringSink sink;
  EXPECT_EQ(*CopyStream(source, sink), 300000);
  EXPECT_EQ(sink.str(), std::string(300000, 'x'));
}

}  // namespace
}  // namespace gantry
