#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "base/trace/otlp.h"
#include "base/trace/otlp_body.h"
#include "base/trace/span.h"
#include "base/trace/span_exporter.h"
#include "base/unique_fd.h"

namespace gantry::trace {
namespace {

using ::testing::HasSubstr;

constexpr char kParent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(SpanTest, ATraceparentIsReadAndWritten) {
  const SpanContext context = ParseTraceparent(kParent);
  EXPECT_EQ(context.trace_id, "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(context.span_id, "b7ad6b7169203331");
  EXPECT_TRUE(context.sampled);
  EXPECT_EQ(FormatTraceparent(context), kParent);
  EXPECT_TRUE(
      ParseTraceparent(absl::StrCat("01", std::string(kParent).substr(2), "-more")).valid());
  EXPECT_FALSE(ParseTraceparent(absl::StrCat(std::string(kParent).substr(0, 53), "00")).sampled);
}

TEST(SpanTest, WhatIsNoTraceparentIsNowhere) {
  for (const std::string& text :
       {std::string(), std::string("x"), std::string(55, '-'), std::string(55, '0'),
        absl::StrCat(kParent, "-more"), absl::StrCat("ff", std::string(kParent).substr(2)),
        std::string("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
        std::string("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
        std::string("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01")}) {
    EXPECT_FALSE(ParseTraceparent(text).valid()) << text;
  }
}

TEST(SpanTest, ANewSpanIsInItsParentsTrace) {
  const SpanContext parent = ParseTraceparent(kParent);
  const SpanContext child = NewContext(parent);
  EXPECT_EQ(child.trace_id, parent.trace_id);
  EXPECT_NE(child.span_id, parent.span_id);
  EXPECT_TRUE(ParseTraceparent(FormatTraceparent(child)).valid());
  EXPECT_NE(NewContext().trace_id, NewContext().trace_id);
}

TEST(SpanTest, BoundWorkHasTheContextItWasMadeIn) {
  EXPECT_FALSE(Current().valid());
  absl::AnyInvocable<void()> work;
  std::string seen;
  {
    const ScopedContext scope(ParseTraceparent(kParent));
    work = Bound([&seen] { seen = Current().span_id; });
  }
  EXPECT_FALSE(Current().valid());
  std::thread([&work] { work(); }).join();
  EXPECT_EQ(seen, "b7ad6b7169203331");
}

std::function<std::string(const std::string&)> Environment(
    std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const std::string& name) {
    const auto it = variables.find(name);
    return it == variables.end() ? "" : it->second;
  };
}

TEST(OtlpTest, VariablesSayWhere) {
  EXPECT_FALSE(TargetFromEnvironment(Environment({}), "gantryd").value().has_value());
  EXPECT_FALSE(TargetFromEnvironment(Environment({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"},
                                                  {"OTEL_SDK_DISABLED", "true"}}),
                                     "gantryd")
                   .value()
                   .has_value());
  const OtlpTarget target =
      TargetFromEnvironment(
          Environment({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"},
                       {"OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=y"},
                       {"OTEL_RESOURCE_ATTRIBUTES", "service.name=other,host.name=h1"}}),
          "gantryd")
          .value()
          .value();
  EXPECT_EQ(target.host, "c");
  EXPECT_EQ(target.port, "4318");
  EXPECT_EQ(target.path, "/v1/traces");
  EXPECT_EQ(target.headers, (Pairs{{"api-key", "a b"}, {"x", "y"}}));
  EXPECT_EQ(target.service, "other");
  EXPECT_EQ(target.resource, (Pairs{{"host.name", "h1"}}));
  EXPECT_EQ(TargetFromEnvironment(
                Environment({{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:9/t"}}), "x")
                .value()
                ->path,
            "/t");
}

TEST(OtlpTest, WhatCannotBeDoneIsSaid) {
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://c:4318"},
                                          {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://:1/"}}) {
    const absl::Status status =
        TargetFromEnvironment(Environment({{name, value}}), "gantryd").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << value;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
  for (const char* protocol : {"grpc", "carrier-pigeon"}) {
    const absl::Status status =
        TargetFromEnvironment(Environment({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"},
                                           {"OTEL_EXPORTER_OTLP_PROTOCOL", protocol}}),
                              "gantryd")
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << protocol;
    EXPECT_THAT(std::string(status.message()), HasSubstr("http/protobuf"));
  }
  EXPECT_FALSE(
      TargetFromEnvironment(Environment({{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"},
                                         {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"}}),
                            "gantryd")
          .ok());
  EXPECT_FALSE(TargetFromEnvironment(Environment({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"},
                                                  {"OTEL_EXPORTER_OTLP_HEADERS", "a=b%0d%0aX: y"}}),
                                     "gantryd")
                   .ok());
}

Span Example(const std::string& name) {
  Span span;
  span.context = ParseTraceparent(kParent);
  span.parent_span_id = "00f067aa0ba902b7";
  span.name = name;
  span.kind = SpanKind::kServer;
  span.start = absl::FromUnixNanos(1'700'000'000'000'000'001);
  span.end = span.start + absl::Milliseconds(2);
  span.attributes = {{"rpc.system", "grpc"}};
  return span;
}

TEST(OtlpTest, ABodyIsWhatCollectorsRead) {
  OtlpTarget target;
  target.service = "gantryd";
  Span failed = Example("a \"name\"\n");
  failed.failed = true;
  failed.error = "no";
  Span other = Example("create");
  other.service = "gantry-shim";
  const auto body = nlohmann::json::parse(OtlpJson(target, {failed, other}));
  ASSERT_EQ(body["resourceSpans"].size(), 2u);
  EXPECT_EQ(body["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"],
            "gantry-shim");
  const auto& span = body["resourceSpans"][1]["scopeSpans"][0]["spans"][0];
  EXPECT_EQ(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(span["parentSpanId"], "00f067aa0ba902b7");
  EXPECT_EQ(span["name"], "a \"name\"\n");
  EXPECT_EQ(span["kind"], 2);
  EXPECT_EQ(span["startTimeUnixNano"], "1700000000000000001");
  EXPECT_EQ(span["endTimeUnixNano"], "1700000000002000001");
  EXPECT_EQ(span["attributes"][0]["key"], "rpc.system");
  EXPECT_EQ(span["status"]["code"], 2);
}

TEST(OtlpTest, TlsAndEncodingAreChosenByVariables) {
  const OtlpTarget plain =
      TargetFromEnvironment(Environment({{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"}}), "x")
          .value()
          .value();
  EXPECT_FALSE(plain.tls);
  EXPECT_EQ(plain.encoding, OtlpTarget::Encoding::kProtobuf);
  const OtlpTarget target =
      TargetFromEnvironment(Environment({{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"},
                                         {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"},
                                         {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"},
                                         {"OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"},
                                         {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"},
                                         {"OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem"}}),
                            "x")
          .value()
          .value();
  EXPECT_TRUE(target.tls);
  EXPECT_EQ(target.port, "443");
  EXPECT_EQ(target.encoding, OtlpTarget::Encoding::kJson);
  EXPECT_EQ(target.ca_file, "/ca.pem");
  EXPECT_EQ(target.certificate_file, "/c.pem");
  EXPECT_EQ(target.key_file, "/k.pem");
}

// The bytes are protoc's, of the same message in its text form.
TEST(OtlpTest, AProtobufBodyIsWhatProtocWrites) {
  OtlpTarget target;
  target.service = "gantryd";
  Span span = Example("create");
  span.failed = true;
  span.error = "no";
  EXPECT_EQ(absl::BytesToHexString(OtlpProtobuf(target, {span})),
            "0a8b010a1b0a190a0c736572766963652e6e616d6512090a0767616e74727964126c0a080a0667616e74"
            "727912600a100af7651916cd43dd8448eb211c80319c1208b7ad6b7169203331220800f067aa0ba902b7"
            "2a0663726561746530023901002a36fe9c97174181844836fe9c97174a140a0a7270632e73797374656d"
            "12060a04677270637a0612026e6f1802");
}

// Takes requests and answers each with `status`; "" never answers.
class Collector {
 public:
  explicit Collector(std::string status) : status_(std::move(status)) {
    listener_.reset(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 8), 0);
    socklen_t size = sizeof address;
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    target_.host = "127.0.0.1";
    target_.port = absl::StrCat(ntohs(address.sin_port));
    target_.path = "/v1/traces";
    target_.encoding = OtlpTarget::Encoding::kJson;
    target_.headers = {{"api-key", "secret"}};
    target_.service = "gantryd";
    thread_ = std::thread([this] { Run(); });
  }
  ~Collector() {
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  const OtlpTarget& target() const { return target_; }
  std::vector<std::string> Wait(size_t count) {
    absl::MutexLock lock(&mu_);
    const auto reached = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return requests_.size() >= count;
    };
    EXPECT_TRUE(mu_.AwaitWithTimeout(absl::Condition(&reached), absl::Seconds(30)));
    return requests_;
  }

 private:
  void Run() {
    std::vector<UniqueFd> silent;
    while (true) {
      UniqueFd fd(accept(listener_.get(), nullptr, nullptr));
      if (!fd.valid()) return;
      if (status_.empty()) {
        silent.push_back(std::move(fd));
        continue;
      }
      std::string text;
      char buffer[4096];
      size_t wanted = std::string::npos;
      while (text.size() < wanted) {
        const ssize_t n = recv(fd.get(), buffer, sizeof buffer, 0);
        if (n <= 0) break;
        text.append(buffer, static_cast<size_t>(n));
        const size_t head = text.find("\r\n\r\n");
        const size_t length = text.find("Content-Length: ");
        size_t body = 0;
        if (head != std::string::npos && length != std::string::npos &&
            absl::SimpleAtoi(text.substr(length + 16, text.find('\r', length) - length - 16),
                             &body))
          wanted = head + 4 + body;
      }
      const std::string answer =
          absl::StrCat("HTTP/1.1 ", status_, "\r\nContent-Length: 0\r\n\r\n");
      send(fd.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
      absl::MutexLock lock(&mu_);
      requests_.push_back(std::move(text));
    }
  }

  const std::string status_;
  UniqueFd listener_;
  OtlpTarget target_;
  absl::Mutex mu_;
  std::vector<std::string> requests_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

TEST(SpanExporterTest, SpansReachTheCollector) {
  Collector collector("200 OK");
  SpanExporter exporter(collector.target(), absl::Milliseconds(10));
  exporter.Add(Example("one"));
  const std::vector<std::string> requests = collector.Wait(1);
  EXPECT_THAT(requests[0], HasSubstr("POST /v1/traces HTTP/1.1\r\n"));
  EXPECT_THAT(requests[0], HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(requests[0], HasSubstr("api-key: secret\r\n"));
  EXPECT_THAT(requests[0], HasSubstr("\"name\":\"one\""));
  EXPECT_EQ(exporter.dropped(), 0);
}

TEST(SpanExporterTest, WhatIsQueuedGoesOutAtTheEnd) {
  Collector collector("200 OK");
  {
    SpanExporter exporter(collector.target(), absl::Hours(1));
    exporter.Add(Example("one"));
    exporter.Add(Example("two"));
  }
  const std::vector<std::string> requests = collector.Wait(1);
  EXPECT_THAT(requests[0], HasSubstr("\"name\":\"two\""));
}

TEST(SpanExporterTest, ACollectorThatHangsStopsNobody) {
  Collector collector("");
  // Ends, although nothing is answered: the test would hang otherwise.
  SpanExporter exporter(collector.target(), absl::Milliseconds(1));
  for (size_t i = 0; i < 2 * SpanExporter::kMostQueued + 10; ++i) exporter.Add(Example("x"));
  EXPECT_GT(exporter.dropped(), 0);
}

TEST(SpanExporterTest, ARefusalIsCounted) {
  Collector collector("503 Service Unavailable");
  const absl::Status status = SendSpans(collector.target(), {Example("x")}, absl::Seconds(30));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("503"));
}

}  // namespace
}  // namespace gantry::trace
