#include "supervisor/api/docker/build_query.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "supervisor/api/docker/fuzz_exchange.h"

namespace gantry::api::docker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<v1::BuildRequest::Open> Ask(const std::string& query,
                                           const std::string& credentials = "") {
  FuzzExchange exchange(query, "", {"x-registry-config", credentials});
  const Request request(exchange, kNewest, {});
  return BuildQuery(request);
}

TEST(BuildQueryTest, SaysWhatDockersCommandLineAsksFor) {
  const auto open =
      Ask("t=a%3A1&t=b&dockerfile=D&nocache=1&pull=true&target=base&networkmode=host&memory=1048576"
          "&buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D&labels=%7B%22l%22%3A%22v%22%7D"
          "&ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Soft%22%3A1%2C%22Hard%22%3A2%7D%5D");
  ASSERT_TRUE(open.ok()) << open.status();
  EXPECT_THAT(open->tags(), ElementsAre("a:1", "b"));
  EXPECT_EQ(open->dockerfile(), "D");
  EXPECT_TRUE(open->has_context());
  EXPECT_TRUE(open->no_cache());
  EXPECT_TRUE(open->pull());
  EXPECT_EQ(open->target(), "base");
  EXPECT_EQ(open->network_mode(), "host");
  EXPECT_EQ(open->resources().memory_bytes(), 1048576);
  ASSERT_EQ(open->arguments_size(), 2);
  EXPECT_EQ(open->arguments(0).name(), "A");
  EXPECT_EQ(open->labels().at("l"), "v");
  ASSERT_EQ(open->resources().ulimits_size(), 1);
  EXPECT_EQ(open->resources().ulimits(0).hard(), 2);
}

TEST(BuildQueryTest, WhatIsNoneIsRefusedByItsName) {
  EXPECT_THAT(std::string(Ask("buildargs=%7B").status().message()), HasSubstr("buildargs"));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask("memory=many").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask("t=a%40sha256%3A01").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask("ulimits=%5B%7B%7D%5D").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask("version=3").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask("securityopt=%5B%22x%22%5D").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask("isolation=hyperv").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Ask("remote=client-session").status()));
}

TEST(BuildQueryTest, CredentialsAreByRegistryAndBadOnesAreNone) {
  // {"https://index.docker.io/v1/":{"username":"u","password":"p"}}
  const auto open =
      Ask("t=a",
          "eyJodHRwczovL2luZGV4LmRvY2tlci5pby92MS8iOnsidXNlcm5hbWUiOiJ1IiwicGFzc3dvcmQiOiJwIn19");
  ASSERT_TRUE(open.ok()) << open.status();
  ASSERT_EQ(open->registries_size(), 1);
  EXPECT_EQ(open->registries(0).registry(), "docker.io");
  EXPECT_EQ(open->registries(0).auth().username(), "u");
  EXPECT_EQ(Ask("t=a", "?")->registries_size(), 0);
}

}  // namespace
}  // namespace gantry::api::docker
