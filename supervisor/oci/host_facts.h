// What this machine lets a container have. Probed once at start, handed to the spec builder; tests
// make their own.
//
// A value. Safe to share once made.
#ifndef GANTRY_SUPERVISOR_OCI_HOST_FACTS_H_
#define GANTRY_SUPERVISOR_OCI_HOST_FACTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gantry::oci {

struct HostFacts {
  std::string architecture = "amd64";  // as in a platform
  int kernel_major = 0;
  int kernel_minor = 0;
  int last_capability = 40;
  uint64_t bounding_capabilities = ~uint64_t{0};  // of this process: more cannot be given away
  bool cgroup_v2 = false;
  bool apparmor = false;          // and docker-default is loaded
  bool no_apparmor = false;       // the kernel has none: a profile that is named has no effect
  bool selinux = false;           // labels mean nothing without, and runtimes refuse them
  bool may_raise_rlimits = true;  // CAP_SYS_RESOURCE in the first user namespace, tried
  bool may_lower_oom_score = true;
  int own_oom_score_adj = 0;
  std::map<std::string, uint64_t>
      hard_rlimits;             // "RLIMIT_NOFILE" -> our hard limit; ~0 is infinity
  bool block_io_weight = true;  // cgroups have a file for it
  bool hugetlb = true;          // runtimes find the controller that limits huge pages
  std::string online_cpus;      // "0-3"; "" when the kernel does not say
  std::string online_memory_nodes;
  std::vector<std::string> thermal_throttle_paths;  // exist only on some hosts; masked

  // Reads /proc and /sys. Never fails: what cannot be read keeps its default.
  static HostFacts Probe();
};

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_HOST_FACTS_H_
