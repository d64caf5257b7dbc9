// Which mounts of a list the daemon performs for a client, and what their types and options mean.
//
// A type may have prefixes, which change the mount before it is performed, outermost first:
//   format/  "{{ source N }}", "{{ target N }}", "{{ mount N }}" and "{{ overlay FROM TO }}" in source,
//            target and options stand for mounts before this one (their mount points, joined by ':')
//   mkdir/   each option X-containerd.mkdir.path=DIR[:MODE[:UID:GID]] makes a directory
//   mkfs/    X-containerd.mkfs.size=SIZE, .fs=ext4|ext3|ext2|xfs, .uuid=UUID: the source is a file that
//            is made with that file system if it is not there
// "loop" makes a block device of the file that is the source.
//
// Pure functions. Semantics: containerd 2.4 "mounts" service.
#ifndef GANTRY_SUPERVISOR_CORE_MOUNT_PLAN_H_
#define GANTRY_SUPERVISOR_CORE_MOUNT_PLAN_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "snapshotter/mount.h"

namespace gantry::core {

enum class MountStep { kFormat, kMkdir, kMkfs };

struct MountPlan {
  // How many mounts the daemon performs; the rest is the client's. nullopt: nothing needs the
  // daemon.
  std::optional<size_t> performed;
  // By mount: what is done to it first, and its type without prefixes.
  std::vector<std::vector<MountStep>> steps;
  std::vector<std::string> types;
};

// `temporary`: all are performed.
MountPlan PlanMounts(const std::vector<snapshot::Mount>& mounts, bool temporary);

// A mount that was performed.
struct ActiveMount {
  snapshot::Mount mount;
  absl::Time mounted_at;
  std::string mount_point;  // of a "loop": a symbolic link to the device
};

// Replaces the templates of `mount`. kInvalidArgument: unknown, or of a mount that is not before
// it.
absl::StatusOr<snapshot::Mount> FormatMount(snapshot::Mount mount,
                                            const std::vector<ActiveMount>& before);

struct MkdirOption {
  std::string path;
  mode_t mode = 0700;
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
};
// Takes the options of mkdir/ out of `mount`. kInvalidArgument: malformed.
absl::StatusOr<std::vector<MkdirOption>> TakeMkdirOptions(snapshot::Mount& mount);

struct MkfsOption {
  int64_t size_bytes = 0;
  std::string file_system = "ext4";
  std::string uuid;
};
// The same for mkfs/. kInvalidArgument: malformed, unknown, or without a size.
absl::StatusOr<MkfsOption> TakeMkfsOption(snapshot::Mount& mount);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_MOUNT_PLAN_H_
