#include "ctl/go_template.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "ctl/go_template_functions.h"
#include "ctl/go_template_tree.h"

namespace gantry::ctl {
namespace {

constexpr int kMaxCalls = 100000;

// A value and, if it is a part of the document, its path in there.
struct Cell {
  Value value;
  std::optional<std::vector<std::string>> path = std::nullopt;
};

std::vector<std::string> Below(std::vector<std::string> path, absl::string_view name) {
  path.push_back(std::string(name));
  return path;
}

class Evaluator {
 public:
  Evaluator(const TemplateNode& root, const Value& data, bool strict, const AbsentFields& absent)
      : root_(root), strict_(strict), absent_(absent) {
    variables_.push_back({"", Top(data)});
  }

  absl::Status RunAll(const Value& data) { return Run(root_.body, Top(data)); }

  std::string TakeOutput() { return std::move(out_); }

 private:
  using Variables = std::vector<std::pair<std::string, Cell>>;

  static Cell Top(const Value& data) { return Cell{data, std::vector<std::string>()}; }

  absl::Status Run(const TemplateNodes& nodes, const Cell& dot) {
    const size_t scope = variables_.size();
    for (const auto& node : nodes) GANTRY_RETURN_IF_ERROR(RunNode(*node, dot));
    variables_.resize(scope, {"", Cell()});
    return absl::OkStatus();
  }

  absl::Status RunNode(const TemplateNode& node, const Cell& dot) {
    if (node.kind == TemplateNode::Kind::kText) {
      out_.append(node.text);
      return absl::OkStatus();
    }
    if (node.kind == TemplateNode::Kind::kRange) return RunRange(node, dot);
    if (node.kind == TemplateNode::Kind::kTemplate) return RunTemplate(node, dot);
    const size_t scope = variables_.size();
    auto cell = Evaluate(node.pipeline, dot);
    if (!cell.ok()) return Located(node, cell.status());
    switch (node.kind) {
      case TemplateNode::Kind::kAction:
        if (node.pipeline.variables.empty()) out_.append(Text(*cell));
        return absl::OkStatus();  // a variable exists until the end of the block
      case TemplateNode::Kind::kIf:
        GANTRY_RETURN_IF_ERROR(Run(cell->value.Truth() ? node.body : node.otherwise, dot));
        break;
      case TemplateNode::Kind::kWith:
        GANTRY_RETURN_IF_ERROR(cell->value.Truth() ? Run(node.body, *cell)
                                                   : Run(node.otherwise, dot));
        break;
      case TemplateNode::Kind::kText:
      case TemplateNode::Kind::kRange:
      case TemplateNode::Kind::kTemplate:
      case TemplateNode::Kind::kList:
        break;
    }
    variables_.resize(scope, {"", Cell()});
    return absl::OkStatus();
  }

  static absl::Status Located(const TemplateNode& node, const absl::Status& status) {
    if (absl::StartsWith(status.message(), "template: {{")) return status;
    absl::string_view message = status.message();
    absl::ConsumePrefix(&message, "template: ");
    return TemplateError(node.text, message);
  }

  absl::Status RunTemplate(const TemplateNode& node, const Cell& dot) {
    const auto found = root_.defined.find(node.name);
    if (found == root_.defined.end()) {
      return Located(node, absl::InvalidArgumentError(absl::StrCat(
                               "template ", engine::JsonQuote(node.name), " not defined")));
    }
    // Templates that call others twice each would double the work with every level.
    if (++total_calls_ > kMaxCalls) {
      return Located(node, absl::InvalidArgumentError("too many calls of templates"));
    }
    if (calls_ >= kMaxTemplateNesting) {
      return Located(node, absl::InvalidArgumentError("templates call each other too deep"));
    }
    Cell inner;
    if (!node.pipeline.calls.empty()) {
      auto cell = Evaluate(node.pipeline, dot);
      if (!cell.ok()) return Located(node, cell.status());
      inner = *std::move(cell);
    }
    // A called template sees no variable of its caller; its $ is what it is called with.
    Variables outer = std::exchange(variables_, {{"", inner}});
    ++calls_;
    const absl::Status status = Run(found->second, inner);
    --calls_;
    variables_ = std::move(outer);
    return status;
  }

