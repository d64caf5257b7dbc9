// Root file systems shown by the ids of a container's user namespace.
//
// Options "uidmap=" and "gidmap=" of an overlay map its lower directories, as they do for
// containerd: what is written has the host's ids on disk. With kMapUpper the upper directory is
// mapped too, so that files have the ids of the container there, and the layer is one as any other.
#ifndef GANTRY_SNAPSHOTTER_ID_MAPPED_H_
#define GANTRY_SNAPSHOTTER_ID_MAPPED_H_

#include <vector>

#include "base/id_map.h"
#include "snapshotter/mount.h"

namespace gantry::snapshot {

inline constexpr char kMapUpper[] = "x-gantry.map-upper";

// The same mounts, plain binds and overlays, showing all files by the host's ids of a user
// namespace. Pure. Without ids they are what they were.
std::vector<Mount> WithIds(std::vector<Mount> mounts, const IdMaps& ids);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_ID_MAPPED_H_
