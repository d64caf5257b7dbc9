// Images made here: layers and a configuration become blobs and a manifest. Used by import and
// commit.
//
// LayerFrom() once per new layer, Stack() puts it on a configuration and a manifest, WriteImage()
// at the end. Naming the image is the caller's (ImageCatalog::Name), and so is the lease that keeps
// the parts until then: `content` is in its scope.
//
// Thread-safe, no state.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_ASSEMBLY_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_ASSEMBLY_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/byte_stream.h"
#include "base/compression.h"
#include "content-store/descriptor.h"
#include "content-store/store.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {

struct ImageLayer {
  content::Descriptor blob;  // of OCI's media type
  content::Digest diff_id;   // of the plain tar
};

class ImageAssembly {
 public:
  // Compresses and stores the tar that `write` writes. `what` begins the name of the ingest
  // ("import"). A failure of `write` is returned and nothing is stored. `level` 0 is the usual one.
  absl::StatusOr<ImageLayer> LayerFrom(content::Store& content, absl::string_view what,
                                       const std::function<absl::Status(ByteSink& tar)>& write,
                                       Compression compression = Compression::kGzip, int level = 0);

  // Puts the layer on top: diff id, layer and history entry, whose time and the image's become
  // `now`. The layer gets a media type of the manifest's family, because some registries refuse a
  // docker manifest with an OCI layer.
  static void Stack(const ImageLayer& layer, oci::History history, absl::Time now,
                    oci::ImageConfig& config, oci::Manifest& manifest);

  // Writes configuration and manifest; returns what a name is to point at. The manifest's `config`
  // is filled in.
  absl::StatusOr<content::Descriptor> WriteImage(content::Store& content,
                                                 const oci::ImageConfig& config,
                                                 oci::Manifest manifest);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_ASSEMBLY_H_
