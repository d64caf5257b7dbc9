// What a layer that was unpacked without its parent left to be done, done once the parent is known.
//
// Free functions, safe to call from any thread for different layers.
#ifndef GANTRY_SNAPSHOTTER_LAYER_COMPLETE_H_
#define GANTRY_SNAPSHOTTER_LAYER_COMPLETE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

#include "snapshotter/layer_apply.h"

namespace gantry::snapshot {

// `directory` holds the layer, `lowers` what is below it, topmost first. kInvalidArgument: the
// layer links to a file that is nowhere.
absl::Status CompleteIn(const DeferredWork& deferred, const std::string& directory,
                        const std::vector<std::string>& lowers);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LAYER_COMPLETE_H_
