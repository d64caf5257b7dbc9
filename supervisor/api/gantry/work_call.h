// A unary call whose work may wait: it runs on a thread of an executor, so that gRPC's own is free for others.
//
// The client's deadline ends the work; that the client goes away does not: what was asked for is done to its end.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_WORK_CALL_H_
#define GANTRY_SUPERVISOR_API_GANTRY_WORK_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/executor.h"
#include "supervisor/api/gantry/call.h"
#include "supervisor/api/grpc_status.h"

namespace gantry::api::gantry_v1 {

// The answer made of what core returned.
template <class T>
grpc::Status Answer(absl::StatusOr<T> result, T* response) {
  if (!result.ok()) return ToGrpc(result.status());
  *response = *std::move(result);
  return grpc::Status::OK;
}

class WorkCall final : public grpc::ServerUnaryReactor {
 public:
  // Request and response live as long as the call: work captures their addresses.
  using Work = std::function<grpc::Status(const core::CallContext&)>;

  static WorkCall* Start(grpc::CallbackServerContext* context, Executor& executor, Work work) {
    // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): gRPC's; deleted in OnDone
    auto* self = new WorkCall(*context, std::move(work));
    if (!executor.Schedule([self] { self->Finish(self->work_(self->call_)); }))
      self->Finish(ToGrpc(absl::UnavailableError("gantryd is stopping")));
    return self;
  }

  void OnDone() override { delete this; }  // NOLINT(cppcoreguidelines-owning-memory)

 private:
  WorkCall(const grpc::CallbackServerContext& context, Work work)
      : call_(context), work_(std::move(work)) {}

  const Call call_;
  const Work work_;
};

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_WORK_CALL_H_
