#include "supervisor/core/network_names.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/network/names_file.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;

constexpr char kNs[] = "default";
constexpr char kId[] = "0123456789abcdef";

class NetworkNamesTest : public testing::Test {
 protected:
  NetworkNamesTest() : db_(metadata::Database::Open(directory_.Join("db")).value()), store_(*db_) {
    names_.emplace(&store_, directory_.path(), directory_.Join("resolv.conf"));
    EXPECT_TRUE(WriteFile(directory_.Join("resolv.conf"), "nameserver 192.0.2.53\n").ok());
    web_ = Network("web", "1111");
  }

  StoredNetwork Network(const std::string& name, const std::string& id, bool internal = false) {
    StoredNetwork network;
    network.ns = kNs;
    network.record.set_name(name);
    network.record.set_id(id);
    network.settings.set_internal(internal);
    return store_
        .Create({kNs, ""}, network,
                [](const std::vector<StoredNetwork>&, StoredNetwork&) { return absl::OkStatus(); })
        .value();
  }
  StoredEndpoint Join(const StoredNetwork& network, const std::string& id, const std::string& name,
                      const std::string& address) {
    StoredEndpoint endpoint;
    endpoint.ns = kNs;
    endpoint.network_id = network.record.id();
    endpoint.record.set_container_id(id);
    endpoint.record.set_container_name(name);
    endpoint.record.add_addresses(address);
    EXPECT_TRUE(store_
                    .AddEndpoint(network, endpoint.record,
                                 [](const std::vector<StoredEndpoint>&,
                                    record::v1::NetworkEndpoint&) { return absl::OkStatus(); })
                    .ok());
    return endpoint;
  }
  std::string Names(const std::string& id) {
    return ReadFile(directory_.Join("names/networks/default/" + id), 1 << 16).value_or("none");
  }
  std::string Resolver(const v1::ContainerConfig& config,
                       const std::vector<StoredNetwork>& networks) {
    const absl::Status written = names_->ContainerChanged(kNs, kId, config, networks);
    return written.ok() ? ReadFile(names_->ResolverPath(kNs, kId), 1 << 16).value_or("none")
                        : std::string(written.message());
  }

  TempDir directory_;
  std::unique_ptr<metadata::Database> db_;
  metadata::NetworkStore store_;
  std::optional<NetworkNames> names_;
  StoredNetwork web_;
};

TEST_F(NetworkNamesTest, FileHasWhoIsOnTheNetwork) {
  const StoredEndpoint db = Join(web_, kId, "db", "10.1.0.2/16");
  Join(web_, "fedcba9876543210", "api", "10.1.0.3/16");
  ASSERT_TRUE(names_->NetworkChanged(web_).ok());
  EXPECT_EQ(Names("1111"),
            "gantry names 1\nnetwork web\nname 0123456789ab 10.1.0.2\nname api 10.1.0.3\n"
            "name db 10.1.0.2\nname fedcba987654 10.1.0.3\n"
            "address 10.1.0.2 db\naddress 10.1.0.3 api\n");
  ASSERT_TRUE(store_.RemoveEndpoint(db).ok());
  ASSERT_TRUE(names_->NetworkChanged(web_).ok());
  EXPECT_EQ(Names("1111"),
            "gantry names 1\nnetwork web\nname api 10.1.0.3\nname fedcba987654 10.1.0.3\n"
            "address 10.1.0.3 api\n");
  ASSERT_TRUE(names_->NetworkRemoved(web_).ok());
  EXPECT_EQ(Names("1111"), "none");
  EXPECT_TRUE(names_->NetworkRemoved(web_).ok());
}

TEST_F(NetworkNamesTest, DefaultNetworkHasNoNames) {
  const StoredNetwork bridge = Network("bridge", "2222");
  Join(bridge, kId, "db", "172.17.0.2/16");
  ASSERT_TRUE(names_->NetworkChanged(bridge).ok());
  EXPECT_EQ(Names("2222"), "none");
  EXPECT_EQ(Resolver({}, {bridge}),
            "gantry resolver 1\nhost-servers " + directory_.Join("resolv.conf") + "\n");
}

