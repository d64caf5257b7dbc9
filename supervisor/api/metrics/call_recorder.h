// Counts the calls of a gRPC server by method and code, and how long they took. Sees every call of
// a server whose builder was given NewInterceptors(); costs nothing where it is not.
//
// Thread-safe. Outlives the server.
#ifndef GANTRY_SUPERVISOR_API_METRICS_CALL_RECORDER_H_
#define GANTRY_SUPERVISOR_API_METRICS_CALL_RECORDER_H_

#include <grpcpp/support/server_interceptor.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "supervisor/api/metrics/metric_text.h"

namespace gantry::api {

class CallRecorder {
 public:
  // For grpc::ServerBuilder's SetInterceptorCreators.
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>>
  NewInterceptors();

  // One call that ended. `method` is "/package.Service/Method".
  void Record(const std::string& method, grpc::StatusCode code, absl::Duration took);

  // Families gantry_grpc_calls_total and gantry_grpc_call_seconds.
  void Write(MetricText& out) const;

 private:
  // Upper bounds of the latency buckets in seconds; one more has no bound.
  static constexpr std::array<double, 12> kBounds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                                     0.05,   0.1,   0.25,   0.5,   1,    10};
  static constexpr size_t kCodes = 17;

  struct Series {
    std::array<std::atomic<int64_t>, kCodes> codes = {};
    std::array<std::atomic<int64_t>, kBounds.size() + 1> buckets = {};
    std::atomic<int64_t> nanos = 0;
  };
  Series& Of(const std::string& method);

  mutable absl::Mutex mu_;
  // Bounded by the methods there are: gRPC shows only registered ones to interceptors.
  std::map<std::string, std::unique_ptr<Series>> series_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_METRICS_CALL_RECORDER_H_
