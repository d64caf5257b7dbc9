#include "ctl/compose/print_yaml.h"

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

#include "base/engine/value.h"

namespace gantry::compose {
namespace {

// A plain scalar with this text would be read as something else, or not at all.
bool NeedsQuotes(const std::string& text) {
  if (text.empty()) return true;
  static const std::set<std::string> kWords{
      "~",   "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE", "yes",
      "Yes", "YES",  "no",   "No",   "NO",   "on",   "On",   "ON",    "off",   "Off",   "OFF",
      "y",   "Y",    "n",    "N",    "<<",   "=",    ".nan", ".inf",  "-.inf"};
  if (kWords.count(text) > 0) return true;
  if (text.find_first_not_of("0123456789.:_+-eExXoOabcdefABCDEF") == std::string::npos &&
      (absl::ascii_isdigit(text[0]) || text[0] == '.' || text[0] == '+' || text[0] == '-'))
    return true;
  if (absl::ascii_isspace(text[0]) || absl::ascii_isspace(text.back())) return true;
  if (std::string("-?:,[]{}#&*!|>'\"%@`").find(text[0]) != std::string::npos &&
      !((text[0] == '-' || text[0] == '?' || text[0] == ':') && text.size() > 1 &&
        !absl::ascii_isspace(text[1])))
    return true;
  if (text.find(": ") != std::string::npos || text.find(" #") != std::string::npos ||
      text.back() == ':')
    return true;
  for (unsigned char c : text) {
    if (c < 0x20 || c == 0x7f) return true;
  }
  return false;
}

class Printer {
 public:
  explicit Printer(const PrintOptions& options) : options_(options) {}

  std::string Text(const std::string& text) const {
    return options_.escape_dollars ? absl::StrReplaceAll(text, {{"$", "$$"}}) : text;
  }

  std::string Scalar(const Node& node) const {
    switch (node.kind) {
      case Node::Kind::kNull:
        return "null";
      case Node::Kind::kBool:
      case Node::Kind::kNumber:
        return node.text;
      default:
        break;
    }
    const std::string text = Text(node.text);
    return NeedsQuotes(text) ? engine::JsonQuote(text) : text;
  }

  void Map(const Node& node, int indent, bool first_in_place, std::string* out) const {
    bool in_place = first_in_place;
    for (const auto& [key, value] : node.entries) {
      if (!in_place) out->append(indent, ' ');
      in_place = false;
      absl::StrAppend(out, NeedsQuotes(key) ? engine::JsonQuote(key) : key, ":");
      Below(value, indent, out);
    }
  }

  void List(const Node& node, int indent, std::string* out) const {
    for (const Node& item : node.items) {
      out->append(indent, ' ');
      out->append("- ");
      if (item.is_map() && !item.entries.empty()) {
        Map(item, indent + 2, /*first_in_place=*/true, out);
      } else if (item.is_list() && !item.items.empty()) {
        out->append("\n");
        List(item, indent + 2, out);
      } else {
        absl::StrAppend(out, Flat(item), "\n");
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
  std::string Flat(const Node& node) const {
    if (node.is_map()) return "{}";
    if (node.is_list()) return "[]";
    return Scalar(node);
  }

  void Below(const Node& value, int indent, std::string* out) const {
    if (value.is_map() && !value.entries.empty()) {
      out->append("\n");
      Map(value, indent + 2, /*first_in_place=*/false, out);
    } else if (value.is_list() && !value.items.empty()) {
      out->append("\n");
      List(value, indent + 2, out);
    } else {
      absl::StrAppend(out, " ", Flat(value), "\n");
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
