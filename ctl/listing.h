// Lists on the screen: docker's tables, `--format` templates, JSON lines, ids only.
#ifndef GANTRY_CTL_LISTING_H_
#define GANTRY_CTL_LISTING_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"
#include "ctl/go_template.h"

namespace gantry::ctl {

using engine::Value;

struct Listing {
  // Field and heading of every field rows have, for headings of `table` templates.
  std::vector<std::pair<std::string, std::string>> headings;
  std::string default_table;  // a template without the word "table"
  std::string quiet_field;    // what -q shows
  std::string raw = {};       // template of a row of `--format raw`; "": not supported
};

// The text of the rows. `format` is "", "table", "json", "raw", "table TEMPLATE" or TEMPLATE.
// kInvalidArgument: bad template.
absl::StatusOr<std::string> Render(const Listing& listing, const std::vector<Value>& rows,
                                   absl::string_view format, bool quiet);

// One object by a template, "json", or "" for indented JSON. `absent`: its optional fields.
absl::StatusOr<std::string> RenderOne(const Value& value, absl::string_view format,
                                      const AbsentFields& absent = {});

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_LISTING_H_
