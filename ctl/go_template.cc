#include "ctl/go_template.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"

namespace gantry::ctl {
namespace {

constexpr int kMaxNesting = 64;
constexpr int kMaxCalls = 100000;

struct Token {
  enum class Kind {
    kField,     // .Name; text without the dot, "" for a lone dot
    kVariable,  // $name
    kWord,
    kString,
    kNumber,
    kSymbol,  // | ( ) , := =
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  bool space_before = false;
};

struct Pipeline;

// One operand or function call.
struct Operand {
  enum class Kind { kDot, kVariable, kLiteral, kPipeline, kFunction };
  Kind kind = Kind::kDot;
  std::string name;  // variable or function
  Value literal;
  std::unique_ptr<Pipeline> inner;  // parenthesised
  std::vector<std::string> fields;  // .A.B after it
};

struct CommandCall {
  std::vector<Operand> words;  // function or operand first, then arguments
};

struct Pipeline {
  std::vector<std::string> variables;
  bool declares = false;
  std::vector<CommandCall> calls;
};

absl::Status ErrorAt(absl::string_view action, absl::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat("template: {{", absl::StripAsciiWhitespace(action), "}}: ", problem));
}

bool IsNameChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

absl::StatusOr<std::vector<Token>> Tokenize(absl::string_view action) {
  std::vector<Token> tokens;
  size_t i = 0;
  bool space = false;
  const auto add = [&](Token::Kind kind, std::string text) {
    tokens.push_back(Token{kind, std::move(text), space});
    space = false;
  };
  while (i < action.size()) {
    const char c = action[i];
    if (std::isspace(static_cast<unsigned char>(c))) {
      space = true;
      ++i;
    } else if (c == '"' || c == '\'') {
      std::string text;
      ++i;
      while (i < action.size() && action[i] != c) {
        if (action[i] == '\\' && i + 1 < action.size()) {
          ++i;
          switch (action[i]) {
            case 'n':
              text.push_back('\n');
              break;
            case 't':
              text.push_back('\t');
              break;
            case 'r':
              text.push_back('\r');
              break;
            default:
              text.push_back(action[i]);
          }
        } else {
          text.push_back(action[i]);
        }
        ++i;
      }
      if (i >= action.size()) return ErrorAt(action, "string without an end");
      ++i;
      add(Token::Kind::kString, std::move(text));
    } else if (c == '`') {
      const size_t end = action.find('`', i + 1);
      if (end == absl::string_view::npos) return ErrorAt(action, "string without an end");
      add(Token::Kind::kString, std::string(action.substr(i + 1, end - i - 1)));
      i = end + 1;
    } else if (c == '.' && !(i + 1 < action.size() &&
                             std::isdigit(static_cast<unsigned char>(action[i + 1])))) {
      const size_t start = ++i;
      while (i < action.size() && IsNameChar(action[i])) ++i;
      add(Token::Kind::kField, std::string(action.substr(start, i - start)));
    } else if (c == '$') {
      const size_t start = ++i;
      while (i < action.size() && IsNameChar(action[i])) ++i;
      add(Token::Kind::kVariable, std::string(action.substr(start, i - start)));
    } else if (std::isdigit(static_cast<unsigned char>(c)) || c == '-' || c == '+' || c == '.') {
      const size_t start = i++;
      while (i < action.size() && (IsNameChar(action[i]) || action[i] == '.')) ++i;
      add(Token::Kind::kNumber, std::string(action.substr(start, i - start)));
    } else if (IsNameChar(c)) {
      const size_t start = i;
      while (i < action.size() && IsNameChar(action[i])) ++i;
      add(Token::Kind::kWord, std::string(action.substr(start, i - start)));
    } else if (action.substr(i, 2) == ":=") {
      add(Token::Kind::kSymbol, ":=");
      i += 2;
    } else if (c == '|' || c == '(' || c == ')' || c == ',' || c == '=') {
      add(Token::Kind::kSymbol, std::string(1, c));
      ++i;
    } else {
      return ErrorAt(action,
                     absl::StrCat("unexpected character ", engine::JsonQuote(action.substr(i, 1))));
    }
  }
  return tokens;
}

bool IsFunction(absl::string_view name) {
  static constexpr absl::string_view kNames[] = {
      "and",   "or",    "not",   "eq",    "ne",       "lt",      "le",   "gt",      "ge",
      "len",   "index", "slice", "print", "printf",   "println", "json", "join",    "lower",
      "upper", "title", "split", "pad",   "truncate", "html",    "js",   "urlquery"};
  for (absl::string_view n : kNames) {
    if (n == name) return true;
  }
  return false;
}

class PipelineParser {
 public:
  PipelineParser(absl::string_view action, std::vector<Token> tokens)
      : action_(action), tokens_(std::move(tokens)) {}

