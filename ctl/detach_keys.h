// The key sequence that leaves a container running.
//
// Thread-compatible.
#ifndef GANTRY_CTL_DETACH_KEYS_H_
#define GANTRY_CTL_DETACH_KEYS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::ctl {

class DetachKeys {
 public:
  // Comma-separated single characters and ctrl-X, X a letter or one of @[\]^_. Empty: never
  // detaches.
  static absl::StatusOr<DetachKeys> Parse(absl::string_view text);
  static DetachKeys Default();  // ctrl-p,ctrl-q

  // The part of `input` to pass on. A prefix of the sequence is held back until the next key
  // decides. `*detached` becomes true once the sequence is complete; what follows it is
  // dropped.
  std::string Filter(absl::string_view input, bool* detached);

 private:
  std::string sequence_;
  size_t matched_ = 0;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_DETACH_KEYS_H_
