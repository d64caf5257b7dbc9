// A host of one's own for tests of networks: a network namespace, a store, and the services over
// them. Needs root.
#ifndef GANTRY_SUPERVISOR_CORE_NETWORK_TESTBED_H_
#define GANTRY_SUPERVISOR_CORE_NETWORK_TESTBED_H_

#include <arpa/inet.h>
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/network_kernel.h"
#include "supervisor/core/network_places.h"
#include "supervisor/core/network_service.h"
#include "supervisor/metadata/database.h"
#include "supervisor/network/netns.h"

namespace gantry::core {

class NetworkBed : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    host_ = network::NewNetns().value();
    links_ = network::Links::OpenIn(host_.get()).value();
    db_ = metadata::Database::Open(directory_.path()).value();
    store_.emplace(*db_);
    context_.ns = "default";
    Restart();
  }
  void TearDown() override {
    if (places_ == nullptr) return;
    // Namespaces are kept by mounts below the directory.
    EXPECT_EQ(places_->Reconcile([](absl::string_view, absl::string_view) { return false; }),
              absl::OkStatus());
  }

  // As the next daemon finds things.
  void Restart() {
    kernel_ = std::make_unique<NetworkKernel>(&*store_, directory_.path() + "/state", nullptr,
                                              host_.get());
    NetworkService::Parts parts;
    parts.store = &*store_;
    parts.clock = &Clock::Real();
    parts.kernel = kernel_.get();
    parts.events = &events_;
    parts.host_id = "test";
    parts.resolv_conf = directory_.path() + "/resolv.conf";
    service_ = std::make_unique<NetworkService>(parts);
    places_ = std::make_unique<NetworkPlaces>(NetworkPlaces::Parts{
        &*store_, service_.get(), kernel_.get(), &events_, directory_.path() + "/state"});
  }

  absl::Status Make(const std::string& name, const std::string& subnet = "") {
    v1::CreateNetworkRequest request;
    request.set_name(name);
    if (!subnet.empty()) request.add_pools()->set_subnet(subnet);
    return service_->Create(context_, request).status();
  }
  absl::StatusOr<NetworkPlaces::Entered> Enter(const std::string& container,
                                               const std::string& network = "web",
                                               const v1::ContainerConfig& config = {}) {
    return places_->Enter(context_, {container, container + "-name", ""}, network, config);
  }
  static v1::ContainerConfig Publishing(const std::string& host_port) {
    v1::ContainerConfig config;
    v1::PortBinding* port = config.add_port_bindings();
    port->set_container_port(80);
    port->set_host_port(host_port);
    return config;
  }
  std::set<std::string> Devices() {
    std::set<std::string> names;
    const auto links = links_->List();
    EXPECT_TRUE(links.ok());
    for (const network::LinkInfo& one : *links) names.insert(one.name);
    names.erase("lo");
    return names;
  }

  // Lines of a file of /proc/net, as a namespace has it.
  static std::vector<std::string> LinesIn(const std::string& netns, const std::string& file) {
    const UniqueFd fd(open(netns.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text;
    EXPECT_EQ(network::InNetns(fd.get(),
                               [&] {
                                 absl::StatusOr<std::string> read =
                                     ReadFile("/proc/thread-self/net/" + file, 1 << 16);
                                 if (read.ok()) text = *std::move(read);
                                 return read.status();
                               }),
              absl::OkStatus());
    return absl::StrSplit(text, '\n', absl::SkipEmpty());
  }
  static std::set<std::string> DevicesIn(const std::string& netns) {
    std::set<std::string> names;
    const std::vector<std::string> lines = LinesIn(netns, "dev");
    for (size_t i = 2; i < lines.size(); ++i) {
      const std::string& line = lines[i];
      names.insert(std::string(absl::StripAsciiWhitespace(line.substr(0, line.find(':')))));
    }
    return names;
  }
  // "eth0 10.7.0.1", "" without one.
  static std::string DefaultRouteIn(const std::string& netns) {
    std::string found;
    for (const std::string& line : LinesIn(netns, "route")) {
      const std::vector<std::string> fields = absl::StrSplit(line, '\t');
      if (fields.size() < 8 || fields[1] != "00000000" || fields[7] != "00000000") continue;
      uint32_t router = 0;
      EXPECT_TRUE(absl::SimpleHexAtoi(fields[2], &router));
      found += absl::StrCat(found.empty() ? "" : ", ", fields[0], " ",
                            network::Address(network::Family::kIpv4, ntohl(router)).ToString());
    }
    return found;
  }
  std::string Rules() {
    std::string listed;
    EXPECT_EQ(network::InNetns(host_.get(),
                               [&] {
                                 Command list;
                                 list.argv = {"/usr/sbin/nft", "list", "table", "inet",
                                              network::TableName(directory_.path() + "/state")};
                                 const absl::StatusOr<CommandResult> done = RunCommand(list);
                                 if (done.ok()) listed = done->out;
                                 return done.status();
                               }),
              absl::OkStatus());
    return listed;
  }
  // Ports at containers' own addresses: "10.7.0.2 . tcp . 80".
  std::set<std::string> Opened() {
    std::string listed = Rules();
    listed.erase(0, listed.find("set open4"));
    listed.erase(listed.find("chain"));
    std::set<std::string> ports;
    for (absl::string_view word : absl::StrSplit(listed, absl::ByAnyChar(",{}\n"))) {
      if (absl::StrContains(word, " . tcp . "))
        ports.emplace(absl::StripAsciiWhitespace(word.substr(word.find('=') + 1)));
    }
    return ports;
  }
  // What the kernel's rules have of TCP ports of every address: "28080 -> 10.7.0.2:80".
  std::vector<std::string> Published() {
    const std::string listed = Rules();
    std::set<std::string> ports;
    for (absl::string_view word : absl::StrSplit(listed, absl::ByAnyChar(",{}\n"))) {
      const std::vector<absl::string_view> sides = absl::StrSplit(word, " : ");
      if (sides.size() != 2 || !absl::StrContains(sides[0], "tcp . ")) continue;
      ports.insert(
          absl::StrCat(absl::StripAsciiWhitespace(sides[0].substr(sides[0].rfind(' '))), " -> ",
                       absl::StrReplaceAll(absl::StripAsciiWhitespace(sides[1]), {{" . ", ":"}})));
    }
    return {ports.begin(), ports.end()};
  }

  TempDir directory_;
  UniqueFd host_;
  std::unique_ptr<network::Links> links_;
  std::unique_ptr<metadata::Database> db_;
  std::optional<metadata::NetworkStore> store_;
  std::unique_ptr<NetworkKernel> kernel_;
  std::unique_ptr<NetworkService> service_;
  std::unique_ptr<NetworkPlaces> places_;
  CallContext context_;
  EventBus events_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NETWORK_TESTBED_H_
