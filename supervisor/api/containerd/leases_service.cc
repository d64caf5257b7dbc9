// containerd.services.leases.v1.
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "proto/containerd/services/leases/v1/leases.grpc.pb.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/stores.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/metadata/filter.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::leases::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

class LeasesService final : public Leases::CallbackService, public DoorService {
 public:
  explicit LeasesService(const Room& room) : room_(room), leases_(room.stores->leases) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const CreateRequest* request,
                                   CreateResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      record::v1::Lease fresh;
      fresh.set_id(request->id());
      *fresh.mutable_labels() = request->labels();
      GANTRY_ASSIGN_OR_RETURN(record::v1::Lease record,
                              leases_.Create(call.scope(), std::move(fresh)));
      Recast(record, response->mutable_lease());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const DeleteRequest* request,
                                   google::protobuf::Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(leases_.Delete(call.scope(), request->id()));
      if (!request->sync()) return absl::OkStatus();
      return room_.gc->CollectAndWait(/*full_sweep=*/false, call.deadline());
    });
  }

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const ListRequest* request,
                                 ListResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(metadata::Filter filter,
                              metadata::Filter::Parse(TextsOf(request->filters())));
      return leases_.List(call.scope(), filter, [&](const record::v1::Lease& record) {
        Recast(record, response->add_leases());
        return absl::OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* AddResource(grpc::CallbackServerContext* context,
                                        const AddResourceRequest* request,
                                        google::protobuf::Empty*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      return leases_.AddResource(call.scope(), request->id(),
                                 {request->resource().type(), request->resource().id()});
    });
  }

  grpc::ServerUnaryReactor* DeleteResource(grpc::CallbackServerContext* context,
                                           const DeleteResourceRequest* request,
                                           google::protobuf::Empty*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      return leases_.RemoveResource(call.scope(), request->id(),
                                    {request->resource().type(), request->resource().id()});
    });
  }

  grpc::ServerUnaryReactor* ListResources(grpc::CallbackServerContext* context,
                                          const ListResourcesRequest* request,
                                          ListResourcesResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(std::vector<metadata::LeaseResource> resources,
                              leases_.ListResources(call.scope(), request->id()));
      for (const metadata::LeaseResource& resource : resources) {
        Resource* out = response->add_resources();
        out->set_id(resource.id);
        out->set_type(resource.type);
      }
      return absl::OkStatus();
    });
  }

 private:
  const Room& room_;
  metadata::LeaseStore& leases_;
};

}  // namespace

std::unique_ptr<DoorService> NewLeasesService(const Room& room) {
  return std::make_unique<LeasesService>(room);
}

}  // namespace gantry::api::containerd_api
