#include "supervisor/core/event_subjects.h"

#include <optional>

#include "absl/status/statusor.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/container_intent.h"

namespace gantry::core {

EventSubjects::Attributes EventSubjects::FromRecord(absl::string_view ns,
                                                    const std::string& container) const {
  Attributes attributes;
  const metadata::Scope scope{std::string(ns), ""};
  absl::StatusOr<record::v1::Container> record = containers_.Get(scope, container);
  if (!record.ok()) return attributes;
  // As it was asked for, like docker's; clients of the containerd API give the full name.
  std::optional<v1::ContainerConfig> intent = ReadIntent(*record);
  attributes["image"] = intent.has_value() ? intent->image() : record->image();
  absl::StatusOr<std::string> name = names_.NameOf(scope, container);
  if (name.ok() && !name->empty()) attributes["name"] = *name;
  for (const auto& [key, value] : record->labels()) attributes.emplace(key, value);
  return attributes;
}

EventSubjects::Attributes EventSubjects::Of(absl::string_view ns,
                                            const std::string& container) const {
  Attributes attributes = FromRecord(ns, container);
  if (!attributes.empty()) return attributes;
  absl::MutexLock lock(&mu_);
  auto it = departed_.find({std::string(ns), container});
  return it == departed_.end() ? attributes : it->second;
}

void EventSubjects::Departs(absl::string_view ns, const std::string& container) {
  Attributes attributes = FromRecord(ns, container);
  if (attributes.empty()) return;
  absl::MutexLock lock(&mu_);
  Key key{std::string(ns), container};
  if (departed_.insert_or_assign(key, std::move(attributes)).second)
    order_.push_back(std::move(key));
  if (order_.size() > most_departed_) {
    departed_.erase(order_.front());
    order_.pop_front();
  }
}

}  // namespace gantry::core
