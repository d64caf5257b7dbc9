// Real connections to the server; the process is a fake that the tests play.
#include "supervisor/api/cri/stream_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include <nlohmann/json.hpp>

#include "base/unique_fd.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/api/cri/spdy_headers.h"

namespace gantry::api::cri {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Plays the shim's side of a process's streams. Thread-safe.
class FakeProcess {
 public:
  class Stream : public runtime::AttachStream {
   public:
    explicit Stream(FakeProcess* process) : process_(process) {}
    ~Stream() override {
      absl::MutexLock lock(&process_->mu_);
      process_->handler_ = nullptr;
    }
    void Read() override {
      absl::MutexLock lock(&process_->mu_);
      ++process_->reads_;
    }
    bool Write(shim::v1::AttachInput input) override {
      absl::MutexLock lock(&process_->mu_);
      process_->in_ += input.stdin();
      if (input.close_stdin()) process_->closed_ = true;
      if (input.has_resize()) {
        absl::StrAppend(&process_->sizes_, input.resize().width(), "x", input.resize().height(),
                        " ");
      }
      return !process_->hold_;
    }
    void WritesDone() override {
      absl::MutexLock lock(&process_->mu_);
      process_->done_ = true;
    }
    void Cancel() override {
      absl::MutexLock lock(&process_->mu_);
      process_->cancelled_ = true;
    }

   private:
    FakeProcess* const process_;
  };

  std::unique_ptr<runtime::AttachStream> Open(runtime::AttachStream::Handler* handler) {
    absl::MutexLock lock(&mu_);
    handler_ = handler;
    reads_ = 1;
    return std::make_unique<Stream>(this);
  }

  // Waits until the server asks for output, then gives it.
  void Out(const std::string& data, bool err = false) {
    shim::v1::AttachOutput output;
    (err ? *output.mutable_stderr() : *output.mutable_stdout()) = data;
    Give(std::move(output));
  }
  void Exit(uint32_t code) {
    shim::v1::AttachOutput output;
    output.mutable_exited()->set_exit_status(code);
    Give(std::move(output));
  }
  bool asked(absl::Duration patience) {
    absl::MutexLock lock(&mu_);
    return mu_.AwaitWithTimeout(absl::Condition(this, &FakeProcess::Asked), patience);
  }
  void Hold(bool hold) {
    absl::MutexLock lock(&mu_);
    hold_ = hold;
    if (!hold && handler_ != nullptr) handler_->OnWritable();
  }
  void Await(const std::function<bool(const FakeProcess&)>& condition) {
    absl::MutexLock lock(&mu_);
    const auto met = [&] { return condition(*this); };
    ASSERT_TRUE(mu_.AwaitWithTimeout(absl::Condition(&met), absl::Seconds(30)));
  }

  std::string in_;
  std::string sizes_;
  bool closed_ = false;
  bool cancelled_ = false;
  bool done_ = false;  // WritesDone()

 private:
  bool Asked() const { return reads_ > 0 && handler_ != nullptr; }
  void Give(shim::v1::AttachOutput output) {
    ASSERT_TRUE(asked(absl::Seconds(30)));
    absl::MutexLock lock(&mu_);
    --reads_;
    if (handler_ != nullptr) handler_->OnOutput(std::move(output));
  }

  absl::Mutex mu_;
  runtime::AttachStream::Handler* handler_ = nullptr;
  int reads_ = 0;
  bool hold_ = false;
};

std::string Number(uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out += static_cast<char>(value >> shift & 0xff);
  return out;
}

UniqueFd ConnectTo(int port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  return fd;
}

// A client of one URL, blocking.
class Client {
 public:
  explicit Client(int port) : fd_(ConnectTo(port)) {}

