// A file as a block device, for mounts with the option "loop" and for activations of type "loop".
//
// Thread-safe.
#ifndef GANTRY_SNAPSHOTTER_LOOP_DEVICE_H_
#define GANTRY_SNAPSHOTTER_LOOP_DEVICE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "base/unique_fd.h"

namespace gantry::snapshot {

struct LoopDevice {
  std::string path;  // "/dev/loop3"
  UniqueFd fd;       // the device goes with the last descriptor and mount of it, unless it is kept
};

// A free device over `file`. kUnavailable: other programs took every device that was free; others:
// as the kernel says, with the step.
absl::StatusOr<LoopDevice> AttachLoopDevice(const std::string& file, bool read_only);

// From now on the device stays until DetachLoopDevice(), also when this process ends.
absl::Status KeepLoopDevice(const LoopDevice& device);

// Lets the device `path` go once it is not in use, if it was attached to `file` under that name.
// Another's, and one that is gone, is success.
absl::Status DetachLoopDevice(const std::string& path, const std::string& file);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LOOP_DEVICE_H_
