// What a merged project leaves to defaults is filled in: names, the default network, environment,
// dependencies that follow from other keys.
//
// Pure but for reading env files. The result has the keys name, services, networks, volumes,
// secrets, configs and x-*, in that order.
#ifndef GANTRY_CTL_COMPOSE_COMPLETE_H_
#define GANTRY_CTL_COMPOSE_COMPLETE_H_

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

struct CompleteOptions {
  const std::map<std::string, std::string>* environment = nullptr;
  std::string directory;  // the project's
  bool resolve_environment = true;
  // False: no names, networks, implied dependencies and other defaults are filled in.
  bool normalize = true;
  std::function<absl::StatusOr<std::string>(const std::string& path)> read;
};

// kNotFound: an env_file that is required; kInvalidArgument: one that is wrong.
absl::StatusOr<Node> Complete(const std::string& project, Node merged,
                              const CompleteOptions& options);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_COMPLETE_H_
