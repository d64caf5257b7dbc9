// containerd.services.images.v1.
#include <optional>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "proto/containerd/services/images/v1/images.grpc.pb.h"
#include "supervisor/api/containerd/raw_message.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/wire.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/record_facts.h"
#include "supervisor/core/stores.h"
#include "supervisor/gc/scheduler.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/record_values.h"

namespace gantry::api::containerd_api {
namespace {

using namespace containerd::services::images::
    v1;  // NOLINT(google-build-using-namespace): the messages of this file
using metadata::Filter;

class ImagesService final : public Images::WithRawCallbackMethod_Get<Images::CallbackService>,
                            public DoorService {
 public:
  explicit ImagesService(const Room& room) : room_(room), images_(room.stores->images) {}
  grpc::Service* service() override { return this; }

  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context,
                                const grpc::ByteBuffer* request,
                                grpc::ByteBuffer* response) override {
    return HandleQuick(*context, [&](Call& call) -> absl::Status {
      GetImageRequest parsed;
      GANTRY_RETURN_IF_ERROR(ParseRaw(*request, &parsed));
      GANTRY_ASSIGN_OR_RETURN(std::string record, images_.GetRaw(call.scope(), parsed.name()));
      std::string out;
      AppendField1(record, out);
      *response = RawMessage(std::move(out));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const ListImagesRequest* request,
                                 ListImagesResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(Filter filter, Filter::Parse(TextsOf(request->filters())));
      return images_.List(call.scope(), filter, [&](const record::v1::Image& record) {
        Recast(record, response->add_images());
        return absl::OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const CreateImageRequest* request,
                                   CreateImageResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      record::v1::Image fresh;
      Recast(request->image(), &fresh);
      std::optional<absl::Time> at;
      if (request->has_source_date_epoch()) at = metadata::TimeOf(request->source_date_epoch());
      GANTRY_ASSIGN_OR_RETURN(record::v1::Image record,
                              images_.Create(call.scope(), std::move(fresh), at));
      Recast(record, response->mutable_image());
      PublishWritten(call, core::action::kCreate, record);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Update(grpc::CallbackServerContext* context,
                                   const UpdateImageRequest* request,
                                   UpdateImageResponse* response) override {
    return HandleOn(*room_.store_calls, *context, [=, this](Call& call) -> absl::Status {
      record::v1::Image wanted;
      Recast(request->image(), &wanted);
      std::optional<absl::Time> at;
      if (request->has_source_date_epoch()) at = metadata::TimeOf(request->source_date_epoch());
      GANTRY_ASSIGN_OR_RETURN(
          record::v1::Image record,
          images_.Update(call.scope(), wanted, TextsOf(request->update_mask().paths()), at));
      Recast(record, response->mutable_image());
      PublishWritten(call, core::action::kUpdate, record);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const DeleteImageRequest* request,
                                   google::protobuf::Empty*) override {
    return HandleOn(*room_.long_calls, *context, [=, this](Call& call) -> absl::Status {
      std::optional<content::Digest> target;
      if (request->has_target()) {
        GANTRY_ASSIGN_OR_RETURN(target, content::Digest::Parse(request->target().digest()));
      }
      GANTRY_RETURN_IF_ERROR(images_.Delete(call.scope(), request->name(), target));
      room_.events->Publish(call.ns(), core::ImageRecordGone(request->name()));
      room_.events->Publish(call.ns(), core::Event(core::EventKind::kImage, "untag",
                                                   request->name(), {{"name", request->name()}}));
      if (!request->sync()) return absl::OkStatus();
      return room_.gc->CollectAndWait(/*full_sweep=*/false, call.deadline());
    });
  }

 private:
  void PublishWritten(const Call& call, absl::string_view action,
                      const record::v1::Image& written) {
    room_.events->Publish(call.ns(), core::ImageRecordWritten(action, written));
    room_.events->Publish(call.ns(),
                          core::Event(core::EventKind::kImage, "tag", written.target().digest(),
                                      {{"name", written.name()}}));
  }

  const Room& room_;
  metadata::ImageStore& images_;
};

}  // namespace

std::unique_ptr<DoorService> NewImagesService(const Room& room) {
  return std::make_unique<ImagesService>(room);
}

}  // namespace gantry::api::containerd_api
