// Spans as the body of one OTLP request, in either encoding. Pure.
// Spec: OpenTelemetry's OTLP 1.x, "JSON Protobuf Encoding"; opentelemetry/proto/trace/v1 for the
// numbers of fields.
#ifndef GANTRY_BASE_TRACE_OTLP_BODY_H_
#define GANTRY_BASE_TRACE_OTLP_BODY_H_

#include <string>
#include <vector>

#include "base/trace/otlp.h"
#include "base/trace/span.h"

namespace gantry::trace {

std::string OtlpJson(const OtlpTarget& target, const std::vector<Span>& spans);
std::string OtlpProtobuf(const OtlpTarget& target, const std::vector<Span>& spans);

}  // namespace gantry::trace

#endif  // GANTRY_BASE_TRACE_OTLP_BODY_H_
