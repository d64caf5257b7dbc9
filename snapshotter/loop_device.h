// A file as a block device, for mounts with the option "loop".
//
// Thread-safe.
#ifndef GANTRY_SNAPSHOTTER_LOOP_DEVICE_H_
#define GANTRY_SNAPSHOTTER_LOOP_DEVICE_H_

#include <string>

#include "absl/status/statusor.h"

#include "base/unique_fd.h"

namespace gantry::snapshot {

struct LoopDevice {
  std::string path;  // "/dev/loop3"
  UniqueFd fd;       // the device goes with the last descriptor and mount of it
};

// A free device over `file`. kUnavailable: other programs took every device that was free; others:
// as the kernel says, with the step.
absl::StatusOr<LoopDevice> AttachLoopDevice(const std::string& file, bool read_only);

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_LOOP_DEVICE_H_
