// `linux.seccomp` of a runtime spec, compiled into the program that the kernel runs at each system
// call.
//
// libseccomp takes 10 ms and more for docker's default profile, and a runtime spends them anew for
// each container. A daemon that hands crun the finished program (annotation
// run.oci.seccomp_bpf_data) spends them once per profile. The program decides by binary search, so
// a system call inside the container is cheaper as well.
//
// Thread-safe. Spec: OCI runtime-spec "Seccomp"; crun(1) "run.oci.seccomp_bpf_data".
#ifndef GANTRY_SUPERVISOR_OCI_SECCOMP_FILTER_H_
#define GANTRY_SUPERVISOR_OCI_SECCOMP_FILTER_H_

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include <nlohmann/json_fwd.hpp>

#include "supervisor/oci/runtime_spec.h"

namespace gantry::oci {

// The program as an array of sock_filter. System calls that this host's libseccomp does not know
// are left out, as runtimes do.
//   kInvalidArgument    unknown action, operator or architecture; an argument number above 5
//   kUnimplemented      the profile has flags or a listener: only the runtime can set those up
absl::StatusOr<std::string> CompileSeccomp(const nlohmann::json& profile);

class SeccompFilters {
 public:
  SeccompFilters() = default;
  SeccompFilters(const SeccompFilters&) = delete;
  SeccompFilters& operator=(const SeccompFilters&) = delete;

  // For a spec that crun will read: puts the compiled program into it, in place of the rules. What
  // is left of the rules denies everything, so a runtime that overlooks the program runs nothing
  // instead of running it unconfined. A spec without a profile, with a program of its client's own,
  // or with a profile that CompileSeccomp() does not take is left as it is: the runtime has the
  // last word on it. True: the spec was changed.
  bool Prebuild(RuntimeSpec& spec);

 private:
  absl::Mutex mu_;
  // Profile as text -> program in base64; "" when it cannot be compiled.
  std::map<std::string, std::string> programs_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_SECCOMP_FILTER_H_
