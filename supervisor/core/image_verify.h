// Checks that what images need is here and undamaged, and repairs it from their registry.
//
// Thread-safe. References outlive the object.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_VERIFY_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_VERIFY_H_

#include <functional>

#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/stores.h"

namespace gantry::v1 {
class VerifyRequest;
class VerifyResponse_Finding;
class VerifyResponse_Result;
}  // namespace gantry::v1
namespace gantry::distribution {
class CredentialSource;
class Puller;
}  // namespace gantry::distribution

namespace gantry::core {

class ImageVerify {
 public:
  struct Parts {
    Stores* stores;
    ImageCatalog* catalog;
    distribution::Puller* puller;
    distribution::CredentialSource* credentials;  // the daemon's own
    bool discard_blobs = false;                   // layers that are not here are not missed
  };
  explicit ImageVerify(const Parts& parts) : parts_(parts) {}

  // `found` is called for each damaged or missing blob as it is found.
  absl::StatusOr<v1::VerifyResponse_Result> Verify(
      const CallContext& context, const v1::VerifyRequest& request,
      const std::function<void(const v1::VerifyResponse_Finding&)>& found,
      const ProgressFn& progress);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_VERIFY_H_
