// containerd.services.namespaces.v1. The one service of records that needs no namespace header.
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "proto/containerd/services/namespaces/v1/namespace.grpc.pb.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/stores.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::namespaces::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file

class NamespacesService final : public Namespaces::CallbackService, public DoorService {
 public:
  explicit NamespacesService(const Room& room)
      : room_(room), namespaces_(room.stores->namespaces) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context,
                                const GetNamespaceRequest* request,
                                GetNamespaceResponse* response) override {
    return HandleQuick(
        *context,
        [&](Call&) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(record::v1::Namespace record, namespaces_.Get(request->name()));
          SetNamespace(record, response->mutable_namespace_());
          return absl::OkStatus();
        },
        Scoped::kNo);
  }

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context, const ListNamespacesRequest*,
                                 ListNamespacesResponse* response) override {
    return Handle(*context, [=, this](Call&) {
      return namespaces_.List([&](const record::v1::Namespace& record) {
        SetNamespace(record, response->add_namespaces());
        return absl::OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const CreateNamespaceRequest* request,
                                   CreateNamespaceResponse* response) override {
    return Handle(*context, [=, this](Call&) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(record::v1::Namespace record,
                              namespaces_.Create(RecordOf(request->namespace_())));
      SetNamespace(record, response->mutable_namespace_());
      PublishWritten(core::action::kCreate, record);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const UpdateNamespaceRequest* request,
                                   UpdateNamespaceResponse* response) override {
    return Handle(*context, [=, this](Call&) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(record::v1::Namespace record,
                              namespaces_.Update(RecordOf(request->namespace_()),
                                                 TextsOf(request->update_mask().paths())));
      SetNamespace(record, response->mutable_namespace_());
      PublishWritten(core::action::kUpdate, record);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const DeleteNamespaceRequest* request,
                                   google::protobuf::Empty*) override {
    return Handle(*context, [=, this](Call&) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(namespaces_.Delete(request->name()));
      room_.events->Publish(
          request->name(),
          core::LowLevelEvent(core::EventKind::kNamespace, core::action::kDelete, request->name()));
      return absl::OkStatus();
    });
  }

 private:
  void PublishWritten(absl::string_view action, const record::v1::Namespace& written) {
    core::RecordFacts facts;
    facts.labels.insert(written.labels().begin(), written.labels().end());
    room_.events->Publish(written.name(), core::LowLevelEvent(core::EventKind::kNamespace, action,
                                                              written.name(), std::move(facts)));
  }

  template <typename Work>
  grpc::ServerUnaryReactor* Handle(const grpc::CallbackServerContext& context, Work work) {
    return HandleOn(*room_.store_calls, context, std::move(work), Scoped::kNo);
  }
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
