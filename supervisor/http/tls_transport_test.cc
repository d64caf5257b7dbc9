#include "supervisor/http/tls_transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/subprocess.h"
#include "base/temp_dir.h"

namespace gantry::http {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

void RunTool(std::vector<std::string> argv) {
  Command command;
  command.argv = std::move(argv);
  command.timeout = absl::Seconds(60);
  const absl::StatusOr<CommandResult> result = RunCommand(command, "", 1 << 20, nullptr);
  ASSERT_TRUE(result.ok() && result->status.ok()) << command.argv[1] << result.status();
}

// A CA with a server's and a client's certificate, and another CA with a client's.
class TlsTransportTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    signal(SIGPIPE, SIG_IGN);
    files_ = new TempDir;
    for (const char* ca : {"ca", "stranger"}) {
      RunTool({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
               absl::StrCat("/CN=", ca), "-keyout", File(absl::StrCat(ca, ".key")), "-out",
               File(absl::StrCat(ca, ".crt"))});
    }
    Sign("server", "ca");
    Sign("client", "ca");
    Sign("other", "stranger");
  }
  static void TearDownTestSuite() {
    delete files_;
    files_ = nullptr;
  }

  static std::string File(const std::string& name) { return files_->path() + "/" + name; }
  static void Sign(const std::string& name, const std::string& ca) {
    RunTool({"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-subj", "/CN=" + name, "-keyout", File(name + ".key"), "-out",
             File(name + ".csr")});
    RunTool({"openssl", "x509", "-req", "-in", File(name + ".csr"), "-CA", File(ca + ".crt"),
             "-CAkey", File(ca + ".key"), "-CAcreateserial", "-days", "2", "-out",
             File(name + ".crt")});
  }

  void Serve(Handler handler) {
    absl::StatusOr<std::unique_ptr<TlsContext>> context =
        TlsContext::Load({File("ca.crt"), File("server.crt"), File("server.key")});
    ASSERT_TRUE(context.ok()) << context.status();
    context_ = *std::move(context);
    absl::StatusOr<UniqueFd> listener = ListenTcp("127.0.0.1:0");
    ASSERT_TRUE(listener.ok()) << listener.status();
    Server::Options options;
    options.transport = [this](UniqueFd socket) { return context_->Accept(std::move(socket)); };
    absl::StatusOr<std::unique_ptr<Server>> server =
        Server::Start(*std::move(listener), std::move(options), std::move(handler));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  static TempDir* files_;
  std::unique_ptr<TlsContext> context_;
  std::unique_ptr<Server> server_;
};

TempDir* TlsTransportTest::files_ = nullptr;

// A client with a certificate, "" for none.
class Client {
 public:
  Client(int port, const std::string& certificate, const std::string& key,
         int newest = TLS1_3_VERSION)
      : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    // A server that answers nothing fails the test instead of holding it up.
    timeval limit = {20, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    context_ = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context_, newest);
    if (!certificate.empty()) {
      EXPECT_EQ(SSL_CTX_use_certificate_file(context_, certificate.c_str(), SSL_FILETYPE_PEM), 1);
      EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context_, key.c_str(), SSL_FILETYPE_PEM), 1);
    }
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd_.get());
    connected_ = SSL_connect(ssl_) == 1;
  }
  ~Client() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }

  bool connected() const { return connected_; }
  void Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      const int sent = SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()));
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  std::string ReadUntil(absl::string_view end) {
    std::string all;
    char c;
    while (SSL_read(ssl_, &c, 1) == 1) {
      all += c;
      if (absl::EndsWith(all, end)) break;
    }
    return all;
  }
  std::string ReadToEnd() {
    std::string all, buffer(64 << 10, '\0');
    int got;
    while ((got = SSL_read(ssl_, buffer.data(), static_cast<int>(buffer.size()))) > 0)
      all.append(buffer, 0, static_cast<size_t>(got));
    return all;
  }
  // A farewell, after which the server may go on.
  void EndOfRequests() { SSL_shutdown(ssl_); }
  void Leave() { fd_.reset(); }

 private:
  UniqueFd fd_;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
  bool connected_ = false;
};

void Echo(Exchange& exchange) {
  const absl::StatusOr<std::string> body = exchange.ReadAll(64 << 20);
  exchange.Respond(body.ok() ? 200 : 400, {}, body.ok() ? *body : "").IgnoreError();
}

TEST_F(TlsTransportTest, AClientOfTheCaIsServed) {
  Serve(Echo);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Client client(server_->port(), File("client.crt"), File("client.key"), version);
    ASSERT_TRUE(client.connected());
    client.Send("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi");
    EXPECT_THAT(client.ReadUntil("hi"), StartsWith("HTTP/1.1 200 OK\r\n"));
    // The connection stays, and takes what does not fit into one record.
    const std::string large(5 << 20, 'x');
    std::thread sender([&] {
      client.Send(absl::StrCat("POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: ",
                               large.size(), "\r\n\r\n", large));
    });
    sender.join();
    EXPECT_THAT(client.ReadToEnd(), HasSubstr(large));
  }
}