  absl::Status RunRange(const TemplateNode& node, const Cell& dot) {
    auto cell = EvaluateCalls(node.pipeline, dot);
    if (!cell.ok()) return Located(node, cell.status());
    const Value& value = cell->value;
    std::vector<std::pair<Value, Cell>> items;
    if (value.is_list()) {
      for (size_t i = 0; i < value.list().size(); ++i) {
        items.emplace_back(Value(static_cast<int64_t>(i)), Part(*cell, "#", value.list()[i]));
      }
    } else if (value.is_object()) {
      // Go walks maps in key order.
      std::map<std::string, Value> sorted;
      for (const auto& [key, v] : value.object().fields) sorted.emplace(key, v);
      for (auto& [key, v] : sorted) items.emplace_back(Value(key), Part(*cell, key, v));
    } else if (value.is_integer()) {
      for (int64_t i = 0; i < value.integer() && i < 1000000; ++i) items.emplace_back(i, Cell{i});
    } else if (!value.is_null()) {
      return Located(node, absl::InvalidArgumentError("range can't iterate over this"));
    }
    if (items.empty()) return Run(node.otherwise, dot);
    for (auto& [key, item] : items) {
      const size_t scope = variables_.size();
      const auto& names = node.pipeline.variables;
      if (names.size() == 1) variables_.push_back({names[0], item});
      if (names.size() == 2) {
        variables_.push_back({names[0], Cell{key}});
        variables_.push_back({names[1], item});
      }
      GANTRY_RETURN_IF_ERROR(Run(node.body, item));
      variables_.resize(scope, {"", Cell()});
    }
    return absl::OkStatus();
  }

  static Cell Part(const Cell& whole, absl::string_view name, Value value) {
    if (!whole.path) return Cell{std::move(value)};
    return Cell{std::move(value), Below(*whole.path, name)};
  }

  absl::StatusOr<Cell> Evaluate(const Pipeline& pipeline, const Cell& dot) {
    GANTRY_ASSIGN_OR_RETURN(Cell cell, EvaluateCalls(pipeline, dot));
    for (const std::string& name : pipeline.variables) {
      if (pipeline.declares) {
        variables_.push_back({name, cell});
        continue;
      }
      bool found = false;
      for (auto it = variables_.rbegin(); it != variables_.rend() && !found; ++it) {
        if (it->first == name) {
          it->second = cell;
          found = true;
        }
      }
      if (!found) {
        return absl::InvalidArgumentError(absl::StrCat("undefined variable \"$", name, "\""));
      }
    }
    return cell;
  }

  absl::StatusOr<Cell> EvaluateCalls(const Pipeline& pipeline, const Cell& dot) {
    std::optional<Cell> piped;
    for (const CommandCall& call : pipeline.calls) {
      GANTRY_ASSIGN_OR_RETURN(Cell cell, EvaluateCall(call, dot, piped));
      piped = std::move(cell);
    }
    return *std::move(piped);
  }

  absl::StatusOr<Cell> EvaluateCall(const CommandCall& call, const Cell& dot,
                                    const std::optional<Cell>& piped) {
    const Operand& first = call.words.front();
    // `.Label "key"`, the one method listings have.
    const bool label_method = first.kind == Operand::Kind::kDot && !first.fields.empty() &&
                              first.fields.back() == "Label" && (call.words.size() > 1 || piped);
    if (first.kind != Operand::Kind::kFunction && !label_method) {
      if (call.words.size() > 1 || piped) {
        return absl::InvalidArgumentError("can't give argument to non-function");
      }
      return EvaluateOperand(first, dot);
    }
    std::vector<Cell> cells;
    for (size_t i = 1; i < call.words.size(); ++i) {
      GANTRY_ASSIGN_OR_RETURN(Cell cell, EvaluateOperand(call.words[i], dot));
      cells.push_back(std::move(cell));
    }
    if (piped) cells.push_back(*piped);
    if (first.name == "index" && !label_method && !cells.empty()) return Index(std::move(cells));
    // A format that asks for types wants the values themselves.
    const bool types = first.name == "printf" && !cells.empty() && cells[0].value.is_string() &&
                       absl::StrContains(cells[0].value.string(), "%T");
    const bool prints =
        !types && (first.name == "print" || first.name == "println" || first.name == "printf");
    std::vector<Value> args;
    for (Cell& cell : cells) {
      // What prints sees an absent field as its text, all others as null.
      const bool text = prints && (cell.value.is_null() || cell.value.is_object());
      args.push_back(text ? Value(Text(cell)) : std::move(cell.value));
    }
    if (label_method) {
      GANTRY_ASSIGN_OR_RETURN(Value label, Label(first, dot, args));
      return Cell{std::move(label)};
    }
    GANTRY_ASSIGN_OR_RETURN(Value result, CallTemplateFunction(first.name, args));
    return Cell{std::move(result)};
  }

