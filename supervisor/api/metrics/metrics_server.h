// Answers GET /metrics, and /v1/metrics as containerd calls it, over HTTP/1.1, one request per connection. For Prometheus and for curl; nothing else.
//
// One thread. At most kConnections are served at once, more wait in the kernel's queue; a connection that has not sent its request or
// taken its answer within kDeadline is closed; a request of more than kRequestBytes is refused.
#ifndef GANTRY_SUPERVISOR_API_METRICS_METRICS_SERVER_H_
#define GANTRY_SUPERVISOR_API_METRICS_METRICS_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry::api {

class MetricsServer {
 public:
  static constexpr size_t kConnections = 16;
  static constexpr size_t kRequestBytes = 8192;
  static constexpr absl::Duration kDeadline = absl::Seconds(5);

  // Listens on HOST:PORT. Without a host on 127.0.0.1: who wants it seen from elsewhere says so. `text` is asked with each request, on
  // the server's thread.
  //   kInvalidArgument  not HOST:PORT with a numeric host (or localhost)
  //   kUnavailable      somebody listens there
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address,
                                                              std::function<std::string()> text);
  // Closes what is open.
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // With 0 asked for, the one that was given.
  int port() const { return port_; }

 private:
  struct Connection {
    UniqueFd fd;
    absl::Duration until;  // monotonic
    std::string in;
    std::string out;  // not empty: the request is complete
    size_t sent = 0;
  };

  MetricsServer(UniqueFd listener, UniqueFd stop, int port, std::function<std::string()> text);
  void Serve();
  void Accept(std::vector<Connection>& connections) const;
  // False: it is over.
  bool Advance(Connection& connection) const;
  std::string Answer(absl::string_view request) const;

  const UniqueFd listener_;
  const UniqueFd stop_;  // readable: end
  const int port_;
  const std::function<std::string()> text_;
  std::thread thread_;
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_METRICS_METRICS_SERVER_H_
