#include "base/engine/json_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace gantry::engine {

// Most texts need no escape: what lies between two of them is taken over as a whole.
void AppendJsonQuoted(absl::string_view text, std::string* out) {
  out->push_back('"');
  size_t from = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\') continue;
    out->append(text.data() + from, i - from);
    from = i + 1;
    switch (c) {
      case '"':
        out->append("\\\"");
        break;
      case '\\':
        out->append("\\\\");
        break;
      case '\n':
        out->append("\\n");
        break;
      case '\r':
        out->append("\\r");
        break;
      case '\t':
        out->append("\\t");
        break;
      default:
        absl::StrAppendFormat(out, "\\u%04x", static_cast<unsigned>(c));
    }
  }
  out->append(text.data() + from, text.size() - from);
  out->push_back('"');
}

void JsonText::Separate() {
  if (comma_) out_.push_back(',');
  comma_ = true;
}

void JsonText::Open(char bracket) {
  Separate();
  out_.push_back(bracket);
  comma_ = false;
}

void JsonText::Close(char bracket) {
  out_.push_back(bracket);
  comma_ = true;
}

void JsonText::Key(absl::string_view key) {
  Separate();
  AppendJsonQuoted(key, &out_);
  out_.push_back(':');
  comma_ = false;
}

void JsonText::Null() {
  Separate();
  out_.append("null");
}

void JsonText::Bool(bool value) {
  Separate();
  out_.append(value ? "true" : "false");
}

void JsonText::Number(int64_t value) {
  Separate();
  absl::StrAppend(&out_, value);
}

void JsonText::String(absl::string_view value) {
  Separate();
  AppendJsonQuoted(value, &out_);
}

void JsonText::Json(absl::string_view text) {
  Separate();
  absl::StrAppend(&out_, text);
}

void JsonText::Sorted(std::vector<std::pair<absl::string_view, absl::string_view>> values) {
  std::sort(values.begin(), values.end());
  OpenObject();
  for (const auto& [key, value] : values) Field(key, value);
  CloseObject();
}

}  // namespace gantry::engine
