// Control groups of containers that are gone.
//
// A free function, safe to call from any thread; reads the cgroup file system only.
#ifndef GANTRY_SUPERVISOR_CORE_CGROUP_LEFTOVERS_H_
#define GANTRY_SUPERVISOR_CORE_CGROUP_LEFTOVERS_H_

#include <ctime>
#include <set>
#include <string>
#include <vector>

namespace gantry::core {

// The groups below `mount` (/sys/fs/cgroup, of any version) that are named as those of containers
// without a cgroup parent of their own (CgroupsPath), belong to none of `ids`, have no process in
// them and have not changed since `settled`. Those with a process may be another daemon's.
// At most 100 are told.
std::vector<std::string> CgroupLeftovers(const std::string& mount, const std::set<std::string>& ids,
                                         time_t settled);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CGROUP_LEFTOVERS_H_