  absl::StatusOr<Pipeline> Parse() {
    GANTRY_ASSIGN_OR_RETURN(Pipeline pipeline, ParsePipeline(0));
    if (pos_ != tokens_.size()) {
      return ErrorAt(action_, absl::StrCat("unexpected ", engine::JsonQuote(tokens_[pos_].text)));
    }
    return pipeline;
  }

 private:
  bool IsSymbol(absl::string_view text) const {
    return pos_ < tokens_.size() && tokens_[pos_].kind == Token::Kind::kSymbol &&
           tokens_[pos_].text == text;
  }

  // $a := , $a, $b := or $a =
  void ParseDeclaration(Pipeline* pipeline) {
    size_t p = pos_;
    std::vector<std::string> names;
    while (p < tokens_.size() && tokens_[p].kind == Token::Kind::kVariable) {
      names.push_back(tokens_[p++].text);
      if (p < tokens_.size() && tokens_[p].kind == Token::Kind::kSymbol && tokens_[p].text == ",") {
        ++p;
        continue;
      }
      break;
    }
    if (names.empty() || p >= tokens_.size() || tokens_[p].kind != Token::Kind::kSymbol) return;
    if (tokens_[p].text != ":=" && tokens_[p].text != "=") return;
    pipeline->declares = tokens_[p].text == ":=";
    pipeline->variables = std::move(names);
    pos_ = p + 1;
  }

  absl::StatusOr<Pipeline> ParsePipeline(int depth) {
    if (depth > kMaxNesting) return ErrorAt(action_, "nested too deep");
    Pipeline pipeline;
    ParseDeclaration(&pipeline);
    while (true) {
      CommandCall call;
      while (pos_ < tokens_.size() && !IsSymbol("|") && !IsSymbol(")")) {
        GANTRY_ASSIGN_OR_RETURN(Operand operand, ParseOperand(depth));
        call.words.push_back(std::move(operand));
      }
      if (call.words.empty()) return ErrorAt(action_, "missing value");
      pipeline.calls.push_back(std::move(call));
      if (!IsSymbol("|")) return pipeline;
      ++pos_;
    }
  }

  absl::StatusOr<Operand> ParseOperand(int depth) {
    Operand operand;
    const Token token = tokens_[pos_++];
    switch (token.kind) {
      case Token::Kind::kField:
        operand.kind = Operand::Kind::kDot;
        if (!token.text.empty()) operand.fields.push_back(token.text);
        break;
      case Token::Kind::kVariable:
        operand.kind = Operand::Kind::kVariable;
        operand.name = token.text;
        break;
      case Token::Kind::kString:
        operand.kind = Operand::Kind::kLiteral;
        operand.literal = Value(token.text);
        break;
      case Token::Kind::kNumber: {
        operand.kind = Operand::Kind::kLiteral;
        int64_t integer;
        double real;
        if (absl::SimpleAtoi(token.text, &integer)) {
          operand.literal = Value(integer);
        } else if (absl::SimpleAtod(token.text, &real)) {
          operand.literal = Value(real);
        } else {
          return ErrorAt(action_, absl::StrCat("bad number ", token.text));
        }
        break;
      }
      case Token::Kind::kWord:
        if (token.text == "true" || token.text == "false") {
          operand.kind = Operand::Kind::kLiteral;
          operand.literal = Value(token.text == "true");
        } else if (token.text == "nil") {
          operand.kind = Operand::Kind::kLiteral;
        } else if (IsFunction(token.text)) {
          operand.kind = Operand::Kind::kFunction;
          operand.name = token.text;
          return operand;
        } else {
          return ErrorAt(action_, absl::StrCat("function \"", token.text, "\" not defined"));
        }
        break;
      case Token::Kind::kSymbol: {
        if (token.text != "(") return ErrorAt(action_, absl::StrCat("unexpected ", token.text));
        operand.kind = Operand::Kind::kPipeline;
        GANTRY_ASSIGN_OR_RETURN(Pipeline inner, ParsePipeline(depth + 1));
        if (!IsSymbol(")")) return ErrorAt(action_, "missing )");
        ++pos_;
        operand.inner = std::make_unique<Pipeline>(std::move(inner));
        break;
      }
      case Token::Kind::kEnd:
        return ErrorAt(action_, "missing value");
    }
    // Field names that follow without a space belong to this operand.
    while (pos_ < tokens_.size() && tokens_[pos_].kind == Token::Kind::kField &&
           !tokens_[pos_].space_before && !tokens_[pos_].text.empty()) {
      operand.fields.push_back(tokens_[pos_++].text);
    }
    return operand;
  }

