// Whether mounts made below a path of the host spread: what propagation of a bind asks for.
//
// Free functions, thread-safe; they read the calling thread's mountinfo.
#ifndef GANTRY_SUPERVISOR_CORE_MOUNT_SHARING_H_
#define GANTRY_SUPERVISOR_CORE_MOUNT_SHARING_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::core {

enum class Sharing { kPrivate, kSlave, kShared };

struct SourceMount {
  std::string point;  // where it is mounted
  Sharing sharing = Sharing::kPrivate;
};

// The mount that shows `path`, which has no symbolic links in it. `mountinfo` is the text of
// /proc/PID/mountinfo.
SourceMount SourceMountIn(absl::string_view mountinfo, absl::string_view path);
absl::StatusOr<SourceMount> SourceMountOf(const std::string& path);

// A bind with this propagation ("", private, shared, slave or their recursive forms) of `source`,
// whose symbolic links are followed.
// kFailedPrecondition, in docker's words: its mount does not spread, so neither would what is
// mounted there.
absl::Status CheckPropagation(const std::string& source, absl::string_view propagation);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_MOUNT_SHARING_H_
