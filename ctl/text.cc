#include "ctl/text.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

#include "base/utf8.h"

namespace gantry::ctl {

std::string Printable(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      if ((lead < 0x20 && lead != '\n' && lead != '\t') || lead == 0x7F) {
        absl::StrAppendFormat(&out, "\\x%02x", lead);
      } else {
        out.push_back(static_cast<char>(lead));
      }
      ++i;
      continue;
    }
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    const absl::string_view character = text.substr(i, length);
    if (!IsValidUtf8(character)) {
      absl::StrAppendFormat(&out, "\\x%02x", lead);
      ++i;
      continue;
    }
    uint32_t code = lead & (0xFF >> (length + 1));
    for (const char c : character.substr(1))
      code = code << 6 | (static_cast<unsigned char>(c) & 0x3F);
    const bool turns = code == 0x61C || code == 0x200E || code == 0x200F ||
                       (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
    if (code < 0xA0 || turns || code == 0x2028 || code == 0x2029) {
      absl::StrAppendFormat(&out, "\\u%04x", code);
    } else {
      out.append(character.data(), character.size());
    }
    i += length;
  }
  return out;
}

std::string PrintableJson(absl::string_view json) {
  return Printable(absl::StrReplaceAll(json, {{"\x7f", "\\u007f"}}));
}

std::string QueryEscaped(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' ||
        c == '~') {
      out.push_back(c);
    } else if (c == ' ') {
      out.push_back('+');
    } else {
      absl::StrAppendFormat(&out, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return out;
}

}  // namespace gantry::ctl
