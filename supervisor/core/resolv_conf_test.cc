#include "supervisor/core/resolv_conf.h"

#include <string>

#include "gtest/gtest.h"

#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::core {
namespace {

constexpr char kHost[] =
    "# made by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver fd00::53\n"
    "domain old.example\nsearch a.example b.example\noptions timeout:1\noptions rotate\n"
    "sortlist 192.0.2.0\n";

TEST(ResolvConfTest, WithTheHostsNetworkItIsTheHosts) {
  v1::ContainerConfig config;
  EXPECT_EQ(MakeResolvConf(kHost, config, ResolvConfFor::kHostNetwork), kHost);
  config.add_dns("192.0.2.1");
  EXPECT_EQ(MakeResolvConf(kHost, config, ResolvConfFor::kHostNetwork),
            "nameserver 192.0.2.1\nsearch a.example b.example\noptions timeout:1 rotate\n"
            "sortlist 192.0.2.0\n");
}

TEST(ResolvConfTest, OnANetworkWithNamesTheResolverIsAsked) {
  v1::ContainerConfig config;
  EXPECT_EQ(MakeResolvConf(kHost, config, ResolvConfFor::kNamedNetwork),
            "nameserver 127.0.0.11\nsearch a.example b.example\n"
            "options timeout:1 rotate ndots:0\nsortlist 192.0.2.0\n");
  config.add_dns("192.0.2.1");
  config.add_dns_search(".");
  config.add_dns_options("ndots:2");
  EXPECT_EQ(MakeResolvConf("search a.example\n", config, ResolvConfFor::kNamedNetwork),
            "nameserver 127.0.0.11\noptions ndots:2\n");
  config.set_dns_options(0, "ndots:many");
  EXPECT_EQ(MakeResolvConf("", config, ResolvConfFor::kNamedNetwork),
            "nameserver 127.0.0.11\noptions ndots:0\n");
}

TEST(ResolvConfTest, OnThePlainNetworkServersThatTheContainerReaches) {
  v1::ContainerConfig config;
  const std::string rest =
      "search a.example b.example\noptions timeout:1 rotate\nsortlist 192.0.2.0\n";
  EXPECT_EQ(MakeResolvConf(kHost, config, ResolvConfFor::kPlainNetwork),
            "nameserver 192.0.2.53\n" + rest);
  EXPECT_EQ(MakeResolvConf(kHost, config, ResolvConfFor::kPlainNetworkWithIpv6),
            "nameserver 192.0.2.53\nnameserver fd00::53\n" + rest);
  EXPECT_EQ(MakeResolvConf("nameserver 127.0.0.53\n", config, ResolvConfFor::kPlainNetwork),
            "nameserver 127.0.0.11\n");
  EXPECT_EQ(MakeResolvConf("nameserver ::1\n", config, ResolvConfFor::kPlainNetworkWithIpv6),
            "nameserver 127.0.0.11\n");
  config.add_dns("127.0.0.1");
  EXPECT_EQ(MakeResolvConf("nameserver 192.0.2.53\n", config, ResolvConfFor::kPlainNetwork),
            "nameserver 127.0.0.1\n");
}

TEST(ResolvConfTest, WithoutANetworkOnlyWhatWasAskedFor) {
  v1::ContainerConfig config;
  EXPECT_EQ(MakeResolvConf(kHost, config, ResolvConfFor::kNoNetwork), "");
  config.add_dns_search("c.example");
  EXPECT_EQ(MakeResolvConf(kHost, config, ResolvConfFor::kNoNetwork), "search c.example\n");
}

TEST(ResolvConfTest, SingleLabelsStayWhereNdotsWasSet) {
  v1::ContainerConfig config;
  EXPECT_FALSE(KeepsSingleLabels(kHost, config));
  EXPECT_TRUE(KeepsSingleLabels("options ndots:5\n", config));
  EXPECT_FALSE(KeepsSingleLabels("options ndots:0\n", config));
  config.add_dns_options("ndots:1");
  EXPECT_TRUE(KeepsSingleLabels(kHost, config));
  config.set_dns_options(0, "rotate");
  EXPECT_FALSE(KeepsSingleLabels("options ndots:5\n", config));
}

TEST(ResolvConfTest, KnowsAStub) {
  EXPECT_TRUE(NamesOnlyResolvedStub("nameserver 127.0.0.53\noptions edns0\n"));
  EXPECT_FALSE(NamesOnlyResolvedStub(kHost));
  EXPECT_FALSE(NamesOnlyResolvedStub("nameserver 127.0.0.1\n"));
  EXPECT_FALSE(NamesOnlyResolvedStub(""));
}

}  // namespace
}  // namespace gantry::core
