// The documents and blobs of an image below one descriptor: whether all that must be there is.
//
// Also completes the tree: labels each document with its children, as garbage collection needs them.
// Walks within a budget (walk_budget.h) and looks at each document once. Thread-compatible.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_IMAGE_TREE_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_IMAGE_TREE_H_

#include <map>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "base/cancel_token.h"
#include "content-store/descriptor.h"
#include "content-store/digest.h"
#include "content-store/store.h"
#include "supervisor/distribution/walk_budget.h"
#include "supervisor/oci/manifest.h"
#include "supervisor/oci/platform.h"

namespace gantry::distribution {

class ImageTree {
 public:
  // Of the platforms in an index that may be missing, those that `platforms` matches may not be
  // incomplete. `label`: write the children's labels. All arguments outlive this.
  ImageTree(content::Store& store, const oci::PlatformMatcher& platforms, bool label,
            const CancelToken& cancel)
      : store_(store), platforms_(platforms), label_(label), cancel_(cancel) {}

  // `what` names the image in messages.
  //   kFailedPrecondition  a part is missing, or has another size than the image says
  //   kInvalidArgument     a document is damaged
  //   kResourceExhausted   the walk's budget
  absl::Status Check(const content::Descriptor& target, absl::string_view what);

  // By config digest, the manifests that were complete.
  const std::map<content::Digest, content::Descriptor>& by_config() const { return by_config_; }

 private:
  absl::Status Present(const content::Descriptor& blob, absl::string_view what,
                       absl::string_view role);
  absl::Status Check(const content::Descriptor& target, absl::string_view what, WalkBudget& budget,
                     int depth);
  absl::Status CheckNew(const content::Descriptor& target, absl::string_view what,
                        WalkBudget& budget, int depth);
  absl::Status CheckIndex(const oci::Index& index, absl::string_view what, WalkBudget& budget,
                          int depth);

  content::Store& store_;
  const oci::PlatformMatcher& platforms_;
  const bool label_;
  const CancelToken& cancel_;
  std::map<content::Digest, absl::Status> checked_;
  std::map<content::Digest, content::Descriptor> by_config_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_IMAGE_TREE_H_
