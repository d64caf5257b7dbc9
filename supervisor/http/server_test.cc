#include "supervisor/http/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace gantry::http {
namespace {

std::unique_ptr<Server> Serve(Handler handler, Limits limits = {}) {
  absl::StatusOr<UniqueFd> listener = ListenTcp("127.0.0.1:0");
  EXPECT_TRUE(listener.ok()) << listener.status();
  Server::Options options;
  options.limits = limits;
  absl::StatusOr<std::unique_ptr<Server>> server =
      Server::Start(*std::move(listener), std::move(options), std::move(handler));
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

void Echo(Exchange& exchange) {
  const absl::StatusOr<std::string> body = exchange.ReadAll(1 << 20);
  if (!body.ok()) {
    exchange.Respond(400, {}, std::string(body.status().message())).IgnoreError();
    return;
  }
  exchange
      .Respond(200, {{"Content-Type", "text/plain"}},
               absl::StrCat(exchange.head().method, " ", exchange.head().path, " ", *body))
      .IgnoreError();
}

class Client {
 public:
  explicit Client(const Server& server) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server.port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    // A server that answers nothing fails the test instead of holding it up.
    timeval limit = {20, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  void Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // Up to and with `end`, or everything where that never comes.
  std::string ReadUntil(absl::string_view end) {
    std::string all;
    char c;
    while (recv(fd_.get(), &c, 1, 0) == 1) {
      all += c;
      if (absl::EndsWith(all, end)) break;
    }
    return all;
  }
  std::string ReadToEnd() {
    std::string all, buffer(64 << 10, '\0');
    ssize_t got;
    while ((got = recv(fd_.get(), buffer.data(), buffer.size(), 0)) > 0)
      all.append(buffer, 0, static_cast<size_t>(got));
    return all;
  }
  void EndOfRequests() { shutdown(fd_.get(), SHUT_WR); }

 private:
  UniqueFd fd_;
};

TEST(ServerTest, KeepsTheConnectionForTheNextRequest) {
  auto server = Serve(Echo);
  Client client(*server);
  client.Send("POST /one HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_EQ(
      client.ReadUntil("hi"),
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nPOST /one hi");
  // Two at once, the second the last.
  client.Send("GET /two HTTP/1.1\r\n\r\nGET /three HTTP/1.1\r\nConnection: close\r\n\r\n");
  const std::string rest = client.ReadToEnd();
  EXPECT_TRUE(absl::StrContains(rest, "GET /two ")) << rest;
  EXPECT_TRUE(absl::StrContains(rest, "Connection: close\r\n\r\nGET /three ")) << rest;
  EXPECT_EQ(server->accepted(), 1);
}

TEST(ServerTest, StreamsBothWays) {
  auto server = Serve([](Exchange& exchange) {
    EXPECT_TRUE(exchange.Begin(200, {}).ok());
    char buffer[16];
    while (true) {
      const absl::StatusOr<size_t> got = exchange.ReadBody(buffer, sizeof buffer);
      ASSERT_TRUE(got.ok()) << got.status();
      if (*got == 0) break;
      EXPECT_TRUE(exchange.Write(absl::string_view(buffer, *got)).ok());
    }
    EXPECT_TRUE(exchange.End().ok());
  });
  Client client(*server);
  client.Send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
  EXPECT_EQ(client.ReadUntil("one\r\n"),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
  client.Send("4\r\nmore\r\n");
  EXPECT_EQ(client.ReadUntil("more\r\n"), "4\r\nmore\r\n");
  client.Send("0\r\n\r\nPOST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx");
  EXPECT_EQ(client.ReadToEnd(), "0\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx");
}

TEST(ServerTest, AsksForABodyThatTheClientHoldsBack) {
  auto server = Serve(Echo);
  Client client(*server);
  client.Send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send("hi");
  EXPECT_TRUE(absl::EndsWith(client.ReadUntil("hi"), "POST / hi"));
}

TEST(ServerTest, AHeadHasNoBodyAndSomeStatusesHaveNoLength) {
  auto server = Serve([](Exchange& exchange) {
    exchange.Respond(exchange.head().method == "HEAD" ? 200 : 204, {}, "text").IgnoreError();
  });
  Client client(*server);
  client.Send("HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.ReadToEnd(),
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
            "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
}

TEST(ServerTest, AValueCannotBeginAnotherField) {
  auto server = Serve([](Exchange& exchange) {
    exchange.Respond(200, {{"X", "a\r\nSet-Cookie: b"}}, "").IgnoreError();
  });
  Client client(*server);
  client.Send("GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(absl::StrContains(client.ReadToEnd(), "X: a  Set-Cookie: b\r\n"));
}

TEST(ServerTest, ABodyThatNobodyReadDoesNotBecomeTheNextRequest) {
  auto server = Serve([](Exchange& exchange) { exchange.Respond(200, {}, "").IgnoreError(); });
  Client client(*server);
  client.Send("POST / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n");
  client.EndOfRequests();
  EXPECT_EQ(client.ReadToEnd(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  // More than is worth reading: the connection ends, and the response arrives all the same.
  Client second(*server);
  second.Send(
      absl::StrCat("POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", std::string(200000, 'x')));
  EXPECT_EQ(second.ReadToEnd(), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

TEST(ServerTest, AHandlerThatSaysNothingIsAnError) {
  auto server = Serve([](Exchange&) {});
  Client client(*server);
  client.Send("GET / HTTP/1.1\r\n\r\n");
  client.EndOfRequests();
  EXPECT_TRUE(absl::StartsWith(client.ReadToEnd(), "HTTP/1.1 500 "));
}

TEST(ServerTest, AResponseThatWasGivenUpIsSeenToBeIncomplete) {
  auto server = Serve([](Exchange& exchange) {
    exchange.Begin(200, {}).IgnoreError();
    exchange.Write("part").IgnoreError();
  });
  Client client(*server);
  client.Send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(absl::EndsWith(client.ReadToEnd(), "\r\n\r\n4\r\npart\r\n"));
}

TEST(ServerTest, AHijackedConnectionIsTheHandlersWithWhatWasReadOfIt) {
  absl::Notification over;
  Hijacked taken;
  auto server = Serve([&](Exchange& exchange) {
    EXPECT_TRUE(exchange.Respond(101, {{"Connection", "Upgrade"}, {"Upgrade", "tcp"}}, "").ok());
    absl::StatusOr<Hijacked> hijacked = exchange.Hijack();
    ASSERT_TRUE(hijacked.ok()) << hijacked.status();
    taken = *std::move(hijacked);
    over.Notify();
  });
  Client client(*server);
  client.Send("POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
  over.WaitForNotification();
  // It outlives the server.
  server.reset();
  EXPECT_EQ(taken.read_already, "early");
  EXPECT_EQ(send(taken.fd.get(), "late", 4, MSG_NOSIGNAL), 4);
  taken.fd.reset();
  EXPECT_EQ(client.ReadToEnd(), "late");
}

TEST(ServerTest, RefusesWhatIsNoRequestAndWhatIsTooLarge) {
  Limits limits;
  limits.head_bytes = 1000;
  limits.body_bytes = 10;
  auto server = Serve(Echo, limits);
  const std::vector<std::pair<std::string, std::string>> expected = {
      {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
      {std::string(300000, 'x'), "HTTP/1.1 431 "},
      {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
       "HTTP/1.1 400 "},
  };
  for (const auto& [request, start] : expected) {
    Client client(*server);
    client.Send(request);
    const std::string answer = client.ReadToEnd();
    EXPECT_TRUE(absl::StartsWith(answer, start)) << answer;
    EXPECT_TRUE(absl::StrContains(answer, "Connection: close\r\n")) << answer;
  }
}

TEST(ServerTest, ClientsThatAreSlowAreLetGo) {
  Limits limits;
  limits.head_time = limits.idle_time = limits.stall_time = absl::Milliseconds(100);
  auto server = Serve(Echo, limits);
  Client silent(*server), slow(*server), stalled(*server);
  slow.Send("GET / HT");
  stalled.Send("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe");
  EXPECT_EQ(silent.ReadToEnd(), "");
  EXPECT_TRUE(absl::StartsWith(slow.ReadToEnd(), "HTTP/1.1 408 "));
  EXPECT_TRUE(absl::StartsWith(stalled.ReadToEnd(), "HTTP/1.1 400 "));
}

TEST(ServerTest, AClientThatTakesNothingHoldsNoThread) {
  Limits limits;
  limits.stall_time = absl::Milliseconds(100);
  absl::Notification over;
  absl::Status last;
  auto server = Serve(
      [&](Exchange& exchange) {
        last = exchange.Begin(200, {});
        while (last.ok()) last = exchange.Write(std::string(1 << 20, 'x'));
        over.Notify();
      },
      limits);
  Client client(*server);
  client.Send("GET / HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(over.WaitForNotificationWithTimeout(absl::Seconds(20)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(last)) << last;
}

TEST(ServerTest, AnExchangeEndsInTimeHoweverLivelyItsClientIs) {
  Limits limits;
  limits.exchange_time = absl::Milliseconds(200);
  absl::Status last;
  auto server = Serve(
      [&](Exchange& exchange) {
        last = exchange.Begin(200, {});
        while (last.ok()) last = exchange.Write(std::string(1 << 20, 'x'));
      },
      limits);
  Client client(*server);
  client.Send("GET / HTTP/1.1\r\n\r\n");
  client.ReadToEnd();
  server.reset();
  EXPECT_TRUE(absl::IsDeadlineExceeded(last)) << last;
}

TEST(ServerTest, ServesSoManyAtOnceAndTheOthersAfterwards) {
  Limits limits;
  limits.connections = 2;
  auto server = Serve(Echo, limits);
  Client first(*server), second(*server), third(*server);
  first.Send("GET /1 HTTP/1.1\r\n\r\n");
  second.Send("GET /2 HTTP/1.1\r\n\r\n");
  first.ReadUntil("/1 ");
  second.ReadUntil("/2 ");
  EXPECT_EQ(server->accepted(), 2);
  third.Send("GET /3 HTTP/1.1\r\nConnection: close\r\n\r\n");
  first.EndOfRequests();
  EXPECT_TRUE(absl::EndsWith(third.ReadToEnd(), "GET /3 "));
}

TEST(ServerTest, EndsWithConnectionsOpenAndHandlersAtWork) {
  absl::Notification begun;
  auto server = Serve([&](Exchange& exchange) {
    begun.Notify();
    char buffer[16];
    while (!exchange.stopping() && exchange.ReadBody(buffer, sizeof buffer).value_or(0) > 0) {
    }
  });
  Client idle(*server), busy(*server);
  busy.Send("POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nx");
  begun.WaitForNotification();
  server.reset();
  EXPECT_EQ(idle.ReadToEnd(), "");
}

TEST(ListenTcpTest, RefusesAddressesItCannotUse) {
  for (const char* bad : {"", "9323", "example.org:1", "127.0.0.1:", "127.0.0.1:http"})
    EXPECT_TRUE(absl::IsInvalidArgument(ListenTcp(bad).status())) << bad;
  auto server = Serve(Echo);
  EXPECT_TRUE(absl::IsUnavailable(ListenTcp(absl::StrCat(":", server->port())).status()));
}

}  // namespace
}  // namespace gantry::http
