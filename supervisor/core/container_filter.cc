#include "supervisor/core/container_filter.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

#include "base/status_macros.h"
#include "supervisor/core/container_state.h"

namespace gantry::core {
namespace {

absl::Status BadValue(absl::string_view key, absl::string_view value, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("filter ", key, ": \"", value, "\" ", why));
}

absl::Time CreatedAt(const v1::ContainerSummary& container) {
  return absl::FromUnixSeconds(container.created_at().seconds()) +
         absl::Nanoseconds(container.created_at().nanos());
}

template <class Values, class Value>
bool Holds(const Values& values, const Value& value) {
  return std::find(std::begin(values), std::end(values), value) != std::end(values);
}

}  // namespace

absl::StatusOr<ContainerFilter> ContainerFilter::Parse(
    const google::protobuf::RepeatedPtrField<v1::Filter>& filters, const FindCreated& find,
    const FindImageId& find_image) {
  ContainerFilter parsed;
  GANTRY_ASSIGN_OR_RETURN(
      parsed.filters_, Filters::Parse(filters, {"ancestor", "before", "exited", "expose", "health",
                                                "id", "is-task", "isolation", "name", "network",
                                                "publish", "since", "status", "volume"}));
  static constexpr absl::string_view kWithoutRecord[] = {"before", "exited", "id",
                                                         "name",   "since",  "status"};
  parsed.matches_all_ = filters.empty();
  for (const v1::Filter& filter : filters) {
    if (!Holds(kWithoutRecord, absl::string_view(filter.key()))) parsed.needs_record_ = true;
  }
  for (const std::string& value : parsed.filters_.Values("name")) {
    auto pattern = std::make_unique<RE2>(value, RE2::Quiet);
    if (!pattern->ok()) return BadValue("name", value, "is not a regular expression");
    parsed.names_.push_back(std::move(pattern));
  }
  for (const std::string& value : parsed.filters_.Values("status")) {
    v1::ContainerState state;
    if (!ParseStateName(value, &state))
      return BadValue("status", value, "is not a state of a container");
    parsed.states_.push_back(state);
    // Those whose record is damaged are dead, too.
    if (state == v1::CONTAINER_STATE_DEAD) parsed.needs_record_ = true;
  }
  for (const std::string& value : parsed.filters_.Values("exited")) {
    uint32_t code = 0;
    if (!absl::SimpleAtoi(value, &code)) return BadValue("exited", value, "is not a number");
    parsed.exit_codes_.push_back(code);
  }
  static constexpr absl::string_view kHealth[] = {"healthy", "none", "starting", "unhealthy"};
  for (const std::string& value : parsed.filters_.Values("health")) {
    if (!Holds(kHealth, value))
      return BadValue("health", value, "is not valid; use healthy, none, starting or unhealthy");
  }
  for (const std::string& value : parsed.filters_.Values("is-task")) {
    GANTRY_RETURN_IF_ERROR(ParseTruth("is-task", value).status());
  }
  for (const std::string& value : parsed.filters_.Values("ancestor")) {
    std::string id = find_image(value);
    if (!id.empty()) parsed.ancestors_.push_back(std::move(id));
  }
  GANTRY_ASSIGN_OR_RETURN(parsed.publish_,
                          ParsePorts("publish", parsed.filters_.Values("publish")));
  GANTRY_ASSIGN_OR_RETURN(parsed.expose_, ParsePorts("expose", parsed.filters_.Values("expose")));
  GANTRY_ASSIGN_OR_RETURN(parsed.created_,
                          CreatedBounds::Parse(parsed.filters_, absl::Now(), find));
  return parsed;
}

absl::StatusOr<std::vector<ContainerFilter::Ports>> ContainerFilter::ParsePorts(
    absl::string_view key, const std::vector<std::string>& values) {
  std::vector<Ports> all;
  for (const std::string& value : values) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(value, absl::MaxSplits('/', 1));
    const std::vector<absl::string_view> ends = absl::StrSplit(parts.first, '-');
    Ports ports;
    ports.protocol = parts.second.empty() ? "tcp" : std::string(parts.second);
    if (ends.size() > 2 || !absl::SimpleAtoi(ends.front(), &ports.first) ||
        !absl::SimpleAtoi(ends.back(), &ports.last) || ports.first > ports.last ||
        ports.last > 65535)
      return BadValue(key, value, "is not a port or a range, with or without /tcp, /udp or /sctp");
    all.push_back(std::move(ports));
  }
  return all;
}

bool ContainerFilter::wants_active_only() const {
  return !states_.empty() && std::all_of(states_.begin(), states_.end(), IsActive);
}

bool ContainerFilter::Matches(const v1::ContainerSummary& container) const {
  const auto name_fits = [&container](const std::unique_ptr<RE2>& pattern) {
    return RE2::PartialMatch(container.name(), *pattern) ||
           RE2::PartialMatch("/" + container.name(), *pattern);
  };
  if (!names_.empty() && std::none_of(names_.begin(), names_.end(), name_fits)) return false;
  if (!states_.empty() && !Holds(states_, container.state())) return false;
  if (!exit_codes_.empty() && (container.state() != v1::CONTAINER_STATE_EXITED ||
                               !Holds(exit_codes_, container.exit_code())))
    return false;
  if (!created_.Hold(CreatedAt(container))) return false;
  if (!filters_.LabelsMatch(container.labels())) return false;
  const auto id_fits = [&](const std::string& value) {
    return absl::StartsWith(container.id(), value);
  };
  const auto is_ancestor = [&](const std::string& value) {
    return IsAncestor(value, container.image(), container.image_id()) ||
           Holds(ancestors_, container.image_id());
  };
  const auto health_fits = [&](const std::string& value) {
    return value == (container.health().empty() ? "none" : container.health());
  };
  const auto has_network = [&](const std::string& value) {
    return container.network_mode() == value || Holds(container.networks(), value);
  };
  const auto has_volume = [&](const std::string& value) {
    return std::any_of(
        container.mounts().begin(), container.mounts().end(), [&](const v1::MountPoint& mount) {
          return mount.source() == value || mount.destination() == value || mount.name() == value;
        });
  };
  // As docker has it, by the container's own port.
  const auto has_port = [&](const std::vector<Ports>& wanted, bool published) {
    return wanted.empty() ||
           std::any_of(container.ports().begin(), container.ports().end(),
                       [&](const v1::PublishedPort& port) {
                         return (!published || port.public_port() != 0) &&
                                std::any_of(wanted.begin(), wanted.end(), [&](const Ports& one) {
                                  return one.protocol == port.protocol() &&
                                         port.private_port() >= one.first &&
                                         port.private_port() <= one.last;
                                });
                       });
  };
  // No container is a swarm task or has an isolation.
  const auto is_false = [](const std::string& value) { return value == "false" || value == "0"; };
  const auto never = [](const std::string&) { return false; };
  return filters_.Any("id", id_fits) && filters_.Any("ancestor", is_ancestor) &&
         filters_.Any("health", health_fits) && filters_.Any("network", has_network) &&
         filters_.Any("volume", has_volume) && filters_.Any("is-task", is_false) &&
         has_port(publish_, true) && has_port(expose_, false) && filters_.Any("isolation", never);
}

}  // namespace gantry::core
