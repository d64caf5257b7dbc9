#include "ctl/compose/print_yaml.h"

#include <cstring>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "base/engine/value.h"
#include "base/utf8.h"

namespace gantry::compose {
namespace {

// YAML 1.1 readers take these for booleans.
bool OldBoolean(absl::string_view text) {
  const std::string word = absl::AsciiStrToLower(text);
  const bool one_case = text == word || text == absl::AsciiStrToUpper(text) ||
                        (absl::ascii_isupper(text[0]) && text.substr(1) == word.substr(1));
  return one_case && (word == "y" || word == "n" || word == "yes" || word == "no" || word == "on" ||
                      word == "off");
}

bool IsWord(absl::string_view text) {
  static const std::set<std::string> kWords{"~",    "null", "Null",  "NULL",  "true",
                                            "True", "TRUE", "false", "False", "FALSE",
                                            ".nan", ".NaN", ".NAN"};
  if (kWords.count(std::string(text)) > 0) return true;
  absl::string_view rest = text;
  if (!rest.empty() && (rest[0] == '+' || rest[0] == '-')) rest.remove_prefix(1);
  return rest == ".inf" || rest == ".Inf" || rest == ".INF";
}

size_t Digits(absl::string_view text, size_t at, absl::string_view digits) {
  while (at < text.size() && digits.find(text[at]) != absl::string_view::npos) ++at;
  return at;
}

constexpr absl::string_view kDecimal = "0123456789";

// 12, 0x1f, 0o17, 1_000, 1.5e3, .5
bool IsNumber(absl::string_view whole) {
  absl::string_view text = whole;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) text.remove_prefix(1);
  if (text.empty() || !(absl::ascii_isdigit(text[0]) || text[0] == '.')) return false;
  std::string digits;
  for (char c : text) {
    if (c != '_') digits += c;
  }
  if (digits.size() > 2 && digits[0] == '0' && !absl::ascii_isdigit(digits[1]) &&
      digits[1] != '.') {
    const char base = absl::ascii_tolower(digits[1]);
    const absl::string_view allowed = base == 'x'   ? "0123456789abcdefABCDEF"
                                      : base == 'o' ? "01234567"
                                      : base == 'b' ? "01"
                                                    : "";
    if (!allowed.empty()) return Digits(digits, 2, allowed) == digits.size();
  }
  size_t at = Digits(digits, 0, kDecimal);
  const bool before = at > 0;
  bool after = false;
  if (at < digits.size() && digits[at] == '.') {
    const size_t end = Digits(digits, at + 1, kDecimal);
    after = end > at + 1;
    at = end;
  }
  if (!before && !after) return false;
  if (at < digits.size() && (digits[at] == 'e' || digits[at] == 'E')) {
    ++at;
    if (at < digits.size() && (digits[at] == '+' || digits[at] == '-')) ++at;
    const size_t end = Digits(digits, at, kDecimal);
    if (end == at) return false;
    at = end;
  }
  return at == digits.size();
}

// 22:22 is 1342 to YAML 1.1 readers.
bool IsBaseSixty(absl::string_view text) {
  size_t at = !text.empty() && (text[0] == '+' || text[0] == '-') ? 1 : 0;
  if (at >= text.size() || !absl::ascii_isdigit(text[at])) return false;
  at = Digits(text, at, "0123456789_");
  if (at >= text.size() || text[at] != ':') return false;
  while (at < text.size() && text[at] == ':') {
    const size_t end = Digits(text, at + 1, kDecimal);
    if (end == at + 1 || end > at + 3 || (end == at + 3 && text[at + 1] > '5')) return false;
    at = end;
  }
  if (at < text.size() && text[at] == '.') at = Digits(text, at + 1, "0123456789_");
  return at == text.size();
}

// 2001-01-01, with or without a time.
bool IsDate(absl::string_view text) {
  if (text.size() < 8 || Digits(text, 0, kDecimal) != 4 || text[4] != '-') return false;
  const size_t month = Digits(text, 5, kDecimal);
  if (month == 5 || month > 7 || month >= text.size() || text[month] != '-') return false;
  const size_t day = Digits(text, month + 1, kDecimal);
  if (day == month + 1 || day > month + 3) return false;
  return day == text.size() || text[day] == 't' || text[day] == 'T' || text[day] == ' ';
}

// A plain scalar with this text would be read as something else than a string.
bool ReadsAsOther(absl::string_view text) {
  return text.empty() || IsWord(text) || OldBoolean(text) || IsNumber(text) || IsBaseSixty(text) ||
         IsDate(text);
}

enum class Style { kPlain, kSingle, kDouble, kLiteral };

// Code points that YAML writers of Go print as they are; others are escaped.
bool Printable(uint32_t c) {
  return c == '\n' || (c >= 0x20 && c <= 0x7e) || (c >= 0xa0 && c <= 0xd7ff) ||
         (c >= 0xe000 && c <= 0xfffd && c != 0xfeff);
}

// A byte that is no UTF-8, from an env file: these are above all code points.
constexpr uint32_t kNoCharacter = 0x110000;

// The code point at `at`, which moves behind it, or kNoCharacter plus the byte.
uint32_t NextCodePoint(absl::string_view text, size_t& at) {
  const size_t bytes = Utf8CharacterBytes(text.substr(at));
  const unsigned char first = static_cast<unsigned char>(text[at++]);
  if (bytes == 0) return kNoCharacter + first;
  if (bytes == 1) return first;
  uint32_t c = first & (0x7fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) c = c << 6 | (static_cast<unsigned char>(text[at++]) & 0x3fu);
  return c;
}

// How a string is written, by go-yaml's rules, so that the text is the one that docker compose
// prints.
Style StyleOf(const std::string& text, bool key) {
  const bool lines = text.find('\n') != std::string::npos;
  const bool plain_wanted = !lines && !ReadsAsOther(text);
  bool special = false, indicators = false, tabs = false, break_space = false, space_break = false;
  for (size_t at = 0; at < text.size();) {
    const uint32_t c = NextCodePoint(text, at);
    if (c == '\t') {
      tabs = true;
    } else if (!Printable(c)) {
      special = true;
    }
  }
  if (absl::StartsWith(text, "---") || absl::StartsWith(text, "...")) indicators = true;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool blank_after = i + 1 == text.size() || absl::ascii_isspace(text[i + 1]);
    if (i == 0) {
      if (std::string("#,[]{}&*!|>'\"%@`").find(c) != std::string::npos) indicators = true;
      if ((c == '?' || c == ':' || c == '-') && blank_after) indicators = true;
    } else {
      if (c == ':' && blank_after) indicators = true;
      if (c == '#' && absl::ascii_isspace(text[i - 1])) indicators = true;
    }
    if (i > 0 && c == ' ' && text[i - 1] == '\n') break_space = true;
    if (i > 0 && c == '\n' && text[i - 1] == ' ') space_break = true;
  }
  const auto edge = [](char c) { return c == ' ' || c == '\n'; };
  const bool edges = !text.empty() && (edge(text[0]) || edge(text.back()));
  const bool trailing_space = !text.empty() && text.back() == ' ';
  if (lines) {
    const bool block = !trailing_space && !space_break && !special && !key;
    return block ? Style::kLiteral : Style::kDouble;
  }
  if (!plain_wanted) return Style::kDouble;
  const bool single = !break_space && !space_break && !tabs && !special;
  if (!edges && !tabs && !special && !indicators) return Style::kPlain;
  return single ? Style::kSingle : Style::kDouble;
}

