// The layer that lies below all layers of a container's image and has what every container of ours
// gets something mounted on: /dev, /proc, /sys and the generated files in /etc. Few images have all
// of them. Without it the runtime makes the missing ones anew in each container's own layer, which
// costs more than a millisecond of its start on ext4 and shows up in commits. What an image has
// itself covers what is here.
//
// Thread-safe: nothing changes after Open().
#ifndef GANTRY_SUPERVISOR_CORE_MOUNT_POINTS_H_
#define GANTRY_SUPERVISOR_CORE_MOUNT_POINTS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "snapshotter/mount.h"

namespace gantry::core {

class MountPoints {
 public:
  // Makes what is missing in <root>/mount-points. A root whose path cannot be in a mount's options
  // ends up without the layer.
  static absl::StatusOr<MountPoints> Open(const std::string& root);

  // Adds the layer to an overlay of a usual number of layers; other mounts stay as they are.
  std::vector<snapshot::Mount> Below(std::vector<snapshot::Mount> rootfs) const;

 private:
  explicit MountPoints(std::string directory) : directory_(std::move(directory)) {}

  std::string directory_;  // "": none
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_MOUNT_POINTS_H_
