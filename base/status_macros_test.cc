#include "base/status_macros.h"

#include <memory>
#include <string>

#include "gtest/gtest.h"

namespace gantry {
namespace {

absl::StatusOr<std::unique_ptr<int>> Parse(bool ok) {
  if (!ok) return absl::NotFoundError("no number");
  return std::make_unique<int>(7);
}

absl::StatusOr<std::string> Double(bool ok, bool allowed) {
  GANTRY_RETURN_IF_ERROR(allowed ? absl::OkStatus() : absl::PermissionDeniedError("not you"));
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<int> number, Parse(ok));
  GANTRY_ASSIGN_OR_RETURN(const auto again, Parse(ok));
  return std::to_string(*number + *again);
}

TEST(StatusMacrosTest, ValuesPass) { EXPECT_EQ(*Double(true, true), "14"); }

TEST(StatusMacrosTest, ErrorsReturnEarly) {
  EXPECT_EQ(Double(true, false).status(), absl::PermissionDeniedError("not you"));
  EXPECT_EQ(Double(false, true).status(), absl::NotFoundError("no number"));
}

}  // namespace
}  // namespace gantry
