// Images from and to one stream: archives of images (load, save) and tars that become an image of
// one layer (import).
//
// Thread-safe. References outlive the object. Watches context.cancel, reports from several threads,
// and leaves nothing visible when it fails: names are written last.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_ARCHIVE_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_ARCHIVE_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/byte_stream.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/stores.h"

namespace gantry::v1 {
class ImportRequest_Open;
class LoadRequest_Open;
class LoadedImage;
class SaveRequest;
}  // namespace gantry::v1
namespace gantry::distribution {
class CredentialSource;
class Puller;
class Unpacker;
}  // namespace gantry::distribution

namespace gantry::core {

class ImageAssembly;

class ImageArchive {
 public:
  struct Parts {
    Stores* stores;
    ImageCatalog* catalog;
    ImageAssembly* assembly;
    distribution::Unpacker* unpacker;
    distribution::Puller* puller;                 // for layers that were discarded after unpacking
    distribution::CredentialSource* credentials;  // the daemon's own
    bool discard_blobs = false;
    // Makes every blob committed so far durable. With it, the blobs of one image are synced once,
    // before its name is written; without, each by itself.
    std::function<absl::Status()> sync_blobs = nullptr;
  };
  explicit ImageArchive(const Parts& parts) : parts_(parts) {}

  absl::StatusOr<std::vector<v1::LoadedImage>> Load(const CallContext& context,
                                                    const v1::LoadRequest_Open& request,
                                                    ByteSource& archive,
                                                    const ProgressFn& progress);
  absl::StatusOr<v1::LoadedImage> Import(const CallContext& context,
                                         const v1::ImportRequest_Open& request, ByteSource& tar,
                                         const ProgressFn& progress);
  absl::Status Save(const CallContext& context, const v1::SaveRequest& request, ByteSink& out,
                    const ProgressFn& progress);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_ARCHIVE_H_
