#include "ctl/go_template_functions.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "ctl/go_template.h"
#include "ctl/text.h"

namespace gantry::ctl {
namespace {

using engine::Value;

absl::StatusOr<int> Compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integer() && b.is_integer()) {
      return a.integer() < b.integer() ? -1 : a.integer() > b.integer() ? 1 : 0;
    }
    return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
  }
  if (a.is_string() && b.is_string()) return a.string().compare(b.string());
  return absl::InvalidArgumentError("template: incompatible types for comparison");
}

bool Equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  return a.ToJson() == b.ToJson();
}

// Go's names for the types that JSON values have.
absl::string_view TypeName(const Value& value) {
  if (value.is_null()) return "<nil>";
  if (value.is_bool()) return "bool";
  if (value.is_string()) return "string";
  if (value.is_integer()) return "int";
  if (value.is_number()) return "float64";
  return value.is_list() ? "[]interface {}" : "map[string]interface {}";
}

std::string EscapeHtml(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&#34;"}, {"'", "&#39;"}});
}

std::string EscapeJavaScript(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '\'' || c == '"') {
      absl::StrAppend(&out, "\\", std::string(1, c));
    } else if (c == '<' || c == '>' || c == '&' || c == '=' ||
               absl::ascii_iscntrl(static_cast<unsigned char>(c))) {
      absl::StrAppendFormat(&out, "\\u%04X", static_cast<unsigned char>(c));
    } else {
      out.push_back(c);
    }
  }
  return out;
}

void AppendPadded(std::string text, const std::string& flags, std::string* out) {
  const bool left = !flags.empty() && flags[0] == '-';
  const bool zero = !left && !flags.empty() && flags[0] == '0';
  const size_t dot = flags.find('.');
  size_t width = 0;
  size_t limit = 0;
  if (absl::SimpleAtoi(
          flags.substr(left ? 1 : 0, dot == std::string::npos ? dot : dot - (left ? 1 : 0)),
          &width)) {
    width = std::min<size_t>(width, 1000);
  }
  if (dot != std::string::npos && absl::SimpleAtoi(flags.substr(dot + 1), &limit) &&
      text.size() > limit) {
    text.resize(limit);
  }
  const std::string padding(text.size() < width ? width - text.size() : 0, zero ? '0' : ' ');
  absl::StrAppend(out, left ? "" : padding, text, left ? padding : "");
}

absl::StatusOr<std::string> Printf(const std::vector<Value>& args) {
  const std::string& format = args[0].string();
  std::string out;
  size_t next = 1;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out.push_back(format[i]);
      continue;
    }
    std::string flags;
    while (++i < format.size() &&
           (std::isdigit(static_cast<unsigned char>(format[i])) || format[i] == '-' ||
            format[i] == '+' || format[i] == '.' || format[i] == '#')) {
      flags.push_back(format[i]);
    }
    if (flags.size() > 8) return absl::InvalidArgumentError("printf: width too large");
    if (i >= format.size()) return absl::InvalidArgumentError("printf: % at the end");
    const char verb = format[i];
    if (verb == '%') {
      out.push_back('%');
      continue;
    }
    if (next >= args.size()) {
      absl::StrAppend(&out, "%!", std::string(1, verb), "(MISSING)");
      continue;
    }
    const Value& arg = args[next++];
    std::string plain_flags;
    for (const char c : flags) {
      if (c != '#' && c != '+') plain_flags.push_back(c);
    }
    switch (verb) {
      case 'd':
      case 'x':
      case 'o':
        if (!arg.is_number()) return absl::InvalidArgumentError("printf: %d wants a number");
        AppendPadded(verb == 'd'   ? absl::StrCat(arg.integer())
                     : verb == 'x' ? absl::StrFormat("%x", arg.integer())
                                   : absl::StrFormat("%o", arg.integer()),
                     plain_flags, &out);
        break;
      case 'f':
      case 'g':
      case 'e': {
        if (!arg.is_number()) return absl::InvalidArgumentError("printf: %f wants a number");
        int precision = 6;
        const size_t dot = plain_flags.find('.');
        if (dot != std::string::npos) {
          precision = 0;
          (void)absl::SimpleAtoi(plain_flags.substr(dot + 1), &precision);
          plain_flags.resize(dot);
        }
        AppendPadded(verb == 'f'   ? absl::StrFormat("%.*f", precision, arg.number())
                     : verb == 'e' ? absl::StrFormat("%.*e", precision, arg.number())
                                   : arg.Text(),
                     plain_flags, &out);
        break;
      }
      case 'T':
        AppendPadded(std::string(TypeName(arg)), plain_flags, &out);
        break;
      case 'q':
        AppendPadded(engine::JsonQuote(arg.Text()), plain_flags, &out);
        break;
      case 's':
      case 'v':
      case 't':
        AppendPadded(arg.Text(), plain_flags, &out);
        break;
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("printf: unknown verb %", std::string(1, verb)));
    }
  }
  return out;
}

}  // namespace

