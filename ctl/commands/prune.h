// What the prune verbs share: the question before, the sum after.
#ifndef GANTRY_CTL_COMMANDS_PRUNE_H_
#define GANTRY_CTL_COMMANDS_PRUNE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "ctl/filters.h"
#include "ctl/verb.h"

namespace gantry::v1 {
class PruneBuildCacheRequest;
}

namespace gantry::ctl {

// True if the answer is yes. kFailedPrecondition: stdin cannot be asked.
absl::StatusOr<bool> Agreed(Context& context, absl::string_view warning);

// Removes and prints what was removed.
absl::Status PruneNetworks(Context& context, const FilterFlags& filters);
// The same, and returns the bytes that were freed.
absl::StatusOr<int64_t> PruneContainers(Context& context, const FilterFlags& filters);
absl::StatusOr<int64_t> PruneVolumes(Context& context, const FilterFlags& filters, bool all);
absl::StatusOr<int64_t> PruneImages(Context& context, const FilterFlags& filters, bool all);
// `title` stands before what was removed.
absl::StatusOr<int64_t> PruneBuildCache(Context& context, const v1::PruneBuildCacheRequest& request,
                                        absl::string_view title);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_PRUNE_H_
