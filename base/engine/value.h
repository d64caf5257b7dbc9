// One JSON-like value: what listings, `inspect` and templates work on.
//
// Objects keep the order in which fields were set, so that printed JSON has docker's order. Copying
// copies the tree; shown documents are small.
//
// Thread-compatible.
#ifndef GANTRY_BASE_ENGINE_VALUE_H_
#define GANTRY_BASE_ENGINE_VALUE_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::engine {

class Value {
 public:
  using List = std::vector<Value>;
  struct Object {
    std::vector<std::pair<std::string, Value>> fields;
  };

  Value() = default;  // null
  Value(bool v) : data_(v) {}
  Value(int v) : data_(static_cast<int64_t>(v)) {}
  Value(int64_t v) : data_(v) {}
  Value(uint32_t v) : data_(static_cast<int64_t>(v)) {}
  Value(uint64_t v) : data_(v) {}
  Value(double v) : data_(v) {}
  Value(const char* v) : data_(std::string(v)) {}
  Value(std::string v) : data_(std::move(v)) {}
  Value(absl::string_view v) : data_(std::string(v)) {}
  Value(List v) : data_(std::move(v)) {}
  Value(Object v) : data_(std::move(v)) {}

  static Value EmptyList() { return Value(List()); }
  static Value EmptyObject();
  static Value Strings(const std::vector<std::string>& values);
  static Value FromMap(const std::map<std::string, std::string>& values);
  // Any range of strings: protobuf's repeated fields.
  template <typename Range>
  static Value StringRange(const Range& values) {
    List list;
    for (const auto& v : values) list.push_back(Value(std::string(v)));
    return Value(std::move(list));
  }
  // Any range of string pairs, sorted by key: protobuf's maps.
  template <typename Range>
  static Value StringMap(const Range& values) {
    std::map<std::string, std::string> sorted(values.begin(), values.end());
    return FromMap(sorted);
  }

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_string() const { return std::holds_alternative<std::string>(data_); }
  bool is_list() const { return std::holds_alternative<List>(data_); }
  bool is_object() const { return std::holds_alternative<Object>(data_); }
  bool is_integer() const {
    return std::holds_alternative<int64_t>(data_) || std::holds_alternative<uint64_t>(data_);
  }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(data_); }

  const std::string& string() const { return std::get<std::string>(data_); }
  const List& list() const { return std::get<List>(data_); }
  const Object& object() const { return std::get<Object>(data_); }
  int64_t integer() const;  // numbers only
  double number() const;    // numbers only

  // Sets a field, replacing one of that name. A null value becomes an object first.
  Value& Set(absl::string_view key, Value value);
  // Adds to a list. A null value becomes a list first.
  Value& Append(Value value);
  // Field of an object; null pointer if there is none or this is no object.
  const Value* Find(absl::string_view key) const;

  // False, 0, "", null and what is empty: Go templates' notion.
  bool Truth() const;
  // As a Go template prints it.
  std::string Text() const;

  std::string ToJson() const;
  // The same behind what `out` holds: for lists whose items are not kept.
  void AppendJson(std::string* out) const { AppendJson(/*indent=*/0, 0, out); }
  std::string ToPrettyJson(int indent) const;
  // What becomes of a key that an object has twice.
  enum class SameKeys { kLastCounts, kRefused };
  // kInvalidArgument: not JSON, or nested deeper than 200. Bytes that are not UTF-8 are replaced.
  static absl::StatusOr<Value> FromJson(absl::string_view text,
                                        SameKeys same_keys = SameKeys::kLastCounts);

 private:
  void AppendJson(int indent, int depth, std::string* out) const;

  std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string, List, Object> data_;
};

// `text` in double quotes, as JSON writes it.
std::string JsonQuote(absl::string_view text);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_VALUE_H_
