// What an event says of its container besides the id: name, image, labels.
//
// Looked up when an event is read, because most events have no reader. The container may be
// gone by then (with --rm it usually is), so the removal of a record notes them here first; they
// are kept for the last few thousand removed containers.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_EVENT_SUBJECTS_H_
#define GANTRY_SUPERVISOR_CORE_EVENT_SUBJECTS_H_

#include <cstddef>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "supervisor/metadata/container_store.h"
#include "supervisor/metadata/name_index.h"
#include "supervisor/metadata/scope.h"

namespace gantry::core {

class EventSubjects {
 public:
  using Attributes = std::map<std::string, std::string>;

  // `most_departed`: as many as the event bus keeps events for looking back.
  EventSubjects(metadata::ContainerStore& containers, metadata::NameIndex& names,
                size_t most_departed = 2048)
      : containers_(containers), names_(names), most_departed_(most_departed) {}

  // "name" and "image" and every label. Empty when nothing is known.
  Attributes Of(absl::string_view ns, const std::string& container) const;

  // To be called before the record is removed. Harmless if it then stays.
  void Departs(absl::string_view ns, const std::string& container);

 private:
  using Key = std::pair<std::string, std::string>;

  Attributes FromRecord(absl::string_view ns, const std::string& container) const;

  metadata::ContainerStore& containers_;
  metadata::NameIndex& names_;
  const size_t most_departed_;

  mutable absl::Mutex mu_;
  std::map<Key, Attributes> departed_ ABSL_GUARDED_BY(mu_);
  std::deque<Key> order_ ABSL_GUARDED_BY(mu_);  // keys of departed_, the longest gone first
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EVENT_SUBJECTS_H_
