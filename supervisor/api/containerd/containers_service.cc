// containerd.services.containers.v1.
#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "proto/containerd/events/container.pb.h"
#include "proto/containerd/services/containers/v1/containers.grpc.pb.h"
#include "supervisor/api/containerd/call.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/record_fields.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::containers::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file
using metadata::Filter;

// A message whose bytes are `bytes`, without another copy.
grpc::ByteBuffer Wrap(std::string bytes) {
  auto* kept = new std::string(
      std::move(bytes));  // NOLINT(cppcoreguidelines-owning-memory): the slice's; deleted with it
  grpc::Slice slice(
      kept->data(), kept->size(), [](void* owner) { delete static_cast<std::string*>(owner); },
      kept);  // NOLINT(cppcoreguidelines-owning-memory)
  return grpc::ByteBuffer(&slice, 1);
}

// One `repeated Container containers = 1` of a ListContainersResponse.
void AppendContainer(absl::string_view bytes, std::string& out) {
  uint8_t head[1 + 10];
  head[0] = (1 << 3) | 2;
  const uint8_t* end =
      google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(bytes.size(), head + 1);
  out.append(reinterpret_cast<const char*>(head), static_cast<size_t>(end - head));
  out.append(bytes.data(), bytes.size());
}

class ContainersService final : public Containers::WithRawCallbackMethod_List<Containers::Service>,
                                public DoorService {
 public:
  explicit ContainersService(const Room& room)
      : room_(room), containers_(room.stores->containers) {}
  grpc::Service* service() override { return this; }

  grpc::Status Get(grpc::ServerContext* context, const GetContainerRequest* request,
                   GetContainerResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(record::v1::Container record,
                              containers_.Get(call.scope(), request->id()));
      Recast(record, response->mutable_container());
      return absl::OkStatus();
    });
  }

  // The records go out as they are stored: a thousand containers with their specifications are megabytes that nobody need parse.
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const grpc::ByteBuffer* request,
                                 grpc::ByteBuffer* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(Handle(*context, [&](Call& call) -> absl::Status {
      ListContainersRequest parsed;
      grpc::ByteBuffer bytes(*request);
      grpc::ProtoBufferReader reader(&bytes);
      if (!parsed.ParseFromZeroCopyStream(&reader))
        return absl::InternalError("the request does not parse");
      GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(parsed.filters())));
      std::string out;
      GANTRY_RETURN_IF_ERROR(EachRaw(call.scope(), filter, [&out](absl::string_view record) {
        AppendContainer(record, out);
        return absl::OkStatus();
      }));
      *response = Wrap(std::move(out));
      return absl::OkStatus();
    }));
    return reactor;
  }

  grpc::Status ListStream(grpc::ServerContext* context, const ListContainersRequest* request,
                          grpc::ServerWriter<ListContainerMessage>* writer) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(request->filters())));
      ListContainerMessage message;
      return EachRaw(call.scope(), filter, [&](absl::string_view record) -> absl::Status {
        message.mutable_container()->ParseFromArray(record.data(), static_cast<int>(record.size()));
        return writer->Write(message) ? absl::OkStatus()
                                      : absl::CancelledError("the client has gone");
      });
    });
  }

  grpc::Status Create(grpc::ServerContext* context, const CreateContainerRequest* request,
                      CreateContainerResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      metadata::NewContainer fresh;
      Recast(request->container(), &fresh.record);
      GANTRY_ASSIGN_OR_RETURN(record::v1::Container record,
                              containers_.Create(call.scope(), std::move(fresh)));
      Recast(record, response->mutable_container());
      containerd::events::ContainerCreate event;
      event.set_id(record.id());
      event.set_image(record.image());
      Recast(record.runtime(), event.mutable_runtime());
      room_.events->Publish(call.ns(), "/containers/create", event);
      room_.tasks->AnnounceStart();
      return absl::OkStatus();
    });
  }

  grpc::Status Update(grpc::ServerContext* context, const UpdateContainerRequest* request,
                      UpdateContainerResponse* response) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      record::v1::Container wanted;
      Recast(request->container(), &wanted);
      GANTRY_ASSIGN_OR_RETURN(
          record::v1::Container record,
          containers_.Update(call.scope(), wanted, TextsOf(request->update_mask().paths())));
      Recast(record, response->mutable_container());
      containerd::events::ContainerUpdate event;
      event.set_id(record.id());
      event.set_image(record.image());
      *event.mutable_labels() = record.labels();
      event.set_snapshot_key(record.snapshot_key());
      room_.events->Publish(call.ns(), "/containers/update", event);
      return absl::OkStatus();
    });
  }

  grpc::Status Delete(grpc::ServerContext* context, const DeleteContainerRequest* request,
                      google::protobuf::Empty*) override {
    return Handle(*context, [&](Call& call) -> absl::Status {
      GANTRY_RETURN_IF_ERROR(containers_.Delete(call.scope(), request->id()));
      containerd::events::ContainerDelete event;
      event.set_id(request->id());
      room_.events->Publish(call.ns(), "/containers/delete", event);
      return absl::OkStatus();
    });
  }

 private:
  template <typename Visit>
  absl::Status EachRaw(const metadata::Scope& scope, const Filter& filter, Visit visit) {
    return containers_.ListRaw(
        scope, [&](absl::string_view, absl::string_view bytes) -> absl::Status {
          if (!filter.matches_everything()) {
            record::v1::Container record;
            if (!record.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
              return absl::DataLossError("a container record does not parse");
            if (!filter.Matches(metadata::FieldsOf(record))) return absl::OkStatus();
          }
          return visit(bytes);
        });
  }

  const Room& room_;
  metadata::ContainerStore& containers_;
};

}  // namespace

std::unique_ptr<DoorService> NewContainersService(const Room& room) {
  return std::make_unique<ContainersService>(room);
}

}  // namespace gantry::api::containerd_api
