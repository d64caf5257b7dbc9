// --format templates: they must end, and say what is wrong with them, whatever they are.
#include <string>
#include <vector>

#include "base/engine/value.h"
#include "base/fuzz/fuzz.h"
#include "ctl/go_template.h"

namespace gantry {

std::vector<std::string> FuzzSeeds() {
  return {"table {{.ID}}\t{{.Names}}\t{{.Label \"x\"}}",
          "{{range $i, $e := .List}}{{$i}}={{$e}};{{else}}none{{end}}",
          "{{if and (eq .Names \"a\") (not .Flag)}}yes{{else if .Flag}}maybe{{else}}no{{end}}",
          "{{with .Map}}{{index . \"k\"}}{{end}}{{printf \"%-10s|%5d|%q\" .ID 7 .Names}}",
          "{{define \"a\"}}{{.}}{{end}}{{template \"a\" .ID}}{{block \"b\" .Map}}{{urlquery "
          ".k}}{{end}}",
          "{{json .}}{{upper .ID | len}}{{join .List \",\"}}{{split .ID \":\"}}{{- /* x */ -}}"};
}

void FuzzOne(absl::string_view bytes) {
  absl::StatusOr<ctl::GoTemplate> parsed = ctl::GoTemplate::Parse(bytes);
  if (!parsed.ok()) return;
  ctl::Value data = ctl::Value::EmptyObject();
  data.Set("ID", "a:b");
  data.Set("Names", "a");
  data.Set("Flag", true);
  data.Set("List", ctl::Value::Strings({"x", "y"}));
  data.Set("Map", ctl::Value::FromMap({{"k", "v"}}));
  (void)parsed->Execute(data, true);
  (void)parsed->Execute(data, false);
}

}  // namespace gantry
