// JSON that is written as it comes: for long lists, whose items would take several times the time
// and the memory as values (value.h). Order and nesting are the caller's business.
//
//   JsonText json(&out);
//   json.OpenObject();
//   json.Field("Id", id);
//   json.Key("Ports");
//   json.OpenList();
//   json.CloseList();
//   json.CloseObject();
//
// Thread-compatible.
#ifndef GANTRY_BASE_ENGINE_JSON_TEXT_H_
#define GANTRY_BASE_ENGINE_JSON_TEXT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace gantry::engine {

// `text` in double quotes, as JSON writes it, behind what `out` holds.
void AppendJsonQuoted(absl::string_view text, std::string* out);

class JsonText {
 public:
  // Writes behind what `out` holds, which must outlive this.
  explicit JsonText(std::string* out) : out_(*out) {}

  void OpenObject() { Open('{'); }
  void CloseObject() { Close('}'); }
  void OpenList() { Open('['); }
  void CloseList() { Close(']'); }
  // Of the value that is written next.
  void Key(absl::string_view key);

  void Null();
  void Bool(bool value);
  void Number(int64_t value);
  void String(absl::string_view value);
  // A value that is JSON already.
  void Json(absl::string_view text);
  // An object of texts, sorted by key: protobuf's maps.
  template <typename Range>
  void StringMap(const Range& values) {
    std::vector<std::pair<absl::string_view, absl::string_view>> sorted;
    sorted.reserve(values.size());
    for (const auto& [key, value] : values) sorted.emplace_back(key, value);
    Sorted(std::move(sorted));
  }

  // A key with its value.
  void Field(absl::string_view key, absl::string_view value) {
    Key(key);
    String(value);
  }
  void Number(absl::string_view key, int64_t value) {
    Key(key);
    Number(value);
  }
  void Null(absl::string_view key) {
    Key(key);
    Null();
  }

 private:
  void Open(char bracket);
  void Close(char bracket);
  // Before a key, an item of a list or the first of either.
  void Separate();
  void Sorted(std::vector<std::pair<absl::string_view, absl::string_view>> values);

  std::string& out_;
  bool comma_ = false;  // what comes next follows something
};

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_JSON_TEXT_H_
