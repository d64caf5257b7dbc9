#include "ctl/go_template_tree.h"

#include <cctype>
#include <cstdint>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "ctl/go_template_functions.h"

namespace gantry::ctl {
namespace {

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
      if (i >= action.size()) return TemplateError(action, "string without an end");
      ++i;
      add(Token::Kind::kString, std::move(text));
    } else if (c == '`') {
      const size_t end = action.find('`', i + 1);
      if (end == absl::string_view::npos) return TemplateError(action, "string without an end");
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
      return TemplateError(
          action, absl::StrCat("unexpected character ", engine::JsonQuote(action.substr(i, 1))));
    }
  }
  return tokens;
}

class PipelineParser {
 public:
  PipelineParser(absl::string_view action, std::vector<Token> tokens)
      : action_(action), tokens_(std::move(tokens)) {}

  absl::StatusOr<Pipeline> Parse() {
    GANTRY_ASSIGN_OR_RETURN(Pipeline pipeline, ParsePipeline(0));
    if (pos_ != tokens_.size()) {
      return TemplateError(action_,
                           absl::StrCat("unexpected ", engine::JsonQuote(tokens_[pos_].text)));
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
    if (depth > kMaxTemplateNesting) return TemplateError(action_, "nested too deep");
    Pipeline pipeline;
    ParseDeclaration(&pipeline);
    while (true) {
      CommandCall call;
      while (pos_ < tokens_.size() && !IsSymbol("|") && !IsSymbol(")")) {
        GANTRY_ASSIGN_OR_RETURN(Operand operand, ParseOperand(depth));
        call.words.push_back(std::move(operand));
      }
      if (call.words.empty()) return TemplateError(action_, "missing value");
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
          return TemplateError(action_, absl::StrCat("bad number ", token.text));
        }
        break;
      }
      case Token::Kind::kWord:
        if (token.text == "true" || token.text == "false") {
          operand.kind = Operand::Kind::kLiteral;
          operand.literal = Value(token.text == "true");
        } else if (token.text == "nil") {
          operand.kind = Operand::Kind::kLiteral;
        } else if (IsTemplateFunction(token.text)) {
          operand.kind = Operand::Kind::kFunction;
          operand.name = token.text;
          return operand;
        } else {
          return TemplateError(action_, absl::StrCat("function \"", token.text, "\" not defined"));
        }
        break;
      case Token::Kind::kSymbol: {
        if (token.text != "(")
          return TemplateError(action_, absl::StrCat("unexpected ", token.text));
        operand.kind = Operand::Kind::kPipeline;
        GANTRY_ASSIGN_OR_RETURN(Pipeline inner, ParsePipeline(depth + 1));
        if (!IsSymbol(")")) return TemplateError(action_, "missing )");
        ++pos_;
        operand.inner = std::make_unique<Pipeline>(std::move(inner));
        break;
      }
      case Token::Kind::kEnd:
        return TemplateError(action_, "missing value");
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
      if (end == absl::string_view::npos) return TemplateError(text, "comment without an end");
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

  std::map<std::string, TemplateNodes> TakeDefined() { return std::move(defined_); }

  absl::StatusOr<TemplateNodes> ParseAll() {
    std::string stop;
    GANTRY_ASSIGN_OR_RETURN(TemplateNodes nodes, ParseList(&stop, 0));
    if (!stop.empty()) return TemplateError(stop, "without a block to belong to");
    return nodes;
  }

 private:
  // Reads up to an `end` or `else`, which goes to `stop` ("" at the end of the text).
  absl::StatusOr<TemplateNodes> ParseList(std::string* stop, int depth) {
    if (depth > kMaxTemplateNesting) return absl::InvalidArgumentError("template: nested too deep");
    TemplateNodes nodes;
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
      return TemplateError(action, "expected a name in quotes");
    }
    node->kind = TemplateNode::Kind::kTemplate;
    node->name = std::string(rest.substr(1, end - 1));
    rest = absl::StripAsciiWhitespace(rest.substr(end + 1));
    if (keyword == "define" ? !rest.empty() : keyword == "block" && rest.empty()) {
      return TemplateError(action,
                           rest.empty() ? "missing value" : "unexpected value after the name");
    }
    if (!rest.empty()) {
      GANTRY_ASSIGN_OR_RETURN(node->pipeline, ParsePipelineText(rest));
    }
    if (keyword == "template") return absl::OkStatus();
    std::string stop;
    GANTRY_ASSIGN_OR_RETURN(TemplateNodes body, ParseList(&stop, depth + 1));
    if (stop.empty()) return TemplateError(action, "missing {{end}}");
    if (stop.substr(0, 3) != "end") return TemplateError(stop, "without a block to belong to");
    defined_[node->name] = std::move(body);
    return absl::OkStatus();
  }

  // Body and else branches of an opened block, through its `end`.
  absl::Status ParseBlock(TemplateNode* node, int depth) {
    std::string stop;
    GANTRY_ASSIGN_OR_RETURN(node->body, ParseList(&stop, depth + 1));
    if (stop.empty()) return TemplateError(node->text, "missing {{end}}");
    if (stop.substr(0, 4) != "else") return absl::OkStatus();
    const absl::string_view condition =
        absl::StripAsciiWhitespace(absl::string_view(stop).substr(4));
    if (condition.empty()) {
      GANTRY_ASSIGN_OR_RETURN(node->otherwise, ParseList(&stop, depth + 1));
      if (stop.empty()) return TemplateError(node->text, "missing {{end}}");
      if (stop.substr(0, 3) != "end") return TemplateError(stop, "after {{else}}");
      return absl::OkStatus();
    }
    auto chained = std::make_unique<TemplateNode>();
    chained->text = std::string(condition);
    const bool with = condition.substr(0, 5) == "with ";
    if (!with && condition.substr(0, 3) != "if " && condition.substr(0, 3) != "if(") {
      return TemplateError(stop, "expected if");
    }
    chained->kind = with ? TemplateNode::Kind::kWith : TemplateNode::Kind::kIf;
    GANTRY_ASSIGN_OR_RETURN(chained->pipeline, ParsePipelineText(condition.substr(with ? 4 : 2)));
    GANTRY_RETURN_IF_ERROR(ParseBlock(chained.get(), depth + 1));
    node->otherwise.push_back(std::move(chained));
    return absl::OkStatus();
  }

  std::vector<Piece> pieces_;
  size_t pos_ = 0;
  std::map<std::string, TemplateNodes> defined_;
};

}  // namespace

absl::Status TemplateError(absl::string_view action, absl::string_view problem) {
  return absl::InvalidArgumentError(
      absl::StrCat("template: {{", absl::StripAsciiWhitespace(action), "}}: ", problem));
}

absl::StatusOr<std::unique_ptr<TemplateNode>> ParseTemplate(absl::string_view text) {
  GANTRY_ASSIGN_OR_RETURN(std::vector<Piece> pieces, SplitPieces(text));
  auto root = std::make_unique<TemplateNode>();
  TreeParser parser(std::move(pieces));
  GANTRY_ASSIGN_OR_RETURN(root->body, parser.ParseAll());
  root->defined = parser.TakeDefined();
  return root;
}

}  // namespace gantry::ctl
