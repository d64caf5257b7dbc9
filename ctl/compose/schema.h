// Which keys a compose file may have, of which shape their values are, and how these are spelled.
//
// Pure. One table holds the whole specification; unknown keys and wrong shapes are errors that name
// file, line and the nearest right spelling. Keys that begin with "x-" are allowed everywhere but
// as names of resources, where they are ordinary names.
// Spec: compose-spec "schema/compose-spec.json".
#ifndef GANTRY_CTL_COMPOSE_SCHEMA_H_
#define GANTRY_CTL_COMPOSE_SCHEMA_H_

#include "absl/status/status.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

// kInvalidArgument: "compose.yaml:3:5: services.web additional properties 'imagee' not allowed; did
// you mean image?", "services.web.image must be a string".
// Scalars are put into their forms (value_forms.h). `variables`: the document was not interpolated,
// and strings with a variable are left as they are.
absl::Status CheckSchema(Node& document, bool variables = false);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_SCHEMA_H_
