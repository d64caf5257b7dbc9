// Options of the local driver: a volume that is a mount of something else (a tmpfs, a share of an
// NFS or CIFS server, a directory of the host, a block device). Rules and messages are docker's.
#ifndef GANTRY_SUPERVISOR_VOLUME_OPTIONS_H_
#define GANTRY_SUPERVISOR_VOLUME_OPTIONS_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "snapshotter/mount.h"

namespace gantry::volume {

// The driver of volumes that no plugin makes.
inline constexpr char kLocalDriver[] = "local";

using Options = std::map<std::string, std::string>;

// kInvalidArgument: an unknown option, one that lacks the one it belongs to, or a size that is
// none.
absl::Status CheckOptions(const Options& options);

// How large the volume may grow; 0: without limit of ours. Of options that CheckOptions() accepts.
int64_t SizeOf(const Options& options);

// Whether the volume's data is a mount, which is there while containers run with it.
bool IsMounted(const Options& options);

// Whether its files can be shown by the ids of a container's user namespace, of what is known
// without mounting it: not those of a share, and not a directory of the host, whose owners are
// meant as the host has them.
bool MapsIds(const Options& options);

// What is mounted on the volume's data. The host name in "addr=" of NFS and CIFS, which the kernel
// takes as an address only, is looked up: this may wait for the host's name servers.
// kUnavailable: the name is not found.
absl::StatusOr<snapshot::Mount> MountOf(const Options& options);

}  // namespace gantry::volume

#endif  // GANTRY_SUPERVISOR_VOLUME_OPTIONS_H_
