// How much of the documents of one image a walk may read, so that no image made on purpose holds a
// thread.
//
// An index may name thousands of others, in turn, and each of them again: what is read is bounded
// in number, bytes, depth and time, and the walk ends with its caller. A walk that also remembers
// which documents it has seen is then linear in what is stored.
//
// Thread-compatible; one per walk.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_WALK_BUDGET_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_WALK_BUDGET_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "content-store/descriptor.h"
#include "content-store/digest.h"
#include "content-store/store.h"
#include "supervisor/oci/manifest.h"

namespace gantry::distribution {

class WalkBudget {
 public:
  struct Limits {
    int max_depth = 8;  // of indexes in indexes
    int64_t max_documents = 10000;
    int64_t max_bytes = 128 << 20;
    absl::Duration max_time = absl::Seconds(60);
  };
  // `cancel` may be null and outlives the budget.
  explicit WalkBudget(const CancelToken* cancel = nullptr) : WalkBudget(cancel, Limits()) {}
  WalkBudget(const CancelToken* cancel, const Limits& limits);

  // Before a document of `size_bytes`, `depth` levels below where the walk began, is read.
  //   kInvalidArgument                nested too deep
  //   kResourceExhausted              too many documents, bytes, or too long
  //   kCancelled, kDeadlineExceeded   the caller gave up
  absl::Status Charge(int64_t size_bytes, int depth);

  // The manifest or index `descriptor` names. Also kNotFound (the blob is not in the store) and
  // kInvalidArgument (malformed).
  absl::StatusOr<oci::Document> Read(content::Store& store, const content::Descriptor& descriptor,
                                     absl::string_view what, int depth);

  // A blob as it is, such as the configuration that a manifest names: thousands may name the same
  // large one. Also kNotFound, and content::ReadBlob()'s error for one that is larger.
  absl::StatusOr<std::string> ReadBytes(content::Store& store, const content::Digest& digest,
                                        int64_t max_bytes);

 private:
  const CancelToken* const cancel_;
  const Limits limits_;
  const absl::Duration end_;  // monotonic
  int64_t documents_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_WALK_BUDGET_H_
