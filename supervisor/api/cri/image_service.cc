#include <map>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/cri/v1/image_service.grpc.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/api/cri/cri_door.h"
#include "supervisor/api/cri/in_namespace.h"
#include "supervisor/api/cri/translate.h"
#include "supervisor/api/grpc/call.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/api/grpc/list_stream.h"
#include "supervisor/api/grpc/work_call.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_pull.h"
#include "supervisor/core/pod_figures.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/oci/image_config.h"

namespace gantry::api::cri {
namespace {

constexpr size_t kImageShare = 256;
constexpr size_t kMaxUsers = 8192;

// Of the record of an image that is not to be collected (supervisor/metadata/image_store.h).
constexpr char kPinnedLabel[] = "io.cri-containerd.pinned";
constexpr char kPinned[] = "pinned";

class ImageService final : public wire::ImageService::CallbackService {
 public:
  ImageService(const CriParts& parts, Executor& work)
      : parts_(parts), lane_(work, kImageShare, Scoped::kNo) {}

  grpc::ServerUnaryReactor* ListImages(grpc::CallbackServerContext* context,
                                       const wire::ListImagesRequest* request,
                                       wire::ListImagesResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(std::vector<wire::Image> images,
                              Images(InNamespace(call), request->filter().image().image()));
      for (wire::Image& image : images) *response->add_images() = std::move(image);
      return absl::OkStatus();
    });
  }
  grpc::ServerWriteReactor<wire::StreamImagesResponse>* StreamImages(
      grpc::CallbackServerContext* context, const wire::StreamImagesRequest* request) override {
    return HandleList<wire::StreamImagesResponse>(
        lane_, *context,
        [this, request = *request](Call& call,
                                   Sender<wire::StreamImagesResponse>& out) -> absl::Status {
          GANTRY_ASSIGN_OR_RETURN(std::vector<wire::Image> images,
                                  Images(InNamespace(call), request.filter().image().image()));
          for (wire::Image& image : images) {
            wire::StreamImagesResponse message;
            *message.add_images() = std::move(image);
            GANTRY_RETURN_IF_ERROR(out.Send(std::move(message)));
          }
          return absl::OkStatus();
        });
  }
  grpc::ServerUnaryReactor* ImageStatus(grpc::CallbackServerContext* context,
                                        const wire::ImageStatusRequest* request,
                                        wire::ImageStatusResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      absl::StatusOr<wire::Image> image = One(InNamespace(call), request->image().image());
      if (absl::IsNotFound(image.status())) return absl::OkStatus();
      GANTRY_RETURN_IF_ERROR(image.status());
      *response->mutable_image() = *std::move(image);
      if (request->verbose())
        (*response->mutable_info())["info"] =
            VerboseInfo(InNamespace(call), response->image().id());
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* PullImage(grpc::CallbackServerContext* context,
                                      const wire::PullImageRequest* request,
                                      wire::PullImageResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      gantry::v1::PullRequest pull;
      pull.set_reference(request->image().image());
      GANTRY_ASSIGN_OR_RETURN(*pull.mutable_auth(),
                              ToAuth(request->auth(), request->image().image()));
      const absl::StatusOr<gantry::v1::PulledImage> pulled =
          parts_.pull->Pull(InNamespace(call), pull, nullptr);
      if (absl::IsUnavailable(pulled.status())) {
        // The kubelet reads this word.
        return absl::UnavailableError(
            absl::StrCat("RegistryUnavailable: ", pulled.status().message()));
      }
      GANTRY_RETURN_IF_ERROR(pulled.status());
      response->set_image_ref(pulled->image_id());
      return absl::OkStatus();
    });
  }
  grpc::ServerUnaryReactor* RemoveImage(grpc::CallbackServerContext* context,
                                        const wire::RemoveImageRequest* request,
                                        wire::RemoveImageResponse*) override {
    return HandleOn(
        lane_, *context,
        [=, this](Call& call) -> absl::Status {
          const core::CallContext in = InNamespace(call);
          const auto records = parts_.images->Find(in, request->image().image());
          if (absl::IsNotFound(records.status())) return absl::OkStatus();
          GANTRY_RETURN_IF_ERROR(records.status());
          // By its id: all of its names go.
          gantry::v1::RemoveImageRequest remove;
          remove.set_image(records->front().target().digest());
          remove.set_force(true);
          const absl::Status removed = parts_.images->Remove(in, remove).status();
          return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
        },
        Departure::kIgnored);
  }
  grpc::ServerUnaryReactor* ImageFsInfo(grpc::CallbackServerContext* context,
                                        const wire::ImageFsInfoRequest*,
                                        wire::ImageFsInfoResponse* response) override {
    return HandleOn(lane_, *context, [=, this](Call& call) -> absl::Status {
      GANTRY_ASSIGN_OR_RETURN(const core::DiskUse use,
                              parts_.pod_figures->ImageUse(InNamespace(call)));
      wire::FilesystemUsage& usage = *response->add_image_filesystems();
      usage.set_timestamp(absl::ToUnixNanos(use.at));
      usage.mutable_fs_id()->set_mountpoint(parts_.root_directory);
      usage.mutable_used_bytes()->set_value(static_cast<uint64_t>(use.bytes));
      usage.mutable_inodes_used()->set_value(static_cast<uint64_t>(use.inodes));
      *response->add_container_filesystems() = usage;
      return absl::OkStatus();
    });
  }

 private:
  absl::StatusOr<std::vector<wire::Image>> Images(const core::CallContext& in,
                                                  const std::string& name) {
    std::vector<wire::Image> out;
    if (!name.empty()) {
      absl::StatusOr<wire::Image> one = One(in, name);
      if (one.ok()) out.push_back(*std::move(one));
      if (one.ok() || absl::IsNotFound(one.status())) return out;
      return one.status();
    }
    gantry::v1::ListImagesRequest list;
    list.set_all(true);
    GANTRY_ASSIGN_OR_RETURN(const gantry::v1::ListImagesResponse images,
                            parts_.images->List(in, list));
    for (const gantry::v1::ImageSummary& summary : images.images()) {
      absl::StatusOr<wire::Image> one = Shown(in, summary);
      if (one.ok()) out.push_back(*std::move(one));
      // One that was removed meanwhile.
      if (!one.ok() && !absl::IsNotFound(one.status())) return one.status();
    }
    return out;
  }

  absl::StatusOr<wire::Image> One(const core::CallContext& in, const std::string& name) {
    if (name.empty()) return absl::InvalidArgumentError("image: is empty");
    GANTRY_ASSIGN_OR_RETURN(const std::vector<record::v1::Image> records,
                            parts_.images->Find(in, name));
    gantry::v1::InspectImageRequest inspect;
    inspect.set_image(records.front().target().digest());
    GANTRY_ASSIGN_OR_RETURN(const gantry::v1::ImageDetails details,
                            parts_.images->Inspect(in, inspect));
    NoteUser(details.summary().id(), details.config_json());
    return Shown(in, details.summary());
  }

  // For people: the image's configuration, "{}" for one that has been removed meanwhile.
  std::string VerboseInfo(const core::CallContext& in, const std::string& id) {
    gantry::v1::InspectImageRequest inspect;
    inspect.set_image(id);
    const absl::StatusOr<gantry::v1::ImageDetails> details = parts_.images->Inspect(in, inspect);
    if (!details.ok()) return "{}";
    nlohmann::json info;
    info["imageSpec"] = nlohmann::json::parse(details->config_json(), nullptr,
                                              /*allow_exceptions=*/false);
    if (info["imageSpec"].is_discarded()) info["imageSpec"] = nullptr;
    return info.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  absl::StatusOr<wire::Image> Shown(const core::CallContext& in,
                                    const gantry::v1::ImageSummary& summary) {
    wire::Image out;
    out.set_id(summary.id());
    for (const std::string& tag : summary.repo_tags()) out.add_repo_tags(FullName(tag));
    for (const std::string& digest : summary.repo_digests()) out.add_repo_digests(FullName(digest));
    out.set_size(static_cast<uint64_t>(
        summary.content_size_bytes() > 0 ? summary.content_size_bytes() : summary.size_bytes()));
    GANTRY_ASSIGN_OR_RETURN(const std::string user, UserOf(in, summary.id()));
    const std::string name = user.substr(0, user.find(':'));
    int64_t uid = 0;
    if (absl::SimpleAtoi(name, &uid)) {
      out.mutable_uid()->set_value(uid);
    } else {
      out.set_username(name);
    }
    GANTRY_ASSIGN_OR_RETURN(const std::vector<record::v1::Image> records,
                            parts_.images->Find(in, summary.id()));
    for (const record::v1::Image& record : records) {
      const auto label = record.labels().find(kPinnedLabel);
      if (label != record.labels().end() && label->second == kPinned) out.set_pinned(true);
    }
    return out;
  }

  // Of an image's configuration, which its id stands for.
  void NoteUser(const std::string& id, const std::string& config_json) {
    const absl::StatusOr<oci::ImageConfig> config = oci::ParseImageConfig(config_json, id);
    absl::MutexLock lock(&mu_);
    if (users_.size() >= kMaxUsers) users_.clear();
    users_[id] = config.ok() ? config->user : "";
  }
  absl::StatusOr<std::string> UserOf(const core::CallContext& in, const std::string& id) {
    {
      absl::MutexLock lock(&mu_);
      const auto known = users_.find(id);
      if (known != users_.end()) return known->second;
    }
    gantry::v1::InspectImageRequest inspect;
    inspect.set_image(id);
    const absl::StatusOr<gantry::v1::ImageDetails> details = parts_.images->Inspect(in, inspect);
    if (absl::IsNotFound(details.status())) return details.status();
    NoteUser(id, details.ok() ? details->config_json() : "");
    absl::MutexLock lock(&mu_);
    return users_[id];
  }

  const CriParts parts_;
  Lane lane_;

  absl::Mutex mu_;
  std::map<std::string, std::string> users_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::unique_ptr<grpc::Service> NewImageService(const CriParts& parts, Executor& work) {
  return std::make_unique<ImageService>(parts, work);
}

}  // namespace gantry::api::cri