TEST_F(TlsTransportTest, OthersGetNoFurtherThanTheHandshake) {
  bool called = false;
  Serve([&called](Exchange&) { called = true; });
  const std::string request = "GET / HTTP/1.1\r\n\r\n";
  {
    Client nobody(server_->port(), "", "");
    nobody.Send(request);  // with TLS 1.3 the refusal comes after the client's own handshake
    EXPECT_EQ(nobody.ReadToEnd(), "");
  }
  {
    Client stranger(server_->port(), File("other.crt"), File("other.key"));
    stranger.Send(request);
    EXPECT_EQ(stranger.ReadToEnd(), "");
  }
  {
    Client old(server_->port(), File("client.crt"), File("client.key"), TLS1_1_VERSION);
    EXPECT_FALSE(old.connected());
  }
  {
    // Plain HTTP.
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server_->port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_GT(send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL), 0);
    std::string all;
    char c;
    while (recv(fd.get(), &c, 1, 0) == 1) all += c;
    EXPECT_EQ(all.find("HTTP/1.1 200"), std::string::npos);
  }
  server_.reset();
  EXPECT_FALSE(called);
}

TEST_F(TlsTransportTest, AConnectionThatIsTakenGoesBothWays) {
  absl::Notification ended;
  Serve([&ended](Exchange& exchange) {
    Hijacked taken = exchange.Hijack().value();
    EXPECT_EQ(taken.read_already, "early");
    std::string in = "HTTP/1.1 101 UPGRADED\r\n\r\n";
    char buffer[4096];
    while (true) {
      // Echoes, and says how much it was after the client's end.
      while (!in.empty()) {
        const ssize_t sent = send(taken.fd.get(), in.data(), in.size(), MSG_NOSIGNAL);
        if (sent > 0) in.erase(0, static_cast<size_t>(sent));
        pollfd one = {taken.fd.get(), POLLOUT, 0};
        if (sent < 0) poll(&one, 1, -1);
      }
      pollfd one = {taken.fd.get(), POLLIN, 0};
      poll(&one, 1, -1);
      const ssize_t got = recv(taken.fd.get(), buffer, sizeof buffer, 0);
      if (got == 0) break;
      if (got > 0) in.assign(buffer, static_cast<size_t>(got));
    }
    EXPECT_EQ(send(taken.fd.get(), "bye", 3, MSG_NOSIGNAL), 3);
    ended.Notify();
  });
  Client client(server_->port(), File("client.crt"), File("client.key"));
  client.Send("POST / HTTP/1.1\r\n\r\nearly");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 101 UPGRADED\r\n\r\n");
  for (int i = 0; i < 20; ++i) {
    const std::string piece = absl::StrCat(std::string(1000 * i, 'y'), ".");
    client.Send(piece);
    EXPECT_EQ(client.ReadUntil("."), piece);
  }
  client.EndOfRequests();
  EXPECT_EQ(client.ReadToEnd(), "bye");
  EXPECT_TRUE(ended.WaitForNotificationWithTimeout(absl::Seconds(20)));
}

TEST_F(TlsTransportTest, TheOwnerOfATakenConnectionSeesTheEnd) {
  for (const bool farewell : {true, false}) {
    absl::Notification taken_over, ended;
    Serve([&](Exchange& exchange) {
      const Hijacked taken = exchange.Hijack().value();
      taken_over.Notify();
      pollfd one = {taken.fd.get(), POLLIN, 0};
      poll(&one, 1, -1);
      char c;
      EXPECT_LE(recv(taken.fd.get(), &c, 1, 0), 0);
      // After a farewell alone the client may still listen: its departure ends the rest.
      one = {taken.fd.get(), 0, 0};
      poll(&one, 1, -1);
      EXPECT_NE(one.revents & (POLLHUP | POLLERR), 0);
      ended.Notify();
    });
    Client client(server_->port(), File("client.crt"), File("client.key"));
    client.Send("POST / HTTP/1.1\r\n\r\n");
    taken_over.WaitForNotification();
    if (farewell) client.EndOfRequests();
    client.Leave();
    EXPECT_TRUE(ended.WaitForNotificationWithTimeout(absl::Seconds(20))) << farewell;
    server_.reset();
  }
}

TEST_F(TlsTransportTest, TheEndOfTheServerEndsWhatWasTaken) {
  absl::Notification taken_over;
  Serve([&taken_over](Exchange& exchange) {
    const Hijacked taken = exchange.Hijack().value();
    taken_over.Notify();
    pollfd one = {taken.fd.get(), 0, 0};
    poll(&one, 1, -1);
  });
  Client client(server_->port(), File("client.crt"), File("client.key"));
  client.Send("POST / HTTP/1.1\r\n\r\n");
  taken_over.WaitForNotification();
  server_.reset();
  EXPECT_EQ(client.ReadToEnd(), "");
}

TEST_F(TlsTransportTest, FilesThatDoNotFitAreNamed) {
  const auto why = [](const TlsContext::Files& files) {
    const absl::Status loaded = TlsContext::Load(files).status();
    EXPECT_TRUE(absl::IsInvalidArgument(loaded)) << loaded;
    return std::string(loaded.message());
  };
  EXPECT_THAT(why({File("none"), File("server.crt"), File("server.key")}),
              HasSubstr("CA " + File("none")));
  EXPECT_THAT(why({File("ca.crt"), File("server.key"), File("server.key")}),
              HasSubstr("certificate " + File("server.key")));
  EXPECT_THAT(why({File("ca.crt"), File("server.crt"), File("client.key")}),
              HasSubstr("key " + File("client.key")));
}

}  // namespace
}  // namespace gantry::http
