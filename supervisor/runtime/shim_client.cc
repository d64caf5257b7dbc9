#include "supervisor/runtime/shim_client.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"

#include "base/cancel_token.h"
#include "base/trace/span.h"
#include "proto/shim/v1/shim.grpc.pb.h"
#include "supervisor/runtime/shim_dialler.h"
#include "supervisor/runtime/shim_streams.h"

namespace gantry::runtime {
namespace {

// One call as two spans: the daemon's, and the shim's, which says with its answer from when to when
// it worked.
class CallSpan {
 public:
  CallSpan(const char* name, const TaskKey& key, grpc::ClientContext& context) {
    span_.context = trace::NewContext(trace::Current());
    span_.parent_span_id = trace::Current().span_id;
    span_.name = absl::StrCat("shim ", name);
    span_.kind = trace::SpanKind::kClient;
    span_.start = absl::Now();
    span_.attributes = {{"container.id", key.container_id}, {"gantry.namespace", key.ns}};
    context.AddMetadata(kTraceparent, trace::FormatTraceparent(span_.context));
  }

  void End(const grpc::Status& status, const grpc::ClientContext& context) {
    trace::SpanSink* const sink = trace::Sink();
    if (sink == nullptr || !span_.context.sampled) return;
    span_.end = absl::Now();
    span_.failed = !status.ok();
    span_.error = status.error_message();
    const auto& metadata = context.GetServerTrailingMetadata();
    const auto it = metadata.find(kServed);
    if (it != metadata.end()) {
      const std::pair<absl::string_view, absl::string_view> times =
          absl::StrSplit(absl::string_view(it->second.data(), it->second.size()), ' ');
      int64_t start = 0;
      int64_t end = 0;
      if (absl::SimpleAtoi(times.first, &start) && absl::SimpleAtoi(times.second, &end)) {
        trace::Span served = span_;
        served.context = trace::NewContext(span_.context);
        served.parent_span_id = span_.context.span_id;
        served.kind = trace::SpanKind::kServer;
        served.service = "gantry-shim";
        served.start = absl::FromUnixNanos(start);
        served.end = absl::FromUnixNanos(end);
        sink->Add(std::move(served));
      }
    }
    sink->Add(std::move(span_));
  }

 private:
  static constexpr char kTraceparent[] = "traceparent";
  static constexpr char kServed[] = "gantry-served";  // of the shim's answer: UNIX-NANOS UNIX-NANOS

  trace::Span span_;
};

}  // namespace

struct ShimClient::Connection {
  explicit Connection(const std::string& path) : dialler(std::make_shared<ShimDialler>(path)) {}

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(const TaskKey& key, const char* name,
                                grpc::Status (pb::Shim::Stub::*method)(grpc::ClientContext*,
                                                                       const Request&, Response*),
                                const Request& request, const CallOptions& options,
                                const char* span_name = nullptr) {
    const auto what = [&] { return absl::StrCat("shim of ", key.ToString(), ": ", name); };
    grpc::ClientContext context;
    absl::Duration timeout = options.timeout;
    CancelToken::Registration registration;
    if (options.cancel != nullptr) {
      if (const absl::Status status = options.cancel->Check(); !status.ok()) return status;
      timeout = std::min(timeout, options.cancel->remaining());
      registration = options.cancel->OnCancel([&context] { context.TryCancel(); });
    }
    context.set_deadline(After(timeout));
    Response response;
    const std::shared_ptr<Link> link = dialler->Get();
    std::optional<CallSpan> span;
    if (trace::Sink() != nullptr && trace::Current().valid())
      span.emplace(span_name != nullptr ? span_name : name, key, context);
    const grpc::Status status = (link->stub.get()->*method)(&context, request, &response);
    if (span.has_value()) span->End(status, context);
    if (status.ok()) return response;
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) dialler->Lost(link);
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return absl::DeadlineExceededError(
          absl::StrCat(what(), ": no answer within ", absl::FormatDuration(timeout)));
    }
    if (status.error_code() == grpc::StatusCode::CANCELLED && options.cancel != nullptr) {
      if (const absl::Status reason = options.cancel->Check(); !reason.ok()) return reason;
    }
    return ToAbsl(status, what());
  }

  // `begin` starts the call on the stub; `self` is this, kept until `done` has run.
  template <typename Request, typename Response, typename Begin>
  static void CallAsync(const std::shared_ptr<Connection>& self, const TaskKey& key,
                        const char* name, const Request& request, absl::Duration timeout,
                        std::function<void(absl::StatusOr<Response>)> done, const Begin& begin) {
    struct Pending {
      grpc::ClientContext context;
      Request request;
      Response response;
      std::shared_ptr<Link> link;
    };
    auto call = std::make_shared<Pending>();
    call->request = request;
    call->link = self->dialler->Get();
    call->context.set_deadline(After(timeout));
    begin(*call->link->stub, &call->context, &call->request, &call->response,
          [call, self, what = absl::StrCat("shim of ", key.ToString(), ": ", name),
           done = std::move(done)](const grpc::Status& status) {
            if (!status.ok()) self->dialler->Lost(call->link);
            if (status.ok()) {
              done(std::move(call->response));
            } else {
              done(ToAbsl(status, what));
            }
          });
  }

  const std::shared_ptr<ShimDialler> dialler;
};

