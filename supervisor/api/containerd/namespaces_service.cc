// containerd.services.namespaces.v1. The one service of records that needs no namespace header.
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "proto/containerd/events/namespace.pb.h"
#include "proto/containerd/services/namespaces/v1/namespace.grpc.pb.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc_status.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/stores.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::namespaces::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

class NamespacesService final : public Namespaces::Service, public DoorService {
 public:
  explicit NamespacesService(const Room& room)
      : room_(room), namespaces_(room.stores->namespaces) {}
  grpc::Service* service() override { return this; }

  grpc::Status Get(grpc::ServerContext*, const GetNamespaceRequest* request,
                   GetNamespaceResponse* response) override {
    absl::StatusOr<record::v1::Namespace> record = namespaces_.Get(request->name());
    if (record.ok()) SetNamespace(*record, response->mutable_namespace_());
    return ToGrpc(record.status());
  }

  grpc::Status List(grpc::ServerContext*, const ListNamespacesRequest*,
                    ListNamespacesResponse* response) override {
    return ToGrpc(namespaces_.List([&](const record::v1::Namespace& record) {
      SetNamespace(record, response->add_namespaces());
      return absl::OkStatus();
    }));
  }

  grpc::Status Create(grpc::ServerContext*, const CreateNamespaceRequest* request,
                      CreateNamespaceResponse* response) override {
    absl::StatusOr<record::v1::Namespace> record =
        namespaces_.Create(RecordOf(request->namespace_()));
    if (!record.ok()) return ToGrpc(record.status());
    SetNamespace(*record, response->mutable_namespace_());
    containerd::events::NamespaceCreate event;
    event.set_name(record->name());
    *event.mutable_labels() = record->labels();
    room_.events->Publish(record->name(), "/namespaces/create", event);
    return grpc::Status::OK;
  }

  grpc::Status Update(grpc::ServerContext*, const UpdateNamespaceRequest* request,
                      UpdateNamespaceResponse* response) override {
    absl::StatusOr<record::v1::Namespace> record = namespaces_.Update(
        RecordOf(request->namespace_()), TextsOf(request->update_mask().paths()));
    if (!record.ok()) return ToGrpc(record.status());
    SetNamespace(*record, response->mutable_namespace_());
    containerd::events::NamespaceUpdate event;
    event.set_name(record->name());
    *event.mutable_labels() = record->labels();
    room_.events->Publish(record->name(), "/namespaces/update", event);
    return grpc::Status::OK;
  }

  grpc::Status Delete(grpc::ServerContext*, const DeleteNamespaceRequest* request,
                      google::protobuf::Empty*) override {
    absl::Status deleted = namespaces_.Delete(request->name());
    if (!deleted.ok()) return ToGrpc(deleted);
    containerd::events::NamespaceDelete event;
    event.set_name(request->name());
    room_.events->Publish(request->name(), "/namespaces/delete", event);
    return grpc::Status::OK;
  }

 private:
  static record::v1::Namespace RecordOf(const Namespace& wire) {
    record::v1::Namespace record;
    record.set_name(wire.name());
    *record.mutable_labels() = wire.labels();
    return record;
  }
  static void SetNamespace(const record::v1::Namespace& record, Namespace* out) {
    out->set_name(record.name());
    *out->mutable_labels() = record.labels();
  }

  const Room& room_;
  metadata::NamespaceStore& namespaces_;
};

}  // namespace

std::unique_ptr<DoorService> NewNamespacesService(const Room& room) {
  return std::make_unique<NamespacesService>(room);
}

}  // namespace gantry::api::containerd_api
