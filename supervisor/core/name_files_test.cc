#include "supervisor/core/name_files.h"

#include <sys/stat.h>

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
  absl::Status Write() { return WriteNameFiles(dir_.path(), config_, kId, names_, host_); }
  std::string Read(const std::string& name) {
    return ReadFile(dir_.Join(name), 1 << 16).value_or("cannot be read");
  }

  TempDir dir_;
  const HostNameFiles host_ = {dir_.Join("etc"), dir_.Join("resolved")};
  v1::ContainerConfig config_;
  NamesOfNetworks names_;
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

TEST_F(NameFilesTest, AddressesAndTheDomainAreInHosts) {
  config_.set_network_mode("web");
  config_.set_hostname("api");
  config_.set_domainname("example.com");
  config_.add_extra_hosts("db:10.0.0.1");
  names_.addresses = {"10.1.0.2", "fd00::2"};
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("hosts"),
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\n"
            "ff02::2\tip6-allrouters\n10.0.0.1\tdb\n"
            "10.1.0.2\tapi.example.com api\nfd00::2\tapi.example.com api\n");
  EXPECT_EQ(Read("resolv.conf"), "nameserver 192.0.2.53\n");
  names_.resolver = true;
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("resolv.conf"), "nameserver 127.0.0.11\noptions ndots:0\n");
}

TEST_F(NameFilesTest, HostGatewayIsTheBridgesAddress) {
  config_.add_extra_hosts("host.docker.internal:host-gateway");
  ASSERT_TRUE(Write().ok());
  EXPECT_THAT(Read("hosts"), Not(HasSubstr("host.docker.internal")));
  names_.host_gateways = {"172.17.0.1", "fd00::1"};
  ASSERT_TRUE(Write().ok());
  EXPECT_THAT(Read("hosts"),
              HasSubstr("172.17.0.1\thost.docker.internal\nfd00::1\thost.docker.internal\n"));
}

TEST_F(NameFilesTest, SystemdsStubIsPassedOverWhereItsServersAreKnown) {
  ASSERT_TRUE(WriteFile(dir_.Join("etc/resolv.conf"), "nameserver 127.0.0.53\n", 0644).ok());
  names_.addresses = {"10.1.0.2"};
  config_.set_network_mode("bridge");
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("resolv.conf"), "nameserver 127.0.0.11\n");
  ASSERT_TRUE(WriteFile(dir_.Join("resolved"), "nameserver 192.0.2.54\n", 0644).ok());
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("resolv.conf"), "nameserver 192.0.2.54\n");
}

TEST_F(NameFilesTest, ChangesOfNetworksAddAndRemoveExactlyTheirLines) {
  config_.set_network_mode("web");
  names_.addresses = {"10.1.0.2"};
  names_.resolver = true;
  ASSERT_TRUE(Write().ok());
  const std::string before = Read("hosts");
  ASSERT_TRUE(WriteFile(dir_.Join("hosts"), before + "10.1.0.2 mine\n# 10.1.0.2\n", 0644).ok());
  NamesOfNetworks now = names_;
  now.addresses = {"10.1.0.2", "10.2.0.2"};
  ASSERT_TRUE(UpdateNameFiles(dir_.path(), config_, kId, names_, now, host_).ok());
  EXPECT_EQ(Read("hosts"), before + "10.1.0.2 mine\n# 10.1.0.2\n10.2.0.2\t0123456789ab\n");
  NamesOfNetworks left = now;
  left.addresses = {"10.2.0.2"};
  ASSERT_TRUE(UpdateNameFiles(dir_.path(), config_, kId, now, left, host_).ok());
  EXPECT_THAT(Read("hosts"), Not(HasSubstr("10.1.0.2\t")));
  EXPECT_THAT(Read("hosts"), HasSubstr("10.1.0.2 mine\n# 10.1.0.2\n10.2.0.2\t0123456789ab\n"));
}

TEST_F(NameFilesTest, ResolvConfFollowsTheNetworksUntilTheUserEditsIt) {
  config_.set_network_mode("bridge");
  names_.addresses = {"172.17.0.2"};
  ASSERT_TRUE(Write().ok());
  NamesOfNetworks now = names_;
  now.resolver = true;
  ASSERT_TRUE(UpdateNameFiles(dir_.path(), config_, kId, names_, now, host_).ok());
  EXPECT_EQ(Read("resolv.conf"), "nameserver 127.0.0.11\noptions ndots:0\n");
  ASSERT_TRUE(UpdateNameFiles(dir_.path(), config_, kId, now, names_, host_).ok());
  EXPECT_EQ(Read("resolv.conf"), "nameserver 192.0.2.53\n");
  ASSERT_TRUE(WriteFile(dir_.Join("resolv.conf"), "nameserver 192.0.2.99\n", 0644).ok());
  ASSERT_TRUE(UpdateNameFiles(dir_.path(), config_, kId, names_, now, host_).ok());
  EXPECT_EQ(Read("resolv.conf"), "nameserver 192.0.2.99\n");
  ASSERT_TRUE(Write().ok());
  EXPECT_EQ(Read("resolv.conf"), "nameserver 192.0.2.99\n");
}

// The file is what is mounted, not its name.
TEST_F(NameFilesTest, FilesAreWrittenInPlace) {
  ASSERT_TRUE(Write().ok());
  for (const char* name : {"hosts", "hostname", "resolv.conf"}) {
    struct stat before;
    struct stat after;
    ASSERT_EQ(stat(dir_.Join(name).c_str(), &before), 0);
    config_.set_hostname("other");
    config_.add_dns("192.0.2.1");
    ASSERT_TRUE(Write().ok());
    ASSERT_EQ(stat(dir_.Join(name).c_str(), &after), 0);
    EXPECT_EQ(before.st_ino, after.st_ino) << name;
  }
}

TEST_F(NameFilesTest, ContainerThatSharesANetworkHasTheSameFiles) {
  config_.set_network_mode("web");
  names_.resolver = true;
  names_.addresses = {"10.1.0.2"};
  ASSERT_TRUE(Write().ok());
  TempDir other;
  ASSERT_TRUE(CopyNameFiles(dir_.path(), other.path()).ok());
  for (const char* name : {"hosts", "hostname", "resolv.conf"})
    EXPECT_EQ(ReadFile(other.Join(name), 1 << 16).value_or(""), Read(name)) << name;
}

TEST_F(NameFilesTest, WhatAnEarlierRunWroteIsReplaced) {
  ASSERT_TRUE(WriteFile(dir_.Join("hosts"), "192.0.2.9 stale\n", 0644).ok());
  ASSERT_TRUE(Write().ok());
  EXPECT_THAT(Read("hosts"), Not(HasSubstr("stale")));
}

}  // namespace
}  // namespace gantry::core
