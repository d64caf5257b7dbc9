#include "ctl/compose/plan.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"
#include "ctl/compose/container_config.h"

namespace gantry::compose {
namespace {

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

bool Runs(State state) {
  return state == State::kRunning || state == State::kRestarting || state == State::kPaused;
}

class Planner {
 public:
  Planner(const Project& project, const Observed& observed, const UpOptions& options)
      : project_(project), observed_(observed), options_(options) {
    // The container that others of its services refer to: the first by name.
    std::map<std::string, const ObservedContainer*> first;
    for (const ObservedContainer& container : observed_.containers) {
      if (container.one_off) continue;
      const ObservedContainer*& known = first[container.service];
      if (known == nullptr || container.name < known->name) known = &container;
    }
    for (const auto& [service, container] : first) ids_[service] = container->id;
  }

  absl::StatusOr<Plan> Make() {
    GANTRY_ASSIGN_OR_RETURN(order_,
                            InDependencyOrder(project_, options_.services, options_.no_deps));
    for (const auto& [service, count] : options_.scale) {
      if (project_.FindService(service) == nullptr)
        return absl::NotFoundError(absl::StrCat("no such service: ", service));
    }
    Provided();
    for (const std::string& service : order_) {
      for (std::string& warning : WithoutEffect(project_, service))
        plan_.warnings.push_back(std::move(warning));
    }
    GANTRY_RETURN_IF_ERROR(Images());
    GANTRY_RETURN_IF_ERROR(Networks());
    GANTRY_RETURN_IF_ERROR(Volumes());
    Orphans();
    for (const std::string& service : order_) Containers(service);
    if (options_.start) {
      for (const std::string& service : order_) Starts(service);
    }
    return std::move(plan_);
  }

 private:
  size_t Add(Step step) {
    plan_.steps.push_back(std::move(step));
    return plan_.steps.size() - 1;
  }

  // Services without containers.
  void Provided() {
    std::vector<std::string> made;
    for (const std::string& name : order_) {
      const Node* provider = project_.FindService(name)->Find("provider");
      if (provider == nullptr) {
        made.push_back(name);
        continue;
      }
      Step step;
      step.kind = Step::Kind::kProvide;
      step.object = step.service = name;
      step.reason = absl::StrCat("by ", provider->TextOf("type"));
      Add(std::move(step));
    }
    order_ = std::move(made);
  }

  absl::Status Images() {
    if (options_.images_done) return absl::OkStatus();
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> order, InBuildOrder(project_, order_));
    std::map<std::string, size_t> made;  // several services may share an image
    for (const std::string& name : order) {
      const Node& service = *project_.FindService(name);
      if (service.Find("provider") != nullptr) continue;
      const std::string image = ImageOf(project_, name);
      if (const auto same = made.find(image); same != made.end()) {
        image_step_[name] = same->second;
        continue;
      }
      GANTRY_ASSIGN_OR_RETURN(std::optional<Step> step, ImageStep(service, name, image));
      if (!step.has_value()) continue;
      for (const std::string& other : BuildsFrom(service)) {
        if (const auto base = image_step_.find(other); base != image_step_.end())
          step->after.push_back(base->second);
      }
      image_step_[name] = made[image] = Add(*std::move(step));
    }
    // Images that are mounted.
    for (const std::string& name : order_) {
      for (const std::string& image : MountedImages(*project_.FindService(name))) {
        if (observed_.images.count(image) > 0) continue;
        auto there = made.find(image);
        if (there == made.end()) {
          Step step;
          step.kind = Step::Kind::kPull;
          step.object = image;
          step.service = name;
          step.reason = "not here";
          there = made.emplace(image, Add(std::move(step))).first;
        }
        mounted_step_[name].push_back(there->second);
      }
    }
    return absl::OkStatus();
  }

