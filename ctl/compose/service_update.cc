#include "ctl/compose/service_update.h"

#include <algorithm>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/engine/units.h"
#include "base/status_macros.h"

namespace gantry::compose {
namespace {

// One container on its way from old to new.
struct Place {
  const OldContainer* old = nullptr;
  std::string fresh;  // "": not created
  bool stopped = false;
  absl::Status failure;
};

class Update {
 public:
  Update(const std::string& service, const UpdatePolicy& policy, ContainerExchange& exchange)
      : service_(service), policy_(policy), exchange_(exchange) {}

  absl::Status Run(const std::vector<OldContainer>& containers) {
    for (const OldContainer& old : containers) places_.push_back({&old, "", false, {}});
    const size_t group =
        policy_.parallelism <= 0 ? places_.size() : static_cast<size_t>(policy_.parallelism);
    absl::Status failure;
    size_t done = 0;
    while (done < places_.size()) {
      const size_t end = std::min(places_.size(), done + group);
      ExchangeGroup(done, end);
      for (size_t i = done; i < end; ++i) {
        if (failure.ok()) failure = places_[i].failure;
      }
      done = end;
      if (!failure.ok() &&
          (policy_.on_failure != UpdatePolicy::OnFailure::kContinue || absl::IsCancelled(failure)))
        break;
      if (done == places_.size()) break;
      const absl::Status paused = exchange_.Pause(policy_.delay);
      if (!paused.ok()) {
        failure = paused;
        break;
      }
    }
    const bool back = !failure.ok() && (absl::IsCancelled(failure) ||
                                        policy_.on_failure == UpdatePolicy::OnFailure::kRollback);
    const absl::Status settled = back ? GoBack() : Settle(done);
    if (failure.ok()) return settled;
    const char* now = back ? "the service is back at its last good state"
                           : "the containers that became ready are kept, and the others went back";
    return absl::Status(
        failure.code(),
        absl::StrCat("service ", service_, ": ", failure.message(), "; ", now,
                     settled.ok() ? "" : absl::StrCat(", but: ", settled.message())));
  }

  std::vector<std::string> Ids() const {
    std::vector<std::string> ids;
    for (const Place& place : places_)
      ids.push_back(place.fresh.empty() ? place.old->id : place.fresh);
    return ids;
  }