  absl::StatusOr<Value> Label(const Operand& operand, const Cell& dot,
                              const std::vector<Value>& args) {
    Cell base = dot;
    for (size_t i = 0; i + 1 < operand.fields.size(); ++i) {
      GANTRY_ASSIGN_OR_RETURN(base, Field(base, operand.fields[i]));
    }
    const Value* labels = base.value.Find("LabelMap");
    if (labels == nullptr) labels = base.value.Find("Labels");
    if (labels == nullptr || args.size() != 1 || !args[0].is_string()) {
      return absl::InvalidArgumentError("Label needs one name, and a row that has labels");
    }
    // The row of headings: docker's heading of a label is the last part of its name.
    if (!strict_ && labels->is_string()) {
      const std::string& name = args[0].string();
      std::string heading = name.substr(name.rfind('.') + 1);
      for (char& c : heading) c = c == '-' || c == '_' ? ' ' : c;
      return Value(std::move(heading));
    }
    const Value* value = labels->Find(args[0].string());
    return value == nullptr ? Value("") : *value;
  }

  absl::StatusOr<Cell> EvaluateOperand(const Operand& operand, const Cell& dot) {
    Cell cell;
    switch (operand.kind) {
      case Operand::Kind::kDot:
        cell = dot;
        break;
      case Operand::Kind::kLiteral:
        return Cell{operand.literal};
      case Operand::Kind::kVariable: {
        bool found = false;
        for (auto it = variables_.rbegin(); it != variables_.rend() && !found; ++it) {
          if (it->first == operand.name) {
            cell = it->second;
            found = true;
          }
        }
        if (!found) {
          return absl::InvalidArgumentError(
              absl::StrCat("undefined variable \"$", operand.name, "\""));
        }
        break;
      }
      case Operand::Kind::kPipeline: {
        GANTRY_ASSIGN_OR_RETURN(cell, Evaluate(*operand.inner, dot));
        break;
      }
      case Operand::Kind::kFunction: {
        GANTRY_ASSIGN_OR_RETURN(Value value, CallTemplateFunction(operand.name, {}));
        return Cell{std::move(value)};
      }
    }
    for (const std::string& field : operand.fields) {
      GANTRY_ASSIGN_OR_RETURN(cell, Field(cell, field));
    }
    return cell;
  }

  // What a client with typed documents sees at a path that is absent or null here.
  absl::optional<absl::string_view> AbsentAt(
      const std::optional<std::vector<std::string>>& path) const {
    if (!path || path->empty() || !absent_) return absl::nullopt;
    return absent_(*path);
  }

  absl::StatusOr<Cell> Field(const Cell& cell, const std::string& name) const {
    const Value& value = cell.value;
    if (name == "Platform") {
      if (const Value* text = value.Find("PlatformText")) return Part(cell, name, *text);
    }
    if (const Value* field = value.Find(name)) return Part(cell, name, *field);
    if (value.is_object()) {
      Cell absent = Part(cell, name, Value());
      if (const auto spec = AbsentAt(absent.path)) {
        if (spec->substr(0, 1) == "=") return Field(cell, std::string(spec->substr(1)));
        if (*spec == "\"\"") absent.value = Value("");
        if (*spec == "0") absent.value = Value(0);
        if (*spec == "false") absent.value = Value(false);
        return absent;
      }
      if (!strict_) return Cell();
      std::vector<std::string> names;
      for (const auto& [key, unused] : value.object().fields) {
        if (!IsForTemplatesOnly(key)) names.push_back(key);
      }
      return absl::InvalidArgumentError(NoField(name, std::move(names)));
    }
    if (value.is_null()) {
      if (!strict_) return Cell();
      return absl::InvalidArgumentError(absl::StrCat("cannot take field \"", name, "\" of <nil>"));
    }
    return absl::InvalidArgumentError(absl::StrCat("can't take field \"", name, "\" of a ",
                                                   value.is_list()     ? "list"
                                                   : value.is_string() ? "string"
                                                   : value.is_bool()   ? "boolean"
                                                                       : "number"));
  }

