#include "ctl/go_template.h"

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
      return ErrorAt(action, absl::StrCat("unexpected character ", engine::JsonQuote(action.substr(i, 1))));
    }
  }
  return tokens;
}

bool IsFunction(absl::string_view name) {
  static constexpr absl::string_view kNames[] = {
      "and",   "or",    "not",   "eq",    "ne",       "lt",      "le",   "gt",   "ge",
      "len",   "index", "slice", "print", "printf",   "println", "json", "join", "lower",
      "upper", "title", "split", "pad",   "truncate", "html",    "js"};
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
  enum class Kind { kText, kAction, kIf, kRange, kWith, kList };
  Kind kind = Kind::kList;
  std::string text;  // of text nodes; of others the action, for messages
  Pipeline pipeline;
  std::vector<std::unique_ptr<TemplateNode>> body;
  std::vector<std::unique_ptr<TemplateNode>> otherwise;
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

class Evaluator {
 public:
  Evaluator(const Value& root, bool strict) : strict_(strict) { variables_.push_back({"", root}); }

  absl::Status Run(const Nodes& nodes, const Value& dot) {
    const size_t scope = variables_.size();
    for (const auto& node : nodes) GANTRY_RETURN_IF_ERROR(RunNode(*node, dot));
    variables_.resize(scope, {"", Value()});
    return absl::OkStatus();
  }

  std::string TakeOutput() { return std::move(out_); }

 private:
  absl::Status RunNode(const TemplateNode& node, const Value& dot) {
    if (node.kind == TemplateNode::Kind::kText) {
      out_.append(node.text);
      return absl::OkStatus();
    }
    if (node.kind == TemplateNode::Kind::kRange) return RunRange(node, dot);
    const size_t scope = variables_.size();
    auto value = Evaluate(node.pipeline, dot);
    if (!value.ok()) return Located(node, value.status());
    switch (node.kind) {
      case TemplateNode::Kind::kAction:
        if (node.pipeline.variables.empty()) out_.append(value->Text());
        return absl::OkStatus();  // a variable lives on to the end of the block
      case TemplateNode::Kind::kIf:
        GANTRY_RETURN_IF_ERROR(Run(value->Truth() ? node.body : node.otherwise, dot));
        break;
      case TemplateNode::Kind::kWith:
        GANTRY_RETURN_IF_ERROR(value->Truth() ? Run(node.body, *value) : Run(node.otherwise, dot));
        break;
      case TemplateNode::Kind::kText:
      case TemplateNode::Kind::kRange:
      case TemplateNode::Kind::kList:
        break;
    }
    variables_.resize(scope, {"", Value()});
    return absl::OkStatus();
  }

  static absl::Status Located(const TemplateNode& node, const absl::Status& status) {
    if (absl::StartsWith(status.message(), "template: {{")) return status;
    absl::string_view message = status.message();
    absl::ConsumePrefix(&message, "template: ");
    return ErrorAt(node.text, message);
  }

  absl::Status RunRange(const TemplateNode& node, const Value& dot) {
    auto value = EvaluateCalls(node.pipeline, dot);
    if (!value.ok()) return Located(node, value.status());
    std::vector<std::pair<Value, Value>> items;
    if (value->is_list()) {
      for (size_t i = 0; i < value->list().size(); ++i) {
        items.emplace_back(Value(static_cast<int64_t>(i)), value->list()[i]);
      }
    } else if (value->is_object()) {
      // Go walks maps in key order.
      std::map<std::string, Value> sorted;
      for (const auto& [key, v] : value->object().fields) sorted.emplace(key, v);
      for (auto& [key, v] : sorted) items.emplace_back(Value(key), std::move(v));
    } else if (value->is_integer()) {
      for (int64_t i = 0; i < value->integer() && i < 1000000; ++i) items.emplace_back(i, i);
    } else if (!value->is_null()) {
      return Located(node, absl::InvalidArgumentError("range can't iterate over this"));
    }
    if (items.empty()) return Run(node.otherwise, dot);
    for (auto& [key, item] : items) {
      const size_t scope = variables_.size();
      const auto& names = node.pipeline.variables;
      if (names.size() == 1) variables_.push_back({names[0], item});
      if (names.size() == 2) {
        variables_.push_back({names[0], key});
        variables_.push_back({names[1], item});
      }
      GANTRY_RETURN_IF_ERROR(Run(node.body, item));
      variables_.resize(scope, {"", Value()});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Value> Evaluate(const Pipeline& pipeline, const Value& dot) {
    GANTRY_ASSIGN_OR_RETURN(Value value, EvaluateCalls(pipeline, dot));
    for (const std::string& name : pipeline.variables) {
      if (pipeline.declares) {
        variables_.push_back({name, value});
        continue;
      }
      bool found = false;
      for (auto it = variables_.rbegin(); it != variables_.rend() && !found; ++it) {
        if (it->first == name) {
          it->second = value;
          found = true;
        }
      }
      if (!found) {
        return absl::InvalidArgumentError(absl::StrCat("undefined variable \"$", name, "\""));
      }
    }
    return value;
  }

  absl::StatusOr<Value> EvaluateCalls(const Pipeline& pipeline, const Value& dot) {
    std::optional<Value> piped;
    for (const CommandCall& call : pipeline.calls) {
      GANTRY_ASSIGN_OR_RETURN(Value value, EvaluateCall(call, dot, piped));
      piped = std::move(value);
    }
    return *std::move(piped);
  }

  absl::StatusOr<Value> EvaluateCall(const CommandCall& call, const Value& dot,
                                     const std::optional<Value>& piped) {
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
    std::vector<Value> args;
    for (size_t i = 1; i < call.words.size(); ++i) {
      GANTRY_ASSIGN_OR_RETURN(Value arg, EvaluateOperand(call.words[i], dot));
      args.push_back(std::move(arg));
    }
    if (piped) args.push_back(*piped);
    if (label_method) return Label(first, dot, args);
    return Call(first.name, args);
  }

  absl::StatusOr<Value> Label(const Operand& operand, const Value& dot,
                              const std::vector<Value>& args) {
    Value base = dot;
    for (size_t i = 0; i + 1 < operand.fields.size(); ++i) {
      GANTRY_ASSIGN_OR_RETURN(base, Field(base, operand.fields[i]));
    }
    const Value* labels = base.Find("LabelMap");
    if (labels == nullptr) labels = base.Find("Labels");
    if (labels == nullptr || args.size() != 1 || !args[0].is_string()) {
      return absl::InvalidArgumentError("Label wants one name, of something that has labels");
    }
    const Value* value = labels->Find(args[0].string());
    return value == nullptr ? Value("") : *value;
  }

  absl::StatusOr<Value> EvaluateOperand(const Operand& operand, const Value& dot) {
    Value value;
    switch (operand.kind) {
      case Operand::Kind::kDot:
        value = dot;
        break;
      case Operand::Kind::kLiteral:
        return operand.literal;
      case Operand::Kind::kVariable: {
        bool found = false;
        for (auto it = variables_.rbegin(); it != variables_.rend() && !found; ++it) {
          if (it->first == operand.name) {
            value = it->second;
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
        GANTRY_ASSIGN_OR_RETURN(value, Evaluate(*operand.inner, dot));
        break;
      }
      case Operand::Kind::kFunction:
        return Call(operand.name, {});
    }
    for (const std::string& field : operand.fields) {
      GANTRY_ASSIGN_OR_RETURN(value, Field(value, field));
    }
    return value;
  }

  absl::StatusOr<Value> Field(const Value& value, const std::string& name) const {
    if (const Value* field = value.Find(name)) return *field;
    if (value.is_object() && !strict_) return Value();
    if (value.is_object()) {
      std::vector<std::string> names;
      for (const auto& [key, unused] : value.object().fields) {
        if (key != "LabelMap") names.push_back(key);
      }
      return absl::InvalidArgumentError(
          absl::StrCat("no field \"", name, "\"; there are ", absl::StrJoin(names, ", ")));
    }
    if (value.is_null()) {
      if (!strict_) return Value();
      return absl::InvalidArgumentError(absl::StrCat("field \"", name, "\" of nothing"));
    }
    return absl::InvalidArgumentError(absl::StrCat("can't take field \"", name, "\" of a ",
                                                   value.is_list()     ? "list"
                                                   : value.is_string() ? "string"
                                                   : value.is_bool()   ? "boolean"
                                                                       : "number"));
  }

  static absl::StatusOr<Value> Index(Value value, const std::vector<Value>& args) {
    for (size_t i = 1; i < args.size(); ++i) {
      const Value& key = args[i];
      if (value.is_list() && key.is_integer()) {
        if (key.integer() < 0 || key.integer() >= static_cast<int64_t>(value.list().size())) {
          return absl::InvalidArgumentError(absl::StrCat(
              "index ", key.integer(), " is out of range, there are ", value.list().size()));
        }
        Value item = value.list()[static_cast<size_t>(key.integer())];
        value = std::move(item);
      } else if (value.is_object() && key.is_string()) {
        const Value* found = value.Find(key.string());
        Value item = found == nullptr ? Value("") : *found;
        value = std::move(item);
      } else if (value.is_null()) {
        return absl::InvalidArgumentError("index of nothing");
      } else {
        return absl::InvalidArgumentError("index: a list wants a number, a map a string");
      }
    }
    return value;
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
    if (name == "index") {
      GANTRY_RETURN_IF_ERROR(wants(1, kAny));
      return Index(args[0], args);
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
          if (key != "LabelMap") shown.Set(key, v);
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

  const bool strict_;
  std::vector<std::pair<std::string, Value>> variables_;
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
  GANTRY_ASSIGN_OR_RETURN(root->body, TreeParser(std::move(pieces)).ParseAll());
  return GoTemplate(std::move(root));
}

absl::StatusOr<std::string> GoTemplate::Execute(const Value& data, bool strict) const {
  Evaluator evaluator(data, strict);
  GANTRY_RETURN_IF_ERROR(evaluator.Run(root_->body, data));
  return evaluator.TakeOutput();
}

}  // namespace gantry::ctl
