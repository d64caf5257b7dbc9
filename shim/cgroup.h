// The control group(s) a container's init process was put into by the runtime: one directory on
// cgroup v2, one per mounted controller on v1 and on hybrid hosts. Found by looking at the process,
// so it does not matter who made them and how they are named.
//
// A hierarchy that is mounted nowhere in our mount namespace is left out; what it would tell is
// missing from the statistics.
//
// Immutable after Find(). Functions read files and may be called from any thread.
// Spec: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/ of the kernel.
#ifndef GANTRY_SHIM_CGROUP_H_
#define GANTRY_SHIM_CGROUP_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "proto/shim/v1/shim.pb.h"

namespace gantry::shim {

class Cgroup {
 public:
  // In no group at all: statistics are empty, there is nothing to kill or remove.
  Cgroup() = default;

  // kNotFound: no such process. Of a zombie cgroup v1 tells nothing: empty().
  static absl::StatusOr<Cgroup> Find(pid_t pid);
  // The directories of that name which exist, for a process that was too quick to be looked at.
  static Cgroup AtPath(const std::string& path);
  // As Find(), from the texts of /proc/<pid>/cgroup and /proc/self/mountinfo.
  static Cgroup Parse(absl::string_view proc_cgroup, absl::string_view mountinfo);

  // No group of its own.
  bool empty() const { return ProcessHierarchy() == nullptr; }
  bool v2() const { return v2_; }
  // Directory of a v1 controller ("memory"), or the v2 directory whatever the name. "" if there is
  // none.
  std::string DirectoryOf(absl::string_view controller) const;

  // Everything but networks.
  v1::StatsResponse ReadStats() const;
  // Processes in it that the kernel killed because memory ran out. 0 if that is not known.
  uint64_t ReadOomKills() const;
  // It has been removed from outside, and its counters with it.
  bool Gone() const;
  // All processes, also of groups made inside.
  std::vector<pid_t> Processes() const;
  // SIGKILL to all of them until none is left, for a bounded time. kDeadlineExceeded: some live on.
  absl::Status KillAll() const;
  // Whether its processes are frozen. Nothing: the kernel does not say, or is still at it.
  std::optional<bool> Frozen() const;
  // Makes frozen processes run (so that they can be killed).
  void Thaw() const;

  // Before a container is created at `path` and after it was removed: makes what is missing above
  // it in every hierarchy, and removes what was made and is empty (base/cgroup_parents.h).
  static void MakeParents(absl::string_view path);
  static void RemoveParents(absl::string_view path);

  // Removes the group's directories, and those made inside. Only what is named `path` in its
  // hierarchy is touched (the spec's linux.cgroupsPath), so that a container which was put into a
  // foreign group does not take it along.
  //   kFailedPrecondition  a directory has another name, or processes are left
  absl::Status Remove(absl::string_view path) const;

 private:
  struct Hierarchy {
    std::string directory;  // absolute
    std::string path;       // as the kernel names it, "/x/y"
    friend bool operator==(const Hierarchy&, const Hierarchy&) = default;
  };

  // A hierarchy that every process is counted in.
  const Hierarchy* ProcessHierarchy() const;

  bool v2_ = false;
  Hierarchy unified_;                             // v2, or the unified tree of a hybrid host
  std::map<std::string, Hierarchy> controllers_;  // v1
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_CGROUP_H_