TEST_F(NetworkNamesTest, DefaultNetworkHasNamesFromTheFirstContainerWithLinksOn) {
  const StoredNetwork bridge = Network("bridge", "2222");
  Join(bridge, kId, "db", "172.17.0.2/16");
  v1::ContainerConfig linked;
  linked.add_links("db:store");
  EXPECT_EQ(Resolver(linked, {bridge}),
            "gantry resolver 1\nnetwork " + directory_.Join("names/networks/default/2222") +
                "\nlink store db\nhost-servers " + directory_.Join("resolv.conf") + "\n");
  EXPECT_NE(Names("2222").find("name db 172.17.0.2\n"), std::string::npos);
  Join(bridge, "fedcba9876543210", "late", "172.17.0.3/16");
  ASSERT_TRUE(names_->NetworkChanged(bridge).ok());
  EXPECT_NE(Names("2222").find("name late 172.17.0.3\n"), std::string::npos);
}

TEST_F(NetworkNamesTest, TargetOfALinkInAllItsForms) {
  EXPECT_EQ(LinkTarget("db"), "db");
  EXPECT_EQ(LinkTarget("db:store"), "db");
  EXPECT_EQ(LinkTarget("/db:/web/store"), "db");
}

TEST_F(NetworkNamesTest, ResolverFileHasNetworksLinksAndServers) {
  const StoredNetwork other = Network("other", "3333");
  v1::ContainerConfig config;
  EXPECT_EQ(Resolver(config, {other, web_}),
            "gantry resolver 1\nnetwork " + directory_.Join("names/networks/default/3333") +
                "\nnetwork " + directory_.Join("names/networks/default/1111") + "\nhost-servers " +
                directory_.Join("resolv.conf") + "\n");
  config.add_links("/db:Store");
  config.add_links("cache");
  config.add_networks()->add_links("queue:/web/jobs");
  config.add_dns("192.0.2.1");
  config.add_dns_options("ndots:2");
  EXPECT_EQ(Resolver(config, {}),
            "gantry resolver 1\nlink jobs queue\nlink store db\nlink cache cache\n"
            "server 192.0.2.1\nsingle-labels-stay\n");
  ASSERT_TRUE(names_->ContainerRemoved(kNs, kId).ok());
  EXPECT_TRUE(absl::IsNotFound(ReadFile(names_->ResolverPath(kNs, kId), 10).status()));
}

TEST_F(NetworkNamesTest, OnlyInternalNetworksMeanNoServersOfTheHost) {
  const StoredNetwork inner = Network("inner", "4444", /*internal=*/true);
  EXPECT_EQ(Resolver({}, {inner}),
            "gantry resolver 1\nnetwork " + directory_.Join("names/networks/default/4444") + "\n");
  EXPECT_NE(Resolver({}, {inner, web_}).find("host-servers"), std::string::npos);
}

TEST_F(NetworkNamesTest, ConfigurationCannotAddLines) {
  v1::ContainerConfig config;
  config.add_dns("192.0.2.1\nhost-servers /etc/passwd");
  EXPECT_TRUE(absl::IsInvalidArgument(names_->ContainerChanged(kNs, kId, config, {})));
  config.Clear();
  config.add_links("db:a\nserver 192.0.2.1");
  EXPECT_TRUE(absl::IsInvalidArgument(names_->ContainerChanged(kNs, kId, config, {})));
}

TEST_F(NetworkNamesTest, StartWritesWhatIsRecordedAndRemovesTheRest) {
  Join(web_, kId, "db", "10.1.0.2/16");
  ASSERT_EQ(Resolver({}, {web_}).find("none"), std::string::npos);
  ASSERT_TRUE(names_->ContainerChanged(kNs, "gone", {}, {web_}).ok());
  const StoredNetwork gone = Network("gone", "5555");
  ASSERT_TRUE(names_->NetworkChanged(gone).ok());
  ASSERT_TRUE(store_.Delete({kNs, ""}, gone).ok());
  ASSERT_TRUE(WriteFile(directory_.Join("names/networks/default/1111.new"), "half").ok());
  ASSERT_TRUE(names_->Reconcile().ok());
  EXPECT_EQ(*ListDirectory(directory_.Join("names/networks/default")),
            std::vector<std::string>{"1111"});
  EXPECT_EQ(*ListDirectory(directory_.Join("names/containers/default")),
            std::vector<std::string>{kId});
  EXPECT_NE(Names("1111").find("name db 10.1.0.2\n"), std::string::npos);
}

}  // namespace
}  // namespace gantry::core
