// Images to a registry.
//
// Thread-safe. References outlive the object. Watches context.cancel and reports from several
// threads.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_PUSH_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_PUSH_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "content-store/descriptor.h"
#include "proto/gantry/v1/images.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/image_catalog.h"
#include "supervisor/core/image_progress.h"
#include "supervisor/core/registry_call.h"
#include "supervisor/core/stores.h"

namespace gantry::v1 {
class PushRequest;
class PushedImage;
}  // namespace gantry::v1
namespace gantry::distribution {
class Puller;
class Pusher;
}  // namespace gantry::distribution

namespace gantry::core {

struct PushOrder {
  // What goes where: references of one registry, with what they are to point at.
  std::vector<std::pair<std::string, content::Descriptor>> images;
  std::string platform;  // "": everything that is here
  v1::RegistryAuth auth;
};

class ImagePush {
 public:
  struct Parts {
    Stores* stores;
    ImageCatalog* catalog;
    distribution::Puller* puller;  // for layers that were discarded after unpacking
    distribution::Pusher* pusher;
    distribution::CredentialSource* credentials;  // the daemon's own
    const distribution::HostsConfig* hosts = nullptr;
    int max_parallel_blobs = 4;
    bool discard_blobs = false;
  };
  explicit ImagePush(const Parts& parts) : parts_(parts) {}

  absl::StatusOr<std::vector<v1::PushedImage>> Push(const CallContext& context,
                                                    const v1::PushRequest& request,
                                                    const ProgressFn& progress,
                                                    const RegistryAccess& access = {});
  // The same for what needs no name here.
  absl::StatusOr<std::vector<v1::PushedImage>> PushAs(const CallContext& context,
                                                      const PushOrder& order,
                                                      const ProgressFn& progress,
                                                      const RegistryAccess& access);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_PUSH_H_