  // What is done for an image; nullopt: nothing.
  absl::StatusOr<std::optional<Step>> ImageStep(const Node& service, const std::string& name,
                                                const std::string& image) const {
    const bool here = observed_.images.count(image) > 0;
    const bool builds = service.Find("build") != nullptr;
    const bool named = !service.TextOf("image").empty();
    const std::string said = service.TextOf("pull_policy");
    const std::string policy = options_.pull.empty() ? said : options_.pull;
    const std::optional<absl::Duration> limit = MaxImageAge(policy);
    const auto age = observed_.image_ages.find(image);
    const bool stale =
        limit.has_value() && age != observed_.image_ages.end() && age->second >= *limit;
    Step step;
    step.object = image;
    step.service = name;
    if (builds && !options_.no_build && (options_.build || policy == "build")) {
      step.kind = Step::Kind::kBuild;
      step.reason = here ? "asked for" : "not here";
      return step;
    }
    // One that can be built is pulled only where the file, or the command, asks for it.
    const bool pulls = policy == "always" || stale ||
                       (!here && policy != "never" &&
                        (!builds || options_.no_build || (!said.empty() && said != "build")));
    if (named && pulls) {
      step.kind = Step::Kind::kPull;
      step.builds = builds && !options_.no_build;
      step.reason = policy == "always" ? "pull policy always"
                    : stale            ? absl::StrCat("pull policy ", policy)
                                       : "not here";
      return step;
    }
    if (here) return std::nullopt;
    if (builds && !options_.no_build) {
      step.kind = Step::Kind::kBuild;
      step.reason = "not here";
      return step;
    }
    return absl::FailedPreconditionError(
        absl::StrCat("image ", image, " of service ", name, " is not here, and ",
                     builds ? "--no-build forbids making it" : "the pull policy is never"));
  }

  absl::Status Networks() {
    const Node* declared = project_.model.Find("networks");
    for (const std::string& key : UsedNetworks(project_, order_)) {
      const Node* network = declared == nullptr ? nullptr : declared->Find(key);
      if (network == nullptr) continue;
      const std::string name = network->TextOf("name");
      const auto there = observed_.networks.find(name);
      if (network->TrueAt("external")) {
        if (there != observed_.networks.end()) continue;
        return absl::NotFoundError(absl::StrCat(network->at.Text(), ": network ", name,
                                                " declared as external, but could not be found"));
      }
      Step step;
      step.object = name;
      step.key = key;
      if (there == observed_.networks.end()) {
        step.kind = Step::Kind::kCreateNetwork;
      } else if (there->second.project != project_.name) {
        plan_.warnings.push_back(
            absl::StrCat("a network with name ", name, " exists but was not created for project \"",
                         project_.name, "\".\nSet `external: true` to use an existing network"));
        continue;
      } else if (!there->second.hash.empty() &&
                 there->second.hash != ResourceHash(project_, "networks", key)) {
        step.kind = Step::Kind::kRecreateNetwork;
        step.reason = "configuration changed";
        renewed_.insert(name);
      } else {
        continue;
      }
      network_step_[key] = Add(std::move(step));
    }
    return absl::OkStatus();
  }

  absl::Status Volumes() {
    const Node* declared = project_.model.Find("volumes");
    for (const std::string& key : UsedVolumes(project_, order_)) {
      const Node* volume = declared->Find(key);
      const std::string name = volume->TextOf("name");
      const auto there = observed_.volumes.find(name);
      if (volume->TrueAt("external")) {
        if (there != observed_.volumes.end()) continue;
        return absl::NotFoundError(
            absl::StrCat(volume->at.Text(), ": external volume \"", name, "\" not found"));
      }
      if (there == observed_.volumes.end()) {
        Step step;
        step.kind = Step::Kind::kCreateVolume;
        step.object = name;
        step.key = key;
        volume_step_[key] = Add(std::move(step));
      } else if (there->second.project != project_.name) {
        plan_.warnings.push_back(
            absl::StrCat("volume \"", name,
                         "\" already exists but was not created by Docker Compose. Use `external: "
                         "true` to use an existing volume"));
      } else if (!there->second.hash.empty() &&
                 there->second.hash != ResourceHash(project_, "volumes", key)) {
        // Data is never lost by an up.
        plan_.warnings.push_back(absl::StrCat(
            "volume \"", name,
            "\" exists but doesn't match the configuration in the compose file; it is kept as it "
            "is. Remove it with `ctl volume rm ",
            name, "` to have it made anew, without its data"));
      }
    }
    return absl::OkStatus();
  }

