#include "supervisor/core/name_files.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"

namespace gantry::core {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kId[] = "0123456789abcdef";

class NameFilesTest : public testing::Test {
 protected:
  NameFilesTest() {
    EXPECT_TRUE(MakeDirectories(dir_.Join("etc"), 0755).ok());
    EXPECT_TRUE(WriteFile(dir_.Join("etc/hosts"), "192.0.2.1 printer\n", 0644).ok());
    EXPECT_TRUE(WriteFile(dir_.Join("etc/resolv.conf"), "nameserver 192.0.2.53\n", 0644).ok());
  }
  absl::Status Write() { return WriteNameFiles(dir_.path(), config_, kId, {}, dir_.Join("etc")); }
  std::string Read(const std::string& name) {
    return ReadFile(dir_.Join(name), 1 << 16).value_or("cannot be read");
  }

  TempDir dir_;
  v1::ContainerConfig config_;
};

TEST_F(NameFilesTest, WithoutANameTheHostnameIsTheShortId) {
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("hostname"), "0123456789ab\n");
  EXPECT_THAT(Read("hosts"), HasSubstr("127.0.1.1\t0123456789ab\n"));
  EXPECT_THAT(Read("hosts"), HasSubstr("127.0.0.1\tlocalhost\n"));
  EXPECT_EQ(Read("resolv.conf"), "");
}

TEST_F(NameFilesTest, AHostnameOfItsOwnIsInBothFiles) {
  config_.set_hostname("web");
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("hostname"), "web\n");
  EXPECT_THAT(Read("hosts"), HasSubstr("127.0.1.1\tweb\n"));
}

TEST_F(NameFilesTest, WithTheHostsNetworkTheFilesAreTheHostsOfNow) {
  config_.set_network_mode("host");
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("hosts"), "192.0.2.1 printer\n");
  EXPECT_EQ(Read("resolv.conf"), "nameserver 192.0.2.53\n");
  ASSERT_TRUE(WriteFile(dir_.Join("etc/resolv.conf"), "nameserver 192.0.2.54\n", 0644).ok());
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("resolv.conf"), "nameserver 192.0.2.54\n");
}

TEST_F(NameFilesTest, ExtraHostsFollowAndMayHaveAnAddressWithColons) {
  config_.add_extra_hosts("db:10.0.0.1");
  config_.add_extra_hosts("cache:fd00::1");
  ASSERT_TRUE(Write().ok());
  EXPECT_THAT(Read("hosts"), HasSubstr("10.0.0.1\tdb\nfd00::1\tcache\n"));
}

TEST_F(NameFilesTest, AnExtraHostThatWouldAddALineOfItsOwnIsRefused) {
  config_.add_extra_hosts("db:10.0.0.1\n10.0.0.2 other");
  EXPECT_TRUE(absl::IsInvalidArgument(Write()));
}

TEST_F(NameFilesTest, DnsOptionsReplaceTheHostsResolvConf) {
  config_.set_network_mode("host");
  config_.add_dns("192.0.2.1");
  config_.add_dns_search("a.example");
  config_.add_dns_search("b.example");
  config_.add_dns_options("ndots:2");
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("resolv.conf"),
            "nameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:2\n");
}

TEST_F(NameFilesTest, WhatAnEarlierRunWroteIsReplaced) {
  ASSERT_TRUE(WriteFile(dir_.Join("hosts"), "192.0.2.9 stale\n", 0644).ok());
  ASSERT_TRUE(Write().ok());
  EXPECT_THAT(Read("hosts"), Not(HasSubstr("stale")));
}

}  // namespace
}  // namespace gantry::core
