#include "base/engine/registry_auth_json.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"

#include "proto/gantry/v1/types.pb.h"

namespace gantry::engine {
namespace {

TEST(RegistryAuthTest, AHeaderIsReadInBothAlphabets) {
  const std::string json = R"({"username":"me","password":"s>>>???","serveraddress":"host:5000"})";
  std::string url;
  absl::WebSafeBase64Escape(json, &url);
  const std::string padded = absl::Base64Escape(json);
  ASSERT_NE(url, padded);
  for (const std::string& header : {url, padded}) {
    const v1::RegistryAuth auth = RegistryAuthFromHeader(header);
    EXPECT_EQ(auth.username(), "me");
    EXPECT_EQ(auth.password(), "s>>>???");
    EXPECT_EQ(auth.server_address(), "host:5000");
  }
}

TEST(RegistryAuthTest, AHeaderThatCannotBeReadIsNone) {
  for (const char* header : {"", "!!", "e30=", "e30", "bm90IGpzb24", "eyJ1c2VybmFtZSI6M30="})
    EXPECT_EQ(RegistryAuthFromHeader(header).ByteSizeLong(), 0u) << header;
}

TEST(RegistryAuthTest, BothInOneField) {
  const absl::StatusOr<Value> body =
      Value::FromJson(R"({"auth":"bWU6c2VjcmV0","serveraddress":"https://index.docker.io/v1/"})");
  const absl::StatusOr<v1::RegistryAuth> auth = RegistryAuthFromDocument(*body);
  ASSERT_TRUE(auth.ok()) << auth.status();
  EXPECT_EQ(auth->username(), "me");
  EXPECT_EQ(auth->password(), "secret");
  EXPECT_EQ(auth->server_address(), "docker.io");
}

TEST(RegistryAuthTest, ABodyOfAnotherShapeIsRefusedWithoutItsValues) {
  const absl::StatusOr<Value> body = Value::FromJson(R"({"username":"me","password":["secret"]})");
  const absl::StatusOr<v1::RegistryAuth> auth = RegistryAuthFromDocument(*body);
  ASSERT_EQ(auth.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(auth.status().message(), "password: is an array, not a string");
}

TEST(RegistryAuthTest, ManyByTheirHosts) {
  const auto all = RegistryConfigFromHeader(absl::Base64Escape(
      R"({"https://index.docker.io/v1/":{"username":"a"},"r.example":{"identitytoken":"t"},"x":7})"));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all.at("docker.io").username(), "a");
  EXPECT_EQ(all.at("r.example").identity_token(), "t");
}

}  // namespace
}  // namespace gantry::engine
