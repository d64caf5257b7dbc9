// Mounts in the file system of a container that runs.
//
// Made in its mount namespace by a thread of ours that enters it. Paths are resolved in the
// container's root, so that a link in it leads nowhere else; a mount point that is missing is made,
// as at the container's start. They end with the container's mount namespace.
//
// The free functions are thread-safe. Root only. Linux 5.12.
#ifndef GANTRY_SUPERVISOR_CORE_LIVE_MOUNTS_H_
#define GANTRY_SUPERVISOR_CORE_LIVE_MOUNTS_H_

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "base/unique_fd.h"
#include "supervisor/oci/spec_builder.h"

namespace gantry::core {

// Mounts over what is at its destination now. `pid` is the container's first process. A bind or a
// tmpfs; propagation is private.
//   kNotFound          the source is not there
//   kPermissionDenied  the mount point cannot be made: what it is in is read-only
absl::Status AddLiveMount(pid_t pid, const oci::MountConfig& mount);

// Takes away what is mounted there, also while it is in use: open files in it stay. OK when nothing
// is.
absl::Status RemoveLiveMount(pid_t pid, const std::string& destination);

// Several such changes of one container, as a whole: unless they are kept they are undone, the last
// one first. A mount that was removed comes back with its content and what is mounted below it; one
// that may not be bound elsewhere (MS_UNBINDABLE) does not.
//
// Thread-compatible.
class LiveMountChanges {
 public:
  // `container` is for the log.
  LiveMountChanges(pid_t pid, std::string container)
      : pid_(pid), container_(std::move(container)) {}
  ~LiveMountChanges();
  LiveMountChanges(const LiveMountChanges&) = delete;
  LiveMountChanges& operator=(const LiveMountChanges&) = delete;

  // As the functions above.
  absl::Status Add(const oci::MountConfig& mount);
  absl::Status Remove(const std::string& destination);

  void Keep() { changes_.clear(); }

 private:
  struct Change {
    std::string destination;
    UniqueFd removed;  // the mount that was there; invalid: one was added
  };

  const pid_t pid_;
  const std::string container_;
  std::vector<Change> changes_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LIVE_MOUNTS_H_
