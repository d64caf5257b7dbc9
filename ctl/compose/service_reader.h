// Values of one service, read with errors that name file, line and key.
//
// For the parts of container_config.h. Refers to the service, which outlives it.
#ifndef GANTRY_CTL_COMPOSE_SERVICE_READER_H_
#define GANTRY_CTL_COMPOSE_SERVICE_READER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "base/engine/units.h"
#include "ctl/compose/node.h"

namespace gantry::compose {

// The value of a key; null pointer: there is none, or it is null.
inline const Node* Below(const Node& node, absl::string_view key) {
  const Node* value = node.Find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

class ServiceReader {
 public:
  ServiceReader(const std::string& name, const Node& service) : name_(name), service_(service) {}

  // kInvalidArgument: "compose.yaml:3:5: services.web.KEY: WHY".
  absl::Status Bad(absl::string_view key, absl::string_view why) const {
    const Node* at = service_.Find(key);
    const std::string place = at == nullptr ? service_.at.Text() : at->at.Text();
    return absl::InvalidArgumentError(
        absl::StrCat(place.empty() ? "" : place + ": ", "services.", name_, ".", key, ": ", why));
  }
  absl::Status Bad(absl::string_view key, const absl::Status& status) const {
    return Bad(key, status.message());
  }

  // Calls `set` with the size below `key` of `map`, if there is one; -1 is no limit.
  template <typename Set>
  absl::Status Bytes(const Node& map, absl::string_view key, Set set) const {
    const std::string text = map.TextOf(key);
    if (text.empty()) return absl::OkStatus();
    if (text == "-1") {
      set(-1);
      return absl::OkStatus();
    }
    const absl::StatusOr<int64_t> bytes = engine::ParseBytes(text);
    if (!bytes.ok()) return Bad(key, bytes.status());
    set(*bytes);
    return absl::OkStatus();
  }

  // The same with a whole number of the service.
  template <typename Set>
  absl::Status Number(absl::string_view key, Set set) const {
    const std::string text = service_.TextOf(key);
    if (text.empty()) return absl::OkStatus();
    int64_t value = 0;
    if (!absl::SimpleAtoi(text, &value))
      return Bad(key, absl::StrCat("\"", text, "\": expected a number"));
    set(value);
    return absl::OkStatus();
  }

  // Calls `add` with the text of each item of a list.
  template <typename Add>
  void Each(absl::string_view key, Add add) const {
    if (const Node* list = Below(service_, key)) {
      for (const Node& item : list->items) add(item.text);
    }
  }

 protected:
  const std::string& name_;
  const Node& service_;
};

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_SERVICE_READER_H_
