#include "supervisor/core/log_options.h"

#include "gtest/gtest.h"

#include "proto/shim/v1/shim.pb.h"

namespace gantry::core {
namespace {

TEST(ApplyLogOptionTest, SizesAndCounts) {
  shim::v1::Log log;
  ASSERT_TRUE(ApplyLogOption("max-size", "10m", log).ok());
  EXPECT_EQ(log.max_size_bytes(), 10 << 20);
  ASSERT_TRUE(ApplyLogOption("max-size", "7", log).ok());
  EXPECT_EQ(log.max_size_bytes(), 7);
  ASSERT_TRUE(ApplyLogOption("max-file", "3", log).ok());
  EXPECT_EQ(log.max_files(), 3);
  ASSERT_TRUE(ApplyLogOption("mode", "blocking", log).ok());
  EXPECT_TRUE(log.block_when_full());
  for (const char* bad : {"", "m", "-5m", "1x", "1.5m"})
    EXPECT_FALSE(ApplyLogOption("max-size", bad, log).ok()) << bad;
  EXPECT_FALSE(ApplyLogOption("max-file", "0", log).ok());
  EXPECT_FALSE(ApplyLogOption("nope", "1", log).ok());
}

}  // namespace
}  // namespace gantry::core
