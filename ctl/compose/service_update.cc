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
    size_t failures = 0;
    size_t done = 0;
    const auto tolerated = [&] {
      return !absl::IsCancelled(failure) && Within(failures, policy_.max_failure_ratio);
    };
    while (done < places_.size()) {
      const size_t end = std::min(places_.size(), done + group);
      ExchangeGroup(done, end);
      for (size_t i = done; i < end; ++i) {
        failures += places_[i].failure.ok() ? 0 : 1;
        if (failure.ok() || absl::IsCancelled(places_[i].failure)) failure = places_[i].failure;
      }
      done = end;
      if (!failure.ok() && !tolerated() &&
          (policy_.on_failure != UpdatePolicy::OnFailure::kContinue || absl::IsCancelled(failure)))
        break;
      if (done == places_.size()) break;
      const absl::Status paused = exchange_.Pause(policy_.delay);
      if (!paused.ok()) {
        failure = paused;
        break;
      }
    }
    const bool back =
        !failure.ok() && !tolerated() &&
        (absl::IsCancelled(failure) || policy_.on_failure == UpdatePolicy::OnFailure::kRollback);
    const absl::Status settled = back ? GoBack() : Settle(done);
    if (failure.ok() || tolerated()) return settled;
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
  // Whether so many of the containers may fail.
  bool Within(size_t failures, double ratio) const {
    return static_cast<double>(failures) <= ratio * static_cast<double>(places_.size());
  }

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
    return exchange_.AwaitReady(place.fresh, *place.old, policy_.monitor);
  }

  // The new container goes, the old one runs again.
  absl::Status Restore(Place& place) {
    absl::Status first;
    const auto keep = [&](const absl::Status& status) {
      if (first.ok()) first = status;
    };
    const auto start_old = [&] {
      if (!place.stopped) return;
      keep(exchange_.Start(place.old->id));
      if (first.ok() && policy_.back.monitor > absl::ZeroDuration())
        keep(exchange_.AwaitReady(place.old->id, *place.old, policy_.back.monitor));
    };
    if (policy_.back.start_first) start_old();
    if (!place.fresh.empty()) {
      keep(exchange_.Stop(place.fresh));
      keep(exchange_.Remove(place.fresh));
      place.fresh.clear();
    }
    if (!policy_.back.start_first) start_old();
    exchange_.Show(*place.old, first.ok() ? "Rolled back" : "Error", !first.ok());
    return first;
  }

  absl::Status GoBack() {
    std::vector<Place*> changed;
    for (Place& place : places_) {
      if (!place.fresh.empty() || place.stopped) changed.push_back(&place);
    }
    const size_t group = policy_.back.parallelism <= 0
                             ? std::max<size_t>(1, changed.size())
                             : static_cast<size_t>(policy_.back.parallelism);
    absl::Status first;
    size_t failures = 0;
    for (size_t begin = 0; begin < changed.size(); begin += group) {
      // An interrupted pause is no pause: what is left goes back at once.
      if (begin > 0 && policy_.back.delay > absl::ZeroDuration())
        exchange_.Pause(policy_.back.delay).IgnoreError();
      const size_t end = std::min(changed.size(), begin + group);
      std::vector<absl::Status> results(end - begin);
      std::vector<std::thread> threads;
      for (size_t i = begin; i < end; ++i) {
        threads.emplace_back(
            [this, &results, &changed, begin, i] { results[i - begin] = Restore(*changed[i]); });
      }
      for (std::thread& thread : threads) thread.join();
      for (const absl::Status& status : results) {
        failures += status.ok() ? 0 : 1;
        if (first.ok()) first = status;
      }
      if (!policy_.back.go_on && !Within(failures, policy_.back.max_failure_ratio)) break;
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

namespace {

// Whole numbers, ratios and durations were checked with the file's shape.
absl::Duration DurationAt(const Node& config, const char* key) {
  const absl::StatusOr<absl::Duration> duration = engine::ParseDuration(config.TextOf(key));
  return duration.ok() ? *duration : absl::ZeroDuration();
}

int ParallelismOf(const Node& config) {
  int parallelism = 1;
  return absl::SimpleAtoi(config.TextOf("parallelism"), &parallelism) ? parallelism : 1;
}

double RatioOf(const Node& config) {
  double ratio = 0;
  return absl::SimpleAtod(config.TextOf("max_failure_ratio"), &ratio) ? ratio : 0;
}

const Node* ConfigOf(const Node& service, const char* key) {
  const Node* deploy = service.Find("deploy");
  const Node* config = deploy == nullptr ? nullptr : deploy->Find(key);
  return config == nullptr || config->is_null() ? nullptr : config;
}

}  // namespace

std::optional<UpdatePolicy> UpdatePolicyOf(const Node& service, bool rollback) {
  const Node* config = ConfigOf(service, "update_config");
  if (config == nullptr && !rollback) return std::nullopt;
  UpdatePolicy policy;
  std::string order;
  if (config != nullptr) {
    policy.parallelism = ParallelismOf(*config);
    policy.delay = DurationAt(*config, "delay");
    if (const absl::Duration monitor = DurationAt(*config, "monitor");
        monitor > absl::ZeroDuration())
      policy.monitor = monitor;
    policy.max_failure_ratio = RatioOf(*config);
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
  if (const Node* back = ConfigOf(service, "rollback_config")) {
    policy.back.parallelism = ParallelismOf(*back);
    policy.back.delay = DurationAt(*back, "delay");
    policy.back.monitor = DurationAt(*back, "monitor");
    policy.back.start_first =
        back->TextOf("order") == "start-first" && CannotOverlap(service).empty();
    policy.back.go_on = back->TextOf("failure_action") == "continue";
    policy.back.max_failure_ratio = RatioOf(*back);
  }
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
