// Keeps a container from giving its files to another project, and so out of the limit of their tree
// (base/project_quota.h): in the host's user namespace the owner of a file may change its project.
#ifndef GANTRY_SUPERVISOR_OCI_PROJECT_GUARD_H_
#define GANTRY_SUPERVISOR_OCI_PROJECT_GUARD_H_

#include <nlohmann/json_fwd.hpp>

namespace gantry::oci {

// `seccomp` is the "linux.seccomp" of a runtime spec with a default action that refuses. Where it
// allows ioctl(2) whatever it asks for, it allows all but FS_IOC_FSSETXATTR afterwards.
//
// Filters know no "unlike under a mask", and the kernel looks at the lower half of the word only: a
// comparison of the whole word would be passed by a bit in the upper half. So each of 32 rules
// allows the words that differ from this one in one bit.
void ForbidProjectChange(nlohmann::json& seccomp);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_PROJECT_GUARD_H_