  void Orphans() {
    std::vector<std::string> names;
    for (const ObservedContainer& container : observed_.containers) {
      if (container.one_off || project_.FindService(container.service) != nullptr) continue;
      // Its profile may be on next time.
      if (Contains(project_.inactive, container.service)) continue;
      if (options_.remove_orphans) {
        Remove(container, "its service is not in the project");
      } else {
        names.push_back(container.name);
      }
    }
    if (names.empty() || options_.ignore_orphans) return;
    plan_.warnings.push_back(absl::StrCat(
        "Found orphan containers (", absl::StrJoin(names, " "),
        ") for this project. If you removed or renamed this service in your compose file, you can "
        "run this command with the --remove-orphans flag to clean it up."));
  }

  size_t Remove(const ObservedContainer& container, const std::string& reason) {
    Step step;
    step.kind = Step::Kind::kRemove;
    step.object = container.name;
    step.service = container.service;
    step.number = container.number;
    step.id = container.id;
    step.reason = reason;
    return Add(std::move(step));
  }

  // Why a container has to be made anew; "": it has not.
  std::string Outdated(const Node& service, const std::string& name,
                       const ObservedContainer& container) const {
    if (options_.no_recreate) return "";
    if (options_.force_recreate) return "forced";
    if (options_.recreate_deps && !options_.services.empty() && !Contains(options_.services, name))
      return "forced, as a dependency";
    if (container.hash != ServiceHash(project_, name, ids_)) return "configuration changed";
    const auto image = observed_.images.find(ImageOf(project_, name));
    if (image_step_.count(name) > 0)
      return image == observed_.images.end() ? "image is renewed" : "where its image changes";
    if (image != observed_.images.end() && !container.image_digest.empty() &&
        container.image_digest != image->second)
      return "image changed";
    const Node* networks = service.Find("networks");
    const Node* declared = project_.model.Find("networks");
    if (networks != nullptr && declared != nullptr) {
      for (const auto& [key, unused] : networks->entries) {
        const Node* network = declared->Find(key);
        if (network == nullptr) continue;
        const std::string wanted = network->TextOf("name");
        if (renewed_.count(wanted) > 0) return absl::StrCat("network ", wanted, " is renewed");
        if (Runs(container.state) && !Contains(container.networks, wanted))
          return absl::StrCat("it is not connected to ", wanted);
      }
    }
    const Node* volumes = service.Find("volumes");
    const Node* known = project_.model.Find("volumes");
    if (volumes != nullptr && known != nullptr) {
      for (const Node& mount : volumes->items) {
        const Node* volume =
            mount.TextOf("type") == "volume" ? known->Find(mount.TextOf("source")) : nullptr;
        if (volume == nullptr) continue;
        const std::string wanted = volume->TextOf("name");
        if (!Contains(container.volumes, wanted))
          return absl::StrCat("it does not have volume ", wanted);
      }
    }
    for (const Dependency& dependency : DependenciesOf(service)) {
      if (remade_.count(dependency.service) == 0 || !Shares(service, dependency.service)) continue;
      return absl::StrCat("it shares a namespace or volumes with ", dependency.service,
                          ", which is made anew");
    }
    return "";
  }