ShimClient::ShimClient(TaskKey key, const std::string& socket_path)
    : key_(std::move(key)), connection_(std::make_shared<Connection>(socket_path)) {}
ShimClient::~ShimClient() = default;

absl::StatusOr<pb::InfoResponse> ShimClient::Info(CallOptions options) {
  return connection_->Call(key_, "Info", &pb::Shim::Stub::Info, pb::InfoRequest(), options);
}
absl::StatusOr<pb::CreateResponse> ShimClient::Create(const pb::CreateRequest& request,
                                                      CallOptions options) {
  return connection_->Call(key_, "Create", &pb::Shim::Stub::Create, request, options,
                           request.start() ? "Create and Start" : nullptr);
}
absl::StatusOr<pb::StartResponse> ShimClient::Start(const pb::StartRequest& request,
                                                    CallOptions options) {
  return connection_->Call(key_, "Start", &pb::Shim::Stub::Start, request, options);
}
absl::StatusOr<pb::ExecResponse> ShimClient::Exec(const pb::ExecRequest& request,
                                                  CallOptions options) {
  return connection_->Call(key_, "Exec", &pb::Shim::Stub::Exec, request, options);
}
absl::StatusOr<pb::ProcessState> ShimClient::State(const pb::StateRequest& request,
                                                   CallOptions options) {
  return connection_->Call(key_, "State", &pb::Shim::Stub::State, request, options);
}
absl::StatusOr<pb::WaitResponse> ShimClient::Wait(const pb::WaitRequest& request,
                                                  CallOptions options) {
  return connection_->Call(key_, "Wait", &pb::Shim::Stub::Wait, request, options);
}
absl::Status ShimClient::Kill(const pb::KillRequest& request, CallOptions options) {
  return connection_->Call(key_, "Kill", &pb::Shim::Stub::Kill, request, options).status();
}
absl::StatusOr<pb::DeleteResponse> ShimClient::Delete(const pb::DeleteRequest& request,
                                                      CallOptions options) {
  return connection_->Call(key_, "Delete", &pb::Shim::Stub::Delete, request, options);
}
absl::StatusOr<pb::PidsResponse> ShimClient::Pids(CallOptions options) {
  return connection_->Call(key_, "Pids", &pb::Shim::Stub::Pids, pb::PidsRequest(), options);
}
absl::Status ShimClient::Pause(CallOptions options) {
  return connection_->Call(key_, "Pause", &pb::Shim::Stub::Pause, pb::PauseRequest(), options)
      .status();
}
absl::Status ShimClient::Resume(CallOptions options) {
  return connection_->Call(key_, "Resume", &pb::Shim::Stub::Resume, pb::ResumeRequest(), options)
      .status();
}
absl::Status ShimClient::Update(const pb::UpdateRequest& request, CallOptions options) {
  return connection_->Call(key_, "Update", &pb::Shim::Stub::Update, request, options).status();
}
absl::StatusOr<pb::StatsResponse> ShimClient::Stats(CallOptions options) {
  return connection_->Call(key_, "Stats", &pb::Shim::Stub::Stats, pb::StatsRequest(), options);
}
absl::Status ShimClient::Checkpoint(const pb::CheckpointRequest& request, CallOptions options) {
  return connection_->Call(key_, "Checkpoint", &pb::Shim::Stub::Checkpoint, request, options)
      .status();
}
absl::Status ShimClient::ResizePty(const pb::ResizePtyRequest& request, CallOptions options) {
  return connection_->Call(key_, "ResizePty", &pb::Shim::Stub::ResizePty, request, options)
      .status();
}
absl::Status ShimClient::CloseStdin(const pb::CloseStdinRequest& request, CallOptions options) {
  return connection_->Call(key_, "CloseStdin", &pb::Shim::Stub::CloseStdin, request, options)
      .status();
}
absl::Status ShimClient::ReopenLog(CallOptions options) {
  return connection_
      ->Call(key_, "ReopenLog", &pb::Shim::Stub::ReopenLog, pb::ReopenLogRequest(), options)
      .status();
}
absl::Status ShimClient::Shutdown(const pb::ShutdownRequest& request, CallOptions options) {
  return connection_->Call(key_, "Shutdown", &pb::Shim::Stub::Shutdown, request, options).status();
}

