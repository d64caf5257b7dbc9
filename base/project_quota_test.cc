#include "base/project_quota.h"

#include <sys/statvfs.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"

namespace gantry {
namespace {

using testing::HasSubstr;

TEST(ParseTreeSizeTest, AsDockerReadsSizes) {
  EXPECT_EQ(ParseTreeSize("1").value(), 1);
  EXPECT_EQ(ParseTreeSize("5k").value(), 5 << 10);
  EXPECT_EQ(ParseTreeSize("10MB").value(), 10 << 20);
  EXPECT_EQ(ParseTreeSize("2g").value(), int64_t{2} << 30);
  EXPECT_EQ(ParseTreeSize("1T").value(), int64_t{1} << 40);
  for (const char* bad :
       {"", "0", "-1", "+1", " 1", "g", "1x", "1.5g", "99999999999999999999", "9999999999999t"})
    EXPECT_FALSE(ParseTreeSize(bad).ok()) << bad;
}

TEST(ProjectQuotaTest, AFileSystemWithoutSaysHowItWouldHaveThem) {
  const absl::Status status = CheckProjectQuotas("/proc");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("prjquota"));
  EXPECT_FALSE(LimitTree("/proc", 1 << 20).ok());
  EXPECT_EQ(LimitOfTree("/proc")->limit_bytes, 0);
  EXPECT_TRUE(UnlimitTree("/proc").ok());
}

// Where the file system of $GANTRY_QUOTA_DIR has them; ./dev vm test has such a one.
TEST(ProjectQuotaTest, ATreeGrowsToItsLimitAndNoFurther) {
  const char* const at = getenv("GANTRY_QUOTA_DIR");
  if (at == nullptr) GTEST_SKIP() << "no file system with project quotas is named";
  const std::string tree = std::string(at) + "/tree";
  ASSERT_TRUE(MakeDirectories(tree, 0755).ok());
  ASSERT_TRUE(LimitTree(tree, 1 << 20).ok()) << LimitTree(tree, 1 << 20);
  ASSERT_TRUE(MakeDirectories(tree + "/below", 0755).ok());
  EXPECT_TRUE(WriteFile(tree + "/below/half", std::string(512 << 10, 'x')).ok());
  const absl::Status full = WriteFile(tree + "/below/more", std::string(768 << 10, 'x'));
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_EQ(LimitOfTree(tree)->limit_bytes, 1 << 20);
  EXPECT_GE(LimitOfTree(tree)->used_bytes, 512 << 10);
  struct statvfs shown = {};
  ASSERT_EQ(statvfs((tree + "/below").c_str(), &shown), 0);
  EXPECT_EQ(shown.f_blocks * shown.f_frsize, 1u << 20);
  EXPECT_TRUE(UnlimitTree(tree).ok());
  EXPECT_TRUE(WriteFile(tree + "/below/more", std::string(768 << 10, 'x')).ok());
  EXPECT_TRUE(RemoveTree(tree).ok());
}

}  // namespace
}  // namespace gantry
