// Options of the local driver: a volume that is a mount of something else (a tmpfs, a share of an
// NFS or CIFS server, a directory of the host, a block device). Rules and messages are docker's.
#ifndef GANTRY_SUPERVISOR_VOLUME_OPTIONS_H_
#define GANTRY_SUPERVISOR_VOLUME_OPTIONS_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "snapshotter/mount.h"

namespace gantry::volume {

using Options = std::map<std::string, std::string>;

// kInvalidArgument: an unknown option, or one that lacks the one it belongs to.
// kFailedPrecondition: a size, where the file system of the volumes has no project quotas.
absl::Status CheckOptions(const Options& options);

// Whether the volume's data is a mount, which is there while containers run with it.
bool IsMounted(const Options& options);

// What is mounted on the volume's data. The host name in "addr=" of NFS and CIFS, which the kernel
// takes as an address only, is looked up: this may wait for the host's name servers.
// kUnavailable: the name is not found.
absl::StatusOr<snapshot::Mount> MountOf(const Options& options);

}  // namespace gantry::volume

#endif  // GANTRY_SUPERVISOR_VOLUME_OPTIONS_H_
