// An image from the content store into a registry: blobs in parallel, then manifests, children
// before parents.
//
// Sends the exact bytes of the store. Skips what the registry has, mounts what it has in another
// repository (known from the `containerd.io/distribution.source.<registry>` labels that pulls
// leave), continues an upload that broke: in the same call, and, where the registry keeps what it
// has received, in a later one, also of another process. Which uploads are under way is kept in the
// spool directory, a file each, which Fetcher::SweepSpool clears of old ones.
//
// Thread-safe. Spec: OCI distribution-spec v1.1 "Pushing".
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_PUSHER_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_PUSHER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "content-store/descriptor.h"
#include "content-store/store.h"
#include "supervisor/distribution/progress.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/registry_client.h"

namespace gantry::distribution {

struct PushOptions {
  // Of an index: only these platforms' images, sent as an index of its own when more than one
  // matches. Empty: the index as it is, with the children that are in the store; a child that is
  // not is an error unless the registry has it.
  std::vector<content::Platform> platforms;
  int max_parallel_blobs = 4;
  int64_t chunk_bytes =
      0;  // > 0: PATCH chunks of this size; 0: one stream, chunks only to continue a broken one
  // Brings a blob into the store that is neither there nor in the registry: a layer whose
  // compressed form was discarded. `labels` are those of the manifest that names it, which say
  // where it came from. Null: such a blob is an error.
  std::function<absl::Status(const content::Descriptor& blob, const content::Labels& labels)>
      fetch_missing;
  ProgressFn progress;
};

struct PushedImage {
  content::Descriptor target;  // what the tag names now
  int64_t sent_bytes = 0;
  int64_t skipped_bytes = 0;  // were there
  int64_t mounted_bytes = 0;  // taken over from another repository
};

class Pusher {
 public:
  // `spool_directory` is made by the caller; "": broken uploads are continued by the same call
  // only.
  explicit Pusher(RegistryClient* client, std::string spool_directory = "")
      : client_(client), spool_directory_(std::move(spool_directory)) {}

  // Pushes `target` and everything below it to `ref` (tag or digest).
  //   kFailedPrecondition  a blob is not in the store and not in the registry (named), or the registry refuses the manifest
  //   kDataLoss            the registry stored something else than was sent
  //   kUnauthenticated, kPermissionDenied, kResourceExhausted, kUnavailable, kCancelled, kDeadlineExceeded
  absl::StatusOr<PushedImage> Push(const Reference& ref, const content::Descriptor& target,
                                   content::Store& store, const PushOptions& options,
                                   const CallContext& context);

 private:
  class Session;
  RegistryClient* const client_;
  const std::string spool_directory_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_PUSHER_H_
