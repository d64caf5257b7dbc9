#include "supervisor/api/grpc_status.h"

#include <gtest/gtest.h>

#include "base/field_error.h"

namespace gantry::api {
namespace {

TEST(GrpcStatusTest, CodesAreTheSameNumbers) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "m");
    EXPECT_EQ(static_cast<int>(ToGrpc(status).error_code()), code);
    EXPECT_EQ(FromGrpc(ToGrpc(status)).code(), status.code());
  }
}

TEST(GrpcStatusTest, MessagesStayTextWhateverRuntimesQuote) {
  EXPECT_EQ(ToGrpc(absl::InternalError("caf\xC3\xA9 \xF0\x9F\x98\x80")).error_message(),
            "caf\xC3\xA9 \xF0\x9F\x98\x80");
  EXPECT_EQ(ToGrpc(absl::InternalError("a\xFF\xC3z\xE2\x82")).error_message(), "a??z??");
  EXPECT_EQ(ToGrpc(absl::InternalError("\xC0\xAF")).error_message(), "??");
}

TEST(GrpcStatusTest, LongMessagesFitATrailer) {
  EXPECT_EQ(ToGrpc(absl::InternalError(std::string(100000, 'x'))).error_message().size(), 4096u);
}

TEST(GrpcStatusTest, AClassIsSaidOnceAtTheEnd) {
  EXPECT_EQ(ToGrpcWithClass(absl::InvalidArgumentError("no id")).error_message(),
            "no id: invalid argument");
  EXPECT_EQ(ToGrpcWithClass(absl::NotFoundError("image \"x\": not found")).error_message(),
            "image \"x\": not found");
  EXPECT_EQ(ToGrpcWithClass(absl::UnknownError("runtime")).error_message(), "runtime");
  EXPECT_TRUE(ToGrpcWithClass(absl::OkStatus()).ok());
}

TEST(GrpcStatusTest, AFieldErrorKeepsItsField) {
  const grpc::Status sent = ToGrpc(FieldError("extra_hosts", "\"x\" is not NAME:ADDRESS"));
  EXPECT_EQ(sent.error_message(), "extra_hosts: \"x\" is not NAME:ADDRESS");
  const absl::Status received = FromGrpc(sent);
  EXPECT_EQ(FieldOf(received), "extra_hosts");
  EXPECT_EQ(ToGrpc(absl::InvalidArgumentError("no field")).error_details(), "");
}

TEST(GrpcStatusTest, DetailsThatWereGivenGoOut) {
  absl::Status status = absl::UnknownError("x");
  status.SetPayload("grpc-status-details-bin", absl::Cord("\x08\x02"));
  EXPECT_EQ(ToGrpc(status).error_details(), std::string("\x08\x02", 2));
  EXPECT_EQ(ToGrpc(status).error_message(), "x");
}

}  // namespace
}  // namespace gantry::api