  void Send(const std::string& bytes) {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t sent = send(fd_.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      ASSERT_GT(sent, 0);
      done += static_cast<size_t>(sent);
    }
  }
  // Exactly so many bytes; fewer at the end of the connection.
  std::string Receive(size_t bytes) {
    std::string out;
    while (out.size() < bytes) {
      char buffer[65536];
      const ssize_t got = recv(fd_.get(), buffer, std::min(sizeof buffer, bytes - out.size()), 0);
      if (got <= 0) break;
      out.append(buffer, static_cast<size_t>(got));
    }
    return out;
  }
  std::string ReceiveHead() {
    std::string head;
    while (!absl::EndsWith(head, "\r\n\r\n")) {
      const std::string one = Receive(1);
      if (one.empty()) break;
      head += one;
    }
    return head;
  }
  std::string Upgrade(const std::string& url, const std::string& fields) {
    const std::string path = url.substr(url.find('/', 7));
    Send(absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\n", fields, "\r\n"));
    return ReceiveHead();
  }
  std::string Spdy(const std::string& url, const std::string& version) {
    return Upgrade(url, absl::StrCat("Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
                                     "X-Stream-Protocol-Version: ",
                                     version, "\r\n"));
  }
  std::string WebSocket(const std::string& url, const std::string& protocol) {
    return Upgrade(
        url, absl::StrCat("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
                          "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
                          protocol.empty() ? "" : "Sec-WebSocket-Protocol: ", protocol,
                          protocol.empty() ? "" : "\r\n"));
  }
  // A SPDY stream.
  void Open(uint32_t stream, const SpdyHeaders& headers) {
    const std::string block = writer_.Write(headers);
    Send(Number(0x80030001, 4) + Number(10 + block.size(), 4) + Number(stream, 4) + Number(0, 6) +
         block);
  }
  void SendOn(uint32_t stream, const std::string& data, bool last = false) {
    Send(Number(stream, 4) + Number(last ? 1 : 0, 1) + Number(data.size(), 3) + data);
  }
  // Reads frames until `count` streams are finished; the data of each.
  std::map<uint32_t, std::string> ReadStreams(size_t count) {
    std::map<uint32_t, std::string> data;
    size_t finished = 0;
    while (finished < count) {
      const std::string head = Receive(8);
      if (head.size() < 8) break;
      const auto byte = [&head](size_t i) { return static_cast<uint8_t>(head[i]); };
      const uint32_t size = uint32_t{byte(5)} << 16 | uint32_t{byte(6)} << 8 | byte(7);
      const std::string payload = Receive(size);
      if ((byte(0) & 0x80) != 0) continue;
      const uint32_t stream = uint32_t{byte(2)} << 8 | byte(3);
      data[stream] += payload;
      if ((byte(4) & 1) != 0) ++finished;
    }
    return data;
  }
  // A WebSocket message of the client.
  void Message(const std::string& data, int opcode = 2) {
    ASSERT_LT(data.size(), 126u);
    std::string frame = {static_cast<char>(0x80 | opcode), static_cast<char>(0x80 | data.size())};
    Send(frame + std::string(4, '\0') + data);
  }
  std::string ReadMessage() {
    const std::string head = Receive(2);
    if (head.size() < 2) return "closed";
    size_t size = static_cast<uint8_t>(head[1]);
    if (size == 126) {
      const std::string more = Receive(2);
      size = size_t{static_cast<uint8_t>(more[0])} << 8 | static_cast<uint8_t>(more[1]);
    }
    const std::string data = Receive(size);
    return static_cast<uint8_t>(head[0]) == 0x88 ? "close" : data;
  }
  void Close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
  SpdyHeaderWriter writer_;
};

class StreamServerTest : public ::testing::Test {
 protected:
  void SetUp() override { Start({}); }
  void Start(StreamServer::Options options) {
    StreamTargets targets;
    targets.exec = [this](const std::string& container, const std::vector<std::string>& command,
                          const StreamChoice&, runtime::AttachStream::Handler* handler)
        -> absl::StatusOr<std::unique_ptr<runtime::AttachStream>> {
      if (container == "gone") return absl::NotFoundError("container gone: no such container");
      command_ = command;
      return process_.Open(handler);
    };
    targets.attach = [this](const std::string&, const StreamChoice&,
                            runtime::AttachStream::Handler* handler)
        -> absl::StatusOr<std::unique_ptr<runtime::AttachStream>> {
      return process_.Open(handler);
    };
    targets.netns = [](const std::string&) -> absl::StatusOr<UniqueFd> { return UniqueFd(); };
    server_ = nullptr;
    auto server = StreamServer::Start(std::move(options), std::move(targets));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string ExecUrl(const StreamChoice& streams, const std::string& container = "c") {
    return server_->ExecUrl(container, {"cat", "-v"}, streams).value();
  }

  FakeProcess process_;
  std::vector<std::string> command_;
  std::unique_ptr<StreamServer> server_;
};

constexpr StreamChoice kInOutErr = {.tty = false, .in = true, .out = true, .err = true};

TEST_F(StreamServerTest, RequestsThatMakeNoSenseGetNoUrl) {
  const auto code = [this](const StreamChoice& streams) {
    return server_->ExecUrl("c", {"sh"}, streams).status().code();
  };
  EXPECT_EQ(code({.tty = true, .out = true, .err = true}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({}), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(server_->ExecUrl("", {"sh"}, kInOutErr).ok());
  EXPECT_FALSE(server_->ExecUrl("c", {}, kInOutErr).ok());
  EXPECT_FALSE(server_->PortForwardUrl("", {80}).ok());
  EXPECT_FALSE(server_->PortForwardUrl("p", {0}).ok());
}

TEST_F(StreamServerTest, UrlIsGoodOnceAndForAWhile) {
  const std::string url = ExecUrl(kInOutErr);
  EXPECT_THAT(url, StartsWith(absl::StrCat("http://127.0.0.1:", server_->port(), "/exec/")));
  EXPECT_NE(ExecUrl(kInOutErr), url);
  EXPECT_THAT(Client(server_->port()).Spdy(url, "v4.channel.k8s.io"), HasSubstr(" 101 "));
  EXPECT_THAT(Client(server_->port()).Spdy(url, "v4.channel.k8s.io"), HasSubstr(" 404 "));
  std::string other = ExecUrl(kInOutErr);
  other.replace(other.find("/exec/"), 6, "/attach/");
  EXPECT_THAT(Client(server_->port()).Spdy(other, "v4.channel.k8s.io"), HasSubstr(" 404 "));

  StreamServer::Options options;
  options.url_life = absl::ZeroDuration();
  Start(options);
  EXPECT_THAT(Client(server_->port()).Spdy(ExecUrl(kInOutErr), "v4.channel.k8s.io"),
              HasSubstr(" 404 "));
}

TEST_F(StreamServerTest, UrlsThatNobodyUsesAreBounded) {
  StreamServer::Options options;
  options.most_urls = 2;
  Start(options);
  ExecUrl(kInOutErr);
  ExecUrl(kInOutErr);
  EXPECT_TRUE(absl::IsResourceExhausted(server_->ExecUrl("c", {"sh"}, kInOutErr).status()));
}

TEST_F(StreamServerTest, NegotiatesTheClientsFirstChoice) {
  EXPECT_THAT(Client(server_->port())
                  .Spdy(ExecUrl(kInOutErr), "v9.x, v3.channel.k8s.io, v4.channel.k8s.io"),
              HasSubstr("X-Stream-Protocol-Version: v3.channel.k8s.io\r\n"));
  EXPECT_THAT(Client(server_->port()).Spdy(ExecUrl(kInOutErr), "v9.x"),
              AllOf(HasSubstr(" 403 "),
                    HasSubstr("X-Accepted-Stream-Protocol-Versions: v4.channel.k8s.io\r\n")));
  EXPECT_THAT(Client(server_->port()).Upgrade(ExecUrl(kInOutErr), ""), HasSubstr(" 400 "));
  EXPECT_THAT(Client(server_->port()).WebSocket(ExecUrl(kInOutErr), "v9.x"), HasSubstr(" 403 "));
}

TEST_F(StreamServerTest, SpdyExecCarriesTheStreamsAndTheExitCode) {
  Client client(server_->port());
  ASSERT_THAT(client.Spdy(ExecUrl(kInOutErr), "v4.channel.k8s.io"), HasSubstr(" 101 "));
  client.Open(1, {{"streamtype", "error"}});
  client.Open(3, {{"streamtype", "stdin"}});
  client.SendOn(3, "early ");
  client.Open(5, {{"streamtype", "stdout"}});
  client.Open(7, {{"streamtype", "stderr"}});
  client.SendOn(3, "input", /*last=*/true);
  process_.Await([](const FakeProcess& p) { return p.closed_; });
  EXPECT_EQ(process_.in_, "early input");
  EXPECT_THAT(command_, ElementsAre("cat", "-v"));
  process_.Out("to stdout");
  process_.Out("to stderr", /*err=*/true);
  process_.Exit(3);
  const std::map<uint32_t, std::string> streams = client.ReadStreams(4);
  EXPECT_EQ(streams.at(5), "to stdout");
  EXPECT_EQ(streams.at(7), "to stderr");
  const json status = json::parse(streams.at(1));
  EXPECT_EQ(status["status"], "Failure");
  EXPECT_EQ(status["reason"], "NonZeroExitCode");
  EXPECT_EQ(status["details"]["causes"][0]["reason"], "ExitCode");
  EXPECT_EQ(status["details"]["causes"][0]["message"], "3");
}

TEST_F(StreamServerTest, SuccessAndFailureToStartAreTold) {
  Client good(server_->port());
  good.Spdy(ExecUrl({.out = true}), "v4.channel.k8s.io");
  good.Open(1, {{"streamtype", "error"}});
  good.Open(3, {{"streamtype", "stdout"}});
  process_.Exit(0);
  EXPECT_EQ(json::parse(good.ReadStreams(2).at(1))["status"], "Success");

  Client bad(server_->port());
  bad.Spdy(ExecUrl({.out = true}, "gone"), "v4.channel.k8s.io");
  bad.Open(1, {{"streamtype", "error"}});
  bad.Open(3, {{"streamtype", "stdout"}});
  const json status = json::parse(bad.ReadStreams(2).at(1));
  EXPECT_EQ(status["code"], 500);
  EXPECT_THAT(status["message"].get<std::string>(), HasSubstr("no such container"));

  Client old(server_->port());
  old.Spdy(ExecUrl({.out = true}, "gone"), "v2.channel.k8s.io");
  old.Open(1, {{"streamtype", "error"}});
  old.Open(3, {{"streamtype", "stdout"}});
  EXPECT_EQ(old.ReadStreams(2).at(1), "container gone: no such container");
}

TEST_F(StreamServerTest, TerminalSizesComeInAnyPieces) {
  Client client(server_->port());
  client.Spdy(ExecUrl({.tty = true, .in = true, .out = true}), "v4.channel.k8s.io");
  client.Open(1, {{"streamtype", "error"}});
  client.Open(3, {{"streamtype", "stdin"}});
  client.Open(5, {{"streamtype", "stdout"}});
  client.Open(7, {{"streamtype", "resize"}});
  client.SendOn(7, R"({"Width":80,"Heig)");
  client.SendOn(7,
                "ht\":24}\n{\"Width\":70000,\"Height\":1}nonsense}{\"Width\":100,\"Height\":30}");
  process_.Await([](const FakeProcess& p) { return p.sizes_ == "80x24 100x30 "; });
  process_.Exit(0);
}

TEST_F(StreamServerTest, ClientThatDoesNotReadHoldsTheProcessUp) {
  Client client(server_->port());
  client.Spdy(ExecUrl({.out = true}), "v4.channel.k8s.io");
  client.Open(1, {{"streamtype", "error"}});
  client.Open(3, {{"streamtype", "stdout"}});
  // Far more than the kernel's and the server's buffers take.
  const std::string piece(256 << 10, 'x');
  size_t given = 0;
  while (given < (64u << 20) && process_.asked(absl::Milliseconds(300))) {
    process_.Out(piece);
    given += piece.size();
  }
  EXPECT_LT(given, 64u << 20);
  std::thread rest([&] { process_.Exit(0); });
  const std::map<uint32_t, std::string> streams = client.ReadStreams(2);
  rest.join();
  EXPECT_EQ(streams.at(3).size(), given);
}

TEST_F(StreamServerTest, ProcessThatDoesNotReadHoldsTheClientUp) {
  Client client(server_->port());
  client.Spdy(ExecUrl({.in = true, .out = true}), "v4.channel.k8s.io");
  process_.Hold(true);
  client.Open(1, {{"streamtype", "error"}});
  client.Open(3, {{"streamtype", "stdin"}});
  client.Open(5, {{"streamtype", "stdout"}});
  std::thread writer([&] {
    for (int i = 0; i < 1024; ++i) client.SendOn(3, std::string(32 << 10, 'i'));
    client.SendOn(3, "", /*last=*/true);
  });
  process_.Await([](const FakeProcess& p) { return !p.in_.empty(); });
  // The socket's buffers fill; the writer cannot finish until the process reads on.
  process_.Await([](const FakeProcess& p) { return p.in_.size() < (8u << 20); });
  process_.Hold(false);
  process_.Await([](const FakeProcess& p) { return p.closed_; });
  writer.join();
  EXPECT_EQ(process_.in_.size(), size_t{32} << 20);
  process_.Exit(0);
}

TEST_F(StreamServerTest, ClientThatGoesEndsTheInputAndTheStreams) {
  Client client(server_->port());
  client.Spdy(ExecUrl({.in = true, .out = true}), "v4.channel.k8s.io");
  client.Open(1, {{"streamtype", "error"}});
  client.Open(3, {{"streamtype", "stdin"}});
  client.Open(5, {{"streamtype", "stdout"}});
  client.SendOn(3, "x");
  process_.Await([](const FakeProcess& p) { return p.in_ == "x"; });
  client.Close();
  process_.Await([](const FakeProcess& p) { return p.cancelled_ && p.closed_; });
}

TEST_F(StreamServerTest, EndOfInputOfAnAttachIsLeftToTheShim) {
  Client client(server_->port());
  client.Spdy(server_->AttachUrl("c", {.in = true, .out = true}).value(), "v4.channel.k8s.io");
  client.Open(1, {{"streamtype", "error"}});
  client.Open(3, {{"streamtype", "stdin"}});
  client.Open(5, {{"streamtype", "stdout"}});
  client.SendOn(3, "x", /*last=*/true);
  process_.Await([](const FakeProcess& p) { return p.done_ && p.in_ == "x"; });
  process_.Out("still here");
  client.Close();
  process_.Await([](const FakeProcess& p) { return p.cancelled_; });
  EXPECT_FALSE(process_.closed_);
}

TEST_F(StreamServerTest, ClientThatOpensNoStreamsIsLeft) {
  StreamServer::Options options;
  options.creation_time = absl::Milliseconds(50);
  Start(options);
  Client client(server_->port());
  client.Spdy(ExecUrl({.out = true}), "v4.channel.k8s.io");
  client.ReadStreams(1);
  EXPECT_EQ(client.Receive(1), "");
}

TEST_F(StreamServerTest, EndOfTheServerEndsSessions) {
  Client client(server_->port());
  client.Spdy(ExecUrl({.out = true}), "v4.channel.k8s.io");
  client.Open(1, {{"streamtype", "error"}});
  client.Open(3, {{"streamtype", "stdout"}});
  EXPECT_TRUE(process_.asked(absl::Seconds(30)));
  server_.reset();
  client.ReadStreams(5);
  EXPECT_EQ(client.Receive(1), "");
}

TEST_F(StreamServerTest, WebSocketExecUsesNumberedChannels) {
  Client client(server_->port());
  ASSERT_THAT(client.WebSocket(ExecUrl(kInOutErr), "v5.channel.k8s.io"),
              HasSubstr("Sec-WebSocket-Protocol: v5.channel.k8s.io"));
  EXPECT_EQ(client.ReadMessage(), std::string("\1"));  // ready
  client.Message(std::string("\0in", 3));
  client.Message(std::string("\xff\0", 2));
  process_.Await([](const FakeProcess& p) { return p.closed_ && p.in_ == "in"; });
  process_.Out("out");
  EXPECT_EQ(client.ReadMessage(), "\1out");
  process_.Out("err", /*err=*/true);
  EXPECT_EQ(client.ReadMessage(), "\2err");
  process_.Exit(1);
  // Nothing else, such as close signals, which clients do not expect.
  EXPECT_THAT(client.ReadMessage(), StartsWith("\3{"));
  EXPECT_EQ(client.ReadMessage(), "close");
}

TEST_F(StreamServerTest, WebSocketAttachInBase64) {
  Client client(server_->port());
  const std::string url = server_->AttachUrl("c", {.in = true, .out = true}).value();
  ASSERT_THAT(client.WebSocket(url, "v4.base64.channel.k8s.io"), HasSubstr(" 101 "));
  EXPECT_EQ(client.ReadMessage(), "1");
  client.Message("0aGk=", /*opcode=*/1);
  process_.Await([](const FakeProcess& p) { return p.in_ == "hi"; });
  process_.Out("yo");
  EXPECT_EQ(client.ReadMessage(), "1eW8=");
  // The exit code of a container that one is attached to is not the client's failure.
  process_.Exit(5);
  EXPECT_THAT(client.ReadMessage(), StartsWith("3"));
}

// ---- port-forward ----

// Listens on loopback; echoes what one connection sends until its end, then says "bye".
class Echo {
 public:
  explicit Echo(int family = AF_INET) : fd_(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_storage address = {};
    socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    address.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      reinterpret_cast<sockaddr_in*>(&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
      const int on = 1;
      setsockopt(fd_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
      reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr = in6addr_loopback;
    }
    there_ = bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
             listen(fd_.get(), 8) == 0;
    getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(family == AF_INET ? reinterpret_cast<sockaddr_in*>(&address)->sin_port
                                    : reinterpret_cast<sockaddr_in6*>(&address)->sin6_port);
    if (there_) thread_ = std::thread([this] { Run(); });
  }
  ~Echo() {
    shutdown(fd_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
  }
  bool there() const { return there_; }
  int port() const { return port_; }

 private:
  void Run() {
    while (true) {
      const UniqueFd one(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!one.valid()) return;
      char buffer[65536];
      ssize_t got;
      while ((got = recv(one.get(), buffer, sizeof buffer, 0)) > 0)
        send(one.get(), buffer, static_cast<size_t>(got), MSG_NOSIGNAL);
      send(one.get(), "bye", 3, MSG_NOSIGNAL);
    }
  }
  UniqueFd fd_;
  bool there_ = false;
  int port_ = 0;
  std::thread thread_;
};

TEST_F(StreamServerTest, SpdyForwardsConnectionsWithHalfClose) {
  Echo echo;
  ASSERT_TRUE(echo.there());
  Client client(server_->port());
  ASSERT_THAT(client.Spdy(server_->PortForwardUrl("pod", {}).value(), "portforward.k8s.io"),
              HasSubstr(" 101 "));
  const std::string port = absl::StrCat(echo.port());
  client.Open(1, {{"streamtype", "error"}, {"port", port}, {"requestid", "0"}});
  client.SendOn(1, "", /*last=*/true);
  client.Open(3, {{"streamtype", "data"}, {"port", port}, {"requestid", "0"}});
  client.SendOn(3, "hello ");
  client.SendOn(3, "there ", /*last=*/true);
  std::map<uint32_t, std::string> streams = client.ReadStreams(2);
  EXPECT_EQ(streams[3], "hello there bye");
  EXPECT_EQ(streams[1], "");

  // Old clients: no request id. And a large transfer.
  client.Open(5, {{"streamtype", "error"}, {"port", port}});
  client.Open(7, {{"streamtype", "data"}, {"port", port}});
  std::thread writer([&client] {
    for (int i = 0; i < 256; ++i) client.SendOn(7, std::string(32 << 10, 'd'));
    client.SendOn(7, "", /*last=*/true);
  });
  streams = client.ReadStreams(2);
  writer.join();
  EXPECT_EQ(streams[7].size(), (8u << 20) + 3);
}

TEST_F(StreamServerTest, ForwardFallsBackToIpv6) {
  Echo echo(AF_INET6);
  if (!echo.there()) GTEST_SKIP() << "no IPv6 here";
  Client client(server_->port());
  client.Spdy(server_->PortForwardUrl("pod", {}).value(), "portforward.k8s.io");
  const std::string port = absl::StrCat(echo.port());
  client.Open(1, {{"streamtype", "error"}, {"port", port}, {"requestid", "0"}});
  client.Open(3, {{"streamtype", "data"}, {"port", port}, {"requestid", "0"}});
  client.SendOn(3, "six ", /*last=*/true);
  EXPECT_EQ(client.ReadStreams(2)[3], "six bye");
}

TEST_F(StreamServerTest, ForwardToNobodyIsToldOnTheErrorStream) {
  Client client(server_->port());
  client.Spdy(server_->PortForwardUrl("pod7", {}).value(), "portforward.k8s.io");
  client.Open(1, {{"streamtype", "error"}, {"port", "1"}, {"requestid", "0"}});
  client.Open(3, {{"streamtype", "data"}, {"port", "1"}, {"requestid", "0"}});
  EXPECT_THAT(client.ReadStreams(2)[1],
              AllOf(HasSubstr("error forwarding port 1 to pod pod7"), HasSubstr("refused")));
}

TEST_F(StreamServerTest, WebSocketTunnelsSpdy) {
  Echo echo;
  Client client(server_->port());
  // Without ports: each stream names its own.
  ASSERT_THAT(
      client.WebSocket(server_->PortForwardUrl("pod", {}).value(), "SPDY/3.1+portforward.k8s.io"),
      HasSubstr(" 101 "));
  SpdyHeaderWriter writer;
  const std::string port = absl::StrCat(echo.port());
  uint32_t stream = 1;
  for (const char* role : {"error", "data"}) {
    const std::string block =
        writer.Write({{"streamtype", role}, {"port", port}, {"requestid", "0"}});
    client.Message(Number(0x80030001, 4) + Number(10 + block.size(), 4) + Number(stream, 4) +
                   Number(0, 6));
    client.Message(block);  // a frame may be in several messages
    stream += 2;
  }
  client.Message(Number(3, 4) + Number(1, 1) + Number(4, 3) + "ping");
  std::string frames;
  while (!absl::StrContains(frames, "bye")) {
    const std::string message = client.ReadMessage();
    ASSERT_NE(message, "closed");
    frames += message;
  }
  EXPECT_THAT(frames, HasSubstr("ping"));
}

TEST_F(StreamServerTest, WebSocketForwardsThePortsOfItsRequest) {
  Echo echo;
  Client client(server_->port());
  const std::string url = server_->PortForwardUrl("pod", {echo.port()}).value();
  ASSERT_THAT(client.WebSocket(url, "v4.channel.k8s.io"), HasSubstr(" 101 "));
  const std::string number = {static_cast<char>(echo.port() & 0xff),
                              static_cast<char>(echo.port() >> 8)};
  EXPECT_EQ(client.ReadMessage(), std::string("\0", 1) + number);
  EXPECT_EQ(client.ReadMessage(), "\1" + number);
  client.Message(std::string("\0ping", 5));
  EXPECT_EQ(client.ReadMessage(), std::string("\0ping", 5));
}

}  // namespace
}  // namespace gantry::api::cri
