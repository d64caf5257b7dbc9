// The mounts that a container is asked to have: which are refused, which it gets besides those
// asked for, and how the spec builder takes them. Rules and messages are docker's.
//
// Pure functions, but for AppendMounts(), which looks for the sources of binds.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_MOUNTS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_MOUNTS_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "supervisor/oci/spec_builder.h"

namespace gantry::v1 {
class ContainerConfig;
class Mount;
}  // namespace gantry::v1

namespace gantry::core {

// kInvalidArgument, field "mount": a mount that no container can have, two at one place, an entry
// of volumes_from that does not parse.
absl::Status CheckMounts(const v1::ContainerConfig& config);

// "CONTAINER[:MODE]" of --volumes-from.
struct VolumesFrom {
  std::string container;
  bool read_only = false;
};
// kInvalidArgument: no container, or a mode other than ro, rw, z, Z.
absl::StatusOr<VolumesFrom> ParseVolumesFrom(absl::string_view text);

// Adds the mounts of another container. What `config` mounts itself at the same place wins; of two
// containers the later one.
void InheritMounts(const v1::ContainerConfig& other, const std::string& other_id, bool read_only,
                   v1::ContainerConfig& config);

// Adds an anonymous volume for each VOLUME of the image where nothing is mounted.
// kInvalidArgument: a path of the image's that is not absolute, or "/".
absl::Status AddImageVolumes(const std::set<std::string>& volumes, v1::ContainerConfig& config);

// A target as the kernel spells it: "/a//b/" is "/a/b".
std::string CleanTarget(absl::string_view target);

// Spells targets so and drops what only the daemon may set.
void NormalizeMounts(v1::ContainerConfig& config);

// After the ids of its user namespace were chosen.
// kInvalidArgument: a mount that is to be shown by ids that the container does not have of its own.
absl::Status CheckMappedMounts(const v1::ContainerConfig& config);

// Among the options of a mount: its files are shown by the ids of the container's user namespace,
// and what is written has them on disk. Volumes of the local driver get it without being asked.
inline constexpr char kMapIds[] = "idmap";
bool MapsIds(const v1::Mount& mount);

// How it was asked for, in the words of docker's short form ("ro", "rw,z"); propagation is apart.
std::string ModeOf(const v1::Mount& mount);

// Whether the container finds it at a place of its own (RunVolumes::Place) and not at its source:
// a part of a volume, what is shown by the container's ids, and a volume of another driver, which
// is somewhere else each time.
bool HasPlace(const v1::ContainerConfig& config, const v1::Mount& mount);

// The volumes that go with the container where they are asked to: those without a name of their
// own in the request.
std::vector<std::string> AnonymousVolumes(const v1::ContainerConfig& config);

// Whether "recursively read-only" says more of a bind of this path than "read-only". Not of a file;
// and runtimes refuse it there.
bool MayHaveMountsBelow(const std::string& path);

// What the spec has of the container's own mounts. `sources`, by target, are the host's directories
// of volumes, and where binds are found that are not taken from their source.
absl::Status AppendMounts(const v1::ContainerConfig& config,
                          const std::map<std::string, std::string>& sources,
                          std::vector<oci::MountConfig>& out);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_MOUNTS_H_
