// Archives that ADD takes apart: a local file whose first bytes are those of a tar, compressed or
// not.
//
// Free functions, safe to call from any thread. The archive is hostile.
#ifndef GANTRY_SUPERVISOR_BUILD_TAR_SOURCE_H_
#define GANTRY_SUPERVISOR_BUILD_TAR_SOURCE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::build {

absl::StatusOr<bool> IsArchive(int root, const std::string& path);

// Into an open directory. `owner` of everything; nullopt: as in the archive.
absl::Status ExtractArchive(int root, const std::string& path, int directory,
                            const absl::optional<std::pair<uint32_t, uint32_t>>& owner,
                            CancelToken* cancel);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_TAR_SOURCE_H_
