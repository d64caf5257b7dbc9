// The limits of RUN that `ctl build` has beside memory and CPUs.
#ifndef GANTRY_CTL_COMMANDS_BUILD_LIMITS_H_
#define GANTRY_CTL_COMMANDS_BUILD_LIMITS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"

#include "ctl/flags.h"

namespace gantry::v1 {
class Resources;
}

namespace gantry::ctl {

class BuildLimits {
 public:
  void AddFlags(FlagSet& flags);
  // kInvalidArgument: not a size; names the flag.
  absl::Status Fill(v1::Resources* resources) const;
  // Whether any of them is set.
  bool any() const;

 private:
  std::optional<int64_t> cpu_period_, cpu_quota_, cpu_shares_;
  std::string memory_nodes_, memory_swap_, isolation_;
  bool ignored_ = false;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_BUILD_LIMITS_H_
