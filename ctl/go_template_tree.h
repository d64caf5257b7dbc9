// A parsed template: what go_template.h parses a text into and executes.
#ifndef GANTRY_CTL_GO_TEMPLATE_TREE_H_
#define GANTRY_CTL_GO_TEMPLATE_TREE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"

namespace gantry::ctl {

using engine::Value;

// How deep blocks, parentheses and calls of templates may be nested.
inline constexpr int kMaxTemplateNesting = 64;

struct Pipeline;

// One operand or function call.
struct Operand {
  enum class Kind { kDot, kVariable, kLiteral, kPipeline, kFunction };
  Kind kind = Kind::kDot;
  std::string name;  // variable or function
  Value literal;
  std::unique_ptr<Pipeline> inner;  // parenthesised
  std::vector<std::string> fields;  // .A.B after it
};

struct CommandCall {
  std::vector<Operand> words;  // function or operand first, then arguments
};

struct Pipeline {
  std::vector<std::string> variables;
  bool declares = false;
  std::vector<CommandCall> calls;
};

struct TemplateNode {
  enum class Kind { kText, kAction, kIf, kRange, kWith, kTemplate, kList };
  Kind kind = Kind::kList;
  std::string text;  // of text nodes; of others the action, for messages
  std::string name;  // of the template that a kTemplate node calls
  Pipeline pipeline;
  std::vector<std::unique_ptr<TemplateNode>> body;
  std::vector<std::unique_ptr<TemplateNode>> otherwise;
  std::map<std::string, std::vector<std::unique_ptr<TemplateNode>>> defined;  // of the root
};

using TemplateNodes = std::vector<std::unique_ptr<TemplateNode>>;

// kInvalidArgument: does not parse; the message shows where.
absl::StatusOr<std::unique_ptr<TemplateNode>> ParseTemplate(absl::string_view text);

// "template: {{action}}: problem"
absl::Status TemplateError(absl::string_view action, absl::string_view problem);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_GO_TEMPLATE_TREE_H_
