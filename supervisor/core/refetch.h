// Layers that are not in the store although an image names them, because the policy is to discard
// them once they are unpacked: brought back from where the manifest's labels say they came from,
// and let go again with this object when the policy still says so.
//
// Thread-safe. References outlive the object.
#ifndef GANTRY_SUPERVISOR_CORE_REFETCH_H_
#define GANTRY_SUPERVISOR_CORE_REFETCH_H_

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "content-store/descriptor.h"
#include "content-store/store.h"
#include "supervisor/distribution/puller.h"

namespace gantry::distribution {
class WalkBudget;
}

namespace gantry::core {

class Refetch {
 public:
  // `discard`: what was fetched goes again with the object.
  Refetch(distribution::Puller& puller, content::Store& store, bool discard)
      : puller_(puller), store_(store), discard_(discard) {}
  ~Refetch();
  Refetch(const Refetch&) = delete;
  Refetch& operator=(const Refetch&) = delete;

  // `labels` are the manifest's. `context_of` gives what to ask a registry with, by its domain.
  using ContextOf = std::function<distribution::CallContext(const std::string& domain)>;
  absl::Status Fetch(const content::Descriptor& blob, const content::Labels& labels,
                     const ContextOf& context_of);

  // What is missing of the layers below `target`, which may be an index. Manifests of platforms
  // that were never fetched are passed over.
  // `cancel` may be null.
  absl::Status FetchBelow(const content::Descriptor& target, const ContextOf& context_of,
                          const CancelToken* cancel);

 private:
  absl::Status FetchBelow(const content::Descriptor& target, const ContextOf& context_of,
                          distribution::WalkBudget& budget, int depth,
                          std::set<content::Digest>& seen);

  distribution::Puller& puller_;
  content::Store& store_;
  const bool discard_;
  absl::Mutex mu_;
  std::vector<content::Digest> fetched_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_REFETCH_H_
