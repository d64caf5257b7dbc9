#include "ctl/compose/project.h"

#include <algorithm>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

namespace gantry::compose {

const Node* Project::FindService(absl::string_view service) const {
  const Node* services = model.Find("services");
  return services == nullptr ? nullptr : services->Find(service);
}

std::vector<std::string> Project::ServiceNames() const {
  std::vector<std::string> names;
  if (const Node* services = model.Find("services")) {
    for (const auto& [name, service] : services->entries) names.push_back(name);
  }
  return names;
}

std::vector<Dependency> DependenciesOf(const Node& service) {
  std::vector<Dependency> out;
  const Node* dependencies = service.Find("depends_on");
  if (dependencies == nullptr) return out;
  for (const auto& [name, node] : dependencies->entries) {
    Dependency one;
    one.service = name;
    const std::string condition = node.TextOf("condition");
    if (condition == "service_healthy") one.condition = Dependency::Condition::kHealthy;
    if (condition == "service_completed_successfully")
      one.condition = Dependency::Condition::kCompleted;
    one.restart = node.TrueAt("restart");
    one.required = node.TextOf("required") != "false";
    out.push_back(std::move(one));
  }
  return out;
}

const char* ConditionWord(Dependency::Condition condition) {
  switch (condition) {
    case Dependency::Condition::kStarted:
      return "service_started";
    case Dependency::Condition::kHealthy:
      return "service_healthy";
    case Dependency::Condition::kCompleted:
      return "service_completed_successfully";
  }
  return "";
}

int ScaleOf(const Node& service) {
  int scale = 1;
  std::string text = service.TextOf("scale");
  if (const Node* deploy = service.Find("deploy"); text.empty() && deploy != nullptr)
    text = deploy->TextOf("replicas");
  if (!text.empty() && absl::SimpleAtoi(text, &scale)) return scale;
  return 1;
}

std::string ImageOf(const Project& project, const std::string& service) {
  const Node* node = project.FindService(service);
  const std::string image = node == nullptr ? "" : node->TextOf("image");
  return image.empty() ? absl::StrCat(project.name, project.separator, service) : image;
}

namespace {

// Depth first, so that a service comes after its dependencies. Cycles were refused when the project
// was loaded.
void Visit(const Project& project, const std::string& name, bool no_deps,
           std::set<std::string>& seen, std::vector<std::string>& order) {
  if (!seen.insert(name).second) return;
  const Node* service = project.FindService(name);
  if (service == nullptr) return;
  if (!no_deps) {
    for (const Dependency& dependency : DependenciesOf(*service))
      Visit(project, dependency.service, no_deps, seen, order);
  }
  order.push_back(name);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> InDependencyOrder(const Project& project,
                                                           const std::vector<std::string>& wanted,
                                                           bool no_deps) {
  for (const std::string& name : wanted) {
    if (project.FindService(name) == nullptr)
      return absl::NotFoundError(absl::StrCat("no such service: ", name));
  }
  std::set<std::string> seen;
  std::vector<std::string> order;
  const std::vector<std::string> names = wanted.empty() ? project.ServiceNames() : wanted;
  if (no_deps) {
    // Still in the order of the whole, where several are named.
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> all,
                            InDependencyOrder(project, {}, false));
    for (const std::string& name : all) {
      if (std::find(names.begin(), names.end(), name) != names.end()) order.push_back(name);
    }
    return order;
  }
  for (const std::string& name : names) Visit(project, name, false, seen, order);
  return order;
}

std::vector<std::string> BuildsFrom(const Node& service) {
  std::vector<std::string> out;
  const Node* build = service.Find("build");
  const Node* contexts = build == nullptr ? nullptr : build->Find("additional_contexts");
  if (contexts == nullptr) return out;
  for (const auto& [name, node] : contexts->entries) {
    absl::string_view other = node.text;
    if (absl::ConsumePrefix(&other, "service:")) out.emplace_back(other);
  }
  return out;
}

namespace {

absl::Status VisitBuild(const Project& project, const std::string& name,
                        std::vector<std::string>& path, std::vector<std::string>& order) {
  const Node* service = project.FindService(name);
  if (service == nullptr || std::find(order.begin(), order.end(), name) != order.end())
    return absl::OkStatus();
  const bool again = std::find(path.begin(), path.end(), name) != path.end();
  path.push_back(name);
  if (again) {
    return absl::InvalidArgumentError(absl::StrCat(
        service->at.Text(), ": services.", name,
        ".build.additional_contexts: builds start from each other: ", absl::StrJoin(path, " -> ")));
  }
  for (const std::string& other : BuildsFrom(*service))
    GANTRY_RETURN_IF_ERROR(VisitBuild(project, other, path, order));
  path.pop_back();
  order.push_back(name);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> InBuildOrder(const Project& project,
                                                      const std::vector<std::string>& services) {
  std::vector<std::string> order, path;
  for (const std::string& name : services)
    GANTRY_RETURN_IF_ERROR(VisitBuild(project, name, path, order));
  return order;
}

std::optional<absl::Duration> MaxImageAge(absl::string_view policy) {
  if (policy == "daily") return absl::Hours(24);
  if (policy == "weekly") return absl::Hours(24 * 7);
  if (!absl::ConsumePrefix(&policy, "every_") || policy.empty()) return std::nullopt;
  absl::Duration age;
  while (!policy.empty()) {
    const size_t digits = policy.find_first_not_of("0123456789");
    int64_t count = 0;
    if (digits == policy.npos || !absl::SimpleAtoi(policy.substr(0, digits), &count))
      return std::nullopt;
    switch (policy[digits]) {
      case 'w':
        age += count * absl::Hours(24 * 7);
        break;
      case 'd':
        age += count * absl::Hours(24);
        break;
      case 'h':
        age += absl::Hours(count);
        break;
      case 'm':
        age += absl::Minutes(count);
        break;
      case 's':
        age += absl::Seconds(count);
        break;
      default:
        return std::nullopt;
    }
    policy.remove_prefix(digits + 1);
  }
  return age;
}

bool IsPullPolicy(absl::string_view policy) {
  for (const char* known : {"always", "never", "build", "if_not_present", "missing", "refresh"}) {
    if (policy == known) return true;
  }
  return MaxImageAge(policy).has_value();
}

std::vector<std::string> MountedImages(const Node& service) {
  std::vector<std::string> out;
  const Node* volumes = service.Find("volumes");
  if (volumes == nullptr) return out;
  for (const Node& mount : volumes->items) {
    if (mount.TextOf("type") == "image") out.push_back(mount.TextOf("source"));
  }
  return out;
}

std::vector<std::string> UsedNetworks(const Project& project,
                                      const std::vector<std::string>& services) {
  std::vector<std::string> used;
  for (const std::string& name : services) {
    const Node* service = project.FindService(name);
    const Node* networks = service == nullptr ? nullptr : service->Find("networks");
    if (networks == nullptr) continue;
    for (const auto& [key, node] : networks->entries) {
      if (std::find(used.begin(), used.end(), key) == used.end()) used.push_back(key);
    }
  }
  return used;
}

std::vector<std::string> UsedVolumes(const Project& project,
                                     const std::vector<std::string>& services) {
  std::vector<std::string> used;
  const Node* declared = project.model.Find("volumes");
  for (const std::string& name : services) {
    const Node* service = project.FindService(name);
    const Node* volumes = service == nullptr ? nullptr : service->Find("volumes");
    if (volumes == nullptr || declared == nullptr) continue;
    for (const Node& mount : volumes->items) {
      const std::string source = mount.TextOf("source");
      if (mount.TextOf("type") != "volume" || declared->Find(source) == nullptr) continue;
      if (std::find(used.begin(), used.end(), source) == used.end()) used.push_back(source);
    }
  }
  return used;
}

}  // namespace gantry::compose
