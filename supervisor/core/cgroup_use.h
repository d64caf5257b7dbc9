// What all processes in a control group use together, read from the kernel's files. A pod's group
// has those of its containers in it, also of those that have ended: its counters never go back.
//
// Free functions, safe to call from any thread; they read the cgroup file system and /proc only.
// Spec: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/ and accounting/psi.rst of the kernel.
#ifndef GANTRY_SUPERVISOR_CORE_CGROUP_USE_H_
#define GANTRY_SUPERVISOR_CORE_CGROUP_USE_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry::core {

// How long processes waited for a resource: some of them, or all at once. Shares of the last 10,
// 60 and 300 s are in percent.
struct Pressure {
  struct Wait {
    double share_10 = 0;
    double share_60 = 0;
    double share_300 = 0;
    uint64_t total_nanos = 0;
  };
  Wait some;
  Wait full;
};

// Of each resource whose pressure the kernel tells: not before cgroup v2.
struct Pressures {
  std::optional<Pressure> cpu;
  std::optional<Pressure> memory;
  std::optional<Pressure> io;
};

struct CgroupUse {
  absl::Time at;
  std::optional<uint64_t> cpu_nanos;
  std::optional<uint64_t> memory_bytes;         // with the page cache
  uint64_t memory_limit_bytes = UINT64_MAX;     // none
  std::map<std::string, uint64_t> memory_stat;  // by the kernel's names, which depend on `v2`
  std::optional<uint64_t> tasks;                // processes and threads
  Pressures pressures;
  bool v2 = false;
};

// Of the group that a pod's client names as the parent of its containers: a path from the root of
// the hierarchies, or a slice of systemd's. `mount` is where they are. Nothing: there is no such
// group.
std::optional<CgroupUse> ReadCgroupUse(absl::string_view parent,
                                       const std::string& mount = "/sys/fs/cgroup");

// Of the group that a process is in.
Pressures ReadPressures(pid_t pid, const std::string& mount = "/sys/fs/cgroup");

// "a-b.slice" -> "/a.slice/a-b.slice"; a path is itself.
std::string PathOfCgroup(absl::string_view parent);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CGROUP_USE_H_
