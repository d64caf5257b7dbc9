// /etc/subuid and /etc/subgid: which ids of the host are for whose containers.
//
// Free functions that read files each time; thread-safe. Files are root's, and yet bounded.
#ifndef GANTRY_SUPERVISOR_CORE_SUBORDINATE_IDS_H_
#define GANTRY_SUPERVISOR_CORE_SUBORDINATE_IDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/id_map.h"

namespace gantry::core {

// What docker calls "default".
inline constexpr char kDefaultRemapUser[] = "dockremap";

struct IdBlock {
  uint32_t first = 0;
  uint32_t count = 0;

  friend bool operator==(const IdBlock&, const IdBlock&) = default;
};

// The blocks of one user or group, in the order of the file. `name` is a name or a number; a line
// with either is meant, as far as `etc`/passwd (or group) knows the other. Lines that are malformed
// are left out.
//   kFailedPrecondition  there is none; says which line to add
absl::StatusOr<std::vector<IdBlock>> SubordinateUids(const std::string& etc,
                                                     absl::string_view name);
absl::StatusOr<std::vector<IdBlock>> SubordinateGids(const std::string& etc,
                                                     absl::string_view name);

// The ids for all containers of one user: "default", USER or USER:GROUP, names or numbers. A group
// that is not named is the one called as the user.
//   kInvalidArgument     malformed, or the blocks make no map
//   kFailedPrecondition  as above
absl::StatusOr<IdMaps> RemapOf(const std::string& etc, absl::string_view setting);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_SUBORDINATE_IDS_H_
