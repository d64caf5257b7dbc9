#include "supervisor/api/trace/call_tracer.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace gantry::api {
namespace {

using grpc::experimental::InterceptionHookPoints;

class Tracer final : public grpc::experimental::Interceptor {
 public:
  Tracer(trace::SpanSink& sink, const grpc::experimental::ServerRpcInfo& info) : sink_(sink) {
    absl::string_view method = info.method();
    absl::ConsumePrefix(&method, "/");
    const size_t slash = method.find('/');
    span_.name = std::string(method);
    span_.kind = trace::SpanKind::kServer;
    span_.start = absl::Now();
    span_.attributes = {{"rpc.system", "grpc"},
                        {"rpc.service", std::string(method.substr(0, slash))}};
    if (slash != absl::string_view::npos)
      span_.attributes.emplace_back("rpc.method", std::string(method.substr(slash + 1)));
  }

  // Without a status of ours the client cancelled the call.
  ~Tracer() override {
    if (!ended_) End(grpc::Status::CANCELLED);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    // The handler is called on this thread next.
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA))
      Begin(*methods);
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS))
      End(methods->GetSendStatus());
    methods->Proceed();
  }

 private:
  void Begin(grpc::experimental::InterceptorBatchMethods& methods) {
    trace::SpanContext parent;
    if (const auto* metadata = methods.GetRecvInitialMetadata(); metadata != nullptr) {
      const auto it = metadata->find("traceparent");
      if (it != metadata->end())
        parent = trace::ParseTraceparent({it->second.data(), it->second.size()});
    }
    span_.parent_span_id = parent.span_id;
    span_.context = trace::NewContext(parent);
    trace::SetCurrent(span_.context);
  }

  void End(const grpc::Status& status) {
    ended_ = true;
    if (!span_.context.valid() || !span_.context.sampled) return;
    span_.end = absl::Now();
    span_.attributes.emplace_back("rpc.grpc.status_code",
                                  std::to_string(static_cast<int>(status.error_code())));
    span_.failed = !status.ok();
    span_.error = status.error_message();
    sink_.Add(std::move(span_));
  }

  trace::SpanSink& sink_;
  trace::Span span_;
  bool ended_ = false;
};

class Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(trace::SpanSink& sink) : sink_(sink) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new Tracer(sink_, *info);  // NOLINT(cppcoreguidelines-owning-memory): gRPC's
  }

 private:
  trace::SpanSink& sink_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewCallTracer(
    trace::SpanSink& sink) {
  return std::make_unique<Factory>(sink);
}

}  // namespace gantry::api
