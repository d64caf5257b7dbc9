// Events as people read them: what `ctl events` and docker's event stream show of the bus.
//
// Low-level steps are left out, names, images and labels of containers are added, filters apply.
#ifndef GANTRY_SUPERVISOR_CORE_EVENT_FEED_H_
#define GANTRY_SUPERVISOR_CORE_EVENT_FEED_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "google/protobuf/repeated_field.h"

#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/filters.h"

namespace gantry::v1 {
class Event;
class EventsRequest;
}  // namespace gantry::v1

namespace gantry::core {

class EventJournal;

// An event with what is known of its container.
v1::Event ToMessage(const Event& event, const EventSubjects& subjects);

// docker's keys: config, container, daemon, event, image, label, network, node, plugin, scope,
// secret, service, type, volume. A container is meant by its id or name or the beginning of one, an
// image by its name with or without tag or its id; "event=exec_create" means all of these,
// whatever the command.
// Immutable after Parse().
class EventFilter {
 public:
  // kInvalidArgument: an unknown key, a label without a name.
  static absl::StatusOr<EventFilter> Parse(
      const google::protobuf::RepeatedPtrField<v1::Filter>& filters);

  bool Matches(const v1::Event& event) const;

 private:
  Filters filters_;
};

// One listener. Thread-compatible; Close() from any thread.
class EventFeed {
 public:
  // `ready` as in EventBus::Subscribe(). What the bus no longer has comes from the journal; null:
  // from nowhere. kInvalidArgument: what EventFilter::Parse() refuses.
  static absl::StatusOr<std::unique_ptr<EventFeed>> Open(EventBus& bus,
                                                         const EventSubjects& subjects,
                                                         const std::string& ns,
                                                         const v1::EventsRequest& request,
                                                         std::function<void()> ready,
                                                         EventJournal* journal = nullptr);
  ~EventFeed();

  // The next event, if one waits. nullopt with an OK status(): nothing now.
  std::optional<v1::Event> Next();
  // kResourceExhausted once the reader fell too far behind.
  absl::Status status() const { return subscription_->status(); }
  void Close() { subscription_->Close(); }

 private:
  EventFeed(const EventSubjects& subjects, EventFilter filter, std::vector<v1::Event> earlier,
            EventPtr first, std::shared_ptr<Subscription> subscription);

  const EventSubjects& subjects_;
  const EventFilter filter_;
  std::vector<v1::Event> earlier_;  // from the journal, filtered
  size_t next_earlier_ = 0;
  EventPtr first_;  // taken off the subscription already
  const std::shared_ptr<Subscription> subscription_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EVENT_FEED_H_
