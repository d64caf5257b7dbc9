// Nodes as text: YAML that reads back as the same values, or JSON.
#ifndef GANTRY_CTL_COMPOSE_PRINT_YAML_H_
#define GANTRY_CTL_COMPOSE_PRINT_YAML_H_

#include <string>

#include "ctl/compose/node.h"

namespace gantry::compose {

struct PrintOptions {
  // "$" in values becomes "$$", so that the output can be loaded again.
  bool escape_dollars = true;
};

// Block style, two spaces, keys in their order. Strings that would read as something else are
// quoted.
std::string PrintYaml(const Node& node, const PrintOptions& options = {});
// One line without blanks where `indent` is 0.
std::string PrintJson(const Node& node, int indent, const PrintOptions& options = {});

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_PRINT_YAML_H_
