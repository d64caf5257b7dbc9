// Spans sent to a collector as OTLP over HTTP, JSON encoded.
//
// Switched on by OpenTelemetry's variables and off without them:
//   OTEL_EXPORTER_OTLP_TRACES_ENDPOINT        the whole URL; else
//   OTEL_EXPORTER_OTLP_ENDPOINT               a URL, to which /v1/traces is appended
//   OTEL_EXPORTER_OTLP_TRACES_HEADERS, OTEL_EXPORTER_OTLP_HEADERS    "name=value,..."
//   OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
//   OTEL_TRACES_EXPORTER=none, OTEL_SDK_DISABLED=true                off
// Only http:// URLs: a collector elsewhere is reached through one on this host.
// Spec: OpenTelemetry's OTLP 1.x, "OTLP/HTTP" and "JSON Protobuf Encoding"; its environment
// variables.
#ifndef GANTRY_BASE_TRACE_OTLP_H_
#define GANTRY_BASE_TRACE_OTLP_H_

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/trace/span.h"

namespace gantry::trace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct OtlpTarget {
  std::string host;
  std::string port;
  std::string path;
  Pairs headers;
  std::string service;  // service.name of spans that name none
  Pairs resource;       // further attributes of the process
};

// nullopt: not asked for. kInvalidArgument: asked for, and not possible; names the variable.
// `variable` answers "" for one that is not set.
absl::StatusOr<std::optional<OtlpTarget>> TargetFromEnvironment(
    const std::function<std::string(const std::string&)>& variable, absl::string_view service);

// The body of one request.
std::string OtlpJson(const OtlpTarget& target, const std::vector<Span>& spans);

// Sends them and waits for the answer, `limit` at most, and not once `stop` is readable (-1: no
// such descriptor). Looking up a name may take longer.
absl::Status SendSpans(const OtlpTarget& target, const std::vector<Span>& spans,
                       absl::Duration limit, int stop = -1);

}  // namespace gantry::trace

#endif  // GANTRY_BASE_TRACE_OTLP_H_
