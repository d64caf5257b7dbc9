// ${VARIABLES}: expanding must end, in bounded size; values are not expanded again, and text whose
// dollars are doubled comes back as it was.
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"

#include "base/fuzz/fuzz.h"
#include "ctl/compose/env_file.h"
#include "ctl/compose/interpolation.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {"$A ${A} ${B:-c} ${B-c} ${A:+d} ${A+d} $$ ${B:-${C:-${D:-e}}}",
          "${A:?message} ${A?m}",
          "${REQUIRED:?must ${A} be}",
          "${",
          "${A",
          "$",
          "${}",
          "${1}",
          "${A:}",
          "${A:x}",
          "${A}}{",
          "${A:-}}",
          "${A:-${A:-${A:-${A:-${A:-x}y}z}}}$A$A$A",
          "A=${B}\nB=\"$A ${A:-'x'}\"\nC='$A'\n"};
}

void FuzzOne(absl::string_view bytes) {
  const std::string text(bytes);
  int looked_up = 0;
  const compose::Lookup lookup = [&](const std::string& name) -> std::optional<std::string> {
    ++looked_up;
    if (name == "A") return "value with $A and ${A:-more}";
    if (name == "EMPTY") return "";
    return std::nullopt;
  };
  const compose::OnUnset on_unset = [](const std::string&) {};
  const absl::StatusOr<std::string> expanded = compose::Interpolate(text, lookup, on_unset);
  // A lookup for each name that stands in the text, not one more.
  if (looked_up > static_cast<int>(text.size())) abort();
  if (expanded.ok() && expanded->size() > (2u << 20)) abort();

  const std::string doubled = absl::StrReplaceAll(text, {{"$", "$$"}});
  const absl::StatusOr<std::string> same = compose::Interpolate(doubled, lookup, on_unset);
  if (text.size() < (1u << 20) && (!same.ok() || *same != text)) abort();

  compose::Node node = compose::Node::Map();
  node.Set("k", compose::Node::String(text));
  std::map<std::string, compose::Variable> variables;
  compose::CollectVariables(node, variables);
  // What the text needs is among what was collected.
  compose::Node copy = node;
  std::map<std::string, bool> needed;
  const compose::Lookup note = [&](const std::string& name) -> std::optional<std::string> {
    needed[name] = true;
    return "x";
  };
  if (compose::InterpolateNode(copy, "", note, on_unset).ok()) {
    for (const auto& [name, unused] : needed) {
      if (variables.count(name) == 0) abort();
    }
  }
}

}  // namespace gantry
