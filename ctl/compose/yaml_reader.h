// YAML text as nodes: anchors and merge keys resolved, places kept, everything bounded.
//
// Reads the core schema of YAML 1.2 for plain scalars, as docker's reader does: yes, no, on and off
// are strings, 22:22 is a string, 010 is a number in base 8.
// Spec: yaml.org 1.2.2; compose-spec "Fragments", "Extension".
#ifndef GANTRY_CTL_COMPOSE_YAML_READER_H_
#define GANTRY_CTL_COMPOSE_YAML_READER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

// Larger files, and files whose aliases unfold to more, are refused.
inline constexpr size_t kMaxYamlBytes = 4 << 20;
inline constexpr int kMaxYamlNodes = 500'000;
inline constexpr int kMaxYamlDepth = 100;
inline constexpr size_t kMaxYamlEntries = 20'000;  // of one list or mapping

// The documents of `text`, each a map; empty ones are left out. `file` names the text in errors.
//   kInvalidArgument    not YAML or not UTF-8, a key twice, a key that is no string; says the line
//   kResourceExhausted  too large, too deep, or aliases that unfold without end
absl::StatusOr<std::vector<Node>> ReadYaml(const std::string& text, const std::string& file);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_YAML_READER_H_
