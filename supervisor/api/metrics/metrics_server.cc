#include "supervisor/api/metrics/metrics_server.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/http/server.h"

namespace gantry::api {
namespace {

constexpr char kText[] = "text/plain";

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address, std::function<std::string()> text) {
  absl::StatusOr<UniqueFd> listener = http::ListenTcp(address);
  if (!listener.ok()) {
    return absl::Status(listener.status().code(),
                        absl::StrCat("metrics ", std::string(listener.status().message()),
                                     "; choose another with --metrics-address"));
  }
  http::Server::Options options;
  options.thread_name = "metrics";
  options.limits.head_bytes = kRequestBytes;
  options.limits.body_bytes = kRequestBytes;
  options.limits.connections = kConnections;
  options.limits.head_time = kDeadline;
  options.limits.idle_time = kDeadline;
  options.limits.stall_time = kDeadline;
  options.limits.exchange_time = kDeadline;
  std::unique_ptr<MetricsServer> server(new MetricsServer(std::move(text)));
  GANTRY_ASSIGN_OR_RETURN(server->server_,
                          http::Server::Start(*std::move(listener), std::move(options),
                                              [self = server.get()](http::Exchange& exchange) {
                                                self->Answer(exchange);
                                              }));
  return server;
}

MetricsServer::MetricsServer(std::function<std::string()> text) : text_(std::move(text)) {}

MetricsServer::~MetricsServer() = default;

int MetricsServer::port() const { return server_->port(); }

void MetricsServer::Answer(http::Exchange& exchange) {
  // A scraper comes every few seconds: a connection that it keeps would only occupy a thread.
  exchange.CloseAfter();
  const http::RequestHead& head = exchange.head();
  absl::Status sent;
  if (head.method != "GET" && head.method != "HEAD") {
    sent = exchange.Respond(405, {{"Content-Type", kText}, {"Allow", "GET, HEAD"}},
                            "use GET or HEAD\n");
  } else if (head.path != "/metrics" && head.path != "/v1/metrics") {
    sent = exchange.Respond(404, {{"Content-Type", kText}}, "the metrics are at /metrics\n");
  } else {
    std::string text;
    {
      absl::MutexLock lock(&mutex_);
      text = text_();
    }
    sent =
        exchange.Respond(200, {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}}, text);
  }
  sent.IgnoreError();  // a client that is gone needs no answer
}

}  // namespace gantry::api