 private:
  void ExchangeGroup(size_t begin, size_t end) {
    std::vector<std::thread> threads;
    for (size_t i = begin; i < end; ++i) {
      threads.emplace_back([this, i] {
        places_[i].failure = ExchangeOne(places_[i]);
        exchange_.Show(*places_[i].old, places_[i].failure.ok() ? "Ready" : "Error",
                       !places_[i].failure.ok());
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  absl::Status ExchangeOne(Place& place) {
    exchange_.Show(*place.old, "Recreate", false);
    GANTRY_ASSIGN_OR_RETURN(place.fresh, exchange_.Create(*place.old));
    if (!policy_.start_first && place.old->running) {
      exchange_.Show(*place.old, "Stopping", false);
      place.stopped = true;
      GANTRY_RETURN_IF_ERROR(exchange_.Stop(place.old->id));
    }
    exchange_.Show(*place.old, "Starting", false);
    GANTRY_RETURN_IF_ERROR(exchange_.Start(place.fresh));
    exchange_.Show(*place.old, "Waiting", false);
    return exchange_.AwaitReady(place.fresh, *place.old);
  }

  // The new container goes, the old one runs again.
  absl::Status Restore(Place& place) {
    absl::Status first;
    const auto keep = [&](const absl::Status& status) {
      if (first.ok()) first = status;
    };
    if (!place.fresh.empty()) {
      keep(exchange_.Stop(place.fresh));
      keep(exchange_.Remove(place.fresh));
      place.fresh.clear();
    }
    if (place.stopped) keep(exchange_.Start(place.old->id));
    exchange_.Show(*place.old, first.ok() ? "Rolled back" : "Error", !first.ok());
    return first;
  }

  absl::Status GoBack() {
    absl::Status first;
    for (Place& place : places_) {
      if (place.fresh.empty() && !place.stopped) continue;
      const absl::Status status = Restore(place);
      if (first.ok()) first = status;
    }
    return first;
  }

  // Of the first `done` places: the new ones that are ready take the names of the old ones.
  absl::Status Settle(size_t done) {
    absl::Status first;
    for (size_t i = 0; i < done; ++i) {
      const absl::Status status =
          places_[i].failure.ok() ? Finish(places_[i]) : Restore(places_[i]);
      if (first.ok()) first = status;
    }
    return first;
  }

  absl::Status Finish(Place& place) {
    if (place.old->running && !place.stopped) GANTRY_RETURN_IF_ERROR(exchange_.Stop(place.old->id));
    GANTRY_RETURN_IF_ERROR(exchange_.Remove(place.old->id));
    GANTRY_RETURN_IF_ERROR(exchange_.Rename(place.fresh, place.old->name));
    exchange_.Show(*place.old, "Recreated", false);
    return absl::OkStatus();
  }

  const std::string& service_;
  const UpdatePolicy& policy_;
  ContainerExchange& exchange_;
  std::vector<Place> places_;
};

}  // namespace

std::string UpdatePolicy::Text() const {
  std::vector<std::string> parts;
  parts.push_back(parallelism <= 0 ? "all at once" : absl::StrCat(parallelism, " at a time"));
  parts.push_back(start_first ? "the new one starts first" : "the old one stops first");
  if (on_failure == OnFailure::kRollback) parts.push_back("back on failure");
  if (on_failure == OnFailure::kContinue) parts.push_back("on after a failure");
  if (on_failure == OnFailure::kPause) parts.push_back("no further after a failure");
  return absl::StrJoin(parts, ", ");
}

std::string CannotOverlap(const Node& service) {
  if (service.TextOf("network_mode") == "host") return "it uses the host's network";
  if (const Node* ports = service.Find("ports")) {
    for (const Node& port : ports->items) {
      const std::string published = port.TextOf("published");
      if (!published.empty() && !absl::StrContains(published, '-'))
        return absl::StrCat("it publishes port ", published);
    }
  }
  if (!service.TextOf("mac_address").empty()) return "it has a fixed MAC address";
  if (const Node* networks = service.Find("networks")) {
    for (const auto& [name, network] : networks->entries) {
      for (const char* key : {"ipv4_address", "ipv6_address", "mac_address"}) {
        if (!network.TextOf(key).empty())
          return absl::StrCat("it has a fixed address on network ", name);
      }
    }
  }
  return "";
}

std::optional<UpdatePolicy> UpdatePolicyOf(const Node& service, bool rollback) {
  const Node* deploy = service.Find("deploy");
  const Node* config = deploy == nullptr ? nullptr : deploy->Find("update_config");
  if (config != nullptr && config->is_null()) config = nullptr;
  if (config == nullptr && !rollback) return std::nullopt;
  UpdatePolicy policy;
  std::string order;
  if (config != nullptr) {
    // Whole numbers and durations were checked with the file's shape.
    if (!absl::SimpleAtoi(config->TextOf("parallelism"), &policy.parallelism))
      policy.parallelism = 1;
    const absl::StatusOr<absl::Duration> delay = engine::ParseDuration(config->TextOf("delay"));
    if (delay.ok()) policy.delay = *delay;
    const absl::StatusOr<absl::Duration> monitor = engine::ParseDuration(config->TextOf("monitor"));
    if (monitor.ok() && *monitor > absl::ZeroDuration()) policy.monitor = *monitor;
    const std::string action = config->TextOf("failure_action");
    if (action == "rollback") policy.on_failure = UpdatePolicy::OnFailure::kRollback;
    if (action == "continue") policy.on_failure = UpdatePolicy::OnFailure::kContinue;
    order = config->TextOf("order");
  }
  if (rollback) policy.on_failure = UpdatePolicy::OnFailure::kRollback;
  // Two containers that write to one volume are the file's decision, not ours.
  bool writes_volume = false;
  if (const Node* volumes = service.Find("volumes")) {
    for (const Node& mount : volumes->items)
      writes_volume |= mount.TextOf("type") == "volume" && !mount.TrueAt("read_only");
  }
  policy.start_first = CannotOverlap(service).empty() &&
                       (order == "start-first" || (order.empty() && rollback && !writes_volume));
  return policy;
}

absl::Status UpdateService(const std::string& service, const std::vector<OldContainer>& containers,
                           const UpdatePolicy& policy, ContainerExchange& exchange,
                           std::vector<std::string>* ids) {
  Update update(service, policy, exchange);
  const absl::Status status = update.Run(containers);
  if (ids != nullptr) *ids = update.Ids();
  return status;
}

}  // namespace gantry::compose
