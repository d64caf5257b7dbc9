#include "ctl/compose/consistency.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/compose/project.h"
#include "ctl/flags.h"

namespace gantry::compose {
namespace {

constexpr size_t kMaxChain = 5000;
constexpr absl::string_view kEnding = ": invalid compose project";

absl::Status Invalid(const Node& at, absl::string_view what, absl::string_view remedy = "") {
  const std::string place = at.at.Text();
  return absl::InvalidArgumentError(absl::StrCat(place.empty() ? "" : place + ": ", what, kEnding,
                                                 remedy.empty() ? "" : absl::StrCat("; ", remedy)));
}

std::vector<std::string> KeysOf(const Node* map) {
  std::vector<std::string> keys;
  if (map != nullptr) {
    for (const auto& [key, value] : map->entries) keys.push_back(key);
  }
  return keys;
}

std::string Declare(const std::string& kind, const std::string& name, const Node* declared) {
  const std::string nearest = ctl::Nearest(name, KeysOf(declared));
  return absl::StrCat("declare it under ", kind, ":",
                      nearest.empty() ? "" : absl::StrCat(", or did you mean ", nearest, "?"));
}

class Checker {
 public:
  Checker(const Node& model, const std::vector<std::string>& inactive)
      : model_(model), inactive_(inactive), services_(model.Find("services")) {}

  absl::Status Check() {
    if (services_ == nullptr) return absl::OkStatus();
    std::map<std::string, std::string> names;
    for (const auto& [name, service] : services_->entries) {
      GANTRY_RETURN_IF_ERROR(CheckService(name, service));
      const std::string own = service.TextOf("container_name");
      if (own.empty()) continue;
      const auto [other, fresh] = names.emplace(own, name);
      if (!fresh) {
        return Invalid(service, absl::StrCat("services.", name, ": container name \"", own,
                                             "\" is already in use by service ", other->second));
      }
    }
    for (const char* kind : {"secrets", "configs"}) GANTRY_RETURN_IF_ERROR(CheckFiles(kind));
    return CheckCycles();
  }

 private:
  const Node* Declared(const char* kind, const std::string& name) const {
    const Node* section = model_.Find(kind);
    return section == nullptr ? nullptr : section->Find(name);
  }

