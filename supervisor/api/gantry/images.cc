#include "supervisor/api/gantry/images.h"

#include <string>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/images.grpc.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/outgoing.h"
#include "supervisor/api/grpc/upload_stream.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/image_services.h"

namespace gantry::api::gantry_v1 {
namespace {

// Calls of one connection at once.
constexpr size_t kShare = 32;

// Progress goes out when there is room; its next message is better anyway. Ends of steps are never
// dropped.
template <class Response>
core::ProgressFn ProgressTo(Sender<Response>& out) {
  return [&out](const v1::Progress& progress) {
    Response response;
    *response.mutable_progress() = progress;
    const bool running =
        progress.state() == v1::Progress::DOWNLOADING ||
        progress.state() == v1::Progress::UNPACKING ||
        progress.state() == v1::Progress::UPLOADING || progress.state() == v1::Progress::READING ||
        progress.state() == v1::Progress::WRITING || progress.state() == v1::Progress::VERIFYING;
    out.Offer(std::move(response), !running);
  };
}

class ImagesDoor final : public v1::Images::CallbackService {
 public:
  ImagesDoor(core::ImageServices& images, Executor& work)
      : images_(images), work_(work, kShare, Scoped::kDefault) {}

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const v1::ListImagesRequest* request,
                                 v1::ListImagesResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(images_.catalog.List(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Inspect(grpc::CallbackServerContext* context,
                                    const v1::InspectImageRequest* request,
                                    v1::InspectImageResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(images_.catalog.Inspect(call, *request), response->mutable_image());
    });
  }
  grpc::ServerUnaryReactor* History(grpc::CallbackServerContext* context,
                                    const v1::ImageHistoryRequest* request,
                                    v1::ImageHistoryResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(images_.catalog.History(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Tag(grpc::CallbackServerContext* context,
                                const v1::TagImageRequest* request,
                                v1::TagImageResponse* response) override {
    return HandleOn(
        work_, *context, [=, this](Call& call) { return images_.catalog.Tag(call, *request); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Remove(grpc::CallbackServerContext* context,
                                   const v1::RemoveImageRequest* request,
                                   v1::RemoveImageResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(images_.catalog.Remove(call, *request), response); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Prune(grpc::CallbackServerContext* context,
                                  const v1::PruneImagesRequest* request,
                                  v1::PruneImagesResponse* response) override {
    return HandleOn(
        work_, *context,
        [=, this](Call& call) { return Answer(images_.catalog.Prune(call, *request), response); },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* Login(grpc::CallbackServerContext* context,
                                  const v1::LoginRequest* request,
                                  v1::LoginResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(images_.registry.Login(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* ExplainRegistry(grpc::CallbackServerContext* context,
                                            const v1::ExplainRegistryRequest* request,
                                            v1::ExplainRegistryResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(images_.registry.ExplainRegistry(call, *request), response);
    });
  }
  grpc::ServerUnaryReactor* Search(grpc::CallbackServerContext* context,
                                   const v1::SearchImagesRequest* request,
                                   v1::SearchImagesResponse* response) override {
    return HandleOn(work_, *context, [=, this](Call& call) {
      return Answer(images_.registry.Search(call, *request), response);
    });
  }

  grpc::ServerWriteReactor<v1::PullResponse>* Pull(grpc::CallbackServerContext* context,
                                                   const v1::PullRequest* request) override {
    return HandleList<v1::PullResponse>(
        work_, *context, [this, request = *request](Call& call, Sender<v1::PullResponse>& out) {
          GANTRY_ASSIGN_OR_RETURN(v1::PulledImage pulled,
                                  images_.pull.Pull(call, request, ProgressTo(out)));
          v1::PullResponse response;
          *response.mutable_pulled() = std::move(pulled);
          return out.Send(std::move(response));
        });
  }

  grpc::ServerWriteReactor<v1::PushResponse>* Push(grpc::CallbackServerContext* context,
                                                   const v1::PushRequest* request) override {
    return HandleList<v1::PushResponse>(
        work_, *context, [this, request = *request](Call& call, Sender<v1::PushResponse>& out) {
          GANTRY_ASSIGN_OR_RETURN(std::vector<v1::PushedImage> pushed,
                                  images_.push.Push(call, request, ProgressTo(out)));
          for (v1::PushedImage& image : pushed) {
            v1::PushResponse response;
            *response.mutable_pushed() = std::move(image);
            GANTRY_RETURN_IF_ERROR(out.Send(std::move(response)));
          }
          return absl::OkStatus();
        });
  }

  grpc::ServerBidiReactor<v1::LoadRequest, v1::LoadResponse>* Load(
      grpc::CallbackServerContext* context) override {
    return HandleUpload<v1::LoadRequest, v1::LoadResponse>(
        work_, *context,
        [this](Call& call, const v1::LoadRequest& request, ByteSource& archive,
               Sender<v1::LoadResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(
              std::vector<v1::LoadedImage> loaded,
              images_.archive.Load(call, request.open(), archive, ProgressTo(out)));
          for (v1::LoadedImage& image : loaded) {
            v1::LoadResponse response;
            *response.mutable_loaded() = std::move(image);
            GANTRY_RETURN_IF_ERROR(out.Send(std::move(response)));
          }
          return absl::OkStatus();
        });
  }

  grpc::ServerBidiReactor<v1::ImportRequest, v1::ImportResponse>* Import(
      grpc::CallbackServerContext* context) override {
    return HandleUpload<v1::ImportRequest, v1::ImportResponse>(
        work_, *context,
        [this](Call& call, const v1::ImportRequest& request, ByteSource& tar,
               Sender<v1::ImportResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(
              v1::LoadedImage imported,
              images_.archive.Import(call, request.open(), tar, ProgressTo(out)));
          v1::ImportResponse response;
          *response.mutable_imported() = std::move(imported);
          return out.Send(std::move(response));
        });
  }

  grpc::ServerWriteReactor<v1::SaveResponse>* Save(grpc::CallbackServerContext* context,
                                                   const v1::SaveRequest* request) override {
    return HandleList<v1::SaveResponse>(
        work_, *context, [this, request = *request](Call& call, Sender<v1::SaveResponse>& out) {
          SenderSink<v1::SaveResponse> sink(out, [](std::string bytes) {
            v1::SaveResponse response;
            response.set_data(std::move(bytes));
            return response;
          });
          GANTRY_RETURN_IF_ERROR(images_.archive.Save(call, request, sink, ProgressTo(out)));
          return sink.Flush();
        });
  }

  grpc::ServerWriteReactor<v1::VerifyResponse>* Verify(grpc::CallbackServerContext* context,
                                                       const v1::VerifyRequest* request) override {
    return HandleList<v1::VerifyResponse>(
        work_, *context, [this, request = *request](Call& call, Sender<v1::VerifyResponse>& out) {
          const auto found = [&out](const v1::VerifyResponse::Finding& finding) {
            v1::VerifyResponse response;
            *response.mutable_finding() = finding;
            // A client that has gone cancels the whole; nothing to do about it here.
            (void)out.Send(std::move(response));
          };
          GANTRY_ASSIGN_OR_RETURN(v1::VerifyResponse::Result result,
                                  images_.verify.Verify(call, request, found, ProgressTo(out)));
          v1::VerifyResponse response;
          *response.mutable_result() = std::move(result);
          return out.Send(std::move(response));
        });
  }

 private:
  core::ImageServices& images_;
  Lane work_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewImagesDoor(core::ImageServices& images, Executor& work) {
  return std::make_unique<ImagesDoor>(images, work);
}

}  // namespace gantry::api::gantry_v1
