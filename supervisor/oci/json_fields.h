// Reads the members of one JSON object and remembers the first that has the wrong type. For the .cc
// files of this room.
//
// Thread-compatible; refers to the object, which must outlive it. Absent and null members leave the
// output alone.
#ifndef GANTRY_SUPERVISOR_OCI_JSON_FIELDS_H_
#define GANTRY_SUPERVISOR_OCI_JSON_FIELDS_H_

#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json.hpp>

namespace gantry::oci {

class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, absl::string_view what) : what_(what) {
    if (object.is_object()) {
      object_ = &object;
    } else if (!object.is_null()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(what_, ": not a JSON object"));
    }
  }

  const absl::Status& status() const { return status_; }

  const nlohmann::json* Find(const char* key) const {
    if (object_ == nullptr) return nullptr;
    auto it = object_->find(key);
    return it == object_->end() || it->is_null() ? nullptr : &*it;
  }

  void Fail(const char* key, absl::string_view expected) {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(what_, ": `", key, "` is not ", expected));
    }
  }

  void Get(const char* key, std::string& out) {
    if (const auto* v = Find(key)) {
      if (v->is_string()) {
        out = v->get_ref<const std::string&>();
      } else {
        Fail(key, "a string");
      }
    }
  }

  void Get(const char* key, bool& out) {
    if (const auto* v = Find(key)) {
      if (v->is_boolean()) {
        out = v->get<bool>();
      } else {
        Fail(key, "true or false");
      }
    }
  }

  template <std::integral T>
  requires(!std::same_as<T, bool>) void Get(const char* key, T& out) {
    const auto* v = Find(key);
    if (v == nullptr) return;
    if (!Integer(*v, out)) Fail(key, "an integer in range");
  }

  template <typename T>
  void Get(const char* key, std::optional<T>& out) {
    if (Find(key) == nullptr) return;
    T value{};
    Get(key, value);
    if (status_.ok()) out = std::move(value);
  }

  void Get(const char* key, std::vector<std::string>& out) {
    const auto* v = Find(key);
    if (v == nullptr) return;
    if (!v->is_array()) return Fail(key, "a list of strings");
    out.clear();
    out.reserve(v->size());
    for (const auto& item : *v) {
      if (!item.is_string()) return Fail(key, "a list of strings");
      out.push_back(item.get<std::string>());
    }
  }

  void Get(const char* key, std::vector<uint32_t>& out) {
    const auto* v = Find(key);
    if (v == nullptr) return;
    if (!v->is_array()) return Fail(key, "a list of numbers");
    out.clear();
    for (const auto& item : *v) {
      uint32_t number = 0;
      if (!Integer(item, number)) return Fail(key, "a list of numbers");
      out.push_back(number);
    }
  }

  void Get(const char* key, std::map<std::string, std::string>& out) {
    const auto* v = Find(key);
    if (v == nullptr) return;
    if (!v->is_object()) return Fail(key, "an object of strings");
    out.clear();
    for (const auto& [name, item] : v->items()) {
      if (!item.is_string()) return Fail(key, "an object of strings");
      out[name] = item.get<std::string>();
    }
  }

  // The names of an object whose values say nothing: {"80/tcp": {}}.
  void GetNames(const char* key, std::set<std::string>& out) {
    const auto* v = Find(key);
    if (v == nullptr) return;
    if (!v->is_object()) return Fail(key, "an object");
    out.clear();
    for (const auto& [name, item] : v->items()) out.insert(name);
  }

 private:
  template <typename T>
  static bool Integer(const nlohmann::json& v, T& out) {
    if (v.is_number_unsigned()) {
      const uint64_t n = v.get<uint64_t>();
      if (n > static_cast<uint64_t>(std::numeric_limits<T>::max())) return false;
      out = static_cast<T>(n);
      return true;
    }
    if (v.is_number_integer()) {
      const int64_t n = v.get<int64_t>();
      if (!std::in_range<T>(n)) return false;
      out = static_cast<T>(n);
      return true;
    }
    return false;
  }

  const nlohmann::json* object_ = nullptr;
  std::string what_;
  absl::Status status_;
};

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_JSON_FIELDS_H_
