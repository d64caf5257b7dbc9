// Answers GET /metrics, and /v1/metrics as containerd calls it, over HTTP/1.1 with one request per
// connection. For Prometheus and curl.
//
// At most kConnections are served at once, more wait in the kernel's queue. A connection that has
// not sent its request within kDeadline, or not taken its response within another, is closed; a
// request of more than kRequestBytes is refused. Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_METRICS_METRICS_SERVER_H_
#define GANTRY_SUPERVISOR_API_METRICS_METRICS_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace gantry::http {
class Exchange;
class Server;
}  // namespace gantry::http

namespace gantry::api {

class MetricsServer {
 public:
  static constexpr size_t kConnections = 16;
  static constexpr size_t kRequestBytes = 8192;
  static constexpr absl::Duration kDeadline = absl::Seconds(5);

  // Listens on HOST:PORT; without a host on 127.0.0.1. `text` is called for each request, one at a
  // time, on a thread of the server's.
  //   kInvalidArgument  not HOST:PORT with a numeric host (or localhost)
  //   kUnavailable      the address is in use
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address,
                                                              std::function<std::string()> text);
  // Closes all connections.
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // The port that was given when 0 was asked for.
  int port() const;

 private:
  explicit MetricsServer(std::function<std::string()> text);
  void Answer(http::Exchange& exchange);

  absl::Mutex mutex_;
  const std::function<std::string()> text_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<http::Server> server_;
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_METRICS_METRICS_SERVER_H_