  absl::Status CheckService(const std::string& name, const Node& service) {
    if (service.TextOf("image").empty() && service.Find("build") == nullptr &&
        service.Find("provider") == nullptr) {
      return Invalid(service,
                     absl::StrCat("service \"", name,
                                  "\" has neither an image nor a build context specified"));
    }
    if (const std::string policy = service.TextOf("pull_policy");
        !policy.empty() && !absl::StrContains(policy, '$') && !IsPullPolicy(policy)) {
      return Invalid(*service.Find("pull_policy"),
                     absl::StrCat("services.", name, ".pull_policy: \"", policy, "\""),
                     "use always, missing, never, build, daily, weekly or every_ with a "
                     "duration (every_3d)");
    }
    GANTRY_RETURN_IF_ERROR(CheckNetworks(name, service));
    GANTRY_RETURN_IF_ERROR(CheckVolumes(name, service));
    GANTRY_RETURN_IF_ERROR(CheckDependencies(name, service));
    GANTRY_RETURN_IF_ERROR(CheckScale(name, service));
    for (const char* kind : {"secrets", "configs"}) {
      const Node* files = service.Find(kind);
      if (files == nullptr) continue;
      const std::string one = std::string(kind).substr(0, std::string(kind).size() - 1);
      for (const Node& file : files->items) {
        const std::string source = file.TextOf("source");
        if (Declared(kind, source) != nullptr) continue;
        return Invalid(
            file, absl::StrCat("service \"", name, "\" refers to undefined ", one, " ", source),
            Declare(kind, source, model_.Find(kind)));
      }
    }
    if (const Node* health = service.Find("healthcheck");
        health != nullptr && health->Find("start_interval") != nullptr &&
        health->Find("start_period") == nullptr) {
      return Invalid(*health, absl::StrCat("services.", name,
                                           ".healthcheck: start_interval needs start_period"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckNetworks(const std::string& name, const Node& service) {
    const Node* networks = service.Find("networks");
    const std::string mode = service.TextOf("network_mode");
    if (networks != nullptr && !networks->entries.empty() && !mode.empty()) {
      return Invalid(service,
                     absl::StrCat("service ", name,
                                  " declares mutually exclusive `network_mode` and `networks`"));
    }
    absl::string_view other = mode;
    if (absl::ConsumePrefix(&other, "service:") && services_->Find(other) == nullptr) {
      return Invalid(
          *service.Find("network_mode"),
          absl::StrCat("service \"", other, "\" not found for network_mode '", mode, "'"));
    }
    if (networks == nullptr) return absl::OkStatus();
    for (const auto& [key, unused] : networks->entries) {
      if (Declared("networks", key) != nullptr) continue;
      return Invalid(unused,
                     absl::StrCat("service \"", name, "\" refers to undefined network ", key),
                     Declare("networks", key, model_.Find("networks")));
    }
    return absl::OkStatus();
  }

  absl::Status CheckVolumes(const std::string& name, const Node& service) {
    const Node* volumes = service.Find("volumes");
    if (volumes == nullptr) return absl::OkStatus();
    std::map<std::string, size_t> targets;
    for (size_t i = 0; i < volumes->items.size(); ++i) {
      const Node& mount = volumes->items[i];
      if (!mount.is_map()) continue;  // a variable that was not interpolated
      const std::string target = mount.TextOf("target");
      const auto [before, fresh] = targets.emplace(target, i);
      if (!fresh) {
        return Invalid(mount, absl::StrCat("services.", name, ".volumes[", i, "]: target ", target,
                                           " already mounted as services.", name, ".volumes[",
                                           before->second, "]"));
      }
      const std::string source = mount.TextOf("source");
      if (mount.TextOf("type") != "volume" || source.empty()) continue;
      if (Declared("volumes", source) != nullptr) continue;
      return Invalid(mount,
                     absl::StrCat("service \"", name, "\" refers to undefined volume ", source),
                     Declare("volumes", source, model_.Find("volumes")));
    }
    return absl::OkStatus();
  }

  absl::Status CheckDependencies(const std::string& name, const Node& service) {
    const Node* dependencies = service.Find("depends_on");
    if (dependencies == nullptr) return absl::OkStatus();
    for (const auto& [other, node] : dependencies->entries) {
      const std::string condition = node.TextOf("condition");
      if (condition != "service_started" && condition != "service_healthy" &&
          condition != "service_completed_successfully") {
        return Invalid(node, absl::StrCat("services.", name, ".depends_on.", other,
                                          ": condition \"", condition,
                                          "\": expected service_started, service_healthy or "
                                          "service_completed_successfully"));
      }
      if (services_->Find(other) != nullptr || node.TextOf("required") == "false") continue;
      const bool off = std::find(inactive_.begin(), inactive_.end(), other) != inactive_.end();
      return Invalid(
          node, absl::StrCat("service \"", name, "\" depends on undefined service \"", other, "\""),
          off ? "it is off by its profiles; switch one on with --profile"
              : Declare("services", other, services_));
    }
    return absl::OkStatus();
  }

  absl::Status CheckScale(const std::string& name, const Node& service) {
    const Node* deploy = service.Find("deploy");
    const std::string scale = service.TextOf("scale");
    const std::string replicas = deploy == nullptr ? "" : deploy->TextOf("replicas");
    if (!scale.empty() && !replicas.empty() && scale != replicas) {
      return Invalid(service,
                     absl::StrCat("services.", name,
                                  ": can't set distinct values on 'scale' and 'deploy.replicas'"));
    }
    int count = 1;
    const std::string text = scale.empty() ? replicas : scale;
    if (!text.empty() && (!absl::SimpleAtoi(text, &count) || count < 0)) {
      return Invalid(service, absl::StrCat("services.", name, ": scale \"", text,
                                           "\": expected a number, 0 or more"));
    }
    if (count > 1 && !service.TextOf("container_name").empty()) {
      return Invalid(service,
                     absl::StrCat("services.", name,
                                  ": can't set container_name and a scale above 1, as container "
                                  "name must be unique"));
    }
    return CheckLimits(name, service, deploy);
  }

  absl::Status CheckLimits(const std::string& name, const Node& service, const Node* deploy) {
    const Node* resources = deploy == nullptr ? nullptr : deploy->Find("resources");
    const Node* limits = resources == nullptr ? nullptr : resources->Find("limits");
    if (limits == nullptr) return absl::OkStatus();
    for (const auto& [own, theirs] : std::vector<std::pair<const char*, const char*>>{
             {"cpus", "cpus"}, {"mem_limit", "memory"}, {"pids_limit", "pids"}}) {
      const std::string a = service.TextOf(own);
      const std::string b = limits->TextOf(theirs);
      if (a.empty() || b.empty() || a == b) continue;
      return Invalid(service, absl::StrCat("services.", name, ": can't set distinct values on '",
                                           own, "' and 'deploy.resources.limits.", theirs, "'"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckFiles(const char* kind) {
    const Node* files = model_.Find(kind);
    if (files == nullptr) return absl::OkStatus();
    const bool secret = std::string(kind) == "secrets";
    for (const auto& [key, file] : files->entries) {
      if (file.TrueAt("external")) continue;
      const bool has = !file.TextOf("file").empty() || !file.TextOf("environment").empty() ||
                       (!secret && file.Find("content") != nullptr);
      if (has) continue;
      return Invalid(file, secret ? absl::StrCat("secret \"", key,
                                                 "\" must declare either `file` or `environment`")
                                  : absl::StrCat("config \"", key,
                                                 "\" must declare `file`, `content` or "
                                                 "`environment`"));
    }
    return absl::OkStatus();
  }

  absl::Status CheckCycles() {
    std::map<std::string, int> state;  // 1: being visited, 2: done
    std::vector<std::string> path;
    for (const auto& [name, service] : services_->entries)
      GANTRY_RETURN_IF_ERROR(Visit(name, state, path));
    return absl::OkStatus();
  }

  absl::Status Visit(const std::string& name, std::map<std::string, int>& state,
                     std::vector<std::string>& path) {
    if (state[name] == 2) return absl::OkStatus();
    const Node* service = services_->Find(name);
    if (service == nullptr) return absl::OkStatus();
    if (state[name] == 1) {
      std::string chain;
      for (auto it = std::find(path.begin(), path.end(), name); it != path.end(); ++it)
        absl::StrAppend(&chain, *it, " -> ");
      return Invalid(*service, absl::StrCat("dependency cycle detected: ", chain, name));
    }
    state[name] = 1;
    path.push_back(name);
    if (path.size() > kMaxChain) {
      return absl::ResourceExhaustedError(
          absl::StrCat(service->at.Text(),
                       ": services depend on each other in a chain of more than ", kMaxChain));
    }
    if (const Node* dependencies = service->Find("depends_on")) {
      for (const auto& [other, node] : dependencies->entries)
        GANTRY_RETURN_IF_ERROR(Visit(other, state, path));
    }
    path.pop_back();
    state[name] = 2;
    return absl::OkStatus();
  }

  const Node& model_;
  const std::vector<std::string>& inactive_;
  const Node* const services_;
};

}  // namespace

absl::Status CheckConsistency(const Node& model, const std::vector<std::string>& inactive) {
  return Checker(model, inactive).Check();
}

}  // namespace gantry::compose
