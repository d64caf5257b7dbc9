// Unpacks images that are here.
//
// Thread-safe. References outlive the object.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_UNPACK_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_UNPACK_H_

#include <string>

#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/stores.h"

namespace gantry::distribution {
class CredentialSource;
class Puller;
class Unpacker;
}  // namespace gantry::distribution

namespace gantry::core {

class ImageUnpack {
 public:
  struct Parts {
    Stores* stores;
    distribution::Unpacker* unpacker;
    distribution::Puller* puller;                 // for layers that were discarded after unpacking
    distribution::CredentialSource* credentials;  // the daemon's own
    bool discard_blobs = false;
  };
  explicit ImageUnpack(const Parts& parts) : parts_(parts) {}

  // Makes sure that all layers are snapshots; returns the chain ID to stand on ("" for an image
  // without layers).
  absl::StatusOr<std::string> EnsureUnpacked(const CallContext& context, const ResolvedImage& image,
                                             const std::string& snapshotter,
                                             const ProgressFn& progress = nullptr);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_UNPACK_H_
