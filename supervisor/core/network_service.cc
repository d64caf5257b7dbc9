#include "supervisor/core/network_service.h"

#include <sys/random.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "re2/re2.h"
#include "supervisor/core/event.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/filters.h"
#include "supervisor/core/network_records.h"
#include "supervisor/core/network_request.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {
namespace {

using metadata::StoredEndpoint;
using metadata::StoredNetwork;

std::string RandomHex(size_t bytes) {
  std::string random(bytes, '\0');
  size_t done = 0;
  while (done < bytes) {
    const ssize_t got = getrandom(random.data() + done, bytes - done, 0);
    if (got > 0) done += static_cast<size_t>(got);
  }
  return absl::BytesToHexString(random);
}

v1::Network ViewOf(const StoredNetwork& network) {
  v1::Network view;
  view.set_id(network.record.id());
  view.set_name(network.record.name());
  view.set_driver(network.record.driver());
  for (const auto& recorded : network.settings.pools()) {
    v1::IpamPool* pool = view.add_pools();
    pool->set_subnet(recorded.subnet());
    pool->set_ip_range(recorded.ip_range());
    pool->set_gateway(recorded.gateway());
    *pool->mutable_auxiliary_addresses() = recorded.auxiliary_addresses();
  }
  view.set_internal(network.settings.internal());
  view.set_ipv6(network.settings.ipv6());
  view.set_attachable(network.settings.attachable());
  *view.mutable_labels() = network.record.labels();
  *view.mutable_options() = network.record.options();
  *view.mutable_created_at() = network.record.created_at();
  view.set_device(network.settings.device());
  view.set_no_ipv4(network.settings.no_ipv4());
  view.set_configuration_only(network.settings.configuration_only());
  view.set_configuration_from(network.settings.configuration_from());
  return view;
}

// The networks that are always there and have no record.
v1::Network Predefined(absl::string_view name) {
  v1::Network view;
  view.set_name(std::string(name));
  view.set_driver(name == "none" ? "null" : std::string(name));
  // The same on every host: there is one of each.
  view.set_id(IdOf(absl::StrCat("network ", name)));
  return view;
}

// docker's filters of names and ids: regular expressions that a part of the text may fit.
using Patterns = std::vector<std::unique_ptr<RE2>>;

absl::StatusOr<Patterns> PatternsOf(const Filters& filters, absl::string_view key) {
  Patterns patterns;
  for (const std::string& value : filters.Values(key)) {
    auto pattern = std::make_unique<RE2>(value, RE2::Quiet);
    if (!pattern->ok()) {
      return FieldError(
          "filters", absl::StrCat("filter ", key, ": \"", value, "\" is not a regular expression"));
    }
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

bool FitsOne(const Patterns& patterns, const std::string& text) {
  return patterns.empty() || std::any_of(patterns.begin(), patterns.end(), [&](const auto& one) {
           return RE2::PartialMatch(text, *one);
         });
}

}  // namespace

absl::StatusOr<StoredNetwork> NetworkService::MakeNetwork(const CallContext& context,
                                                          const v1::CreateNetworkRequest& asked) {
  v1::CreateNetworkRequest request = asked;
  if (!request.configuration_from().empty()) GANTRY_RETURN_IF_ERROR(TakeSettings(context, request));
  GANTRY_ASSIGN_OR_RETURN(StoredNetwork fresh, NetworkOfRequest(request, RandomHex(32)));
  fresh.settings.set_configuration_from(request.configuration_from());
  SetTimestamp(parts_.clock->Now(), fresh.record.mutable_created_at());
  SubnetSources sources;
  sources.pools = parts_.pools;
  sources.pools.push_back(network::UniqueLocalPool(parts_.host_id));
  GANTRY_ASSIGN_OR_RETURN(sources.in_use, parts_.kernel->RoutedBlocks());
  const std::vector<network::TakenBlock> servers =
      NameServersIn(ReadFile(parts_.resolv_conf, 1 << 20).value_or(""));
  sources.in_use.insert(sources.in_use.end(), servers.begin(), servers.end());
  const std::string parent = OptionOf(fresh.record.options(), kParentOption);
  if (!parent.empty() && absl::StrContains(parent, '.')) {
    // A sub-interface that somebody else made is not ours to remove.
    GANTRY_ASSIGN_OR_RETURN(const bool there, parts_.kernel->HasDevice(parent));
    fresh.settings.set_device_is_ours(!there);
  }
  GANTRY_ASSIGN_OR_RETURN(
      StoredNetwork made,
      parts_.store->Create({context.ns, ""}, std::move(fresh),
                           [&](const std::vector<StoredNetwork>& all, StoredNetwork& network) {
                             return ChooseSubnets(request, sources, all, network);
                           }));
  CrashPoint("network.recorded");
  const absl::Status ready = parts_.kernel->MakeNetwork(made);
  if (ready.ok()) {
    Publish(made, action::kCreate);
    return made;
  }
  // A device that is of another kind is not ours, and was left alone.
  if (absl::IsFailedPrecondition(ready)) made.settings.set_device_is_ours(false);
  // The record first: a bridge that goes while it has one is made anew.
  absl::Status undone = parts_.store->Delete({context.ns, ""}, made);
  undone.Update(parts_.kernel->RemoveNetwork(made));
  LOG_IF(ERROR, !undone.ok()) << "network " << made.record.name() << ": " << undone;
  return ready;
}

absl::Status NetworkService::TakeSettings(const CallContext& context,
                                          v1::CreateNetworkRequest& request) {
  if (request.pools_size() > 0 || !request.options().empty() || request.ipv6() ||
      request.no_ipv4() || request.configuration_only()) {
    return FieldError("configuration_from",
                      "user-specified configurations are not supported if the network depends on a "
                      "configuration network");
  }
  const absl::StatusOr<StoredNetwork> from =
      parts_.store->Find({context.ns, ""}, request.configuration_from());
  if (!from.ok() || !from->settings.configuration_only()) {
    return absl::NotFoundError(
        absl::StrCat("configuration network ", request.configuration_from(), " does not exist"));
  }
  request.set_configuration_from(from->record.name());
  *request.mutable_options() = from->record.options();
  *request.mutable_pools() = ViewOf(*from).pools();
  request.set_ipv6(from->settings.ipv6());
  request.set_no_ipv4(from->settings.no_ipv4());
  return absl::OkStatus();
}

absl::StatusOr<v1::CreateNetworkResponse> NetworkService::Create(
    const CallContext& context, const v1::CreateNetworkRequest& request) {
  if (IsPredefinedNetwork(request.name())) {
    return absl::FailedPreconditionError(
        absl::StrCat("operation is not permitted on predefined ", request.name(), " network"));
  }
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork made, MakeNetwork(context, request));
  v1::CreateNetworkResponse response;
  response.set_id(made.record.id());
  return response;
}

absl::StatusOr<StoredNetwork> NetworkService::FindOrMakeDefault(const CallContext& context,
                                                                absl::string_view text) {
  if (text == "default") text = kDefaultNetwork;
  absl::StatusOr<StoredNetwork> found = parts_.store->Find({context.ns, ""}, text);
  if (!absl::IsNotFound(found.status()) || text != kDefaultNetwork) return found;
  v1::CreateNetworkRequest request;
  request.set_name(kDefaultNetwork);
  found = MakeNetwork(context, request);
  // Another call has made it just now.
  if (absl::IsAlreadyExists(found.status())) return parts_.store->Find({context.ns, ""}, text);
  return found;
}

absl::StatusOr<v1::ListNetworksResponse> NetworkService::List(
    const CallContext& context, const v1::ListNetworksRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(
      const Filters filters,
      Filters::Parse(request.filters(), {"driver", "id", "name", "type", "dangling", "scope"}));
  for (const std::string& value : filters.Values("type")) {
    if (value != "custom" && value != "builtin")
      return FieldError("filters", absl::StrCat("invalid filter: 'type'='", value, "'"));
  }
  GANTRY_ASSIGN_OR_RETURN(const Patterns names, PatternsOf(filters, "name"));
  GANTRY_ASSIGN_OR_RETURN(const Patterns ids, PatternsOf(filters, "id"));
  std::set<bool> dangling;
  for (const std::string& value : filters.Values("dangling")) {
    GANTRY_ASSIGN_OR_RETURN(const bool wanted, ParseTruth("dangling", value));
    dangling.insert(wanted);
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> stored, parts_.store->List(context.ns));
  std::vector<v1::Network> all;
  for (const StoredNetwork& one : stored) all.push_back(ViewOf(one));
  for (const char* name : {"bridge", "host", "none"}) {
    const bool there = std::any_of(all.begin(), all.end(),
                                   [name](const v1::Network& one) { return one.name() == name; });
    if (!there) all.push_back(Predefined(name));
  }
  std::sort(all.begin(), all.end(),
            [](const v1::Network& a, const v1::Network& b) { return a.name() < b.name(); });
  std::set<std::string> used;
  if (!dangling.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> endpoints,
                            parts_.store->AllEndpoints());
    for (const StoredEndpoint& one : endpoints) used.insert(one.network_id);
  }
  v1::ListNetworksResponse response;
  for (v1::Network& one : all) {
    const bool builtin = IsPredefinedNetwork(one.name());
    const bool fits =
        filters.Any("driver", [&](const std::string& v) { return v == one.driver(); }) &&
        FitsOne(ids, one.id()) && FitsOne(names, one.name()) &&
        filters.Any("scope", [](const std::string& v) { return v == "local"; }) &&
        filters.Any("type", [&](const std::string& v) { return (v == "builtin") == builtin; }) &&
        (dangling.empty() || dangling.count(!builtin && used.count(one.id()) == 0) > 0) &&
        filters.LabelsMatch(one.labels());
    if (fits) *response.add_networks() = std::move(one);
  }
  return response;
}

