// One compose file over another, and a service over the one that it extends.
//
// Both are canonical (canonical.h). Scalars replace, maps merge key by key, lists are appended and
// collapse by what makes an item unique (a mount's target, a port's address); `command`,
// `entrypoint`, a health check's test and each ulimit are replaced whole. !reset removes what the
// lower file says, !override replaces it without merging.
// Spec: compose-spec "Merge and override".
#ifndef GANTRY_CTL_COMPOSE_MERGE_H_
#define GANTRY_CTL_COMPOSE_MERGE_H_

#include <string>

#include "absl/status/status.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

// `path` is where both are: "" for files, "services.NAME" for services.
// kInvalidArgument: "cannot override services.web.x", where the shapes differ.
absl::Status Merge(Node& base, const Node& over, const std::string& path);

// Repeated items of the lists of one canonical document collapse as they would across two. Mounts
// do not: two at one target are an error (consistency.h).
void CollapseLists(Node& document);

// What !reset left behind is taken out; also of a single file.
void DropReset(Node& node);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_MERGE_H_