  static bool Shares(const Node& service, const std::string& other) {
    for (const char* key : {"network_mode", "ipc", "pid"}) {
      if (service.TextOf(key) == absl::StrCat("service:", other)) return true;
    }
    if (const Node* from = service.Find("volumes_from")) {
      for (const Node& item : from->items) {
        if (item.text.substr(0, item.text.find(':')) == other) return true;
      }
    }
    return false;
  }

  // What a new container of the service waits for.
  std::vector<size_t> Needs(const Node& service, const std::string& name) const {
    std::vector<size_t> after;
    if (const auto image = image_step_.find(name); image != image_step_.end())
      after.push_back(image->second);
    if (const auto mounted = mounted_step_.find(name); mounted != mounted_step_.end())
      after.insert(after.end(), mounted->second.begin(), mounted->second.end());
    const auto add = [&](const char* kind, const std::map<std::string, size_t>& steps) {
      const Node* used = service.Find(kind);
      if (used == nullptr) return;
      for (const auto& [key, unused] : used->entries) {
        if (const auto step = steps.find(key); step != steps.end()) after.push_back(step->second);
      }
      for (const Node& item : used->items) {
        if (const auto step = steps.find(item.TextOf("source")); step != steps.end())
          after.push_back(step->second);
      }
    };
    add("networks", network_step_);
    add("volumes", volume_step_);
    // A container that shares with others needs their ids.
    for (const Dependency& dependency : DependenciesOf(service)) {
      if (!Shares(service, dependency.service)) continue;
      for (const size_t step : Of(made_step_, dependency.service)) after.push_back(step);
    }
    return after;
  }

  static std::vector<size_t> Of(const std::map<std::string, std::vector<size_t>>& steps,
                                const std::string& service) {
    const auto found = steps.find(service);
    return found == steps.end() ? std::vector<size_t>() : found->second;
  }

  void Containers(const std::string& name) {
    const Node& service = *project_.FindService(name);
    const auto asked = options_.scale.find(name);
    const int wanted = asked == options_.scale.end() ? ScaleOf(service) : asked->second;
    std::vector<const ObservedContainer*> there;
    int highest = 0;
    for (const ObservedContainer& container : observed_.containers) {
      if (container.one_off || container.service != name) continue;
      there.push_back(&container);
      highest = std::max(highest, container.number);
    }
    // Outdated ones go first, then the highest numbers.
    std::stable_sort(there.begin(), there.end(),
                     [&](const ObservedContainer* a, const ObservedContainer* b) {
                       const bool old_a = !Outdated(service, name, *a).empty();
                       const bool old_b = !Outdated(service, name, *b).empty();
                       if (old_a != old_b) return old_b;
                       return a->number < b->number;
                     });
    // Of two with one number a command that was killed has left the outdated one: its successor is
    // there already, and both want the same name.
    const auto superseded = [&](const ObservedContainer* one) {
      return !Outdated(service, name, *one).empty() &&
             std::any_of(there.begin(), there.end(), [&](const ObservedContainer* other) {
               return other != one && other->number == one->number &&
                      Outdated(service, name, *other).empty();
             });
    };
    std::vector<const ObservedContainer*> left;
    for (const ObservedContainer* container : there) {
      if (!HasTwin(there, container->number) || !superseded(container)) {
        left.push_back(container);
      } else {
        removed_[name].push_back(Remove(*container, "its successor is there"));
      }
    }
    there = std::move(left);
    while (there.size() > static_cast<size_t>(std::max(0, wanted))) {
      removed_[name].push_back(Remove(*there.back(), absl::StrCat("scale is ", wanted)));
      there.pop_back();
    }
    std::sort(there.begin(), there.end(),
              [](const auto* a, const auto* b) { return a->number < b->number; });
    policy_.reset();
    if (options_.start && !IsShared(name)) policy_ = UpdatePolicyOf(service, options_.rollback);
    for (const ObservedContainer* container : there) Existing(service, name, *container);
    for (int i = static_cast<int>(there.size()); i < wanted; ++i) {
      Step step;
      step.kind = Step::Kind::kCreate;
      step.number = ++highest;
      step.object = ContainerNameOf(project_, {name, step.number, "", ""});
      step.service = name;
      step.after = Needs(service, name);
      made_step_[name].push_back(Add(std::move(step)));
    }
  }

