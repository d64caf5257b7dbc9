// A span for each call of a gRPC server, in the trace that its client names in `traceparent`, or
// the first of a new one. Handlers find it as their thread's context.
//
// For a server whose builder is given NewCallTracer(); costs nothing where it is not. Thread-safe.
// Spec: W3C Trace Context; OpenTelemetry's conventions for spans of RPC.
#ifndef GANTRY_SUPERVISOR_API_TRACE_CALL_TRACER_H_
#define GANTRY_SUPERVISOR_API_TRACE_CALL_TRACER_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>

#include "base/trace/span.h"

namespace gantry::api {

// `sink` outlives the server.
std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewCallTracer(
    trace::SpanSink& sink);

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_TRACE_CALL_TRACER_H_
