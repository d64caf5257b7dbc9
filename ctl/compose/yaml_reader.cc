#include "ctl/compose/yaml_reader.h"

#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "base/utf8.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/yaml.h"

namespace gantry::compose {
namespace {

bool AllDigits(absl::string_view text, absl::string_view digits) {
  return !text.empty() && text.find_first_not_of(digits) == absl::string_view::npos;
}

bool IsNumber(absl::string_view text) {
  if (text.empty() || text.size() > 64) return false;
  absl::string_view rest = text;
  if (rest[0] == '-' || rest[0] == '+') rest.remove_prefix(1);
  if (absl::StartsWith(rest, "0x")) return AllDigits(rest.substr(2), "0123456789abcdefABCDEF");
  if (absl::StartsWith(rest, "0o")) return AllDigits(rest.substr(2), "01234567");
  if (AllDigits(rest, "0123456789")) return true;
  if (rest == ".inf" || rest == ".Inf" || rest == ".INF" || text == ".nan" || text == ".NaN" ||
      text == ".NAN")
    return true;
  // A float: digits and at most one dot, one exponent.
  if (rest.empty() || (!absl::ascii_isdigit(rest[0]) && rest[0] != '.') || rest == ".")
    return false;
  double value = 0;
  return rest.find_first_not_of("0123456789.eE+-") == absl::string_view::npos &&
         absl::SimpleAtod(rest, &value);
}

constexpr int kMaxDocuments = 100;

// Counts what a text holds before anything is made of it, because yaml-cpp goes on for ever with
// some texts: a "," where a document should begin is an empty document, again and again.
class Counter : public YAML::EventHandler {
 public:
  // Ends the parser from inside a callback.
  struct TooMuch : std::exception {
    const char* what() const noexcept override { return "more documents or values than accepted"; }
  };

  void OnDocumentStart(const YAML::Mark&) override { Count(documents_, kMaxDocuments); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override { Count(values_, kMaxYamlNodes); }
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override { Count(values_, kMaxYamlNodes); }
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {
    Count(values_, kMaxYamlNodes);
  }
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Count(values_, kMaxYamlNodes);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    Count(values_, kMaxYamlNodes);
  }
  void OnMapEnd() override {}

 private:
  static void Count(int& count, int most) {
    if (++count > most) throw TooMuch();
  }
  int documents_ = 0;
  int values_ = 0;
};

class Reader {
 public:
  explicit Reader(const std::string& file) : file_(std::make_shared<const std::string>(file)) {}

  absl::StatusOr<Node> Read(const YAML::Node& node, const std::string& path, int depth) {
    if (depth > kMaxYamlDepth) {
      return absl::ResourceExhaustedError(absl::StrCat(
          At(node).Text(), ": ", path, ": nested deeper than ", kMaxYamlDepth, " levels"));
    }
    if (++count_ > kMaxYamlNodes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(*file_, ": unfolds to more than ", kMaxYamlNodes,
                       " values; does an alias (*name) repeat itself?"));
    }
    if (!node.IsScalar() && node.size() > kMaxYamlEntries) {
      return absl::ResourceExhaustedError(
          absl::StrCat(At(node).Text(), ": ", path.empty() ? "the file" : path, " has ",
                       node.size(), " entries, more than the ", kMaxYamlEntries, " accepted"));
    }
    Node out;
    out.at = At(node);
    if (node.Tag() == "!reset") out.tag = Node::Tag::kReset;
    if (node.Tag() == "!override") out.tag = Node::Tag::kOverride;
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        return out;
      case YAML::NodeType::Scalar:
        SetScalar(node, &out);
        return out;
      case YAML::NodeType::Sequence: {
        out.kind = Node::Kind::kList;
        for (size_t i = 0; i < node.size(); ++i) {
          GANTRY_ASSIGN_OR_RETURN(Node item,
                                  Read(node[i], absl::StrCat(path, "[", i, "]"), depth + 1));
          out.items.push_back(std::move(item));
        }
        return out;
      }
      case YAML::NodeType::Map:
        return ReadMap(node, path, depth, std::move(out));
    }
    return out;
  }

 private:
  Position At(const YAML::Node& node) const {
    const YAML::Mark mark = node.Mark();
    return Position{file_, mark.line + 1, mark.column + 1};
  }

