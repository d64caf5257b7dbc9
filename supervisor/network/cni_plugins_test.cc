// Pods' networks by the plugins that Debian packages, against the kernel: in a network namespace of
// the test's own, which stands for the host's. Needs root and containernetworking-plugins.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "supervisor/network/cni.h"
#include "supervisor/network/links.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kPlugins[] = "/usr/lib/cni";

// Answers each connection with "pod" until it is destroyed.
class PodServer {
 public:
  PodServer(int netns, uint16_t port) {
    const absl::Status made = InNetns(netns, [&]() -> absl::Status {
      fd_.reset(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const int off = 0;
      setsockopt(fd_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
      sockaddr_in6 address = {};
      address.sin6_family = AF_INET6;
      address.sin6_port = htons(port);
      const bool listens =
          bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
          listen(fd_.get(), 8) == 0;
      return listens ? absl::OkStatus() : absl::InternalError("the pod's server does not listen");
    });
    EXPECT_TRUE(made.ok()) << made;
    thread_ = std::thread([this] {
      while (true) {
        const UniqueFd one(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!one.valid()) return;
        send(one.get(), "pod", 3, MSG_NOSIGNAL);
      }
    });
  }
  ~PodServer() {
    shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }

 private:
  UniqueFd fd_;
  std::thread thread_;
};

class CniPluginsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
    if (access(absl::StrCat(kPlugins, "/bridge").c_str(), X_OK) != 0)
      GTEST_SKIP() << "containernetworking-plugins is not installed";
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    ASSERT_EQ(Links::Open().value()->SetUp("lo"), absl::OkStatus());
    ASSERT_TRUE(MakeDirectories(dir_.Join("conf")).ok());
    ASSERT_TRUE(MakeDirectories(dir_.Join("bin")).ok());
  }

  void Configure(const std::string& more_plugins = "") {
    const std::string text = absl::StrCat(
        R"({"cniVersion":"1.0.0","name":"pods","plugins":[
          {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
           "ipam":{"type":"host-local","dataDir":")",
        dir_.Join("addresses"),
        R"(","ranges":[[{"subnet":"10.88.0.0/24"}],[{"subnet":"fd88::/64"}]],
            "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
          {"type":"portmap","capabilities":{"portMappings":true}})",
        more_plugins, "]}");
    ASSERT_TRUE(WriteFile(dir_.Join("conf/10-pods.conflist"), text).ok());
    absl::StatusOr<std::unique_ptr<Cni>> cni = Cni::Open({.conf_dir = dir_.Join("conf"),
                                                          .bin_dirs = {kPlugins, dir_.Join("bin")},
                                                          .record_dir = dir_.Join("records")});
    ASSERT_TRUE(cni.ok()) << cni.status();
    cni_ = *std::move(cni);
  }

  CniRequest Request(const std::string& id, int netns) const {
    CniRequest request;
    request.container_id = id;
    request.netns = absl::StrCat("/proc/", getpid(), "/fd/", netns);
    request.args = {{"IgnoreUnknown", "1"}, {"K8S_POD_NAME", id}};
    return request;
  }

  // Addresses that host-local has given away.
  std::vector<std::string> Allocated() const {
    const auto names = ListDirectory(dir_.Join("addresses/pods"));
    std::vector<std::string> all;
    if (!names.ok()) return all;
    for (const std::string& name : *names) {
      if (!absl::StartsWith(name, "last_reserved") && name != "lock") all.push_back(name);
    }
    return all;
  }
  // Devices of the host's side.
  std::vector<std::string> Pairs() const {
    std::vector<std::string> names;
    const absl::StatusOr<std::vector<LinkInfo>> links = Links::Open().value()->List();
    for (const LinkInfo& link : links.value()) {
      if (link.kind == "veth") names.push_back(link.name);
    }
    return names;
  }
  static std::string Fetch(const std::string& address, uint16_t port) {
    sockaddr_storage to = {};
    const bool six = absl::StrContains(address, ':');
    to.ss_family = six ? AF_INET6 : AF_INET;
    if (six) {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(to);
      v6.sin6_port = htons(port);
      inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr);
    } else {
      auto& v4 = reinterpret_cast<sockaddr_in&>(to);
      v4.sin_port = htons(port);
      inet_pton(AF_INET, address.c_str(), &v4.sin_addr);
    }
    const UniqueFd fd(socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval patience = {10, 0};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to),
                six ? sizeof(sockaddr_in6) : sizeof(sockaddr_in)) != 0)
      return absl::StrCat("connect: ", strerror(errno));
    char buffer[16];
    const ssize_t got = recv(fd.get(), buffer, sizeof buffer, MSG_WAITALL);
    return got < 0 ? strerror(errno) : std::string(buffer, static_cast<size_t>(got));
  }

  const TempDir dir_;
  std::unique_ptr<Cni> cni_;
};

