// Manifests and indexes in registries: looked at, and put together from images that are there,
// without an image being taken in.
//
// Thread-safe. References outlive the object. Watches context.cancel and reports from several
// threads.
#ifndef GANTRY_SUPERVISOR_CORE_MANIFEST_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_MANIFEST_SERVICE_H_

#include <vector>

#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/stores.h"

namespace gantry::v1 {
class PushIndexRequest;
class PushedImage;
class ReadManifestRequest;
class ReadManifestResponse;
}  // namespace gantry::v1
namespace gantry::distribution {
class CredentialSource;
class HostsConfig;
class Puller;
class Pusher;
class Resolver;
}  // namespace gantry::distribution

namespace gantry::core {

class ManifestService {
 public:
  struct Parts {
    Stores* stores;
    distribution::Resolver* resolver;
    distribution::Puller* puller;  // blobs that the registry does not mount
    distribution::Pusher* pusher;
    distribution::CredentialSource* credentials;  // the daemon's own
    const distribution::HostsConfig* hosts = nullptr;
    int max_parallel_blobs = 4;
  };
  explicit ManifestService(const Parts& parts) : parts_(parts) {}

  // The document that a reference names, and of an image its platform. kInvalidArgument: the
  // reference; kNotFound, kUnauthenticated, kPermissionDenied, kUnavailable: as the registry says.
  absl::StatusOr<v1::ReadManifestResponse> Read(const CallContext& context,
                                                const v1::ReadManifestRequest& request);

  // What stands in the registry afterwards: the manifests of the index in its order, then the
  // index. The manifests and their blobs are brought into the index's repository first, so that a
  // failure leaves no index that names what is not there.
  //   kInvalidArgument  not an index; a source of another registry, or that the index does not
  //                     name; a manifest of the index without a source
  absl::StatusOr<std::vector<v1::PushedImage>> PushIndex(const CallContext& context,
                                                         const v1::PushIndexRequest& request,
                                                         const ProgressFn& progress);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_MANIFEST_SERVICE_H_
