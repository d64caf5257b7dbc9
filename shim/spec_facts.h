// What the shim itself must know of a container's config.json. Everything else in it is between
// client and runtime.
//
// Read in one pass without building a document: a spec with docker's seccomp profile would cost
// hundreds of kilobytes.
#ifndef GANTRY_SHIM_SPEC_FACTS_H_
#define GANTRY_SHIM_SPEC_FACTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "shim/mount_check.h"

namespace gantry::shim {

struct SpecFacts {
  // The end of the init process ends all others. False: none, or that of another container.
  bool private_pid_namespace = false;
  std::string network_namespace;  // path of the one to be joined; "" a new one or the host's
  bool has_poststart_hooks = false;
  bool has_poststop_hooks = false;
  bool has_intel_rdt = false;
  std::string cgroups_path;
  bool terminal = false;
  int oom_score_adj = 0;
  std::string root_path;
  std::string working_directory;
  std::vector<PlannedMount> mounts;
  std::vector<std::string> masked_paths;  // linux.maskedPaths
  // A new tmpfs is at /dev when the mounts are made, as far as the spec alone can tell: with
  // anything else there, whether masked paths are hidden has to be looked at.
  bool fresh_dev = false;
};

// kInvalidArgument: not JSON, or not an object.
absl::StatusOr<SpecFacts> ParseSpecFacts(absl::string_view config_json);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_SPEC_FACTS_H_