  absl::string_view action_;
  std::vector<Token> tokens_;
  size_t pos_ = 0;
};

absl::StatusOr<Pipeline> ParsePipelineText(absl::string_view action) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(action));
  return PipelineParser(action, std::move(tokens)).Parse();
}

}  // namespace

struct TemplateNode {
  enum class Kind { kText, kAction, kIf, kRange, kWith, kTemplate, kList };
  Kind kind = Kind::kList;
  std::string text;  // of text nodes; of others the action, for messages
  std::string name;  // of the template that a kTemplate node calls
  Pipeline pipeline;
  std::vector<std::unique_ptr<TemplateNode>> body;
  std::vector<std::unique_ptr<TemplateNode>> otherwise;
  std::map<std::string, std::vector<std::unique_ptr<TemplateNode>>> defined;  // of the root
};

namespace {

using Nodes = std::vector<std::unique_ptr<TemplateNode>>;

// Text and the insides of {{ }}, with trim markers applied.
struct Piece {
  bool action;
  std::string text;
};

absl::StatusOr<std::vector<Piece>> SplitPieces(absl::string_view text) {
  std::vector<Piece> pieces;
  bool trim_next = false;
  while (!text.empty()) {
    const size_t open = text.find("{{");
    std::string plain(text.substr(0, open));
    if (trim_next) plain = std::string(absl::StripLeadingAsciiWhitespace(plain));
    trim_next = false;
    if (open == absl::string_view::npos) {
      pieces.push_back({false, std::move(plain)});
      break;
    }
    text.remove_prefix(open + 2);
    if (text.size() >= 2 && text[0] == '-' && std::isspace(static_cast<unsigned char>(text[1]))) {
      plain = std::string(absl::StripTrailingAsciiWhitespace(plain));
      text.remove_prefix(2);
    }
    if (!plain.empty()) pieces.push_back({false, std::move(plain)});

    // The end of the action: not inside quotes or a comment.
    size_t end = 0;
    char quote = 0;
    const bool comment = absl::StripLeadingAsciiWhitespace(text).substr(0, 2) == "/*";
    if (comment) {
      end = text.find("*/");
      if (end == absl::string_view::npos) return ErrorAt(text, "comment without an end");
    }
    for (;; ++end) {
      if (end >= text.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("template: \"{{", text, "\" has no end: \"}}\" is missing"));
      }
      const char c = text[end];
      if (quote != 0) {
        if (c == '\\' && quote != '`') {
          ++end;
        } else if (c == quote) {
          quote = 0;
        }
      } else if (!comment && (c == '"' || c == '`' || c == '\'')) {
        quote = c;
      } else if (text.substr(end, 2) == "}}") {
        break;
      }
    }
    std::string action(text.substr(0, end));
    text.remove_prefix(end + 2);
    if (action.size() >= 2 && action.back() == '-' &&
        std::isspace(static_cast<unsigned char>(action[action.size() - 2]))) {
      action.pop_back();
      trim_next = true;
    }
    if (!comment) pieces.push_back({true, std::move(action)});
  }
  return pieces;
}