void ShimClient::InfoAsync(absl::Duration timeout,
                           std::function<void(absl::StatusOr<pb::InfoResponse>)> done) {
  connection_->CallAsync<pb::InfoRequest, pb::InfoResponse>(
      connection_, key_, "Info", pb::InfoRequest(), timeout, std::move(done),
      [](pb::Shim::Stub& stub, auto* context, auto* request, auto* response, auto then) {
        stub.async()->Info(context, request, response, std::move(then));
      });
}

void ShimClient::DeleteAsync(const pb::DeleteRequest& request, absl::Duration timeout,
                             std::function<void(absl::StatusOr<pb::DeleteResponse>)> done) {
  connection_->CallAsync<pb::DeleteRequest, pb::DeleteResponse>(
      connection_, key_, "Delete", request, timeout, std::move(done),
      [](pb::Shim::Stub& stub, auto* context, auto* asked, auto* response, auto then) {
        stub.async()->Delete(context, asked, response, std::move(then));
      });
}

void ShimClient::StatsAsync(absl::Duration timeout,
                            std::function<void(absl::StatusOr<pb::StatsResponse>)> done) {
  connection_->CallAsync<pb::StatsRequest, pb::StatsResponse>(
      connection_, key_, "Stats", pb::StatsRequest(), timeout, std::move(done),
      [](pb::Shim::Stub& stub, auto* context, auto* request, auto* response, auto then) {
        stub.async()->Stats(context, request, response, std::move(then));
      });
}

std::unique_ptr<EventStream> ShimClient::Events(uint64_t after,
                                                std::function<void(const pb::Event&)> on_event,
                                                std::function<void(const absl::Status&)> on_end) {
  return OpenEvents(key_, connection_->dialler, after, std::move(on_event), std::move(on_end));
}

std::unique_ptr<AttachStream> ShimClient::Attach(const pb::AttachInput::Open& open,
                                                 AttachStream::Handler* handler) {
  return OpenAttach(key_, *connection_->dialler, open, handler);
}

}  // namespace gantry::runtime
