#include "supervisor/api/gantry/life.h"

#include "base/executor.h"
#include "proto/gantry/v1/life.grpc.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/end_report.h"

namespace gantry::api::gantry_v1 {
namespace {

// Calls of one connection at once.
constexpr size_t kShare = 8;

class LifeDoor final : public v1::Life::CallbackService {
 public:
  LifeDoor(core::EndReports& ends, const core::ContainerSet::Parts& set, Executor& work)
      : ends_(ends), set_(set), work_(work, kShare, Scoped::kDefault) {}

  // Done to its end also when the client is gone: several changes belong together.
  grpc::ServerUnaryReactor* Set(grpc::CallbackServerContext* context,
                                const v1::SetContainerRequest* request,
                                v1::SetContainerResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(set_.Set(call, *request), response); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* ExplainEnd(grpc::CallbackServerContext* context,
                                       const v1::ExplainEndRequest* request,
                                       v1::ExplainEndResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(ends_.Explain(call, request->container()), response->mutable_report());
    });
  }

 private:
  core::EndReports& ends_;
  core::ContainerSet set_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewLifeDoor(core::EndReports& ends,
                                           const core::ContainerSet::Parts& set, Executor& work) {
  return std::make_unique<LifeDoor>(ends, set, work);
}

}  // namespace gantry::api::gantry_v1
