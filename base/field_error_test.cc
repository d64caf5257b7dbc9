#include "base/field_error.h"

#include <gtest/gtest.h>

#include "base/errno_status.h"

namespace gantry {
namespace {

TEST(FieldErrorTest, NamesTheFieldAndSaysWhatIsWrong) {
  const absl::Status status = FieldError("resources.memory", "at least 6 MiB");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "resources.memory: at least 6 MiB");
  EXPECT_EQ(FieldOf(status), "resources.memory");
  EXPECT_EQ(FieldReason(status), "at least 6 MiB");
}

TEST(FieldErrorTest, IsStillAboutTheFieldWithAContextInFront) {
  const absl::Status status =
      WithContext(FieldError("port_bindings", "\"x\" is not an IP address"), "container web");
  EXPECT_EQ(status.message(), "container web: port_bindings: \"x\" is not an IP address");
  EXPECT_EQ(FieldOf(status), "port_bindings");
  EXPECT_EQ(FieldReason(status), "container web: \"x\" is not an IP address");
}

TEST(FieldErrorTest, OtherErrorsNameNone) {
  const absl::Status status = absl::InvalidArgumentError("memory: no");
  EXPECT_EQ(FieldOf(status), "");
  EXPECT_EQ(FieldReason(status), "memory: no");
  EXPECT_EQ(EncodeFieldError(status), "");
}

TEST(FieldErrorTest, SurvivesTheWire) {
  const absl::Status sent = FieldError("extra_hosts", std::string(300, 'x'));
  const absl::Status received =
      DecodeFieldError(absl::Status(sent.code(), sent.message()), EncodeFieldError(sent));
  EXPECT_EQ(received, sent);
  EXPECT_EQ(FieldOf(received), "extra_hosts");
}

TEST(FieldErrorTest, DamagedDetailsChangeNothing) {
  const std::string good = EncodeFieldError(FieldError("dns", "not an address"));
  const absl::Status plain = absl::InvalidArgumentError("dns: not an address");
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(FieldOf(DecodeFieldError(plain, good.substr(0, size))), "") << size;
  }
  std::string foreign = good;
  foreign.replace(foreign.find("BadRequest"), 10, "ErrorInfo_");
  EXPECT_EQ(FieldOf(DecodeFieldError(plain, foreign)), "");
}

}  // namespace
}  // namespace gantry
