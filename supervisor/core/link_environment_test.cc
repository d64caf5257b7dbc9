#include "supervisor/core/link_environment.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Key;
using testing::Not;
using testing::Pair;

TEST(LinkEnvironmentTest, NamesPortsAndVariablesOfTheOtherContainer) {
  EXPECT_THAT(LinkEnvironment("web", {"my-db",
                                      "172.17.0.2",
                                      {"5432/tcp"},
                                      {"POSTGRES_DB=shop", "PATH=/bin", "HOME=/root", "BARE"}}),
              ElementsAre(Pair("MY_DB_PORT", "tcp://172.17.0.2:5432"),
                          Pair("MY_DB_PORT_5432_TCP", "tcp://172.17.0.2:5432"),
                          Pair("MY_DB_PORT_5432_TCP_ADDR", "172.17.0.2"),
                          Pair("MY_DB_PORT_5432_TCP_PORT", "5432"),
                          Pair("MY_DB_PORT_5432_TCP_PROTO", "tcp"),
                          Pair("MY_DB_NAME", "/web/my-db"), Pair("MY_DB_ENV_POSTGRES_DB", "shop")));
}

TEST(LinkEnvironmentTest, PortsInARowAreARangeToo) {
  const auto environment =
      LinkEnvironment("web", {"db", "10.0.0.2", {"82/udp", "81/tcp", "80/tcp", "x/tcp"}, {}});
  EXPECT_THAT(environment, Contains(Pair("DB_PORT", "tcp://10.0.0.2:80")));
  EXPECT_THAT(environment, Contains(Pair("DB_PORT_80_TCP_START", "tcp://10.0.0.2:80")));
  EXPECT_THAT(environment, Contains(Pair("DB_PORT_80_TCP_PORT_END", "81")));
  EXPECT_THAT(environment, Contains(Pair("DB_PORT_81_TCP_ADDR", "10.0.0.2")));
  EXPECT_THAT(environment, Contains(Pair("DB_PORT_82_UDP", "udp://10.0.0.2:82")));
  EXPECT_THAT(environment, Not(Contains(Key("DB_PORT_82_UDP_START"))));
}

TEST(LinkEnvironmentTest, AnAliasIsTheLastPartOfALink) {
  EXPECT_EQ(LinkAlias("db:store"), "store");
  EXPECT_EQ(LinkAlias("db"), "db");
  EXPECT_EQ(LinkAlias("/db:/web/store"), "store");
}

TEST(LinkEnvironmentTest, WithoutPortsThereIsANameOnly) {
  EXPECT_THAT(LinkEnvironment("web", {"db", "10.0.0.2", {}, {}}),
              ElementsAre(Pair("DB_NAME", "/web/db")));
}

}  // namespace
}  // namespace gantry::core
