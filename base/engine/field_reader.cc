#include "base/engine/field_reader.h"

#include "absl/strings/match.h"

namespace gantry::engine {
namespace {

absl::string_view KindOf(const Value& value) {
  if (value.is_null()) return "null";
  if (value.is_bool()) return "a boolean";
  if (value.is_string()) return "a string";
  if (value.is_list()) return "an array";
  if (value.is_object()) return "an object";
  return "a number";
}

}  // namespace

FieldReader::FieldReader(const Value& object, std::string path, absl::Status* status)
    : object_(object), path_(std::move(path)), status_(*status) {
  if (!object.is_object() && !object.is_null()) Wrong(object, path_, "an object");
}

std::string FieldReader::PathOf(absl::string_view key) const {
  return path_.empty() ? std::string(key) : absl::StrCat(path_, ".", key);
}

void FieldReader::Refuse(absl::string_view key, absl::string_view reason) {
  if (status_.ok()) status_ = FieldError(PathOf(key), reason);
}

const Value* FieldReader::Find(absl::string_view key) const {
  if (!status_.ok() || !object_.is_object()) return nullptr;
  const Value* value = object_.Find(key);
  if (value == nullptr) {
    for (const auto& [name, field] : object_.object().fields) {
      if (absl::EqualsIgnoreCase(name, key)) value = &field;
    }
  }
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::string FieldReader::String(absl::string_view key) {
  const Value* value = Find(key);
  if (value == nullptr) return "";
  return StringAt(*value, PathOf(key));
}

bool FieldReader::Bool(absl::string_view key) {
  const Value* value = Find(key);
  if (value == nullptr) return false;
  if (value->is_bool()) return value->Truth();
  Wrong(*value, PathOf(key), "a boolean");
  return false;
}

std::string FieldReader::StringAt(const Value& value, const std::string& path) {
  if (value.is_string()) return value.string();
  Wrong(value, path, "a string");
  return "";
}

int64_t FieldReader::IntegerAt(const Value& value, const std::string& path, int64_t least,
                               int64_t most) {
  if (!value.is_integer()) {
    Wrong(value, path, "a whole number");
    return 0;
  }
  const int64_t number = value.integer();
  // Numbers above the largest signed one come back negative.
  const bool huge = number < 0 && value.number() > 0;
  if (huge || number < least || number > most) {
    if (status_.ok())
      status_ =
          FieldError(path, absl::StrCat(value.Text(), " is not between ", least, " and ", most));
    return 0;
  }
  return number;
}

void FieldReader::Wrong(const Value& value, const std::string& path, absl::string_view expected) {
  if (!status_.ok()) return;
  status_ = FieldError(path.empty() ? "body" : path,
                       absl::StrCat("is ", KindOf(value), ", not ", expected));
}

const Value& FieldReader::Null() {
  static const Value& null = *new Value();  // NOLINT(cppcoreguidelines-owning-memory): for ever
  return null;
}

}  // namespace gantry::engine
