// Whether the parts of a project fit together: everything that is referred to is declared, nothing
// is asked for twice, dependencies have an order.
#ifndef GANTRY_CTL_COMPOSE_CONSISTENCY_H_
#define GANTRY_CTL_COMPOSE_CONSISTENCY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

// `model` is complete (complete.h); `inactive` are names of services that are off by profile.
// kInvalidArgument: docker compose's words, with place and remedy.
absl::Status CheckConsistency(const Node& model, const std::vector<std::string>& inactive);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_CONSISTENCY_H_