class TreeParser {
 public:
  explicit TreeParser(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {}

  std::map<std::string, Nodes> TakeDefined() { return std::move(defined_); }

  absl::StatusOr<Nodes> ParseAll() {
    std::string stop;
    GANTRY_ASSIGN_OR_RETURN(Nodes nodes, ParseList(&stop, 0));
    if (!stop.empty()) return ErrorAt(stop, "without a block to belong to");
    return nodes;
  }

 private:
  // Reads up to an `end` or `else`, which goes to `stop` ("" at the end of the text).
  absl::StatusOr<Nodes> ParseList(std::string* stop, int depth) {
    if (depth > kMaxNesting) return absl::InvalidArgumentError("template: nested too deep");
    Nodes nodes;
    stop->clear();
    while (pos_ < pieces_.size()) {
      Piece& piece = pieces_[pos_++];
      auto node = std::make_unique<TemplateNode>();
      node->text = piece.text;
      if (!piece.action) {
        node->kind = TemplateNode::Kind::kText;
        nodes.push_back(std::move(node));
        continue;
      }
      const absl::string_view action = absl::StripAsciiWhitespace(piece.text);
      const size_t space = action.find_first_of(" \t\n(");
      const absl::string_view keyword = action.substr(0, space);
      if (keyword == "end" || keyword == "else") {
        *stop = std::string(action);
        return nodes;
      }
      if (keyword == "define" || keyword == "block" || keyword == "template") {
        GANTRY_RETURN_IF_ERROR(ParseNamed(keyword, node.get(), depth));
        if (keyword != "define") nodes.push_back(std::move(node));
        continue;
      }
      absl::string_view rest = action;
      if (keyword == "if" || keyword == "range" || keyword == "with") {
        node->kind = keyword == "if"      ? TemplateNode::Kind::kIf
                     : keyword == "range" ? TemplateNode::Kind::kRange
                                          : TemplateNode::Kind::kWith;
        rest = action.substr(keyword.size());
      } else {
        node->kind = TemplateNode::Kind::kAction;
      }
      GANTRY_ASSIGN_OR_RETURN(node->pipeline, ParsePipelineText(rest));
      if (node->kind != TemplateNode::Kind::kAction) {
        GANTRY_RETURN_IF_ERROR(ParseBlock(node.get(), depth));
      }
      nodes.push_back(std::move(node));
    }
    return nodes;
  }

  // {{define "n"}}...{{end}}, {{block "n" pipeline}}...{{end}}, {{template "n" [pipeline]}}.
  absl::Status ParseNamed(absl::string_view keyword, TemplateNode* node, int depth) {
    const absl::string_view action = absl::StripAsciiWhitespace(node->text);
    absl::string_view rest = absl::StripLeadingAsciiWhitespace(action.substr(keyword.size()));
    const size_t end = rest.empty() ? rest.npos : rest.find(rest[0], 1);
    if (end == rest.npos || (rest[0] != '"' && rest[0] != '`')) {
      return ErrorAt(action, "expected a name in quotes");
    }
    node->kind = TemplateNode::Kind::kTemplate;
    node->name = std::string(rest.substr(1, end - 1));
    rest = absl::StripAsciiWhitespace(rest.substr(end + 1));
    if (keyword == "define" ? !rest.empty() : keyword == "block" && rest.empty()) {
      return ErrorAt(action, rest.empty() ? "missing value" : "unexpected value after the name");
    }
    if (!rest.empty()) {
      GANTRY_ASSIGN_OR_RETURN(node->pipeline, ParsePipelineText(rest));
    }
    if (keyword == "template") return absl::OkStatus();
    std::string stop;
    GANTRY_ASSIGN_OR_RETURN(Nodes body, ParseList(&stop, depth + 1));
    if (stop.empty()) return ErrorAt(action, "missing {{end}}");
    if (stop.substr(0, 3) != "end") return ErrorAt(stop, "without a block to belong to");
    defined_[node->name] = std::move(body);
    return absl::OkStatus();
  }

  // Body and else branches of an opened block, through its `end`.
  absl::Status ParseBlock(TemplateNode* node, int depth) {
    std::string stop;
    GANTRY_ASSIGN_OR_RETURN(node->body, ParseList(&stop, depth + 1));
    if (stop.empty()) return ErrorAt(node->text, "missing {{end}}");
    if (stop.substr(0, 4) != "else") return absl::OkStatus();
    const absl::string_view condition =
        absl::StripAsciiWhitespace(absl::string_view(stop).substr(4));
    if (condition.empty()) {
      GANTRY_ASSIGN_OR_RETURN(node->otherwise, ParseList(&stop, depth + 1));
      if (stop.empty()) return ErrorAt(node->text, "missing {{end}}");
      if (stop.substr(0, 3) != "end") return ErrorAt(stop, "after {{else}}");
      return absl::OkStatus();
    }
    auto chained = std::make_unique<TemplateNode>();
    chained->text = std::string(condition);
    const bool with = condition.substr(0, 5) == "with ";
    if (!with && condition.substr(0, 3) != "if " && condition.substr(0, 3) != "if(") {
      return ErrorAt(stop, "expected if");
    }
    chained->kind = with ? TemplateNode::Kind::kWith : TemplateNode::Kind::kIf;
    GANTRY_ASSIGN_OR_RETURN(chained->pipeline, ParsePipelineText(condition.substr(with ? 4 : 2)));
    GANTRY_RETURN_IF_ERROR(ParseBlock(chained.get(), depth + 1));
    node->otherwise.push_back(std::move(chained));
    return absl::OkStatus();
  }

  std::vector<Piece> pieces_;
  size_t pos_ = 0;
  std::map<std::string, Nodes> defined_;
};

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

// A value and, if it is a part of the document, where it stands there.
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

