// Reads documents that come from outside, field by field, with the types checked.
//
// The first thing that is wrong is kept in `status`, which all readers of a document share; after
// it nothing is read any more and every answer is empty. A field that is absent or null is read as
// "", 0 or false, and keys are matched without regard to case, as docker does.
//
// Thread-compatible. The document outlives its readers.
#ifndef GANTRY_BASE_ENGINE_FIELD_READER_H_
#define GANTRY_BASE_ENGINE_FIELD_READER_H_

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/engine/value.h"
#include "base/field_error.h"

namespace gantry::engine {

class FieldReader {
 public:
  FieldReader(const Value& object, std::string path, absl::Status* status);

  bool ok() const { return status_.ok(); }
  std::string PathOf(absl::string_view key) const;
  void Refuse(absl::string_view key, absl::string_view reason);

  // Null pointer: absent, null, or something was wrong before.
  const Value* Find(absl::string_view key) const;

  std::string String(absl::string_view key);
  bool Bool(absl::string_view key);
  // Checked against the bounds.
  int64_t Integer(absl::string_view key, int64_t least = std::numeric_limits<int64_t>::min(),
                  int64_t most = std::numeric_limits<int64_t>::max()) {
    const Value* value = Find(key);
    if (value == nullptr) return 0;
    return IntegerAt(*value, PathOf(key), least, most);
  }
  // A list; docker also takes one string where `or_string`.
  template <typename Add>
  void Strings(absl::string_view key, Add add, bool or_string = false) {
    const Value* value = Find(key);
    if (value == nullptr) return;
    if (or_string && value->is_string()) return add(value->string());
    EachOf(*value, PathOf(key), [&](const Value& entry, const std::string& path) {
      std::string text = StringAt(entry, path);
      if (status_.ok()) add(std::move(text));
    });
  }
  template <typename Map>
  void StringMap(absl::string_view key, Map* map) {
    EachField(key, [&](const std::string& name, const Value& value, const std::string& path) {
      (*map)[name] = value.is_null() ? "" : StringAt(value, path);
    });
  }
  // visit(name, value, path) of each field of the object at `key`.
  template <typename Visit>
  void EachField(absl::string_view key, Visit visit) {
    const Value* value = Find(key);
    if (value == nullptr) return;
    if (!value->is_object()) return Wrong(*value, PathOf(key), "an object");
    for (const auto& [name, field] : value->object().fields) {
      if (!status_.ok()) return;
      visit(name, field, absl::StrCat(PathOf(key), ".", name));
    }
  }
  // visit(reader) of each object in the list at `key`.
  template <typename Visit>
  void EachObject(absl::string_view key, Visit visit) {
    const Value* value = Find(key);
    if (value == nullptr) return;
    EachOf(*value, PathOf(key), [&](const Value& entry, const std::string& path) {
      FieldReader reader(entry, path, &status_);
      if (reader.ok()) visit(reader);
    });
  }
  // visit(value, path) of each element of a list.
  template <typename Visit>
  void EachOf(const Value& list, const std::string& path, Visit visit) {
    if (!list.is_list()) return Wrong(list, path, "an array");
    for (size_t i = 0; i < list.list().size() && status_.ok(); ++i)
      visit(list.list()[i], absl::StrCat(path, "[", i, "]"));
  }
  // The object at `key`; an empty one where there is none.
  FieldReader Object(absl::string_view key) {
    const Value* value = Find(key);
    return FieldReader(value == nullptr ? Null() : *value, PathOf(key), &status_);
  }

  // The object that `value` is, for the fields of which `path` stands.
  FieldReader At(const Value& value, std::string path) {
    return FieldReader(value, std::move(path), &status_);
  }

  // A parser's answer: its message becomes the field's.
  template <typename T, typename Take>
  void Parsed(absl::StatusOr<T> parsed, absl::string_view key, Take take) {
    if (!status_.ok()) return;
    if (parsed.ok()) return take(*std::move(parsed));
    status_ = FieldError(PathOf(key), parsed.status().message());
  }

  std::string StringAt(const Value& value, const std::string& path);
  int64_t IntegerAt(const Value& value, const std::string& path, int64_t least, int64_t most);
  void Wrong(const Value& value, const std::string& path, absl::string_view expected);

 private:
  static const Value& Null();

  const Value& object_;
  const std::string path_;
  absl::Status& status_;
};

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_FIELD_READER_H_
