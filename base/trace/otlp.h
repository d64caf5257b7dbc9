// Spans sent to a collector as OTLP over HTTP or HTTPS.
//
// Switched on by OpenTelemetry's variables and off without them:
//   OTEL_EXPORTER_OTLP_TRACES_ENDPOINT        the whole URL; else
//   OTEL_EXPORTER_OTLP_ENDPOINT               a URL, to which /v1/traces is appended
//   OTEL_EXPORTER_OTLP_PROTOCOL               http/protobuf, which is the default, or http/json
//   OTEL_EXPORTER_OTLP_HEADERS                "name=value,..."
//   OTEL_EXPORTER_OTLP_CERTIFICATE            PEM file of the authorities that are trusted; the
//                                             system's without it
//   OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_KEY    PEM files
//   OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
//   OTEL_TRACES_EXPORTER=none, OTEL_SDK_DISABLED=true                off
// Each of the OTLP ones exists with TRACES_ before its last part too, which comes first.
// Spec: OpenTelemetry's OTLP 1.x, "OTLP/HTTP"; its environment variables.
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
  enum class Encoding { kProtobuf, kJson };

  std::string host;
  std::string port;
  std::string path;
  Encoding encoding = Encoding::kProtobuf;
  bool tls = false;
  std::string ca_file;           // "": the authorities that the system trusts
  std::string certificate_file;  // our own, where the collector asks for one; "": none
  std::string key_file;
  Pairs headers;
  std::string service;  // service.name of spans that name none
  Pairs resource;       // further attributes of the process
};

// nullopt: not asked for. kInvalidArgument: asked for, and not possible; names the variable.
// `variable` answers "" for one that is not set.
absl::StatusOr<std::optional<OtlpTarget>> TargetFromEnvironment(
    const std::function<std::string(const std::string&)>& variable, absl::string_view service);

// Sends them and waits for the answer, `limit` at most, and not once `stop` is readable (-1: no
// such descriptor). Looking up a name may take longer. kFailedPrecondition: the collector's
// certificate is not trusted, or a file of ours cannot be used.
absl::Status SendSpans(const OtlpTarget& target, const std::vector<Span>& spans,
                       absl::Duration limit, int stop = -1);

}  // namespace gantry::trace

#endif  // GANTRY_BASE_TRACE_OTLP_H_
