// A containerd call as core wants it: namespace and lease from the metadata, a cancel token with the client's deadline.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_CALL_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "base/executor.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/call_context.h"
#include "supervisor/metadata/scope.h"

namespace gantry::api::containerd_api {

// One call, for its length.
class Call {
 public:
  explicit Call(const grpc::ServerContextBase& context)
      : cancel_(TimeLeft(context)),
        scope_{Header(context, "containerd-namespace"), Header(context, "containerd-lease")} {
    context_.ns = scope_.ns;
    context_.lease = scope_.lease;
    context_.cancel = &cancel_;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Namespace and lease, for the stores.
  const metadata::Scope& scope() const { return scope_; }
  const std::string& ns() const { return scope_.ns; }
  const core::CallContext& context() const { return context_; }
  CancelToken& cancel() { return cancel_; }
  // When the client gives up; far away when it never does.
  absl::Time deadline() const { return absl::Now() + cancel_.remaining(); }

 private:
  static absl::Duration TimeLeft(const grpc::ServerContextBase& context) {
    const auto deadline = context.deadline();
    if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteDuration();
    return std::max(absl::ZeroDuration(),
                    absl::FromChrono(deadline - std::chrono::system_clock::now()));
  }
  // The first value, if there are several.
  static std::string Header(const grpc::ServerContextBase& context, const char* name) {
    const auto& all = context.client_metadata();
    const auto it = all.lower_bound(name);
    return it == all.end() || it->first != name ? std::string()
                                                : std::string(it->second.data(), it->second.size());
  }

  CancelToken cancel_;
  metadata::Scope scope_;
  core::CallContext context_;
};

// Runs a call's work, `absl::Status(Call&)`, if the call names a valid namespace.
template <typename Work>
grpc::Status Handle(const grpc::ServerContextBase& context, Work work) {
  Call call(context);
  absl::Status status = call.scope().Validate();
  if (status.ok()) status = work(call);
  return ToGrpc(status);
}

// A unary call that the database answers from memory: answered on gRPC's own thread, which saves handing it to another. Not for what
// may wait, because these threads are few and all connections share them.
template <typename Work>
grpc::ServerUnaryReactor* HandleQuick(grpc::CallbackServerContext& context, Work work) {
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  reactor->Finish(Handle(context, std::move(work)));
  return reactor;
}

// A unary call whose work may take long: it runs on `executor`, and its token is cancelled when the client goes away.
template <typename Work>
class LongCall final : public grpc::ServerUnaryReactor {
 public:
  static LongCall* Start(Executor& executor, const grpc::CallbackServerContext& context,
                         Work work) {
    auto* self = new LongCall(
        context,
        std::move(work));  // NOLINT(cppcoreguidelines-owning-memory): gRPC's; deleted in OnDone
    if (!executor.Schedule([self] { self->Run(); }))
      self->Finish(ToGrpc(absl::UnavailableError("the daemon is stopping")));
    return self;
  }
  void OnCancel() override { call_.cancel().Cancel("the client has gone"); }
  void OnDone() override { delete this; }  // NOLINT(cppcoreguidelines-owning-memory)

 private:
  LongCall(const grpc::CallbackServerContext& context, Work work)
      : call_(context), work_(std::move(work)) {}
  void Run() {
    absl::Status status = call_.scope().Validate();
    if (status.ok()) status = work_(call_);
    Finish(ToGrpc(status));
  }

  Call call_;
  Work work_;
};

template <typename Work>
grpc::ServerUnaryReactor* HandleLong(Executor& executor, const grpc::CallbackServerContext& context,
                                     Work work) {
  return LongCall<Work>::Start(executor, context, std::move(work));
}

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_CALL_H_
