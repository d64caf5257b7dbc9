// What the shim itself must know of a container's config.json. Everything else in it is between client and runtime.
//
// Read in one pass without building a document: a spec with docker's seccomp profile would cost hundreds of kilobytes.
#ifndef GANTRY_SHIM_SPEC_FACTS_H_
#define GANTRY_SHIM_SPEC_FACTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::shim {

struct SpecFacts {
  // The end of the init process ends all others. False: none, or somebody else's, pid namespace.
  bool private_pid_namespace = false;
  bool has_poststart_hooks = false;
  bool has_poststop_hooks = false;
  bool has_intel_rdt = false;
  std::string cgroups_path;
  bool terminal = false;
  int oom_score_adj = 0;
  // linux.maskedPaths where something other than a new tmpfs is at /dev, so that whether they are hidden has to be looked at.
  std::vector<std::string> doubtful_masks;
};

// kInvalidArgument: not JSON, or not an object.
absl::StatusOr<SpecFacts> ParseSpecFacts(absl::string_view config_json);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SPEC_FACTS_H_
