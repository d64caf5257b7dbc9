#include "ctl/listing.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "ctl/go_template.h"
#include "ctl/table.h"

namespace gantry::ctl {
namespace {

// In a shell's single quotes \t and \n are two characters each.
std::string Unescape(absl::string_view format) {
  return absl::StrReplaceAll(format, {{"\\t", "\t"}, {"\\n", "\n"}});
}

Value WithoutHidden(const Value& row) {
  Value out = Value::EmptyObject();
  for (const auto& [key, value] : row.object().fields) {
    if (!IsForTemplatesOnly(key)) out.Set(key, value);
  }
  return out;
}

// The line of the raw template that shows what -q shows.
std::string RawLine(const Listing& listing) {
  for (absl::string_view line : absl::StrSplit(listing.raw, '\n')) {
    if (absl::StrContains(line, absl::StrCat("{{.", listing.quiet_field, "}}"))) {
      return absl::StrCat(line, "\n");
    }
  }
  return absl::StrCat("{{.", listing.quiet_field, "}}\n");
}

}  // namespace

absl::StatusOr<std::string> Render(const Listing& listing, const std::vector<Value>& rows,
                                   absl::string_view format, bool quiet) {
  std::string out;
  if (format == "raw" && !listing.raw.empty()) {
    GANTRY_ASSIGN_OR_RETURN(GoTemplate parsed,
                            GoTemplate::Parse(quiet ? RawLine(listing) : listing.raw));
    for (const Value& row : rows) {
      GANTRY_ASSIGN_OR_RETURN(std::string block, parsed.Execute(row, true));
      absl::StrAppend(&out, block, quiet ? "" : "\n");
    }
    return out;
  }
  if (quiet) {
    for (const Value& row : rows) {
      const Value* field = row.Find(listing.quiet_field);
      if (field != nullptr) absl::StrAppend(&out, field->Text(), "\n");
    }
    return out;
  }
  if (format == "json") {
    for (const Value& row : rows) absl::StrAppend(&out, WithoutHidden(row).ToJson(), "\n");
    return out;
  }
  bool table = format.empty() || format == "table";
  std::string text = table ? listing.default_table : std::string(format);
  if (!table && absl::StartsWith(text, "table ")) {
    table = true;
    text = std::string(absl::StripLeadingAsciiWhitespace(text.substr(6)));
  }
  GANTRY_ASSIGN_OR_RETURN(GoTemplate rows_template, GoTemplate::Parse(Unescape(text)));
  if (table) {
    Value headings = Value::EmptyObject();
    for (const auto& [field, heading] : listing.headings) headings.Set(field, heading);
    GANTRY_ASSIGN_OR_RETURN(std::string line, rows_template.Execute(headings, false));
    absl::StrAppend(&out, line, "\n");
  }
  for (const Value& row : rows) {
    GANTRY_ASSIGN_OR_RETURN(std::string line, rows_template.Execute(row, true));
    absl::StrAppend(&out, line, "\n");
  }
  return table ? AlignColumns(out) : out;
}

absl::StatusOr<std::string> RenderOne(const Value& value, absl::string_view format,
                                      const AbsentFields& absent) {
  if (format.empty()) return absl::StrCat(value.ToPrettyJson(4), "\n");
  if (format == "json") return absl::StrCat(value.ToJson(), "\n");
  GANTRY_ASSIGN_OR_RETURN(GoTemplate parsed, GoTemplate::Parse(Unescape(format)));
  GANTRY_ASSIGN_OR_RETURN(std::string text, parsed.Execute(value, true, absent));
  return absl::StrCat(text, "\n");
}

}  // namespace gantry::ctl
