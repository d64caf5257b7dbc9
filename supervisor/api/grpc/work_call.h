// Unary calls. Work is `absl::Status(Call&)`; the messages of the request and of the answer live as
// long as the call, so that work captures their addresses.
#ifndef GANTRY_SUPERVISOR_API_GRPC_WORK_CALL_H_
#define GANTRY_SUPERVISOR_API_GRPC_WORK_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"

namespace gantry::api {

// The answer made of what core returned.
template <class T>
absl::Status Answer(absl::StatusOr<T> result, T* response) {
  if (!result.ok()) return result.status();
  *response = *std::move(result);
  return absl::OkStatus();
}

// What becomes of the work when its client goes away before the answer.
enum class Departure {
  kCancels,  // the call's token is cancelled
  kIgnored,  // the work is done to its end; only the client's deadline ends it
};

template <typename Work>
grpc::Status RunCall(Call& call, Work& work) {
  absl::Status status = call.Validate();
  if (status.ok()) status = work(call);
  return call.Ended(status);
}

// A call that is answered from memory: on gRPC's own thread, which saves handing it to another. Not
// for what may wait or takes more than some microseconds, because that thread serves all
// connections.
template <typename Work>
grpc::ServerUnaryReactor* HandleQuick(grpc::CallbackServerContext& context, Work work,
                                      Scoped scoped = Scoped::kYes) {
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  Call call(context, scoped);
  reactor->Finish(RunCall(call, work));
  return reactor;
}

template <typename Work>
class WorkCall final : public grpc::ServerUnaryReactor {
 public:
  static WorkCall* Start(Lane& lane, const grpc::CallbackServerContext& context, Work work,
                         Scoped scoped, Departure departure) {
    // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): gRPC's; deleted in OnDone
    auto* self = new WorkCall(lane, context, std::move(work), scoped, departure);
    if (!lane.Enter(self->connection_, [self] { self->Run(); })) {
      self->refused_ = true;
      self->Finish(self->call_.Ended(DaemonStopping()));
    }
    return self;
  }
  void OnCancel() override {
    if (departure_ == Departure::kCancels) call_.cancel().Cancel("the client has gone");
  }
  void OnDone() override {
    if (!refused_) lane_.Leave(connection_);
    delete this;  // NOLINT(cppcoreguidelines-owning-memory)
  }

 private:
  WorkCall(Lane& lane, const grpc::CallbackServerContext& context, Work work, Scoped scoped,
           Departure departure)
      : lane_(lane),
        connection_(context.peer()),
        call_(context, scoped),
        work_(std::move(work)),
        departure_(departure) {}
  void Run() { Finish(RunCall(call_, work_)); }

  Lane& lane_;
  const std::string connection_;
  bool refused_ = false;
  Call call_;
  Work work_;
  const Departure departure_;
};

// A call whose work may wait: it runs on a thread of the lane.
template <typename Work>
grpc::ServerUnaryReactor* HandleOn(Lane& lane, const grpc::CallbackServerContext& context,
                                   Work work, Scoped scoped,
                                   Departure departure = Departure::kCancels) {
  return WorkCall<Work>::Start(lane, context, std::move(work), scoped, departure);
}
template <typename Work>
grpc::ServerUnaryReactor* HandleOn(Lane& lane, const grpc::CallbackServerContext& context,
                                   Work work, Departure departure = Departure::kCancels) {
  return HandleOn(lane, context, std::move(work), lane.scoped(), departure);
}

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_WORK_CALL_H_