std::string DoubleQuoted(const std::string& text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t c = NextCodePoint(text, at);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (Printable(c)) {
      out.append(text, begin, at - begin);
    } else if (const char* const found = std::strchr("\aa\bb\tt\vv\ff\rr\x1b"
                                                     "e",
                                                     static_cast<char>(c));
               c != 0 && c < 0x80 && found != nullptr && c < 0x20) {
      out += '\\';
      out += found[1];
    } else if (c == 0) {
      out += "\\0";
    } else if (c >= kNoCharacter) {
      absl::StrAppend(&out, "\\x", absl::StrFormat("%02X", c - kNoCharacter));
    } else if (c <= 0xff) {
      absl::StrAppend(&out, "\\x", absl::StrFormat("%02X", c));
    } else if (c <= 0xffff) {
      absl::StrAppend(&out, "\\u", absl::StrFormat("%04X", c));
    } else {
      absl::StrAppend(&out, "\\U", absl::StrFormat("%08X", c));
    }
  }
  return out + "\"";
}

// "|", the hint of leading blanks, and what becomes of the line breaks at the end.
std::string Literal(const std::string& text, int indent) {
  std::string out = "|";
  if (text[0] == ' ' || text[0] == '\n') out += "2";
  if (text.back() != '\n') {
    out += "-";
  } else if (text.size() == 1 || text[text.size() - 2] == '\n') {
    out += "+";
  }
  absl::string_view rest = text;
  if (rest.back() == '\n') rest.remove_suffix(1);
  for (absl::string_view line : absl::StrSplit(rest, '\n')) {
    out += "\n";
    if (!line.empty()) absl::StrAppend(&out, std::string(static_cast<size_t>(indent), ' '), line);
  }
  return out;
}