TEST_F(CniPluginsTest, PodIsReachedByBothFamiliesAndByItsPort) {
  Configure();
  ASSERT_TRUE(cni_->Ready().ok()) << cni_->Ready();
  const UniqueFd pod = NewNetns().value();
  CniRequest request = Request("pod1", pod.get());
  request.port_mappings = {{8080, 80, "tcp", ""}};
  const absl::StatusOr<CniResult> result = cni_->Add(request);
  ASSERT_TRUE(result.ok()) << result.status();
  const std::vector<std::string> addresses = result->PodAddresses();
  EXPECT_THAT(addresses, ElementsAre("10.88.0.2", "fd88::2"));
  EXPECT_THAT(Allocated(), SizeIs(2));
  {
    const PodServer server(pod.get(), 80);
    EXPECT_EQ(Fetch("10.88.0.2", 80), "pod");
    EXPECT_EQ(Fetch("10.88.0.1", 8080), "pod");
  }
  ASSERT_TRUE(cni_->Remove("pod1").ok());
  EXPECT_THAT(Allocated(), IsEmpty());
  EXPECT_THAT(Pairs(), IsEmpty());
}

TEST_F(CniPluginsTest, CheckSeesThatTheInterfaceHasGone) {
  Configure();
  const UniqueFd pod = NewNetns().value();
  // Without a published port: portmap 1.1.1 looks for IPv4's rules among those of IPv6.
  ASSERT_TRUE(cni_->Add(Request("pod1", pod.get())).ok());
  EXPECT_TRUE(cni_->Check("pod1").ok()) << cni_->Check("pod1");
  ASSERT_TRUE(Links::OpenIn(pod.get()).value()->Delete("eth0").ok());
  EXPECT_TRUE(absl::IsUnavailable(cni_->Check("pod1"))) << cni_->Check("pod1");
  EXPECT_TRUE(cni_->Remove("pod1").ok());
  EXPECT_THAT(Allocated(), IsEmpty());
}

TEST_F(CniPluginsTest, AddressesComeBackAfterTheNamespaceHasGone) {
  Configure();
  UniqueFd pod = NewNetns().value();
  ASSERT_TRUE(cni_->Add(Request("pod1", pod.get())).ok());
  pod.reset();
  // As the next daemon finds it.
  Configure();
  EXPECT_THAT(Allocated(), SizeIs(2));
  ASSERT_TRUE(cni_->Remove("pod1").ok());
  EXPECT_THAT(Allocated(), IsEmpty());
}

TEST_F(CniPluginsTest, ChainThatFailsAtItsEndLeavesNothing) {
  ASSERT_TRUE(WriteFile(dir_.Join("bin/last"),
                        "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n"
                        "echo '{\"code\":100,\"msg\":\"not today\"}'\nexit 1\n",
                        0755)
                  .ok());
  Configure(R"(,{"type":"last"})");
  const UniqueFd pod = NewNetns().value();
  CniRequest request = Request("pod1", pod.get());
  request.port_mappings = {{8080, 80, "tcp", ""}};
  const absl::StatusOr<CniResult> result = cni_->Add(request);
  EXPECT_THAT(std::string(result.status().message()), ::testing::HasSubstr("not today"));
  EXPECT_THAT(Allocated(), IsEmpty());
  EXPECT_THAT(Pairs(), IsEmpty());
}

}  // namespace
}  // namespace gantry::network
