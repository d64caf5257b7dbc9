#include "supervisor/api/metrics/metric_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace gantry::api {

void MetricText::Family(absl::string_view name, absl::string_view type, absl::string_view help) {
  absl::StrAppend(&text_, "# HELP ", name, " ",
                  absl::StrReplaceAll(help, {{"\\", "\\\\"}, {"\n", "\\n"}}), "\n# TYPE ", name,
                  " ", type, "\n");
}

void MetricText::Sample(absl::string_view name, const Labels& labels, double value) {
  absl::StrAppend(&text_, name);
  const char* before = "{";
  for (const auto& [key, text] : labels) {
    absl::StrAppend(&text_, before, key, "=\"",
                    absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\n", "\\n"}, {"\"", "\\\""}}),
                    "\"");
    before = ",";
  }
  if (!labels.empty()) absl::StrAppend(&text_, "}");
  absl::StrAppendFormat(&text_, " %.17g\n", value);
}

void MetricText::Single(absl::string_view name, absl::string_view type, absl::string_view help,
                        double value) {
  Family(name, type, help);
  Sample(name, {}, value);
}

}  // namespace gantry::api