class Printer {
 public:
  explicit Printer(const PrintOptions& options) : options_(options) {}

  std::string Text(const std::string& text) const {
    return options_.escape_dollars ? absl::StrReplaceAll(text, {{"$", "$$"}}) : text;
  }

  // `indent` is that of the lines of a text with several.
  std::string Scalar(const Node& node, int indent) const {
    switch (node.kind) {
      case Node::Kind::kNull:
        return "null";
      case Node::Kind::kBool:
      case Node::Kind::kNumber:
        return node.text;
      default:
        break;
    }
    return Quoted(Text(node.text), /*key=*/false, indent);
  }

  static std::string Quoted(const std::string& text, bool key, int indent) {
    switch (StyleOf(text, key)) {
      case Style::kPlain:
        return text;
      case Style::kSingle:
        return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "''"}}), "'");
      case Style::kDouble:
        return DoubleQuoted(text);
      case Style::kLiteral:
        return Literal(text, indent);
    }
    return text;
  }

  void Map(const Node& node, int indent, bool first_in_place, std::string* out) const {
    bool in_place = first_in_place;
    for (const auto& [key, value] : node.entries) {
      if (!in_place) out->append(indent, ' ');
      in_place = false;
      absl::StrAppend(out, Quoted(key, /*key=*/true, 0), ":");
      Below(value, indent, out);
    }
  }

  void List(const Node& node, int indent, bool first_in_place, std::string* out) const {
    bool in_place = first_in_place;
    for (const Node& item : node.items) {
      if (!in_place) out->append(indent, ' ');
      in_place = false;
      out->append("- ");
      if (item.is_map() && !item.entries.empty()) {
        Map(item, indent + 2, /*first_in_place=*/true, out);
      } else if (item.is_list() && !item.items.empty()) {
        List(item, indent + 2, /*first_in_place=*/true, out);
      } else {
        absl::StrAppend(out, Flat(item, indent + 2), "\n");
      }
    }
  }

  engine::Value Json(const Node& node) const {
    switch (node.kind) {
      case Node::Kind::kNull:
        return engine::Value();
      case Node::Kind::kBool:
        return engine::Value(node.text == "true");
      case Node::Kind::kNumber: {
        int64_t integer = 0;
        double number = 0;
        if (absl::SimpleAtoi(node.text, &integer)) return engine::Value(integer);
        if (absl::SimpleAtod(node.text, &number)) return engine::Value(number);
        return engine::Value(node.text);
      }
      case Node::Kind::kString:
        return engine::Value(Text(node.text));
      case Node::Kind::kList: {
        engine::Value list = engine::Value::EmptyList();
        for (const Node& item : node.items) list.Append(Json(item));
        return list;
      }
      case Node::Kind::kMap: {
        engine::Value object = engine::Value::EmptyObject();
        for (const auto& [key, value] : node.entries) object.Set(key, Json(value));
        return object;
      }
    }
    return engine::Value();
  }

 private:
  std::string Flat(const Node& node, int indent) const {
    if (node.is_map()) return "{}";
    if (node.is_list()) return "[]";
    return Scalar(node, indent);
  }

  void Below(const Node& value, int indent, std::string* out) const {
    if (value.is_map() && !value.entries.empty()) {
      out->append("\n");
      Map(value, indent + 2, /*first_in_place=*/false, out);
    } else if (value.is_list() && !value.items.empty()) {
      out->append("\n");
      List(value, indent + 2, /*first_in_place=*/false, out);
    } else {
      absl::StrAppend(out, " ", Flat(value, indent + 2), "\n");
    }
  }

  const PrintOptions options_;
};

}  // namespace

std::string PrintYaml(const Node& node, const PrintOptions& options) {
  std::string out;
  Printer(options).Map(node, 0, false, &out);
  return out;
}

std::string PrintJson(const Node& node, int indent, const PrintOptions& options) {
  const engine::Value value = Printer(options).Json(node);
  return indent == 0 ? value.ToJson() : value.ToPrettyJson(indent);
}

}  // namespace gantry::compose
