#include "supervisor/api/grpc/work_call.h"

#include <string>
#include <utility>

namespace gantry::api {
namespace {

grpc::Status RunCall(Call& call, absl::FunctionRef<absl::Status(Call&)> work) {
  absl::Status status = call.Validate();
  if (status.ok()) status = work(call);
  return call.Ended(status);
}

class WorkCall final : public grpc::ServerUnaryReactor {
 public:
  static WorkCall* Start(Lane& lane, const grpc::CallbackServerContext& context, CallWork work,
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
  WorkCall(Lane& lane, const grpc::CallbackServerContext& context, CallWork work, Scoped scoped,
           Departure departure)
      : lane_(lane),
        connection_(context.peer()),
        call_(context, scoped),
        work_(std::move(work)),
        departure_(departure) {}
  void Run() {
    Finish(RunCall(call_, [this](Call& call) { return work_(call); }));
  }

  Lane& lane_;
  const std::string connection_;
  bool refused_ = false;
  Call call_;
  CallWork work_;
  const Departure departure_;
};

}  // namespace

grpc::ServerUnaryReactor* HandleQuick(grpc::CallbackServerContext& context,
                                      absl::FunctionRef<absl::Status(Call&)> work, Scoped scoped) {
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  Call call(context, scoped);
  reactor->Finish(RunCall(call, work));
  return reactor;
}

grpc::ServerUnaryReactor* HandleOn(Lane& lane, const grpc::CallbackServerContext& context,
                                   CallWork work, Scoped scoped, Departure departure) {
  return WorkCall::Start(lane, context, std::move(work), scoped, departure);
}

}  // namespace gantry::api
