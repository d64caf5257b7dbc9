// data/seccomp-default.tsv as text, embedded by the build. For default_profile.cc.
#ifndef GANTRY_SUPERVISOR_OCI_SECCOMP_TABLE_H_
#define GANTRY_SUPERVISOR_OCI_SECCOMP_TABLE_H_

namespace gantry::oci {

// One line per system call and rule; columns are named by the first line, "-" is unconditional.
const char* SeccompTable();

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_SECCOMP_TABLE_H_