absl::StatusOr<v1::Network> NetworkService::Inspect(const CallContext& context,
                                                    absl::string_view text) {
  const absl::StatusOr<StoredNetwork> found = parts_.store->Find({context.ns, ""}, text);
  if (absl::IsNotFound(found.status()) && IsPredefinedNetwork(text) && text != "default")
    return Predefined(text);
  GANTRY_RETURN_IF_ERROR(found.status());
  v1::Network view = ViewOf(*found);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredEndpoint> endpoints,
                          parts_.store->Endpoints(*found));
  for (const StoredEndpoint& one : endpoints) {
    v1::ConnectedContainer* endpoint = view.add_endpoints();
    endpoint->set_container_id(one.record.container_id());
    endpoint->set_container_name(one.record.container_name());
    endpoint->set_mac_address(one.record.mac_address());
    *endpoint->mutable_addresses() = one.record.addresses();
    endpoint->set_endpoint_id(EndpointId(one));
  }
  return view;
}

absl::StatusOr<v1::RemoveNetworkResponse> NetworkService::Remove(const CallContext& context,
                                                                 absl::string_view text) {
  if (IsPredefinedNetwork(text)) {
    return absl::FailedPreconditionError(
        absl::StrCat(text, " is a pre-defined network and cannot be removed"));
  }
  GANTRY_ASSIGN_OR_RETURN(const StoredNetwork found, parts_.store->Find({context.ns, ""}, text));
  GANTRY_RETURN_IF_ERROR(parts_.store->Delete({context.ns, ""}, found));
  CrashPoint("network.forgotten");
  // What stays after a failure has no record: the next start takes it away.
  absl::Status gone = parts_.kernel->RemoveNetwork(found);
  if (parts_.names != nullptr) gone.Update(parts_.names->NetworkRemoved(found));
  LOG_IF(WARNING, !gone.ok()) << "network " << found.record.name() << ": " << gone;
  Publish(found, action::kDestroy);
  v1::RemoveNetworkResponse response;
  response.set_name(found.record.name());
  return response;
}

