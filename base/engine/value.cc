#include "base/engine/value.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>
#include <unordered_set>

#include "absl/base/attributes.h"
#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "base/engine/json_text.h"
#include "base/utf8.h"

namespace gantry::engine {
namespace {

constexpr size_t kMaxDepth = 200;

std::string FormatDouble(double v) {
  if (v == std::floor(v) && std::fabs(v) < 1e15) return absl::StrFormat("%.0f", v);
  // The shortest text that reads back as the same number.
  for (int precision = 6; precision <= 17; ++precision) {
    std::string text = absl::StrFormat("%.*g", precision, v);
    if (std::strtod(text.c_str(), nullptr) == v) return text;
  }
  return absl::StrFormat("%.17g", v);
}

// Builds a value from nlohmann's parser events.
class ValueBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  ValueBuilder(Value* out, Value::SameKeys same_keys) : out_(out), same_keys_(same_keys) {}
  const std::string& problem() const { return problem_; }

  bool null() override { return Add(Value()); }
  bool boolean(bool v) override { return Add(Value(v)); }
  bool number_integer(int64_t v) override { return Add(Value(v)); }
  bool number_unsigned(uint64_t v) override {
    return Add(v <= INT64_MAX ? Value(static_cast<int64_t>(v)) : Value(v));
  }
  bool number_float(double v, const std::string&) override { return Add(Value(v)); }
  bool string(std::string& v) override { return Add(Value(std::move(v))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(/*object=*/true); }
  bool key(std::string& v) override {
    open_.back().fields.emplace_back().first = std::move(v);
    return true;
  }
  bool end_object() override {
    Level level = std::move(open_.back());
    open_.pop_back();
    return KeysAllowed(level.fields) && Add(ObjectOf(std::move(level.fields)));
  }
  bool start_array(size_t) override { return Open(/*object=*/false); }
  bool end_array() override {
    Level level = std::move(open_.back());
    open_.pop_back();
    return Add(Value(std::move(level.list)));
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ...": what follows it.
    const std::string text = error.what();
    const size_t colon = text.find(": ");
    problem_ = absl::StrCat("byte ", position, ": ",
                            colon == std::string::npos ? text : text.substr(colon + 2));
    return false;
  }

 private:
  using Fields = std::vector<std::pair<std::string, Value>>;
  struct Level {
    bool object;
    Fields fields;
    Value::List list;
  };

  bool Open(bool object) {
    if (open_.size() >= kMaxDepth) {
      problem_ = "nested too deep";
      return false;
    }
    open_.push_back({object, {}, {}});
    return true;
  }
  // Not inlined: gcc 12 takes the alternatives that a value does not hold for uninitialized ones.
  ABSL_ATTRIBUTE_NOINLINE bool Add(Value value) {
    if (open_.empty()) {
      *out_ = std::move(value);
    } else if (open_.back().object) {
      open_.back().fields.back().second = std::move(value);
    } else {
      open_.back().list.push_back(std::move(value));
    }
    return true;
  }
  bool KeysAllowed(const Fields& fields) {
    if (same_keys_ == Value::SameKeys::kLastCounts) return true;
    std::unordered_set<absl::string_view, absl::Hash<absl::string_view>> seen;
    for (const auto& [key, value] : fields) {
      if (seen.insert(key).second) continue;
      problem_ = absl::StrCat("the key \"", key, "\" occurs twice in one object");
      return false;
    }
    return true;
  }
  // Of a key that occurs twice the last value counts, at the place of the first.
  static Value ObjectOf(Fields fields) {
    std::unordered_map<std::string, size_t> where;
    Fields kept;
    for (auto& [key, value] : fields) {
      const auto [it, fresh] = where.emplace(key, kept.size());
      if (fresh) {
        kept.emplace_back(std::move(key), std::move(value));
      } else {
        kept[it->second].second = std::move(value);
      }
    }
    return Value(Value::Object{std::move(kept)});
  }

  Value* const out_;
  const Value::SameKeys same_keys_;
  std::vector<Level> open_;
  std::string problem_;
};

}  // namespace

Value Value::EmptyObject() {
  Value v;
  v.data_ = Object();
  return v;
}

Value Value::Strings(const std::vector<std::string>& values) { return StringRange(values); }

Value Value::FromMap(const std::map<std::string, std::string>& values) {
  Value v = EmptyObject();
  for (const auto& [key, value] : values) v.Set(key, value);
  return v;
}

int64_t Value::integer() const {
  if (const auto* u = std::get_if<uint64_t>(&data_)) return static_cast<int64_t>(*u);
  if (const auto* d = std::get_if<double>(&data_)) return static_cast<int64_t>(*d);
  return std::get<int64_t>(data_);
}

double Value::number() const {
  if (const auto* u = std::get_if<uint64_t>(&data_)) return static_cast<double>(*u);
  if (const auto* i = std::get_if<int64_t>(&data_)) return static_cast<double>(*i);
  return std::get<double>(data_);
}

Value& Value::Set(absl::string_view key, Value value) {
  if (is_null()) data_ = Object();
  auto& fields = std::get<Object>(data_).fields;
  for (auto& [name, old] : fields) {
    if (name == key) {
      old = std::move(value);
      return *this;
    }
  }
  fields.emplace_back(std::string(key), std::move(value));
  return *this;
}

Value& Value::Append(Value value) {
  if (is_null()) data_ = List();
  std::get<List>(data_).push_back(std::move(value));
  return *this;
}

const Value* Value::Find(absl::string_view key) const {
  const auto* object = std::get_if<Object>(&data_);
  if (object == nullptr) return nullptr;
  for (const auto& [name, value] : object->fields) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool Value::Truth() const {
  if (is_null()) return false;
  if (is_bool()) return std::get<bool>(data_);
  if (is_number()) return number() != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().empty();
  return !object().fields.empty();
}

std::string Value::Text() const {
  if (is_null()) return "<no value>";
  if (is_bool()) return std::get<bool>(data_) ? "true" : "false";
  if (const auto* i = std::get_if<int64_t>(&data_)) return absl::StrCat(*i);
  if (const auto* u = std::get_if<uint64_t>(&data_)) return absl::StrCat(*u);
  if (const auto* d = std::get_if<double>(&data_)) return FormatDouble(*d);
  if (is_string()) return string();
  std::string out;
  if (is_list()) {
    bool first = true;
    for (const Value& v : list()) {
      absl::StrAppend(&out, first ? "" : " ", v.Text());
      first = false;
    }
    return absl::StrCat("[", out, "]");
  }
  for (const auto& [key, v] : object().fields) {
    absl::StrAppend(&out, out.empty() ? "" : " ", key, ":", v.Text());
  }
  return absl::StrCat("map[", out, "]");
}

void Value::AppendJson(int indent, int depth, std::string* out) const {
  const auto newline = [&](int level) {
    if (indent > 0) {
      out->push_back('\n');
      out->append(static_cast<size_t>(indent * level), ' ');
    }
  };
  if (is_null()) {
    out->append("null");
  } else if (is_string()) {
    AppendJsonQuoted(string(), out);
  } else if (is_list()) {
    out->push_back('[');
    bool first = true;
    for (const Value& v : list()) {
      if (!first) out->push_back(',');
      first = false;
      newline(depth + 1);
      v.AppendJson(indent, depth + 1, out);
    }
    if (!first) newline(depth);
    out->push_back(']');
  } else if (is_object()) {
    out->push_back('{');
    bool first = true;
    for (const auto& [key, v] : object().fields) {
      if (!first) out->push_back(',');
      first = false;
      newline(depth + 1);
      AppendJsonQuoted(key, out);
      out->append(indent > 0 ? ": " : ":");
      v.AppendJson(indent, depth + 1, out);
    }
    if (!first) newline(depth);
    out->push_back('}');
  } else {
    out->append(Text());
  }
}

std::string Value::ToJson() const {
  std::string out;
  AppendJson(0, 0, &out);
  return out;
}

std::string Value::ToPrettyJson(int indent) const {
  std::string out;
  AppendJson(indent, 0, &out);
  return out;
}

absl::StatusOr<Value> Value::FromJson(absl::string_view text, SameKeys same_keys) {
  Value value;
  ValueBuilder builder(&value, same_keys);
  const std::string clean = ToValidUtf8(text);
  if (!nlohmann::json::sax_parse(clean, &builder))
    return absl::InvalidArgumentError(absl::StrCat("JSON: ", builder.problem()));
  return value;
}

std::string JsonQuote(absl::string_view text) {
  std::string out;
  AppendJsonQuoted(text, &out);
  return out;
}

}  // namespace gantry::engine