  absl::Status Run(const Nodes& nodes, const Cell& dot) {
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
        return absl::OkStatus();  // a variable lives on to the end of the block
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
    return ErrorAt(node.text, message);
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
    if (calls_ >= kMaxNesting) {
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
    const bool prints = first.name == "print" || first.name == "println" || first.name == "printf";
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
    GANTRY_ASSIGN_OR_RETURN(Value result, Call(first.name, args));
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
        GANTRY_ASSIGN_OR_RETURN(Value value, Call(operand.name, {}));
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
        if (key != "LabelMap") names.push_back(key);
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
      for (const Value& v : value.list()) {
        absl::StrAppend(&out, out.empty() ? "" : " ", Text(Part(cell, "#", v)));
      }
      return absl::StrCat("[", out, "]");
    }
    if (value.is_object()) {
      for (const auto& [key, v] : value.object().fields) {
        absl::StrAppend(&out, out.empty() ? "" : " ", key, ":", Text(Part(cell, key, v)));
      }
      return absl::StrCat("map[", out, "]");
    }
    return value.Text();
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

  static absl::StatusOr<std::string> Printf(const std::vector<Value>& args) {
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

  static void AppendPadded(std::string text, const std::string& flags, std::string* out) {
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

  static absl::StatusOr<Value> Call(const std::string& name, const std::vector<Value>& args) {
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
          if (key != "LabelMap" && key != "FullID") shown.Set(key, v);
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
      for (const Value& v : args) {
        for (const char c : v.Text()) {
          if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ||
              c == '.' || c == '~') {
            out.push_back(c);
          } else if (c == ' ') {
            out.push_back('+');
          } else {
            absl::StrAppendFormat(&out, "%%%02X", static_cast<unsigned char>(c));
          }
        }
      }
      return Value(std::move(out));
    }
    if (name == "lower" || name == "upper" || name == "title" || name == "html" || name == "js") {
      GANTRY_RETURN_IF_ERROR(wants(1, 1));
      const std::string text = args[0].Text();
      if (name == "lower") return Value(absl::AsciiStrToLower(text));
      if (name == "upper") return Value(absl::AsciiStrToUpper(text));
      if (name != "title") return Value(text);
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
  GANTRY_ASSIGN_OR_RETURN(std::vector<Piece> pieces, SplitPieces(text));
  auto root = std::make_unique<TemplateNode>();
  TreeParser parser(std::move(pieces));
  GANTRY_ASSIGN_OR_RETURN(root->body, parser.ParseAll());
  root->defined = parser.TakeDefined();
  return GoTemplate(std::move(root));
}

absl::StatusOr<std::string> GoTemplate::Execute(const Value& data, bool strict,
                                                const AbsentFields& absent) const {
  Evaluator evaluator(*root_, data, strict, absent);
  GANTRY_RETURN_IF_ERROR(evaluator.RunAll(data));
  return evaluator.TakeOutput();
}

}  // namespace gantry::ctl