absl::StatusOr<v1::PruneNetworksResponse> NetworkService::Prune(
    const CallContext& context, const v1::PruneNetworksRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const Filters filters, Filters::Parse(request.filters(), {"until"}));
  std::optional<absl::Time> until;
  for (const std::string& value : filters.Values("until")) {
    GANTRY_ASSIGN_OR_RETURN(until, ParseMoment("until", value, parts_.clock->Now()));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredNetwork> all, parts_.store->List(context.ns));
  v1::PruneNetworksResponse response;
  for (const StoredNetwork& one : all) {
    const absl::Time created = absl::FromUnixSeconds(one.record.created_at().seconds()) +
                               absl::Nanoseconds(one.record.created_at().nanos());
    if (IsPredefinedNetwork(one.record.name()) || !filters.LabelsMatch(one.record.labels()) ||
        (until.has_value() && created > *until))
      continue;
    absl::StatusOr<v1::RemoveNetworkResponse> removed = Remove(context, one.record.id());
    if (removed.ok()) {
      response.add_names(one.record.name());
    } else if (!absl::IsFailedPrecondition(removed.status()) &&
               !absl::IsNotFound(removed.status())) {
      return removed.status();
    }
  }
  if (parts_.events != nullptr) {
    parts_.events->Publish(
        context.ns, Event(EventKind::kNetwork, "prune", "", Event::Attributes{{"reclaimed", "0"}}));
  }
  return response;
}

void NetworkService::Publish(const StoredNetwork& network, absl::string_view action) const {
  if (parts_.events == nullptr) return;
  parts_.events->Publish(network.ns, Event(EventKind::kNetwork, action, network.record.id(),
                                           Event::Attributes{{"name", network.record.name()},
                                                             {"type", network.record.driver()}}));
}

}  // namespace gantry::core