  // Names the fields that are nearest in spelling, or all if there are few.
  static std::string NoField(const std::string& name, std::vector<std::string> names) {
    std::string out = absl::StrCat("no field \"", name, "\"");
    if (names.empty()) return out;
    constexpr size_t kShown = 3;
    const bool all = names.size() <= 8;
    if (!all) {
      std::stable_sort(names.begin(), names.end(), [&](const auto& a, const auto& b) {
        return Distance(name, a) < Distance(name, b);
      });
      names.resize(kShown);
    }
    return absl::StrCat(out, all ? "; there are " : "; the nearest are ",
                        absl::StrJoin(names, ", "));
  }

  // Edits between two words, case apart.
  static size_t Distance(absl::string_view from, absl::string_view to) {
    const std::string a = absl::AsciiStrToLower(from.substr(0, 64));
    const std::string b = absl::AsciiStrToLower(to.substr(0, 64));
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= b.size(); ++j) {
        const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
      }
    }
    return row[b.size()];
  }

  // As Go prints it: an absent field by its type, a map by its keys.
  std::string Text(const Cell& cell) const {
    const Value& value = cell.value;
    const bool empty_object = value.is_object() && value.object().fields.empty();
    if (value.is_null() || empty_object) {
      if (const auto spec = AbsentAt(cell.path)) {
        if (*spec == "nil") return empty_object ? "{}" : "<nil>";
        if (*spec == "<no value>" && empty_object) return "map[]";
        return std::string(*spec);
      }
      return value.Text();
    }
    std::string out;
    if (value.is_list()) {
      bool first = true;
      for (const Value& v : value.list()) {
        absl::StrAppend(&out, first ? "" : " ", Text(Part(cell, "#", v)));
        first = false;
      }
      return absl::StrCat("[", out, "]");
    }
    if (value.is_object()) {
      if (const auto fields = FieldsAt(cell.path)) return Struct(cell, *fields);
      // Go prints maps in the order of their keys.
      std::map<absl::string_view, const Value*> sorted;
      for (const auto& [key, v] : value.object().fields) sorted.emplace(key, &v);
      for (const auto& [key, v] : sorted)
        absl::StrAppend(&out, out.empty() ? "" : " ", key, ":", Text(Part(cell, key, *v)));
      return absl::StrCat("map[", out, "]");
    }
    if (value.is_integer() && IsDuration(cell.path)) return GoDuration(value.integer());
    return value.Text();
  }

  absl::optional<absl::string_view> FieldsAt(
      const std::optional<std::vector<std::string>>& path) const {
    if (!path || path->empty()) return absl::nullopt;
    return AbsentAt(Below(*path, "{}"));
  }

  // Whether the object that a field is of says that it holds nanoseconds.
  bool IsDuration(const std::optional<std::vector<std::string>>& path) const {
    if (!path || path->size() < 2) return false;
    std::vector<std::string> object = *path;
    const std::string name = absl::StrCat(object.back(), ":ns");
    object.back() = "{}";
    const auto fields = AbsentAt(object);
    if (!fields) return false;
    for (absl::string_view field : absl::StrSplit(*fields, ' ')) {
      if (field.substr(0, field.find('=')) == name) return true;
    }
    return false;
  }

  // "{a b {c}}" of fields as base/engine/absent_fields.h lists them.
  std::string Struct(const Cell& cell, absl::string_view fields) const {
    const auto field = [this, &cell](const std::string& name, absl::string_view zero) {
      const Value* value = cell.value.Find(name);
      return value == nullptr || value->is_null() ? std::string(zero)
                                                  : Text(Part(cell, name, *value));
    };
    std::string out;
    if (absl::ConsumePrefix(&fields, "%")) {
      while (!fields.empty()) {
        const size_t open = fields.find('[');
        absl::StrAppend(&out, fields.substr(0, open));
        const size_t close = fields.find(']');
        if (open == fields.npos || close == fields.npos) break;
        out += field(std::string(fields.substr(open + 1, close - open - 1)), "");
        fields.remove_prefix(close + 1);
      }
      return out;
    }
    out = "{";
    bool first = true;
    for (absl::string_view one : absl::StrSplit(fields, ' ')) {
      if (one == "}") {
        out += "}";
        first = false;
        continue;
      }
      if (!first) out += " ";
      first = one == "{";
      if (first) {
        out += "{";
        continue;
      }
      const size_t equals = one.find('=');
      absl::string_view name = one.substr(0, equals);
      absl::ConsumeSuffix(&name, ":ns");
      out += field(std::string(name), equals == one.npos ? "" : one.substr(equals + 1));
    }
    return out + "}";
  }

