// A project as `config` prints it: keys in docker compose's order, what says nothing left out.
//
// Two spellings of one service have one presentation, so that a service's hash is taken of it.
// Pure.
#ifndef GANTRY_CTL_COMPOSE_PRESENT_H_
#define GANTRY_CTL_COMPOSE_PRESENT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

// `node` is at `path` of a complete model: "" for the whole, "services.web". Null values, false,
// and empty lists and maps go where they are the defaults; free maps (labels, environment) are
// sorted.
Node Present(const Node& node, const std::string& path = "");

// Takes out the networks, volumes, secrets and configs that no service of `model` refers to.
void DropUnused(Node& model);

// The values that docker compose's JSON always has: command and entrypoint of services, ipam of
// networks, placement and resources of deploy.
void AddJsonDefaults(Node& presented);

// The keys that a map at `pattern` has, in docker compose's order; null: its keys are the file's
// own. "*" in a pattern is any name, "[]" the items of a list: "services.*.ports[]".
const std::vector<std::string>* PresentedKeys(const std::string& pattern);

// "web2" before "web10", as docker compose sorts keys.
bool NaturalLess(absl::string_view a, absl::string_view b);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_PRESENT_H_