  static bool HasTwin(const std::vector<const ObservedContainer*>& there, int number) {
    return std::count_if(there.begin(), there.end(), [number](const ObservedContainer* one) {
             return one->number == number;
           }) > 1;
  }

  // "0123456789ab_demo-web-1": the successor's name while both are there.
  static bool LeftBehind(const std::string& name, const std::string& right) {
    return name.size() == right.size() + 13 && name[12] == '_' && absl::EndsWith(name, right) &&
           name.find_first_not_of("0123456789abcdef") == 12;
  }

  // Whether other services use this one's namespaces or volumes: these know its container by id.
  bool IsShared(const std::string& name) const {
    for (const std::string& other : order_) {
      if (Shares(*project_.FindService(other), name)) return true;
    }
    return false;
  }

  void Existing(const Node& service, const std::string& name, const ObservedContainer& container) {
    Step step;
    step.object = container.name;
    step.service = name;
    step.number = container.number;
    step.id = container.id;
    step.reason = Outdated(service, name, container);
    if (step.reason.empty()) {
      step.kind = Step::Kind::kKeep;
      if (Runs(container.state)) step.reason = "up to date";
      const std::string right = ContainerNameOf(project_, {name, container.number, "", ""});
      if (LeftBehind(container.name, right)) {
        Step rename = step;
        rename.kind = Step::Kind::kRename;
        rename.object = step.object = right;
        rename.reason = absl::StrCat("it is ", container.name);
        rename.after = removed_[name];
        step.after.push_back(Add(std::move(rename)));
      }
    } else if (policy_.has_value()) {
      Step& update = updates_[name];
      update.kind = Step::Kind::kUpdate;
      update.object = update.service = name;
      update.policy = *policy_;
      if (update.reason.empty()) update.reason = step.reason;
      update.members.push_back(
          {container.id, container.name, container.number, Runs(container.state)});
      remade_.insert(name);
      return;
    } else {
      step.kind = Step::Kind::kRecreate;
      step.after = Needs(service, name);
      remade_.insert(name);
    }
    made_step_[name].push_back(Add(std::move(step)));
  }

  // The starts of what a service depends on.
  void AfterDependencies(const Node& service, std::vector<size_t>& after) const {
    if (options_.no_deps) return;
    for (const Dependency& dependency : DependenciesOf(service)) {
      for (const size_t other : Of(start_step_, dependency.service)) after.push_back(other);
    }
  }

  // What a running container of the service is restarted for: "" for nothing.
  std::string RestartReason(const Node& service) const {
    for (const Dependency& dependency : DependenciesOf(service)) {
      if (dependency.restart && remade_.count(dependency.service) > 0)
        return absl::StrCat(dependency.service, ", which it depends on, is made anew");
    }
    return "";
  }

  void Starts(const std::string& name) {
    const Node& service = *project_.FindService(name);
    if (const auto update = updates_.find(name); update != updates_.end()) {
      update->second.after = Needs(service, name);
      AfterDependencies(service, update->second.after);
      start_step_[name].push_back(Add(std::move(update->second)));
    }
    for (const size_t made : Of(made_step_, name)) {
      const Step from = plan_.steps[made];
      if (from.kind == Step::Kind::kKeep && !from.reason.empty()) {  // it runs
        const std::string why = options_.no_recreate ? "" : RestartReason(service);
        if (why.empty()) continue;
        Step restart = from;
        restart.kind = Step::Kind::kRestart;
        restart.reason = why;
        restart.after = {made};
        AfterDependencies(service, restart.after);
        start_step_[name].push_back(Add(std::move(restart)));
        continue;
      }
      Step step;
      step.kind = Step::Kind::kStart;
      step.object = from.object;
      step.service = name;
      step.number = from.number;
      step.id = from.id;
      step.after.push_back(made);
      AfterDependencies(service, step.after);
      start_step_[name].push_back(Add(std::move(step)));
    }
  }

