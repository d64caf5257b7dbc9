// Over real sockets of the loopback device, without a network namespace and rules: those are
// integration/network_names_test.cc's.
#include "shim/resolver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "base/unique_fd.h"
#include "shim/dns_testing.h"
#include "shim/event_loop.h"
#include "supervisor/network/names_file.h"

namespace gantry::shim {
namespace {

using network::NamedMember;
using network::ResolverConfig;
using Strings = std::vector<std::string>;

constexpr int kPatienceMillis = 5000;

sockaddr_in At(const std::string& address, uint16_t port) {
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  return to;
}

bool Readable(int fd, int millis = kPatienceMillis) {
  pollfd ready = {fd, POLLIN, 0};
  return poll(&ready, 1, millis) == 1;
}

std::string ReadExactly(int fd, size_t size) {
  std::string text;
  while (text.size() < size && Readable(fd)) {
    char buffer[4096];
    const ssize_t got = read(fd, buffer, std::min(sizeof buffer, size - text.size()));
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

std::string ReadMessage(int fd) {
  const std::string size = ReadExactly(fd, 2);
  return size.size() == 2 ? ReadExactly(fd, At16(size, 0)) : "";
}

// A name server: what `answer` returns is sent, one datagram or one message each.
class Server {
 public:
  using Handler = std::function<Strings(const std::string& query, bool tcp)>;
  // `port` 0: any.
  Server(const std::string& address, uint16_t port, Handler handler)
      : handler_(std::move(handler)),
        udp_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
        tcp_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at = At(address, port);
    const int yes = 1;
    setsockopt(tcp_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    EXPECT_EQ(bind(udp_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    socklen_t size = sizeof at;
    getsockname(udp_.get(), reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    EXPECT_EQ(bind(tcp_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    EXPECT_EQ(listen(tcp_.get(), 16), 0);
    thread_ = std::thread([this] { Run(); });
  }
  ~Server() {
    stop_ = true;
    thread_.join();
  }
  uint16_t port() const { return port_; }
  int udp_queries() const { return udp_queries_; }
  int tcp_queries() const { return tcp_queries_; }
  // Source ports and ids seen.
  std::set<std::pair<unsigned, unsigned>> origins() const {
    absl::MutexLock lock(&mu_);
    return origins_;
  }

 private:
  void Run() {
    while (!stop_) {
      pollfd ready[2] = {{udp_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}};
      if (poll(ready, 2, 20) <= 0) continue;
      char buffer[4096];
      sockaddr_in from = {};
      socklen_t size = sizeof from;
      if ((ready[0].revents & POLLIN) != 0) {
        const ssize_t got = recvfrom(udp_.get(), buffer, sizeof buffer, 0,
                                     reinterpret_cast<sockaddr*>(&from), &size);
        if (got < 12) continue;
        ++udp_queries_;
        const std::string query(buffer, static_cast<size_t>(got));
        {
          absl::MutexLock lock(&mu_);
          origins_.emplace(ntohs(from.sin_port), At16(query, 0));
        }
        for (const std::string& answer : handler_(query, false))
          sendto(udp_.get(), answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from),
                 size);
      }
      if ((ready[1].revents & POLLIN) != 0) {
        const UniqueFd connection(accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const std::string query = ReadMessage(connection.get());
        ++tcp_queries_;
        for (const std::string& answer : handler_(query, true)) {
          const std::string out = Two(static_cast<unsigned>(answer.size())) + answer;
          EXPECT_EQ(write(connection.get(), out.data(), out.size()),
                    static_cast<ssize_t>(out.size()));
        }
      }
    }
  }

  const Handler handler_;
  const UniqueFd udp_;
  const UniqueFd tcp_;
  uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<int> udp_queries_ = 0;
  std::atomic<int> tcp_queries_ = 0;
  mutable absl::Mutex mu_;
  std::set<std::pair<unsigned, unsigned>> origins_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

class ResolverTest : public testing::Test {
 protected:
  ResolverTest() {
    Network("web", {{"api", {"api", "rest", "0123456789ab"}, {"10.1.0.2", "fd00::2"}},
                    {"db", {"db", "rest"}, {"10.1.0.3"}}});
    config_.networks = {directory_.path() + "/web"};
    Configure();
  }
  ~ResolverTest() override { Stop(); }

  void Network(const std::string& name, const std::vector<NamedMember>& members) {
    ASSERT_TRUE(
        network::ReplaceFile(directory_.path() + "/" + name, *network::PrintNames(name, members))
            .ok());
  }
  void Configure() {
    const auto text = network::PrintResolver(config_);
    ASSERT_TRUE(text.ok()) << text.status();
    ASSERT_TRUE(network::ReplaceFile(directory_.path() + "/resolver", *text).ok());
  }
  void Start(uint16_t server_port = 1, absl::Duration patience = absl::Seconds(4)) {
    loop_ = *EventLoop::Create();
    auto resolver = Resolver::Open("", directory_.path() + "/resolver");
    ASSERT_TRUE(resolver.ok()) << resolver.status();
    resolver_ = *std::move(resolver);
    resolver_->SetServers(patience, server_port);
    ASSERT_TRUE(resolver_->Start(loop_.get()).ok());
    thread_ = std::thread([this] { loop_->Run(); });
  }
  void Stop() {
    if (loop_ == nullptr) return;
    loop_->Stop();
    thread_.join();
    resolver_ = nullptr;
    loop_ = nullptr;
  }

  UniqueFd Connect(int type) {
    UniqueFd fd(socket(AF_INET, type | SOCK_CLOEXEC, 0));
    const sockaddr_in to = At("127.0.0.11", resolver_->port());
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    return fd;
  }
  // "" when none comes.
  std::string AskBytes(const std::string& message, int millis = kPatienceMillis) {
    const UniqueFd fd = Connect(SOCK_DGRAM);
    EXPECT_EQ(send(fd.get(), message.data(), message.size(), 0),
              static_cast<ssize_t>(message.size()));
    if (!Readable(fd.get(), millis)) return "";
    char buffer[8192];
    const ssize_t got = recv(fd.get(), buffer, sizeof buffer, 0);
    return got < 0 ? "" : std::string(buffer, static_cast<size_t>(got));
  }
  std::string Ask(const std::string& name, uint16_t type = 1) {
    return AskBytes(QueryMessage(77, name, type));
  }
  std::string AskOverTcp(const std::string& message) {
    const UniqueFd fd = Connect(SOCK_STREAM);
    const std::string out = Two(static_cast<unsigned>(message.size())) + message;
    EXPECT_EQ(send(fd.get(), out.data(), out.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(out.size()));
    return ReadMessage(fd.get());
  }
  std::set<std::string> Addresses(const std::string& name, uint16_t type = 1) {
    const std::string answer = Ask(name, type);
    if (answer.empty()) return {"no answer"};
    EXPECT_EQ(At16(answer, 0), 77u);
    if (CodeOf(answer) != 0) return {"code " + std::to_string(CodeOf(answer))};
    const Strings found = AddressesIn(answer);
    return {found.begin(), found.end()};
  }
  using Set = std::set<std::string>;

  TempDir directory_;
  ResolverConfig config_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Resolver> resolver_;
  std::thread thread_;
};

TEST_F(ResolverTest, AnswersNeighbours) {
  Start();
  EXPECT_EQ(Addresses("api"), Set{"10.1.0.2"});
  EXPECT_EQ(Addresses("API."), Set{"10.1.0.2"});
  EXPECT_EQ(Addresses("api", 28), Set{"fd00::2"});
  EXPECT_EQ(Addresses("0123456789ab"), Set{"10.1.0.2"});
  EXPECT_EQ(Addresses("rest"), (Set{"10.1.0.2", "10.1.0.3"}));
  EXPECT_EQ(Addresses("api.web"), Set{"10.1.0.2"});
  EXPECT_EQ(Addresses("api.WEB"), Set{"10.1.0.2"});
  // Without an address of the family, and of a type that containers do not have: empty, at once.
  for (const uint16_t type : {28, 15, 16, 65}) EXPECT_EQ(Addresses("db", type), Set()) << type;
  // There is no server to ask.
  for (const char* name : {"nosuch", "api.other", "api.web.web", "web", "x.api"})
    EXPECT_EQ(Addresses(name), Set{"code 2"}) << name;
}

TEST_F(ResolverTest, AnswersOverTcp) {
  Start();
  EXPECT_EQ(AddressesIn(AskOverTcp(QueryMessage(1, "api", 1))), Strings{"10.1.0.2"});
  // Several queries in one go, and one in pieces.
  const UniqueFd fd = Connect(SOCK_STREAM);
  std::string out;
  for (const char* name : {"api", "db", "nosuch", "api"}) {
    const std::string query = QueryMessage(1, name, 1);
    out += Two(static_cast<unsigned>(query.size())) + query;
  }
  EXPECT_EQ(send(fd.get(), out.data(), 3, 0), 3);
  EXPECT_EQ(send(fd.get(), out.data() + 3, out.size() - 3, 0),
            static_cast<ssize_t>(out.size() - 3));
  EXPECT_EQ(AddressesIn(ReadMessage(fd.get())), Strings{"10.1.0.2"});
  EXPECT_EQ(AddressesIn(ReadMessage(fd.get())), Strings{"10.1.0.3"});
  EXPECT_EQ(CodeOf(ReadMessage(fd.get())), 2u);
  EXPECT_EQ(AddressesIn(ReadMessage(fd.get())), Strings{"10.1.0.2"});
}

TEST_F(ResolverTest, PointersNameTheContainerAndItsNetwork) {
  Start();
  for (const char* name :
       {"2.0.1.10.in-addr.arpa",
        "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"}) {
    const std::string answer = Ask(name, 12);
    EXPECT_NE(answer.find(std::string("\3api\3web\0", 9)), std::string::npos) << name;
  }
  EXPECT_EQ(CodeOf(Ask("9.0.1.10.in-addr.arpa", 12)), 2u);
}

TEST_F(ResolverTest, OtherNetworksAreNotSeen) {
  Network("other", {{"secret", {"secret"}, {"10.2.0.2"}}});
  Start();
  EXPECT_EQ(Addresses("secret"), Set{"code 2"});
  EXPECT_EQ(Addresses("secret.other"), Set{"code 2"});
  EXPECT_EQ(CodeOf(Ask("2.0.2.10.in-addr.arpa", 12)), 2u);
  // Until the container is connected to it.
  config_.networks.push_back(directory_.path() + "/other");
  Configure();
  EXPECT_EQ(Addresses("secret"), Set{"10.2.0.2"});
  EXPECT_EQ(Addresses("secret.other"), Set{"10.2.0.2"});
  EXPECT_EQ(Addresses("secret.web"), Set{"code 2"});
}

TEST_F(ResolverTest, ChangesOfTheFilesAreSeenAtOnce) {
  Start();
  Network("web", {{"db", {"db"}, {"10.1.0.9"}}});
  EXPECT_EQ(Addresses("db"), Set{"10.1.0.9"});
  EXPECT_EQ(Addresses("api"), Set{"code 2"});
  // A damaged one is not taken.
  ASSERT_TRUE(network::ReplaceFile(directory_.path() + "/web", "gantry names 1\nnetw").ok());
  EXPECT_EQ(Addresses("db"), Set{"10.1.0.9"});
}

TEST_F(ResolverTest, LinksComeBeforeNames) {
  config_.links = {{"db", "api"}, {"store", "db"}, {"gone", "nosuch"}};
  Configure();
  Start();
  EXPECT_EQ(Addresses("db"), Set{"10.1.0.2"});
  EXPECT_EQ(Addresses("store"), Set{"10.1.0.3"});
  EXPECT_EQ(Addresses("gone"), Set{"code 2"});
}

TEST_F(ResolverTest, SeveralAddressesComeInVaryingOrder) {
  Start();
  Set firsts;
  for (int i = 0; i < 64; ++i) firsts.insert(AddressesIn(Ask("rest")).front());
  EXPECT_EQ(firsts.size(), 2u);
}

TEST_F(ResolverTest, ManyAddressesAreCutOverUdpAndWholeOverTcp) {
  std::vector<NamedMember> members;
  for (int i = 1; i <= 100; ++i) {
    const std::string name = "c" + std::to_string(i);
    members.push_back({name, {name, "all"}, {"10.1.0." + std::to_string(i)}});
  }
  Network("web", members);
  Start();
  const std::string answer = Ask("all");
  EXPECT_TRUE(Truncated(answer));
  EXPECT_LE(answer.size(), 512u);
  EXPECT_EQ(AddressesIn(AskBytes(QueryMessage(1, "all", 1, 4096))).size(), 100u);
  EXPECT_EQ(AddressesIn(AskOverTcp(QueryMessage(1, "all", 1))).size(), 100u);
}

TEST_F(ResolverTest, HostileNamesMatchNothing) {
  Start();
  const auto ask = [this](const std::string& wire) {
    const std::string answer = AskBytes(Head(5, 0x0100, 1) + wire + std::string("\0\1\0\1", 4));
    return answer.empty() ? 99 : CodeOf(answer);
  };
  EXPECT_EQ(ask(std::string("\3api\0", 5)), 0u);
  // "api\0", "api.web" as one label, a label that looks like a line of the file.
  EXPECT_EQ(ask(std::string("\4api\0\0", 6)), 2u);
  EXPECT_EQ(ask(std::string("\7api.web\0", 9)), 2u);
  EXPECT_EQ(ask(std::string("\14api 10.1.0.2\0", 14)), 2u);
  EXPECT_EQ(ask(std::string("\13x\nname api \0", 13)), 2u);
  std::string longest;
  for (int i = 0; i < 3; ++i) longest += "\x3f" + std::string(63, 'a');
  longest += "\x3d" + std::string(61, 'a');
  EXPECT_EQ(ask(longest + std::string(1, '\0')), 2u);
  // Two bytes more than a name may have.
  EXPECT_EQ(ask(longest + std::string("\1a\0", 3)), 1u);
  EXPECT_EQ(ask(std::string("\xc0\x0c", 2)), 1u);
  EXPECT_EQ(Addresses("api"), Set{"10.1.0.2"});
}

TEST_F(ResolverTest, ForwardsOverTheTransportOfTheQuery) {
  Server server("127.0.0.2", 0, [](const std::string& query, bool tcp) {
    return Strings{AnswerMessage(query, tcp ? "192.0.2.2" : "192.0.2.1")};
  });
  config_.servers = {"127.0.0.2"};
  Configure();
  Start(server.port());
  EXPECT_EQ(Addresses("example.com"), Set{"192.0.2.1"});
  const std::string answer = AskOverTcp(QueryMessage(9, "example.com", 1));
  EXPECT_EQ(At16(answer, 0), 9u);
  EXPECT_EQ(AddressesIn(answer), Strings{"192.0.2.2"});
  EXPECT_EQ(server.udp_queries(), 1);
  EXPECT_EQ(server.tcp_queries(), 1);
  // Names of neighbours are not an outsider's business, of whatever type.
  EXPECT_EQ(Addresses("api", 65), Set());
  EXPECT_EQ(Addresses("db", 28), Set());
  EXPECT_EQ(server.udp_queries(), 1);
}

TEST_F(ResolverTest, QueriesGoOutFromRandomPortsWithRandomIds) {
  Server server("127.0.0.2", 0, [](const std::string& query, bool) {
    return Strings{AnswerMessage(query, "192.0.2.1")};
  });
  config_.servers = {"127.0.0.2"};
  Configure();
  Start(server.port());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Addresses("example.com"), Set{"192.0.2.1"});
  std::set<unsigned> ports;
  std::set<unsigned> ids;
  for (const auto& [port, id] : server.origins()) {
    ports.insert(port);
    ids.insert(id);
  }
  EXPECT_GT(ports.size(), 10u);
  EXPECT_GT(ids.size(), 15u);
}

TEST_F(ResolverTest, QueriesUnderWayAtATimeHavePortsOfTheirOwn) {
  Server silent("127.0.0.2", 0, [](const std::string&, bool) { return Strings(); });
  config_.servers = {"127.0.0.2"};
  Configure();
  Start(silent.port());
  const UniqueFd fd = Connect(SOCK_DGRAM);
  for (uint16_t i = 0; i < 20; ++i) {
    const std::string query = QueryMessage(i, "example.com", 1);
    ASSERT_GT(send(fd.get(), query.data(), query.size(), 0), 0);
  }
  while (silent.udp_queries() < 20) std::this_thread::yield();
  std::set<unsigned> ports;
  for (const auto& [port, id] : silent.origins()) ports.insert(port);
  EXPECT_EQ(ports.size(), 20u);
}

TEST_F(ResolverTest, ServersOfTheHostAreReadWhenTheyChange) {
  Server first("127.0.0.2", 0, [](const std::string& query, bool) {
    return Strings{AnswerMessage(query, "192.0.2.1")};
  });
  Server second("127.0.0.3", first.port(), [](const std::string& query, bool) {
    return Strings{AnswerMessage(query, "192.0.2.2")};
  });
  const std::string resolv = directory_.path() + "/resolv.conf";
  ASSERT_TRUE(network::ReplaceFile(resolv, "nameserver 127.0.0.2\n").ok());
  config_.host_servers = resolv;
  Configure();
  Start(first.port());
  EXPECT_EQ(Addresses("example.com"), Set{"192.0.2.1"});
  ASSERT_TRUE(network::ReplaceFile(resolv, "nameserver 127.0.0.3\n").ok());
  EXPECT_EQ(Addresses("example.com"), Set{"192.0.2.2"});
}

TEST_F(ResolverTest, TheNextServerIsAskedWhenOneFailsOrIsSilent) {
  const auto code = [](unsigned flags) {
    return [flags](const std::string& query, bool) {
      return Strings{AnswerMessage(query, "192.0.2.9", flags)};
    };
  };
  Server failing("127.0.0.2", 0, code(0x8182));
  Server refusing("127.0.0.3", failing.port(), code(0x8185));
  Server good("127.0.0.4", failing.port(), code(0x8180));
  config_.servers = {"127.0.0.2", "127.0.0.3", "127.0.0.4"};
  Configure();
  Start(failing.port(), absl::Milliseconds(100));
  EXPECT_EQ(Addresses("example.com"), Set{"192.0.2.9"});
  EXPECT_EQ(AddressesIn(AskOverTcp(QueryMessage(9, "example.com", 1))), Strings{"192.0.2.9"});
  // One that is silent, and one where nobody listens.
  Server silent("127.0.0.5", failing.port(), [](const std::string&, bool) { return Strings(); });
  config_.servers = {"127.0.0.5", "127.0.0.6", "127.0.0.4"};
  Configure();
  EXPECT_EQ(Addresses("example.com"), Set{"192.0.2.9"});
  EXPECT_EQ(AddressesIn(AskOverTcp(QueryMessage(9, "example.com", 1))), Strings{"192.0.2.9"});
  config_.servers = {"127.0.0.5", "127.0.0.6", "127.0.0.2"};
  Configure();
  EXPECT_EQ(Addresses("example.com"), Set{"code 2"});
  EXPECT_EQ(CodeOf(AskOverTcp(QueryMessage(9, "example.com", 1))), 2u);
}

TEST_F(ResolverTest, NoSuchNameIsFinal) {
  Server first("127.0.0.2", 0, [](const std::string& query, bool) {
    return Strings{Head(static_cast<uint16_t>(At16(query, 0)), 0x8183, 1) + query.substr(12)};
  });
  Server second("127.0.0.3", first.port(), [](const std::string& query, bool) {
    return Strings{AnswerMessage(query, "192.0.2.1")};
  });
  config_.servers = {"127.0.0.2", "127.0.0.3"};
  Configure();
  Start(first.port());
  EXPECT_EQ(Addresses("example.com"), Set{"code 3"});
  EXPECT_EQ(second.udp_queries(), 0);
}

TEST_F(ResolverTest, HostileAnswersAreNotBelieved) {
  const auto lies = [](const std::string& query) {
    std::string wrong_id = AnswerMessage(query, "203.0.113.1");
    wrong_id[0] = static_cast<char>(wrong_id[0] ^ 1);
    const std::string other_question = AnswerMessage(
        QueryMessage(static_cast<uint16_t>(At16(query, 0)), "example.org", 1), "203.0.113.2");
    std::string loop = AnswerMessage(query, "203.0.113.3");
    loop[query.size() + 1] = static_cast<char>(query.size());  // the name points at itself
    std::string cut = AnswerMessage(query, "203.0.113.4");
    cut.pop_back();
    const std::string more = AnswerMessage(query, "203.0.113.5") + "x";
    return Strings{wrong_id, other_question, loop, cut, more, query, "", "x"};
  };
  Server server("127.0.0.2", 0, [&lies](const std::string& query, bool tcp) {
    Strings answers = lies(query);
    if (tcp) return Strings{answers[1]};
    answers.push_back(AnswerMessage(query, "192.0.2.1"));
    return answers;
  });
  config_.servers = {"127.0.0.2"};
  Configure();
  Start(server.port(), absl::Milliseconds(500));
  EXPECT_EQ(Addresses("example.com"), Set{"192.0.2.1"});
  EXPECT_EQ(CodeOf(AskOverTcp(QueryMessage(9, "example.com", 1))), 2u);
}

TEST_F(ResolverTest, AnswersOfOthersThanTheServerDoNotArrive) {
  // The true server is silent; another one answers its queries from its own port.
  UniqueFd other(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  Server silent("127.0.0.2", 0, [](const std::string&, bool) { return Strings(); });
  config_.servers = {"127.0.0.2"};
  Configure();
  Start(silent.port(), absl::Milliseconds(300));
  const UniqueFd fd = Connect(SOCK_DGRAM);
  const std::string query = QueryMessage(5, "example.com", 1);
  ASSERT_EQ(send(fd.get(), query.data(), query.size(), 0), static_cast<ssize_t>(query.size()));
  while (silent.origins().empty()) std::this_thread::yield();
  const auto [port, id] = *silent.origins().begin();
  const std::string lie =
      AnswerMessage(QueryMessage(static_cast<uint16_t>(id), "example.com", 1), "203.0.113.1");
  const sockaddr_in to = At("127.0.0.1", static_cast<uint16_t>(port));
  sendto(other.get(), lie.data(), lie.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  ASSERT_TRUE(Readable(fd.get()));
  char buffer[512];
  const ssize_t got = recv(fd.get(), buffer, sizeof buffer, 0);
  ASSERT_GT(got, 12);
  EXPECT_EQ(CodeOf({buffer, static_cast<size_t>(got)}), 2u);
}

TEST_F(ResolverTest, LongAnswersAreCutToWhatTheClientTakes) {
  Server server("127.0.0.2", 0, [](const std::string& query, bool) {
    std::string answer =
        Head(static_cast<uint16_t>(At16(query, 0)), 0x8180, 1, 60) + query.substr(12);
    for (int i = 0; i < 60; ++i)
      answer += std::string("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1", 16);
    return Strings{answer};
  });
  config_.servers = {"127.0.0.2"};
  Configure();
  Start(server.port());
  const std::string answer = Ask("example.com");
  EXPECT_TRUE(Truncated(answer));
  EXPECT_LE(answer.size(), 512u);
  EXPECT_EQ(AddressesIn(AskOverTcp(QueryMessage(9, "example.com", 1))).size(), 60u);
}

TEST_F(ResolverTest, SingleLabelsStayWhereAsked) {
  Server server("127.0.0.2", 0, [](const std::string& query, bool) {
    return Strings{AnswerMessage(query, "192.0.2.1")};
  });
  config_.servers = {"127.0.0.2"};
  config_.single_labels_stay = true;
  Configure();
  Start(server.port());
  EXPECT_EQ(Addresses("nosuch"), Set());
  EXPECT_EQ(Addresses("nosuch.com"), Set{"192.0.2.1"});
  EXPECT_EQ(Addresses("api"), Set{"10.1.0.2"});
}

// The loop's other work goes on, and what waits is bounded.
TEST_F(ResolverTest, FloodOfForwardedQueriesIsBounded) {
  Server silent("127.0.0.2", 0, [](const std::string&, bool) { return Strings(); });
  config_.servers = {"127.0.0.2"};
  Configure();
  Start(silent.port());
  const UniqueFd fd = Connect(SOCK_DGRAM);
  std::vector<std::string> refused;
  for (int i = 0; i < 3000; ++i) {
    const std::string query = QueryMessage(static_cast<uint16_t>(i), "example.com", 1);
    send(fd.get(), query.data(), query.size(), 0);
    // The loop answers while the flood goes on.
    if (i % 100 == 0) {
      absl::Notification turn;
      loop_->Post([&turn] { turn.Notify(); });
      ASSERT_TRUE(turn.WaitForNotificationWithTimeout(absl::Seconds(5)));
    }
  }
  int refusals = 0;
  char buffer[512];
  while (Readable(fd.get(), 500)) {
    const ssize_t got = recv(fd.get(), buffer, sizeof buffer, 0);
    if (got > 12 && CodeOf({buffer, static_cast<size_t>(got)}) == 5) ++refusals;
  }
  EXPECT_GT(refusals, 0);
  EXPECT_LE(silent.udp_queries(), static_cast<int>(Resolver::kMaxForwards));
  EXPECT_EQ(Addresses("api"), Set{"10.1.0.2"});
}

TEST_F(ResolverTest, ConnectionsAreBoundedAndIdleOnesDoNotKeepOthersOut) {
  Start();
  std::vector<UniqueFd> idle;
  for (size_t i = 0; i < Resolver::kMaxConnections; ++i) idle.push_back(Connect(SOCK_STREAM));
  EXPECT_EQ(Addresses("api"), Set{"10.1.0.2"});
  const UniqueFd waiting = Connect(SOCK_STREAM);
  const std::string asked = QueryMessage(1, "api", 1);
  const std::string sent = Two(static_cast<unsigned>(asked.size())) + asked;
  ASSERT_EQ(send(waiting.get(), sent.data(), sent.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(sent.size()));
  EXPECT_FALSE(Readable(waiting.get(), 200));
  idle.pop_back();
  EXPECT_EQ(AddressesIn(ReadMessage(waiting.get())), Strings{"10.1.0.2"});
  idle.pop_back();
  EXPECT_EQ(AddressesIn(AskOverTcp(QueryMessage(1, "api", 1))), Strings{"10.1.0.2"});
  // A client that only sends, and takes no answer, ends nothing but itself.
  const UniqueFd greedy = std::move(idle.back());
  const std::string query = QueryMessage(1, "api", 1);
  const std::string out = Two(static_cast<unsigned>(query.size())) + query;
  std::string flood;
  for (int i = 0; i < 1000; ++i) flood += out;
  for (int i = 0; i < 200; ++i)
    (void)send(greedy.get(), flood.data(), flood.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  EXPECT_EQ(Addresses("api"), Set{"10.1.0.2"});
}

}  // namespace
}  // namespace gantry::shim
