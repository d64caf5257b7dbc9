// Attaching to a container, with or without starting it: `attach` and `start -a`.
#ifndef GANTRY_CTL_COMMANDS_ATTACH_H_
#define GANTRY_CTL_COMMANDS_ATTACH_H_

#include <string>

#include "absl/status/statusor.h"

#include "ctl/verb.h"

namespace gantry::ctl {

struct AttachRequest {
  bool start = false;
  bool with_stdin = false;
  bool signal_proxy = true;
  std::string detach_keys;
};

// Returns the container's exit status, 0 after detaching.
absl::StatusOr<int> AttachTo(Context& context, const std::string& container,
                             const AttachRequest& wanted);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_ATTACH_H_