bool IsTemplateFunction(absl::string_view name) {
  static constexpr absl::string_view kNames[] = {
      "and",   "or",    "not",   "eq",    "ne",       "lt",      "le",   "gt",       "ge",
      "len",   "index", "slice", "print", "printf",   "println", "json", "join",     "lower",
      "upper", "title", "split", "pad",   "truncate", "html",    "js",   "urlquery", "call"};
  for (absl::string_view n : kNames) {
    if (n == name) return true;
  }
  return false;
}

absl::StatusOr<Value> CallTemplateFunction(const std::string& name,
                                           const std::vector<Value>& args) {
  const auto wants = [&](size_t low, size_t high) -> absl::Status {
    if (args.size() >= low && args.size() <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("wrong number of arguments for ", name, ": ", args.size()));
  };
  constexpr size_t kAny = 1000;
  if (name == "and" || name == "or") {
    GANTRY_RETURN_IF_ERROR(wants(1, kAny));
    for (const Value& v : args) {
      if (v.Truth() == (name == "or")) return v;
    }
    return args.back();
  }
  if (name == "not") {
    GANTRY_RETURN_IF_ERROR(wants(1, 1));
    return Value(!args[0].Truth());
  }
  if (name == "eq") {
    GANTRY_RETURN_IF_ERROR(wants(2, kAny));
    for (size_t i = 1; i < args.size(); ++i) {
      if (Equal(args[0], args[i])) return Value(true);
    }
    return Value(false);
  }
  if (name == "ne") {
    GANTRY_RETURN_IF_ERROR(wants(2, 2));
    return Value(!Equal(args[0], args[1]));
  }
  if (name == "lt" || name == "le" || name == "gt" || name == "ge") {
    GANTRY_RETURN_IF_ERROR(wants(2, 2));
    GANTRY_ASSIGN_OR_RETURN(int order, Compare(args[0], args[1]));
    return Value(name == "lt"   ? order < 0
                 : name == "le" ? order <= 0
                 : name == "gt" ? order > 0
                                : order >= 0);
  }
  if (name == "len") {
    GANTRY_RETURN_IF_ERROR(wants(1, 1));
    if (args[0].is_string()) return Value(static_cast<int64_t>(args[0].string().size()));
    if (args[0].is_list()) return Value(static_cast<int64_t>(args[0].list().size()));
    if (args[0].is_object()) return Value(static_cast<int64_t>(args[0].object().fields.size()));
    if (args[0].is_null()) return Value(0);
    return absl::InvalidArgumentError("len of something without a length");
  }
  if (name == "index") return absl::InvalidArgumentError("index needs something to look in");
  if (name == "call") {
    GANTRY_RETURN_IF_ERROR(wants(1, kAny));
    return absl::InvalidArgumentError(
        absl::StrCat("call: a value of type ", TypeName(args[0]), " is not a function"));
  }
  if (name == "slice") {
    GANTRY_RETURN_IF_ERROR(wants(1, 3));
    const int64_t size = args[0].is_string() ? static_cast<int64_t>(args[0].string().size())
                         : args[0].is_list() ? static_cast<int64_t>(args[0].list().size())
                                             : -1;
    int64_t from = 0;
    int64_t to = size;
    for (size_t i = 1; i < args.size(); ++i) {
      if (!args[i].is_integer()) return absl::InvalidArgumentError("slice wants numbers");
      (i == 1 ? from : to) = args[i].integer();
    }
    if (size < 0 || from < 0 || to < from || to > size) {
      return absl::InvalidArgumentError("slice is out of range");
    }
    if (args[0].is_string()) {
      return Value(
          args[0].string().substr(static_cast<size_t>(from), static_cast<size_t>(to - from)));
    }
    return Value(Value::List(args[0].list().begin() + from, args[0].list().begin() + to));
  }
  if (name == "print" || name == "println") {
    std::string out;
    for (size_t i = 0; i < args.size(); ++i) {
      const bool space =
          i > 0 && (name == "println" || (!args[i].is_string() && !args[i - 1].is_string()));
      absl::StrAppend(&out, space ? " " : "", args[i].Text());
    }
    if (name == "println") out.push_back('\n');
    return Value(std::move(out));
  }
  if (name == "printf") {
    GANTRY_RETURN_IF_ERROR(wants(1, kAny));
    if (!args[0].is_string()) return absl::InvalidArgumentError("printf wants a format");
    GANTRY_ASSIGN_OR_RETURN(std::string text, Printf(args));
    return Value(std::move(text));
  }
  if (name == "json") {
    GANTRY_RETURN_IF_ERROR(wants(1, 1));
    if (args[0].Find("LabelMap") != nullptr) {
      Value shown = Value::EmptyObject();
      for (const auto& [key, v] : args[0].object().fields) {
        if (!IsForTemplatesOnly(key)) shown.Set(key, v);
      }
      return Value(shown.ToJson());
    }
    return Value(args[0].ToJson());
  }
  if (name == "join") {
    GANTRY_RETURN_IF_ERROR(wants(2, 2));
    if (args[0].is_null()) return Value("");
    if (!args[0].is_list() || !args[1].is_string()) {
      return absl::InvalidArgumentError("join wants a list and a separator");
    }
    std::vector<std::string> parts;
    for (const Value& v : args[0].list()) parts.push_back(v.Text());
    return Value(absl::StrJoin(parts, args[1].string()));
  }
  if (name == "split") {
    GANTRY_RETURN_IF_ERROR(wants(2, 2));
    std::vector<std::string> parts = absl::StrSplit(args[0].Text(), args[1].Text());
    return Value::Strings(parts);
  }
  if (name == "urlquery") {
    std::string out;
    for (const Value& v : args) out += QueryEscaped(v.Text());
    return Value(std::move(out));
  }
  if (name == "lower" || name == "upper" || name == "title" || name == "html" || name == "js") {
    GANTRY_RETURN_IF_ERROR(wants(1, 1));
    const std::string text = args[0].Text();
    if (name == "lower") return Value(absl::AsciiStrToLower(text));
    if (name == "upper") return Value(absl::AsciiStrToUpper(text));
    if (name == "html") return Value(EscapeHtml(text));
    if (name == "js") return Value(EscapeJavaScript(text));
    std::string out = text;
    bool start = true;
    for (char& c : out) {
      if (start) c = absl::ascii_toupper(static_cast<unsigned char>(c));
      start = !absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '\'';
    }
    return Value(std::move(out));
  }
  if (name == "pad") {
    GANTRY_RETURN_IF_ERROR(wants(3, 3));
    if (!args[1].is_integer() || !args[2].is_integer()) {
      return absl::InvalidArgumentError("pad wants two numbers");
    }
    const auto spaces = [](const Value& v) {
      return std::string(static_cast<size_t>(std::clamp<int64_t>(v.integer(), 0, 1000)), ' ');
    };
    const std::string text = args[0].Text();
    return Value(text.empty() ? text : absl::StrCat(spaces(args[1]), text, spaces(args[2])));
  }
  GANTRY_RETURN_IF_ERROR(wants(2, 2));  // truncate
  if (!args[1].is_integer()) return absl::InvalidArgumentError("truncate wants a length");
  std::string text = args[0].Text();
  if (args[1].integer() >= 0 && static_cast<int64_t>(text.size()) > args[1].integer()) {
    text.resize(static_cast<size_t>(args[1].integer()));
  }
  return Value(std::move(text));
}

}  // namespace gantry::ctl
