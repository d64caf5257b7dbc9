#include "supervisor/api/metrics/metrics_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/unique_fd.h"
#include "supervisor/api/metrics/call_recorder.h"
#include "supervisor/api/metrics/metric_text.h"

namespace gantry::api {
namespace {

using testing::Test;

std::unique_ptr<MetricsServer> Serve(std::string text) {
  auto server = MetricsServer::Start("127.0.0.1:0", [text] { return text; });
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

UniqueFd Connect(int port) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  // A server that answers nothing fails the test instead of holding it up.
  struct timeval limit = {20, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return fd;
}

std::string ReadToEnd(int fd) {
  std::string all;
  char buffer[4096];
  ssize_t got = 0;
  while ((got = recv(fd, buffer, sizeof buffer, 0)) > 0)
    all.append(buffer, static_cast<size_t>(got));
  return all;
}

std::string Ask(int port, const std::string& request) {
  const UniqueFd fd = Connect(port);
  EXPECT_EQ(send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  return ReadToEnd(fd.get());
}

TEST(MetricsServerTest, AnswersAGetWithTheText) {
  auto server = Serve("one 1\n");
  EXPECT_EQ(Ask(server->port(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            "Content-Length: 6\r\nConnection: close\r\n\r\none 1\n");
}

TEST(MetricsServerTest, AnswersAHeadWithoutTheText) {
  auto server = Serve("one 1\n");
  const std::string answer = Ask(server->port(), "HEAD /metrics HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(absl::StrContains(answer, "Content-Length: 6\r\n")) << answer;
  EXPECT_TRUE(absl::EndsWith(answer, "\r\n\r\n")) << answer;
}

TEST(MetricsServerTest, SendsMoreThanTheSocketHolds) {
  const std::string text(8 << 20, 'x');
  auto server = Serve(text);
  const std::string answer = Ask(server->port(), "GET /metrics?x=y HTTP/1.0\r\n\r\n");
  ASSERT_GT(answer.size(), text.size());
  EXPECT_EQ(answer.substr(answer.size() - text.size()), text);
}

TEST(MetricsServerTest, RefusesWhatItDoesNotServe) {
  auto server = Serve("");
  const int port = server->port();
  EXPECT_TRUE(absl::StartsWith(Ask(port, "GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 "));
  EXPECT_TRUE(absl::StartsWith(Ask(port, "POST /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 "));
  EXPECT_TRUE(absl::StartsWith(Ask(port, "nonsense\r\n\r\n"), "HTTP/1.1 400 "));
  EXPECT_TRUE(absl::StartsWith(Ask(port, "GET /metrics SPDY/3\r\n\r\n"), "HTTP/1.1 400 "));
  EXPECT_TRUE(absl::StartsWith(Ask(port, std::string(MetricsServer::kRequestBytes + 1, 'x')),
                               "HTTP/1.1 431 "));
}

TEST(MetricsServerTest, SilentConnectionsKeepNobodyOutForLong) {
  auto server = Serve("one 1\n");
  std::vector<UniqueFd> silent;
  for (size_t i = 0; i < MetricsServer::kConnections; ++i)
    silent.push_back(Connect(server->port()));
  EXPECT_TRUE(
      absl::EndsWith(Ask(server->port(), "GET /metrics HTTP/1.1\r\n\r\n"), "\r\n\r\none 1\n"));
  for (const UniqueFd& fd : silent) EXPECT_EQ(ReadToEnd(fd.get()), "");
}

TEST(MetricsServerTest, EndsWithConnectionsOpen) {
  auto server = Serve("");
  const UniqueFd open = Connect(server->port());
  server.reset();
  EXPECT_EQ(ReadToEnd(open.get()), "");
}

TEST(MetricsServerTest, RefusesAddressesItCannotUse) {
  for (const char* bad : {"", "9323", "example.org:1", "127.0.0.1:", "127.0.0.1:http"}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(MetricsServer::Start(bad, [] { return std::string(); }).status()))
        << bad;
  }
  auto server = Serve("");
  EXPECT_TRUE(absl::IsUnavailable(MetricsServer::Start(absl::StrCat(":", server->port()), [] {
                                    return std::string();
                                  }).status()));
}

TEST(MetricTextTest, EscapesWhatTheFormatWants) {
  MetricText text;
  text.Family("a_total", "counter", "of \\ and\nmore");
  text.Sample("a_total", {{"x", "a\"b\\c\nd"}, {"y", ""}}, 3);
  text.Single("b", "gauge", "half", 0.5);
  EXPECT_EQ(text.text(),
            "# HELP a_total of \\\\ and\\nmore\n# TYPE a_total counter\n"
            "a_total{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 3\n"
            "# HELP b half\n# TYPE b gauge\nb 0.5\n");
}

TEST(CallRecorderTest, CountsByMethodAndCodeAndSortsByTime) {
  CallRecorder calls;
  calls.Record("/s/Get", grpc::StatusCode::OK, absl::Milliseconds(1));
  calls.Record("/s/Get", grpc::StatusCode::OK, absl::Milliseconds(30));
  calls.Record("/s/Get", grpc::StatusCode::NOT_FOUND, absl::Seconds(20));
  MetricText out;
  calls.Write(out);
  for (const char* line : {
           "gantry_grpc_calls_total{method=\"/s/Get\",code=\"OK\"} 2\n",
           "gantry_grpc_calls_total{method=\"/s/Get\",code=\"NOT_FOUND\"} 1\n",
           "gantry_grpc_call_seconds_bucket{method=\"/s/Get\",le=\"0.0005\"} 0\n",
           "gantry_grpc_call_seconds_bucket{method=\"/s/Get\",le=\"0.001\"} 1\n",
           "gantry_grpc_call_seconds_bucket{method=\"/s/Get\",le=\"0.05\"} 2\n",
           "gantry_grpc_call_seconds_bucket{method=\"/s/Get\",le=\"10\"} 2\n",
           "gantry_grpc_call_seconds_bucket{method=\"/s/Get\",le=\"+Inf\"} 3\n",
           "gantry_grpc_call_seconds_count{method=\"/s/Get\"} 3\n",
       }) {
    EXPECT_TRUE(absl::StrContains(out.text(), line)) << line << "not in\n" << out.text();
  }
}

}  // namespace
}  // namespace gantry::api
