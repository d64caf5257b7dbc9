#include "supervisor/core/event_feed.h"

#include <algorithm>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"

#include "base/status_macros.h"
#include "base/utf8.h"
#include "proto/gantry/v1/system.pb.h"
#include "supervisor/core/event_journal.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {
namespace {

// Keys that name an object of their own kind.
constexpr const char* kObjectKeys[] = {"config", "container", "daemon",  "network", "node",
                                       "plugin", "secret",    "service", "volume"};
constexpr char kScope[] = "local";

std::string AttributeOf(const v1::Event& event, const std::string& key) {
  const auto it = event.attributes().find(key);
  return it == event.attributes().end() ? std::string() : it->second;
}

absl::string_view WithoutTag(absl::string_view name) {
  const size_t at = name.find('@');
  if (at != absl::string_view::npos) return name.substr(0, at);
  const size_t colon = name.rfind(':');
  const size_t slash = name.rfind('/');
  const bool tagged =
      colon != absl::string_view::npos && (slash == absl::string_view::npos || slash < colon);
  return tagged ? name.substr(0, colon) : name;
}

}  // namespace

v1::Event ToMessage(const Event& event, const EventSubjects& subjects) {
  v1::Event out;
  out.set_namespace_(event.ns);
  SetTimestamp(event.at, out.mutable_at());
  out.set_type(std::string(EventKindName(event.kind)));
  out.set_action(ToValidUtf8(event.ActionText()));
  out.set_id(event.id);
  for (const auto& [key, value] : event.attributes)
    (*out.mutable_attributes())[key] = ToValidUtf8(value);
  if (event.kind == EventKind::kContainer && !event.id.empty()) {
    for (const auto& [key, value] : subjects.Of(event.ns, event.id))
      out.mutable_attributes()->insert({key, value});
  }
  return out;
}

absl::StatusOr<EventFilter> EventFilter::Parse(
    const google::protobuf::RepeatedPtrField<v1::Filter>& filters) {
  EventFilter parsed;
  GANTRY_ASSIGN_OR_RETURN(
      parsed.filters_,
      Filters::Parse(filters, {"config", "container", "daemon", "event", "image", "network", "node",
                               "plugin", "scope", "secret", "service", "type", "volume"}));
  return parsed;
}

bool EventFilter::Matches(const v1::Event& event) const {
  const absl::string_view action = event.action();
  const absl::string_view word = action.substr(0, action.find(':'));
  const auto is_type = [&](const std::string& value) { return event.type() == value; };
  const auto is_action = [&](const std::string& value) { return action == value || word == value; };
  const auto is_scope = [](const std::string& value) { return value == kScope; };
  const std::string name = AttributeOf(event, "name");
  for (const char* key : kObjectKeys) {
    const auto is_object = [&](const std::string& value) {
      return event.type() == key && !value.empty() &&
             (absl::StartsWith(event.id(), value) || absl::StartsWith(name, value));
    };
    if (!filters_.Any(key, is_object)) return false;
  }
  const std::string image = event.type() == "image" ? name : AttributeOf(event, "image");
  const auto is_image = [&](const std::string& value) {
    return event.id() == value || image == value || WithoutTag(event.id()) == value ||
           WithoutTag(image) == value;
  };
  return filters_.Any("type", is_type) && filters_.Any("event", is_action) &&
         filters_.Any("scope", is_scope) && filters_.Any("image", is_image) &&
         filters_.LabelsMatch(event.attributes());
}

absl::StatusOr<std::unique_ptr<EventFeed>> EventFeed::Open(
    EventBus& bus, const EventSubjects& subjects, const std::string& ns,
    const v1::EventsRequest& request, std::function<void()> ready, EventJournal* journal) {
  GANTRY_ASSIGN_OR_RETURN(EventFilter filter, EventFilter::Parse(request.filters()));
  absl::Time since = absl::InfiniteFuture();
  if (request.has_since()) {
    since = absl::FromUnixSeconds(request.since().seconds()) +
            absl::Nanoseconds(request.since().nanos());
  }
  absl::Time until = absl::InfiniteFuture();
  if (request.has_until()) {
    until = absl::FromUnixSeconds(request.until().seconds()) +
            absl::Nanoseconds(request.until().nanos());
  }
  const absl::Time now = absl::Now();
  std::shared_ptr<Subscription> subscription = bus.Subscribe(
      [ns, until](const Event& event) {
        return event.ns == ns && !event.low_level && event.at <= until;
      },
      std::move(ready), since);
  std::vector<v1::Event> earlier;
  EventPtr first;
  if (journal != nullptr && since < now) {
    // The bus has everything from its oldest event on.
    first = subscription->Pop();
    const absl::Time before = std::min(first == nullptr ? now : first->at, until);
    for (v1::Event& event : journal->Read(ns, since, before)) {
      if (filter.Matches(event)) earlier.push_back(std::move(event));
    }
  }
  return absl::WrapUnique(  // the constructor is private
      new EventFeed(subjects, std::move(filter), std::move(earlier), std::move(first),
                    std::move(subscription)));
}

EventFeed::EventFeed(const EventSubjects& subjects, EventFilter filter,
                     std::vector<v1::Event> earlier, EventPtr first,
                     std::shared_ptr<Subscription> subscription)
    : subjects_(subjects),
      filter_(std::move(filter)),
      earlier_(std::move(earlier)),
      first_(std::move(first)),
      subscription_(std::move(subscription)) {}
EventFeed::~EventFeed() { Close(); }

std::optional<v1::Event> EventFeed::Next() {
  if (next_earlier_ < earlier_.size()) return std::move(earlier_[next_earlier_++]);
  while (const EventPtr event = first_ != nullptr ? std::move(first_) : subscription_->Pop()) {
    first_ = nullptr;
    v1::Event message = ToMessage(*event, subjects_);
    if (filter_.Matches(message)) return message;
  }
  return std::nullopt;
}

}  // namespace gantry::core
