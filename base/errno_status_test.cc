#include "base/errno_status.h"

#include <cerrno>

#include "gtest/gtest.h"

namespace gantry {
namespace {

TEST(ErrnoStatusTest, SaysWhatFailedAndWhy) {
  EXPECT_EQ(ErrnoToStatus(ENOENT, "open /x"),
            absl::NotFoundError("open /x: No such file or directory"));
}

TEST(ErrnoStatusTest, CodesFollowWhatTheCallerCanDo) {
  EXPECT_EQ(ErrnoToStatus(ENOSPC, "w").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoToStatus(EBUSY, "w").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ErrnoToStatus(ECONNREFUSED, "w").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ErrnoToStatus(EROFS, "w").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ErrnoToStatus(EIO, "w").code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ErrnoToStatus(ENAMETOOLONG, "w").code(), absl::StatusCode::kInvalidArgument);
}

TEST(ErrnoStatusTest, ZeroIsNeverSuccess) {
  EXPECT_EQ(ErrnoToStatus(0, "w").code(), absl::StatusCode::kInternal);
}

TEST(ErrnoStatusTest, ContextComesFirstAndKeepsTheCode) {
  EXPECT_EQ(WithContext(absl::NotFoundError("b"), "a"), absl::NotFoundError("a: b"));
  EXPECT_EQ(WithContext(absl::OkStatus(), "a"), absl::OkStatus());
}

}  // namespace
}  // namespace gantry
