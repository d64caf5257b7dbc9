// The cgroups above a container's, where the user chose a parent (cgroup_parent = /shop/front):
// made when they are missing, removed once nothing is in them any more, and only if Gantry made
// them. The mark of that is an attribute on the directory itself, so that it holds for every
// container below and needs no record.
//
// Thread-safe. Races between containers are settled by the kernel: a group with something in it is
// not removed, and a runtime makes again what went a moment ago.

#ifndef GANTRY_BASE_CGROUP_PARENTS_H_
#define GANTRY_BASE_CGROUP_PARENTS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace gantry {

// Makes and marks what is missing above `path` ("/shop/front/<id>") in the hierarchy mounted at
// `hierarchy`. What cannot be made is left to the runtime, which says why.
void MakeCgroupParents(const std::string& hierarchy, absl::string_view path);

// After the group `directory` was removed: removes those above it that are marked and empty, from
// below.
void RemoveCgroupParents(const std::string& directory);

}  // namespace gantry

#endif  // GANTRY_BASE_CGROUP_PARENTS_H_
