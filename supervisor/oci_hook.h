// `gantryd oci-hook [--] PROGRAM [ARGUMENT...]`: a hook for OCI runtimes that executes a program
// with facts of the container in its arguments and environment, for programs that do not read a
// container's state from their standard input. containerd's program has the same verb, and its
// clients write it into specs (for GPUs, as one).
//
// Placeholders, with or without spaces inside the braces:
//   {{id}} {{bundle}} {{pid}} {{status}}  of the state on standard input
//   {{rootfs}}                            the container's root file system, absolute
//   {{annotation "NAME"}}                 an annotation of the state; "" if there is none
//
// Spec: OCI runtime-spec "State" and "POSIX-platform Hooks".
#ifndef GANTRY_SUPERVISOR_OCI_HOOK_H_
#define GANTRY_SUPERVISOR_OCI_HOOK_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry {

struct HookState {
  std::string id;
  std::string bundle;
  std::string rootfs;
  std::string pid;
  std::string status;
  std::map<std::string, std::string> annotations;
};

// `state_json` is what the runtime writes to the hook's standard input, `config_json` the
// container's spec.
// kInvalidArgument: one of them is not what it should be.
absl::StatusOr<HookState> ReadHookState(absl::string_view state_json,
                                        absl::string_view config_json);

// `text` with its placeholders filled in. kInvalidArgument: an unknown one, or one that does not
// end.
absl::StatusOr<std::string> FillPlaceholders(absl::string_view text, const HookState& state);

// argv[0] is the first word after "oci-hook". Returns only when the program was not executed; the
// reason.
absl::Status RunOciHook(int argc, char** argv);

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_OCI_HOOK_H_
