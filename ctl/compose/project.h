// A compose project: what its files say, in canonical form, after merging, interpolation and
// profiles.
//
// Immutable once loaded (loader.h). `model` is what `config` prints; the functions here read it, so
// that there is no second copy of anything.
// Spec: compose-spec.
#ifndef GANTRY_CTL_COMPOSE_PROJECT_H_
#define GANTRY_CTL_COMPOSE_PROJECT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "ctl/compose/node.h"

namespace gantry::compose {

struct Project {
  std::string name;
  std::string separator = "-";         // in names of containers and images
  std::string directory;               // absolute
  std::vector<std::string> files;      // absolute; "-" for stdin
  std::vector<std::string> env_files;  // those of --env-file
  // What interpolation sees: the environment over the env files.
  std::map<std::string, std::string> environment;
  // Keys in the order name, services, networks, volumes, secrets, configs, x-*. Services of
  // inactive profiles are not in it.
  Node model;
  // Names of services that are off by their profiles.
  std::vector<std::string> inactive;
  // Lines for the error stream: obsolete keys, unset variables.
  std::vector<std::string> warnings;

  // Null: no service of that name is on.
  const Node* FindService(absl::string_view service) const;
  std::vector<std::string> ServiceNames() const;
};

struct Dependency {
  enum class Condition { kStarted, kHealthy, kCompleted };
  std::string service;
  Condition condition = Condition::kStarted;
  bool restart = false;
  bool required = true;
};

// `depends_on`, in the order of the file.
std::vector<Dependency> DependenciesOf(const Node& service);
// "service_healthy"
const char* ConditionWord(Dependency::Condition condition);

// How many containers it has: scale, or deploy.replicas, or 1.
int ScaleOf(const Node& service);

// The image's name: `image`, or for a build PROJECT-SERVICE (with the separator).
std::string ImageOf(const Project& project, const std::string& service);

// Services in an order in which each comes after those it depends on; of the rest of the tree only
// what `wanted` needs (all services if it is empty). Dependencies are left out with `no_deps`.
//   kNotFound  "no such service: x"
absl::StatusOr<std::vector<std::string>> InDependencyOrder(const Project& project,
                                                           const std::vector<std::string>& wanted,
                                                           bool no_deps);

// Services whose images the build of `service` starts from: `service:x` of
// build.additional_contexts.
std::vector<std::string> BuildsFrom(const Node& service);
// `services` and those that their builds start from, each after these. Only what is on.
//   kInvalidArgument  builds start from each other
absl::StatusOr<std::vector<std::string>> InBuildOrder(const Project& project,
                                                      const std::vector<std::string>& services);

// How old the image of a service may be by its pull_policy: daily, weekly, every_3d12h, refresh. Of
// `policy` as the file has it; nullopt: it says nothing about ages.
std::optional<absl::Duration> MaxImageAge(absl::string_view policy);
// Whether it is a pull_policy.
bool IsPullPolicy(absl::string_view policy);

// Images that are mounted (volumes of type image).
std::vector<std::string> MountedImages(const Node& service);

// Keys of networks and volumes that `services` refer to.
std::vector<std::string> UsedNetworks(const Project& project,
                                      const std::vector<std::string>& services);
std::vector<std::string> UsedVolumes(const Project& project,
                                     const std::vector<std::string>& services);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_PROJECT_H_