  const Project& project_;
  const Observed& observed_;
  const UpOptions& options_;
  Plan plan_;
  std::vector<std::string> order_;
  std::map<std::string, size_t> image_step_;  // by service
  std::map<std::string, std::vector<size_t>> mounted_step_;
  std::map<std::string, size_t> network_step_;  // by key
  std::map<std::string, size_t> volume_step_;
  std::map<std::string, std::vector<size_t>> made_step_;  // by service
  std::map<std::string, std::vector<size_t>> start_step_;
  std::map<std::string, std::string> ids_;              // service -> the container others refer to
  std::set<std::string> renewed_;                       // networks
  std::set<std::string> remade_;                        // services
  std::map<std::string, std::vector<size_t>> removed_;  // by service
  std::map<std::string, Step> updates_;                 // by service, added with the starts
  std::optional<UpdatePolicy> policy_;                  // of the service that is looked at
};

}  // namespace

bool Plan::Changes() const {
  return std::any_of(steps.begin(), steps.end(), [](const Step& step) {
    return step.kind != Step::Kind::kKeep && step.kind != Step::Kind::kProvide;
  });
}

Plan Plan::OnlyImages() const {
  Plan out;
  std::map<size_t, size_t> place;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].kind != Step::Kind::kPull && steps[i].kind != Step::Kind::kBuild) continue;
    Step step = steps[i];
    // Those that it waits for are before it, and images too.
    for (size_t& other : step.after) other = place.at(other);
    place[i] = out.steps.size();
    out.steps.push_back(std::move(step));
  }
  return out;
}

absl::StatusOr<Plan> PlanUp(const Project& project, const Observed& observed,
                            const UpOptions& options) {
  return Planner(project, observed, options).Make();
}

std::string DescribeStep(const Step& step) {
  const char* verb = "";
  const char* noun = "container";
  switch (step.kind) {
    case Step::Kind::kPull:
      verb = "pull";
      noun = "image";
      break;
    case Step::Kind::kBuild:
      verb = "build";
      noun = "image";
      break;
    case Step::Kind::kCreateNetwork:
      verb = "create";
      noun = "network";
      break;
    case Step::Kind::kRecreateNetwork:
      verb = "recreate";
      noun = "network";
      break;
    case Step::Kind::kCreateVolume:
      verb = "create";
      noun = "volume";
      break;
    case Step::Kind::kCreate:
      verb = "create";
      break;
    case Step::Kind::kRecreate:
      verb = "recreate";
      break;
    case Step::Kind::kUpdate: {
      const std::string names = absl::StrJoin(
          step.members, ", ",
          [](std::string* out, const OldContainer& one) { absl::StrAppend(out, one.name); });
      return absl::StrFormat("%-9s %-9s %s  (%s; %s; %s)", "update", "service", step.object, names,
                             step.reason, step.policy.Text());
    }
    case Step::Kind::kRename:
      verb = "rename";
      break;
    case Step::Kind::kRestart:
      verb = "restart";
      break;
    case Step::Kind::kRemove:
      verb = "remove";
      break;
    case Step::Kind::kStart:
      verb = "start";
      break;
    case Step::Kind::kProvide:
      verb = "provide";
      noun = "service";
      break;
    case Step::Kind::kKeep:
      verb = "keep";
      break;
  }
  std::string line = absl::StrFormat("%-9s %-9s %s", verb, noun, step.object);
  if (!step.reason.empty()) absl::StrAppend(&line, "  (", step.reason, ")");
  return line;
}

}  // namespace gantry::compose
