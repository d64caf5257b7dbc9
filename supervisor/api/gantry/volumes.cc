#include "supervisor/api/gantry/volumes.h"

#include <string>
#include <utility>

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/volumes.grpc.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/upload_stream.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/volume_content.h"
#include "supervisor/core/volume_service.h"

namespace gantry::api::gantry_v1 {
namespace {

// Calls of one connection at once.
constexpr size_t kShare = 32;

class VolumesDoor final : public v1::Volumes::CallbackService {
 public:
  VolumesDoor(core::VolumeService& volumes, core::VolumeContent& content, Executor& work)
      : volumes_(volumes), content_(content), work_(work, kShare, Scoped::kDefault) {}

  // What changes a volume is done to its end also when the client is gone.
  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const v1::CreateVolumeRequest* request,
                                   v1::CreateVolumeResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(volumes_.Create(call, *request), response); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListVolumesRequest* request,
                                 v1::ListVolumesResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(volumes_.List(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Inspect(grpc::CallbackServerContext* context,
                                    const v1::InspectVolumeRequest* request,
                                    v1::InspectVolumeResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(volumes_.Inspect(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context,
                                   const v1::RemoveVolumeRequest* request,
                                   v1::RemoveVolumeResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(volumes_.Remove(call, *request), response); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Prune(grpc::CallbackServerContext* context,
                                  const v1::PruneVolumesRequest* request,
                                  v1::PruneVolumesResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(volumes_.Prune(call, *request), response); },
        Departure::kIgnored);
  }

  grpc::ServerUnaryReactor* Rename(grpc::CallbackServerContext* context,
                                   const v1::RenameVolumeRequest* request,
                                   v1::RenameVolumeResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(volumes_.Rename(call, *request), response); },
        Departure::kIgnored);
  }
  // Given up when the client is gone: nothing stays of it.
  grpc::ServerUnaryReactor* Clone(grpc::CallbackServerContext* context,
                                  const v1::CloneVolumeRequest* request,
                                  v1::CloneVolumeResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(content_.Clone(call, *request), response);
    });
  }
  grpc::ServerWriteReactor<v1::ExportVolumeResponse>* Export(
      grpc::CallbackServerContext* context, const v1::ExportVolumeRequest* request) override {
    return HandleList<v1::ExportVolumeResponse>(
        work_, *context,
        [this, request = *request](Call& call, Sender<v1::ExportVolumeResponse>& out) {
          SenderSink<v1::ExportVolumeResponse> sink(out, [](std::string bytes) {
            v1::ExportVolumeResponse response;
            response.set_data(std::move(bytes));
            return response;
          });
          GANTRY_RETURN_IF_ERROR(content_.Export(call, request.name(), sink));
          return sink.Flush();
        });
  }
  grpc::ServerReadReactor<v1::ImportVolumeRequest>* Import(grpc::CallbackServerContext* context,
                                                           v1::ImportVolumeResponse*) override {
    return HandleReceive<v1::ImportVolumeRequest>(
        work_, *context,
        [this](Call& call, const v1::ImportVolumeRequest& request, ByteSource& archive) {
          return content_.Import(call, request.open().name(), archive);
        });
  }

 private:
  core::VolumeService& volumes_;
  core::VolumeContent& content_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewVolumesDoor(core::VolumeService& volumes,
                                              core::VolumeContent& content, Executor& work) {
  return std::make_unique<VolumesDoor>(volumes, content, work);
}

}  // namespace gantry::api::gantry_v1
