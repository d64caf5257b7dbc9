// Images by name: find, name, list, look at, remove.
//
// Values are messages of gantry.v1, the vocabulary of intent (docs/adr/0004). An image is found by
// reference (as people write it), by id ("sha256:..." of what the name points at, or of its
// config), or by an unambiguous prefix of the id's hexadecimal part.
//
// Thread-safe. References outlive the catalog.
// kNotFound: no such image; kInvalidArgument: malformed reference, ambiguous prefix.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_CATALOG_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_CATALOG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include <google/protobuf/timestamp.pb.h>

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
namespace gantry::distribution {
class Reference;
}
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

// A name to write, with labels that are added to those of a record that is there.
struct ImageNaming {
  std::string name;
  std::map<std::string, std::string> labels;
};

// The target that an image's record names.
absl::StatusOr<content::Descriptor> TargetOf(const record::v1::Image& image);

// The id of the image that a container of ours was made from; "" for one of another client.
std::string ImageOfContainer(const record::v1::Container& container);

class ImageCatalog {
 public:
  struct Parts {
    Stores* stores;
    EventBus* events;
    gc::Scheduler* gc;
    // Makes every blob committed so far durable; nothing when all are. Null: blobs are synced one
    // by one.
    std::function<absl::Status()> sync_blobs = nullptr;
  };
  explicit ImageCatalog(const Parts& parts) : parts_(parts) {}

  // The records that `image` means: one for a name, all of one digest for an id. What reads as an
  // id is looked up as one first; a name that promises a digest (image_names.h) is found only where
  // it keeps the promise.
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
  // kFailedPrecondition: a container uses it (named), or several names point at an id and `force`
  // is not set.
  absl::StatusOr<v1::RemoveImageResponse> Remove(const CallContext& context,
                                                 const v1::RemoveImageRequest& request);
  absl::StatusOr<v1::PruneImagesResponse> Prune(const CallContext& context,
                                                const v1::PruneImagesRequest& request);

  // Writes the record of a new image, after the blobs are durable, and publishes it. An image that
  // loses the name keeps one without repository until it is pruned. kInvalidArgument: the name
  // promises another digest, or reads as an id.
  absl::Status Name(const CallContext& context, const std::string& name,
                    const content::Descriptor& target);

  // The same for a caller that chooses names and labels by itself: the name is taken as it is, an
  // image that loses it is not kept.
  absl::Status Put(const CallContext& context, const ImageNaming& naming,
                   const content::Descriptor& target);

  // Publishes what people see of an image: "pull", "tag", "delete", ... The labels of its
  // configuration are added.
  void Announce(const CallContext& context, absl::string_view action,
                const content::Descriptor& target, absl::string_view id, absl::string_view name);

  // Resolve() for what has no name yet.
  absl::StatusOr<ResolvedImage> ResolveTarget(const CallContext& context,
                                              const content::Descriptor& target,
                                              const oci::PlatformMatcher& matcher);

  // A name for what has none: "<none>@sha256:..." as records need one. People see "<none>".
  static std::string DanglingName(const content::Digest& digest);

 private:
  // Of what an image's configuration says: it never changes with the digest.
  struct Facts {
    std::optional<google::protobuf::Timestamp> created;
    std::map<std::string, std::string> labels;
  };

  absl::StatusOr<std::vector<record::v1::Image>> FindByName(
      const CallContext& context, absl::string_view image,
      const absl::StatusOr<distribution::Reference>& reference);
  absl::StatusOr<std::vector<record::v1::Image>> FindById(const CallContext& context,
                                                          absl::string_view image,
                                                          absl::string_view hex);
  absl::StatusOr<std::vector<record::v1::Image>> RecordsOf(const CallContext& context,
                                                           const std::string& digest);
  absl::StatusOr<ResolvedImage> ResolveRecords(const CallContext& context,
                                               const std::vector<record::v1::Image>& records,
                                               absl::string_view image,
                                               const oci::PlatformMatcher& matcher);
  absl::StatusOr<ResolvedImage> ResolveToShow(const CallContext& context,
                                              const std::vector<record::v1::Image>& records,
                                              absl::string_view platform);

  // A container that uses the image; "" for none.
  absl::StatusOr<std::string> UserOf(const CallContext& context, const std::string& digest);
  absl::StatusOr<absl::flat_hash_map<std::string, int32_t>> Users(const CallContext& context);
  absl::Status DropName(const CallContext& context, const record::v1::Image& record,
                        v1::RemoveImageResponse& response);

  // What a summary is made of, by what it costs: records only, facts (read once per image), sizes
  // (the whole tree).
  static absl::StatusOr<v1::ImageSummary> Names(const std::vector<record::v1::Image>& records);
  Facts FactsOf(const CallContext& context, const content::Descriptor& target)
      ABSL_LOCKS_EXCLUDED(mu_);
  void FillFacts(const CallContext& context, const std::vector<record::v1::Image>& records,
                 const content::Descriptor& target, v1::ImageSummary& out);
  void FillSizes(const CallContext& context, const content::Descriptor& target, bool manifests,
                 v1::ImageSummary& out);
  absl::StatusOr<v1::ImageSummary> Summarize(const CallContext& context,
                                             const std::vector<record::v1::Image>& records,
                                             bool manifests);

  const Parts parts_;

  absl::Mutex mu_;
  absl::flat_hash_map<std::string, Facts> facts_ ABSL_GUARDED_BY(mu_);  // by namespace and digest
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_CATALOG_H_
