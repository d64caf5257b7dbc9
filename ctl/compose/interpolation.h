// ${VARIABLES} in the values of a compose file and in environment files.
//
//   $NAME ${NAME} ${NAME:-d} ${NAME-d} ${NAME:?m} ${NAME?m} ${NAME:+a} ${NAME+a} $$
//
// d, m and a may hold further forms. With ":" an empty variable counts as unset.
// Spec: compose-spec "Interpolation".
#ifndef GANTRY_CTL_COMPOSE_INTERPOLATION_H_
#define GANTRY_CTL_COMPOSE_INTERPOLATION_H_

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

// The value of a variable; nullopt: not set.
using Lookup = std::function<std::optional<std::string>(const std::string& name)>;
// Called with the name of a variable that is not set and has no default.
using OnUnset = std::function<void(const std::string& name)>;

// kInvalidArgument: no form of the above; kFailedPrecondition: a required variable is missing. The
// messages say what, not where.
absl::StatusOr<std::string> Interpolate(absl::string_view text, const Lookup& lookup,
                                        const OnUnset& on_unset);

// All strings below `node`, which is at `path` ("services.web"). Errors name the place.
absl::Status InterpolateNode(Node& node, const std::string& path, const Lookup& lookup,
                             const OnUnset& on_unset);

// What a file says of a variable that it uses.
struct Variable {
  bool required = false;  // ${NAME?message}
  std::string otherwise;  // the default
  std::string alternate;  // ${NAME+alternate}
};
// Adds the variables of all strings below `node`; text that is no form of the above is passed over.
void CollectVariables(const Node& node, std::map<std::string, Variable>& variables);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_INTERPOLATION_H_
