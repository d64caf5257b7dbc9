// The user namespace of a container: which is asked for, and which ids it was given.
//
// Pure functions, but for GiveNameFilesTo().
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_IDS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_IDS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/id_map.h"

namespace gantry::v1 {
class ContainerConfig;
class PodConfig;
}  // namespace gantry::v1

namespace gantry::core {

struct UsernsMode {
  enum class Kind {
    kDefault,  // "": as the daemon is configured
    kHost,     // the host's
    kRemap,    // the subordinate ids of a user
    kAuto,     // ids that no other container has
  };
  Kind kind = Kind::kDefault;
  std::string user;       // kRemap: USER[:GROUP] or numbers; "": the daemon's
  uint32_t size = 65536;  // kAuto: how many
};

// "", "host", "remap[:USER[:GROUP]]", "auto[:size=N]". The first two are docker's.
// kInvalidArgument, field "userns_mode".
absl::StatusOr<UsernsMode> ParseUsernsMode(absl::string_view text);

// What the container was given when it was created; empty: the host's ids.
IdMaps IdsOf(const v1::ContainerConfig& config);
IdMaps IdsOf(const v1::PodConfig& config);
void SetIds(const IdMaps& ids, v1::ContainerConfig& config);

// Makes hostname, hosts and resolv.conf in `directory` those of the container's root, who may edit
// them. Nothing without ids.
absl::Status GiveNameFilesTo(const IdMaps& ids, const std::string& directory);

// What a container cannot have together with ids of its own, in docker's words.
// kInvalidArgument.
absl::Status CheckWithIds(const v1::ContainerConfig& config);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_IDS_H_
