// From what a name points at down to the one image that runs here.
//
// Free function, safe to call from any thread. Spec: OCI image-spec v1.1 "Image Index".
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_RUNNABLE_IMAGE_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_RUNNABLE_IMAGE_H_

#include <vector>

#include "absl/status/statusor.h"

#include "content-store/descriptor.h"
#include "content-store/store.h"
#include "supervisor/distribution/walk_budget.h"
#include "supervisor/oci/platform.h"

namespace gantry::distribution {

// What to unpack for one image on this host.
struct RunnableImage {
  content::Descriptor manifest;
  content::Descriptor config;
  std::vector<content::Descriptor> layers;
  std::vector<content::Digest> diff_ids;
};

// Walks from an index or manifest to the best match.
//   kNotFound         no platform fits (those that exist are named), or a blob is not in the store
//   kInvalidArgument  a malformed document, or layers and diff ids that differ in number
//   kResourceExhausted, kCancelled, kDeadlineExceeded  the budget's
absl::StatusOr<RunnableImage> FindRunnable(content::Store& store, const content::Descriptor& target,
                                           const oci::PlatformMatcher& platforms,
                                           const CancelToken* cancel = nullptr);
// The same within a budget that several searches share.
absl::StatusOr<RunnableImage> FindRunnable(content::Store& store, const content::Descriptor& target,
                                           const oci::PlatformMatcher& platforms,
                                           WalkBudget& budget);

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_RUNNABLE_IMAGE_H_
