#include "supervisor/oci/cdi/yaml_json.h"

#include <charconv>
#include <exception>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "base/utf8.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/parser.h"

namespace gantry::oci::cdi {
namespace {

using nlohmann::json;

// The digits as a number; what was written where they are none of this base, or too many.
json NumberOf(const std::string& digits, int base, const std::string& written) {
  uint64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [rest, error] = std::from_chars(digits.data(), end, number, base);
  if (error != std::errc() || rest != end) return written;
  return number;
}

// What a plain scalar stands for.
json ValueOf(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
    return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  const bool digits = text.find_first_not_of("+-0123456789") == std::string::npos;
  // 0666 is a mode to those who write it, and to the readers of other engines.
  const bool octal =
      text.size() > 1 && text[0] == '0' && text.find_first_not_of("01234567") == std::string::npos;
  if (octal) return NumberOf(text.substr(1), 8, text);
  if (absl::StartsWith(text, "0x")) return NumberOf(text.substr(2), 16, text);
  if (absl::StartsWith(text, "0o")) return NumberOf(text.substr(2), 8, text);
  // As the JSON parser has them: signed only below zero.
  if (uint64_t number = 0; digits && absl::SimpleAtoi(text, &number)) return number;
  if (int64_t number = 0; digits && absl::SimpleAtoi(text, &number)) return number;
  double number = 0;
  if (text.find_first_not_of("+-.0123456789eE") == std::string::npos &&
      text.find_first_of("0123456789") != std::string::npos && absl::SimpleAtod(text, &number))
    return number;
  return text;
}

// Builds the value while the parser reads. A Stop ends the parser from inside a callback, which is
// the only way: with some texts yaml-cpp finds empty documents for ever.
class Builder : public YAML::EventHandler {
 public:
  struct Stop : std::exception {
    explicit Stop(absl::Status why) : status(std::move(why)) {}
    const char* what() const noexcept override { return "stopped"; }
    const absl::Status status;
  };

  Builder(absl::string_view what, const YamlLimits& limits) : what_(what), limits_(limits) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) Refuse(mark, "more than one document");
  }
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Refuse(mark, "an alias; write the value out");
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { Add(mark, nullptr); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& text) override {
    if (IsKey()) {
      Frame& map = frames_.back();
      if (map.value.contains(text)) Refuse(mark, absl::StrCat("the key \"", text, "\" twice"));
      map.key = text;
      Count(mark);
      return;
    }
    // "?" is what a plain scalar has, "!" a quoted one.
    Add(mark, tag == "?" || tag.empty() ? ValueOf(text) : json(text));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Open(mark, json::array());
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    Open(mark, json::object());
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapEnd() override { Close(); }

  json Take() { return std::move(root_); }

 private:
  struct Frame {
    json value;
    std::optional<std::string> key = {};  // of a map: what the next value belongs to
  };

  [[noreturn]] void Refuse(const YAML::Mark& mark, absl::string_view why) const {
    throw Stop(absl::InvalidArgumentError(absl::StrCat(what_, ":", mark.line + 1, ": ", why)));
  }
  void Count(const YAML::Mark& mark) {
    if (++values_ <= limits_.max_values) return;
    throw Stop(absl::ResourceExhaustedError(
        absl::StrCat(what_, ":", mark.line + 1, ": more than ", limits_.max_values, " values")));
  }
  bool IsKey() const {
    return !frames_.empty() && frames_.back().value.is_object() && !frames_.back().key.has_value();
  }
  void Put(json value) {
    if (frames_.empty()) {
      root_ = std::move(value);
      return;
    }
    Frame& into = frames_.back();
    if (into.value.is_array()) {
      into.value.push_back(std::move(value));
    } else {
      into.value[*into.key] = std::move(value);
      into.key.reset();
    }
  }
  void Add(const YAML::Mark& mark, json value) {
    Count(mark);
    if (IsKey()) Refuse(mark, "a key that is not text");
    Put(std::move(value));
  }
  void Open(const YAML::Mark& mark, json value) {
    Count(mark);
    if (IsKey()) Refuse(mark, "a key that is not text");
    if (static_cast<int>(frames_.size()) >= limits_.max_depth) {
      throw Stop(absl::ResourceExhaustedError(absl::StrCat(
          what_, ":", mark.line + 1, ": nested deeper than ", limits_.max_depth, " levels")));
    }
    frames_.push_back({std::move(value)});
  }
  void Close() {
    json value = std::move(frames_.back().value);
    frames_.pop_back();
    Put(std::move(value));
  }

  const std::string what_;
  const YamlLimits& limits_;
  int documents_ = 0;
  int values_ = 0;
  json root_;
  std::vector<Frame> frames_;
};

}  // namespace

absl::StatusOr<json> ParseYaml(const std::string& text, absl::string_view what,
                               const YamlLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        what, ": ", text.size(), " bytes, more than the ", limits.max_bytes, " accepted"));
  }
  if (!IsValidUtf8(text)) return absl::InvalidArgumentError(absl::StrCat(what, ": not UTF-8"));
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    Builder builder(what, limits);
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.Take();
  } catch (const Builder::Stop& stop) {
    return stop.status;
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ":", error.mark.line + 1, ": ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", error.what()));
  }
}

}  // namespace gantry::oci::cdi
