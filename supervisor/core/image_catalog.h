// Images by name: find, name, list, look at, remove.
//
// Values are messages of gantry.v1, the vocabulary of intent (docs/adr/0004). An image is found by reference (as people write it),
// by id ("sha256:..." of what the name points at, or of its config), or by an unambiguous prefix of the id's hexadecimal part.
//
// Thread-safe. References outlive the catalog.
// kNotFound: no such image; kInvalidArgument: malformed reference, ambiguous prefix.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_CATALOG_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_CATALOG_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "content-store/descriptor.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/stores.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"

namespace gantry::v1 {
class ImageDetails;
class ImageHistoryRequest;
class ImageHistoryResponse;
class ImageSummary;
class InspectImageRequest;
class ListImagesRequest;
class ListImagesResponse;
class PruneImagesRequest;
class PruneImagesResponse;
class RemoveImageRequest;
class RemoveImageResponse;
class TagImageRequest;
}  // namespace gantry::v1
namespace gantry::record::v1 {
class Image;
}  // namespace gantry::record::v1
namespace gantry::gc {
class Scheduler;
}

namespace gantry::core {

class EventBus;

// What the record of an image without a name begins with; its digest follows.
inline constexpr char kDanglingPrefix[] = "<none>@";

// One image, down to one platform.
struct ResolvedImage {
  std::vector<std::string> names;  // every record that points at `target`
  content::Descriptor target;      // index or manifest: its digest is the image's id
  content::Descriptor manifest;    // of the chosen platform
  oci::Manifest manifest_document;
  std::string config_json;
  oci::ImageConfig config;
  std::vector<content::Digest> chain_ids;  // by layer, base first

  // Of the whole image; empty for an image without layers.
  std::string chain_id() const {
    return chain_ids.empty() ? std::string() : chain_ids.back().str();
  }
};

// The target that an image's record names.
absl::StatusOr<content::Descriptor> TargetOf(const record::v1::Image& image);

class ImageCatalog {
 public:
  struct Parts {
    Stores* stores;
    EventBus* events;
    gc::Scheduler* gc;
  };
  explicit ImageCatalog(const Parts& parts) : parts_(parts) {}

  // The records that `image` means: one for a name, all of one digest for an id.
  absl::StatusOr<std::vector<record::v1::Image>> Find(const CallContext& context,
                                                      absl::string_view image);

  // `platform` "" is the host's. kFailedPrecondition: its content is not here in full.
  absl::StatusOr<ResolvedImage> Resolve(const CallContext& context, absl::string_view image,
                                        absl::string_view platform = "");

  absl::StatusOr<v1::ListImagesResponse> List(const CallContext& context,
                                              const v1::ListImagesRequest& request);
  absl::StatusOr<v1::ImageDetails> Inspect(const CallContext& context,
                                           const v1::InspectImageRequest& request);
  absl::StatusOr<v1::ImageHistoryResponse> History(const CallContext& context,
                                                   const v1::ImageHistoryRequest& request);
  absl::Status Tag(const CallContext& context, const v1::TagImageRequest& request);
  // kFailedPrecondition: a container uses it (named), or several names point at an id and `force` is not set.
  absl::StatusOr<v1::RemoveImageResponse> Remove(const CallContext& context,
                                                 const v1::RemoveImageRequest& request);
  absl::StatusOr<v1::PruneImagesResponse> Prune(const CallContext& context,
                                                const v1::PruneImagesRequest& request);

  // Writes the record of a new image and publishes it.
  absl::Status Name(const CallContext& context, const std::string& name,
                    const content::Descriptor& target);

  // A name for what has none: "<none>@sha256:..." as records need one. People see "<none>".
  static std::string DanglingName(const content::Digest& digest);

 private:
  absl::StatusOr<v1::ImageSummary> Summarize(const CallContext& context,
                                             const std::vector<record::v1::Image>& records,
                                             bool manifests);

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_CATALOG_H_
