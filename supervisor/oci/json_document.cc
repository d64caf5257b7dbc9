#include "supervisor/oci/json_document.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace gantry::oci {
namespace {

// Walks the text once without building anything. Only nesting and counts: whether it is JSON is the
// parser's question.
absl::Status CheckShape(absl::string_view bytes, absl::string_view what, const JsonLimits& limits) {
  int depth = 0;
  int64_t values = 0;
  bool in_string = false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    switch (c) {
      case '"':
        in_string = true;
        break;
      case '{':
      case '[':
        ++values;
        if (++depth > limits.max_depth) {
          return absl::InvalidArgumentError(
              absl::StrCat(what, ": JSON nested deeper than ", limits.max_depth, " levels"));
        }
        break;
      case '}':
      case ']':
        --depth;
        break;
      case ',':
        ++values;
        break;
    }
    if (values > limits.max_values) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": JSON with more than ", limits.max_values, " values"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(absl::string_view bytes, absl::string_view what,
                                         const JsonLimits& limits) {
  if (static_cast<int64_t>(bytes.size()) > limits.max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        what, ": ", bytes.size(), " bytes, more than the ", limits.max_bytes, " accepted"));
  }
  if (absl::Status shape = CheckShape(bytes, what, limits); !shape.ok()) return shape;
  try {
    if (limits.replace_invalid_utf8 && !IsValidUtf8(bytes)) {
      return nlohmann::json::parse(ToValidUtf8(bytes));
    }
    return nlohmann::json::parse(bytes.begin(), bytes.end());
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": not valid JSON: ", error.what()));
  }
}

std::string PrintJson(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace gantry::oci
