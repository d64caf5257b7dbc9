// containerd.services.containers.v1.
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

#include "base/status_macros.h"
#include "proto/containerd/services/containers/v1/containers.grpc.pb.h"
#include "supervisor/api/containerd/raw_message.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/answer_places.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/record_facts.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/record_fields.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::containers::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file
using metadata::Filter;

// Most that stands before a record in a message of one.
constexpr size_t kHeadBytes = 11;
// Lists in one message that are in memory at once, and how long one of them counts whose client
// does not take it.
constexpr size_t kWholeLists = 8;
constexpr absl::Duration kListPatience = absl::Seconds(5);

using ContainersBase = Containers::WithRawCallbackMethod_Get<Containers::WithRawCallbackMethod_List<
    Containers::WithRawCallbackMethod_ListStream<Containers::CallbackService>>>;

class ContainersService final : public ContainersBase, public DoorService {
 public:
  explicit ContainersService(const Room& room)
      : room_(room), containers_(room.stores->containers) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context,
                                const grpc::ByteBuffer* request,
                                grpc::ByteBuffer* response) override {
    return HandleQuick(*context, [&](Call& call) -> absl::Status {
      GetContainerRequest parsed;
      GANTRY_RETURN_IF_ERROR(ParseRaw(*request, &parsed));
      GANTRY_ASSIGN_OR_RETURN(std::string record, containers_.GetRaw(call.scope(), parsed.id()));
      std::string out;
      AppendField1(record, out);
      *response = RawMessage(std::move(out));
      return absl::OkStatus();
    });
  }

  // The records go out as they are stored: a thousand containers with their specifications are
  // megabytes that need not be parsed. Nor held for all who ask at once.
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const grpc::ByteBuffer* request,
                                 grpc::ByteBuffer* response) override {
    return HandleOn(
        *room_.long_calls, *context,
        [=, this, place = AnswerPlaces::Place()](Call& call) mutable -> absl::Status {
          ListContainersRequest parsed;
          GANTRY_RETURN_IF_ERROR(ParseRaw(*request, &parsed));
          GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(parsed.filters())));
          GANTRY_ASSIGN_OR_RETURN(place, whole_lists_.Take(call.cancel()));
          RawList out;
          GANTRY_RETURN_IF_ERROR(EachRaw(call.scope(), filter, [&out](absl::string_view record) {
            out.Append(record);
            return absl::OkStatus();
          }));
          *response = std::move(out).Finish();
          return absl::OkStatus();
        });
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* ListStream(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request) override {
    return HandleList<grpc::ByteBuffer>(
        *room_.long_calls, *context,
        [this, request](Call& call, Sender<grpc::ByteBuffer>& out) -> absl::Status {
          ListContainersRequest parsed;
          GANTRY_RETURN_IF_ERROR(ParseRaw(*request, &parsed));
          GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(parsed.filters())));
          return EachRaw(call.scope(), filter, [&out](absl::string_view record) {
            std::string message;
            message.reserve(record.size() + kHeadBytes);
            AppendField1(record, message);
            return out.Send(RawMessage(std::move(message)));
          });
        });
  }

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const CreateContainerRequest* request,
                                   CreateContainerResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      metadata::NewContainer fresh;
      Recast(request->container(), &fresh.record);
      fresh.record.clear_client_log_uri();  // ours to write
      GANTRY_ASSIGN_OR_RETURN(record::v1::Container record,
                              containers_.Create(call.scope(), std::move(fresh)));
      Recast(record, response->mutable_container());
      Publish(call, core::action::kCreate, record);
      room_.tasks->AnnounceStart();
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const UpdateContainerRequest* request,
                                   UpdateContainerResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      record::v1::Container wanted;
      Recast(request->container(), &wanted);
      GANTRY_ASSIGN_OR_RETURN(
          record::v1::Container record,
          containers_.Update(call.scope(), wanted, TextsOf(request->update_mask().paths())));
      Recast(record, response->mutable_container());
      Publish(call, core::action::kUpdate, record);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const DeleteContainerRequest* request,
                                   google::protobuf::Empty*) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      room_.subjects->Departs(call.ns(), request->id());
      GANTRY_RETURN_IF_ERROR(containers_.Delete(call.scope(), request->id()));
      room_.events->Publish(call.ns(), core::Event(core::EventKind::kContainer,
                                                   core::action::kDestroy, request->id()));
      return absl::OkStatus();
    });
  }

 private:
  void Publish(const Call& call, absl::string_view action, const record::v1::Container& written) {
    core::Event event(core::EventKind::kContainer, action, written.id());
    event.facts = core::FactsOfRecord(written);
    room_.events->Publish(call.ns(), std::move(event));
  }

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
  AnswerPlaces whole_lists_{kWholeLists, kListPatience};
};

}  // namespace

std::unique_ptr<DoorService> NewContainersService(const Room& room) {
  return std::make_unique<ContainersService>(room);
}

}  // namespace gantry::api::containerd_api