  // "1m30s", "500ms": as Go writes a duration.
  static std::string GoDuration(int64_t nanos) {
    if (nanos == 0) return "0s";
    std::string out = nanos < 0 ? "-" : "";
    const uint64_t total = nanos < 0 ? -static_cast<uint64_t>(nanos) : static_cast<uint64_t>(nanos);
    const auto decimal = [](uint64_t amount, uint64_t unit) {
      std::string text = absl::StrCat(amount / unit);
      if (amount % unit == 0) return text;
      std::string digits = absl::StrCat(unit + amount % unit).substr(1);
      while (digits.back() == '0') digits.pop_back();
      return absl::StrCat(text, ".", digits);
    };
    if (total < 1000) return absl::StrCat(out, total, "ns");
    if (total < 1000000) return absl::StrCat(out, decimal(total, 1000), "\u00b5s");
    if (total < 1000000000) return absl::StrCat(out, decimal(total, 1000000), "ms");
    constexpr uint64_t kMinute = 60000000000, kHour = 60 * kMinute;
    if (total >= kHour) absl::StrAppend(&out, total / kHour, "h");
    if (total >= kMinute) absl::StrAppend(&out, total % kHour / kMinute, "m");
    return absl::StrCat(out, decimal(total % kMinute, 1000000000), "s");
  }

  static absl::StatusOr<Cell> Index(std::vector<Cell> cells) {
    Cell cell = std::move(cells[0]);
    for (size_t i = 1; i < cells.size(); ++i) {
      const Value& key = cells[i].value;
      const Value& value = cell.value;
      if (value.is_list() && key.is_integer()) {
        if (key.integer() < 0 || key.integer() >= static_cast<int64_t>(value.list().size())) {
          return absl::InvalidArgumentError(absl::StrCat(
              "index ", key.integer(), " is out of range, there are ", value.list().size()));
        }
        Cell item = Part(cell, "#", value.list()[static_cast<size_t>(key.integer())]);
        cell = std::move(item);
      } else if (value.is_object() && key.is_string()) {
        const Value* found = value.Find(key.string());
        Cell item = Part(cell, key.string(), found == nullptr ? Value("") : *found);
        cell = std::move(item);
      } else if (value.is_null()) {
        // Go gives the zero value of a nil map's elements.
        if (!key.is_string() || !cell.path) return absl::InvalidArgumentError("index of nothing");
        cell = Part(cell, key.string(), Value(""));
      } else {
        return absl::InvalidArgumentError("index: a list takes a number, a map a string");
      }
    }
    return cell;
  }

  const TemplateNode& root_;
  const bool strict_;
  const AbsentFields& absent_;
  Variables variables_;
  int total_calls_ = 0;
  int calls_ = 0;  // templates that are being executed, one inside the other
  std::string out_;
};

}  // namespace

GoTemplate::GoTemplate(std::unique_ptr<TemplateNode> root) : root_(std::move(root)) {}
GoTemplate::GoTemplate(GoTemplate&&) noexcept = default;
GoTemplate& GoTemplate::operator=(GoTemplate&&) noexcept = default;
GoTemplate::~GoTemplate() = default;

absl::StatusOr<GoTemplate> GoTemplate::Parse(absl::string_view text) {
  GANTRY_ASSIGN_OR_RETURN(std::unique_ptr<TemplateNode> root, ParseTemplate(text));
  return GoTemplate(std::move(root));
}

absl::StatusOr<std::string> GoTemplate::Execute(const Value& data, bool strict,
                                                const AbsentFields& absent) const {
  Evaluator evaluator(*root_, data, strict, absent);
  GANTRY_RETURN_IF_ERROR(evaluator.RunAll(data));
  return evaluator.TakeOutput();
}

}  // namespace gantry::ctl
