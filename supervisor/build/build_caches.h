// Caches of other places that a build reads before its steps and writes after them.
//
// A place that cannot be read costs a warning and no more. Used by BuildExecutor only, on its
// thread.
#ifndef GANTRY_SUPERVISOR_BUILD_BUILD_CACHES_H_
#define GANTRY_SUPERVISOR_BUILD_BUILD_CACHES_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/build/build_inputs.h"
#include "supervisor/build/build_run.h"
#include "supervisor/core/build_cache_document.h"
#include "supervisor/core/build_cache_import.h"
#include "supervisor/core/image_build.h"

namespace gantry::build {

// kInvalidArgument: a place that is named wrongly.
absl::Status CheckCachePlaces(const v1::BuildRequest::Open& request);

// Those of cache_from that could be read. `layouts` get the files that they read from.
absl::StatusOr<std::vector<std::unique_ptr<core::BuildCacheImport>>> ImportCaches(
    const InputParts& inputs, core::ImageBuild::Session& session,
    std::vector<ClientLayout>& layouts);

// The steps of a build as a cache holds them. Layers of the images that they stand on are no part
// of it.
core::CacheDocument DocumentOf(const std::vector<DoneStep>& steps);

// Writes to the places of cache_to. `result` are the steps of the target, `all` those of all
// stages.
absl::Status ExportCaches(const InputParts& inputs, core::ImageBuild::Session& session,
                          const std::vector<DoneStep>& result, const std::vector<DoneStep>& all);

// True: the image's own configuration holds the cache.
bool WantsInlineCache(const v1::BuildRequest::Open& request);
// The steps that made the layers of `root`, by their numbers.
std::vector<core::CacheStep> InlineSteps(const core::BuildRoot& root,
                                         const std::vector<DoneStep>& steps);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_BUILD_CACHES_H_
