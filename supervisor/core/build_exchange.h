// What a build takes from other places and gives to them: registries, images of this machine, tars,
// and layers in other forms.
//
// A part of ImageBuild::Session, whose lease holds what is taken. Thread-safe.
// kCancelled: by the context of the session.
#ifndef GANTRY_SUPERVISOR_CORE_BUILD_EXCHANGE_H_
#define GANTRY_SUPERVISOR_CORE_BUILD_EXCHANGE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "content-store/descriptor.h"
#include "supervisor/core/blob_origin.h"
#include "supervisor/core/image_build.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/layer_form.h"

namespace gantry::v1 {
class RegistryAuth;
}

namespace gantry::core {

class BuildExchange {
 public:
  // Made by the session, which outlives it.
  explicit BuildExchange(ImageBuild::Session& session);

  // `root` with its layers from number `first` on in another form.
  absl::StatusOr<BuildRoot> Convert(const BuildRoot& root, size_t first, const LayerForm& form);
  absl::StatusOr<ImageLayer> ConvertLayer(const ImageLayer& layer, const LayerForm& form);
  // A layer on top of `root` whose blob is in the store, unpacked. kDataLoss: it is damaged.
  absl::StatusOr<BuildRoot> Adopt(const BuildRoot& root, const content::Descriptor& layer,
                                  const content::Digest& diff_id);

  // What a reference stands for in its registry, with what is below it.
  absl::StatusOr<std::unique_ptr<BlobOrigin>> Registry(const std::string& reference,
                                                       const v1::RegistryAuth& auth, bool insecure);
  // An image of this machine, with what is below it. kNotFound: there is none of that name.
  absl::StatusOr<std::unique_ptr<BlobOrigin>> Local(const std::string& reference);
  // An image of that place to stand on, unpacked. kNotFound: none for the platform.
  absl::StatusOr<BuildBase> BaseFrom(BlobOrigin& origin, const std::string& platform);
  // To the registries that the names say. `insecure`: they may speak http.
  absl::Status Push(const std::vector<std::string>& names, const content::Descriptor& target,
                    const v1::RegistryAuth& auth, bool insecure, const ProgressFn& progress);

  // The image as a tar: an OCI layout, which docker can load too if `docker_compatible`.
  absl::Status Export(const content::Descriptor& target, const std::vector<std::string>& names,
                      bool docker_compatible, ByteSink& out);
  // A manifest or index that need be no image's, as a tar with an OCI layout.
  absl::Status ExportLayout(const content::Descriptor& target, const std::string& tag,
                            ByteSink& out);
  // The same, blob by blob.
  absl::Status Give(const content::Descriptor& target, BlobTaker& taker);

 private:
  absl::Status Unpack(const BuildRoot& root);

  ImageBuild::Session& session_;
  const ImageBuild::Parts& parts_;
  const CallContext& context_;  // without the lease
  content::Store& content_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_BUILD_EXCHANGE_H_
