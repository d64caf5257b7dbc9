// The part of Go's text/template that `--format` users write.
//
// Text with {{actions}}: fields (.A.B), variables ($x := ..., $), pipelines, parentheses, literals;
// if/else if/else, range (with else, with one or two variables), with, define, block, template,
// end, comments, trim markers. Functions: and or not eq ne lt le gt ge len index slice print printf
// println json join lower upper title split pad truncate urlquery html js call (of which no value
// is one). `.Label "key"` looks the key up in the field Labels, as docker's listings do.
//
// Immutable once parsed. Reference: https://pkg.go.dev/text/template.
#ifndef GANTRY_CTL_GO_TEMPLATE_H_
#define GANTRY_CTL_GO_TEMPLATE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

#include "base/engine/value.h"

namespace gantry::ctl {

using engine::Value;

struct TemplateNode;

// Fields of rows that serve templates: {{.Label "x"}} reads LabelMap, {{.Platform}} shows
// PlatformText. JSON does not have them.
inline bool IsForTemplatesOnly(absl::string_view field) {
  return field == "LabelMap" || field == "FullID" || field == "PlatformText";
}

// What a client with typed documents finds at a path that the document leaves out or holds null at:
// "nil", "[]", "map[]", "{}", "\"\"", "0", "false", "<no value>" (the key of a map), or "=name" for
// another name of a field. nullopt: there is no such field. An element of a list is "#" in the
// path. With "{}" as its last part: how the object there is printed, as base/engine/absent_fields.h
// describes it; nullopt: as a map.
using AbsentFields =
    std::function<absl::optional<absl::string_view>(const std::vector<std::string>& path)>;

class GoTemplate {
 public:
  // kInvalidArgument: does not parse; the message shows where.
  static absl::StatusOr<GoTemplate> Parse(absl::string_view text);

  GoTemplate(GoTemplate&&) noexcept;
  GoTemplate& operator=(GoTemplate&&) noexcept;
  ~GoTemplate();

  // With `strict`, a field that neither the object nor `absent` has is kInvalidArgument and the
  // message names the nearest ones; without, it is "<no value>".
  absl::StatusOr<std::string> Execute(const Value& data, bool strict,
                                      const AbsentFields& absent = {}) const;

 private:
  explicit GoTemplate(std::unique_ptr<TemplateNode> root);
  std::unique_ptr<TemplateNode> root_;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_GO_TEMPLATE_H_