  static void SetScalar(const YAML::Node& node, Node* out) {
    const std::string& text = node.Scalar();
    out->text = text;
    out->kind = Node::Kind::kString;
    // "?" is what a plain scalar without a tag has; "!" a quoted one.
    const bool plain = node.Tag() == "?" || out->tag != Node::Tag::kNone ||
                       absl::StartsWith(node.Tag(), "tag:yaml.org,2002:");
    if (!plain || absl::EndsWith(node.Tag(), ":str")) return;
    if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") {
      out->kind = Node::Kind::kNull;
      out->text.clear();
    } else if (text == "true" || text == "True" || text == "TRUE") {
      out->kind = Node::Kind::kBool;
      out->text = "true";
    } else if (text == "false" || text == "False" || text == "FALSE") {
      out->kind = Node::Kind::kBool;
      out->text = "false";
    } else if (IsNumber(text)) {
      out->kind = Node::Kind::kNumber;
    }
  }

  absl::StatusOr<Node> ReadMap(const YAML::Node& node, const std::string& path, int depth,
                               Node out) {
    out.kind = Node::Kind::kMap;
    std::vector<Node> merged;  // what "<<" brings, in order
    std::map<std::string, int> lines;
    for (const auto& pair : node) {
      const YAML::Node& key = pair.first;
      if (!key.IsScalar()) {
        return absl::InvalidArgumentError(
            absl::StrCat(At(key).Text(), ": non-string key in ", path.empty() ? "the file" : path));
      }
      const std::string& name = key.Scalar();
      if (name == "<<" && key.Tag() != "!") {
        GANTRY_RETURN_IF_ERROR(ReadMerge(pair.second, path, depth, &merged));
        continue;
      }
      if (key.Tag() == "?" && IsNumber(name) && path == "services") {
        return absl::InvalidArgumentError(absl::StrCat(At(key).Text(), ": non-string key in ", path,
                                                       ": ", name, "; write it in quotes"));
      }
      const auto [at, fresh] = lines.emplace(name, key.Mark().line + 1);
      if (!fresh) {
        return absl::InvalidArgumentError(absl::StrCat(At(key).Text(), ": mapping key \"", name,
                                                       "\" already defined at line ", at->second));
      }
      GANTRY_ASSIGN_OR_RETURN(
          Node value,
          Read(pair.second, path.empty() ? name : absl::StrCat(path, ".", name), depth + 1));
      // The place of a key says more than that of what stands below it.
      value.at = At(key);
      out.entries.emplace_back(name, std::move(value));
    }
    // The map's own keys win, then the first that is merged.
    for (Node& from : merged) {
      for (Node::Entry& entry : from.entries) {
        if (out.Find(entry.first) == nullptr) out.entries.push_back(std::move(entry));
      }
    }
    return out;
  }

  absl::Status ReadMerge(const YAML::Node& value, const std::string& path, int depth,
                         std::vector<Node>* merged) {
    const auto bad = [&] {
      return absl::InvalidArgumentError(
          absl::StrCat(At(value).Text(), ": \"<<\" needs a mapping, or a list of mappings"));
    };
    if (value.IsMap()) {
      GANTRY_ASSIGN_OR_RETURN(Node one, Read(value, path, depth + 1));
      merged->push_back(std::move(one));
      return absl::OkStatus();
    }
    if (!value.IsSequence()) return bad();
    for (size_t i = 0; i < value.size(); ++i) {
      if (!value[i].IsMap()) return bad();
      GANTRY_ASSIGN_OR_RETURN(Node one, Read(value[i], path, depth + 1));
      merged->push_back(std::move(one));
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<const std::string> file_;
  int count_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Node>> ReadYaml(const std::string& text, const std::string& file) {
  if (text.size() > kMaxYamlBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        file, ": ", text.size(), " bytes, more than the ", kMaxYamlBytes, " accepted"));
  }
  if (!IsValidUtf8(text)) {
    size_t at = 0;
    while (const size_t bytes = Utf8CharacterBytes(absl::string_view(text).substr(at))) at += bytes;
    return absl::InvalidArgumentError(absl::StrCat(
        file, ":", 1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n'),
        ": yaml: a byte that is not UTF-8; save the file as UTF-8"));
  }
  std::vector<Node> documents;
  try {
    std::istringstream counted(text);
    YAML::Parser parser(counted);
    Counter counter;
    while (parser.HandleNextDocument(counter)) {
    }
    Reader reader(file);
    for (const YAML::Node& document : YAML::LoadAll(text)) {
      if (!document.IsDefined() || document.IsNull()) continue;
      if (!document.IsMap()) {
        return absl::InvalidArgumentError(
            absl::StrCat(file, ": top-level object must be a mapping"));
      }
      GANTRY_ASSIGN_OR_RETURN(Node node, reader.Read(document, "", 0));
      documents.push_back(std::move(node));
    }
  } catch (const Counter::TooMuch& error) {
    return absl::ResourceExhaustedError(absl::StrCat(file, ": ", error.what()));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(file, ":", error.mark.line + 1, ":",
                                                   error.mark.column + 1, ": yaml: line ",
                                                   error.mark.line + 1, ": ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": yaml: ", error.what()));
  }
  return documents;
}

}  // namespace gantry::compose
