// From what a project wants and what is there to the steps between.
//
// Pure: the same input gives the same steps, so that `plan` and `up --dry-run` show exactly what
// `up` does. A step says what it changes, why, and which steps it waits for.
//
//   images -> networks, volumes -> containers -> starts, each in the order of dependencies
//
// Rules: facts of docker compose's convergence. A container is made anew when its service's hash,
// its image, its networks or its volumes are others than those it was made with.
#ifndef GANTRY_CTL_COMPOSE_PLAN_H_
#define GANTRY_CTL_COMPOSE_PLAN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "ctl/compose/project.h"
#include "ctl/compose/service_update.h"

namespace gantry::compose {

enum class State { kCreated, kRunning, kPaused, kRestarting, kRemoving, kExited, kDead };

struct ObservedContainer {
  std::string id;
  std::string name;
  std::string service;
  int number = 0;
  bool one_off = false;
  std::string hash;
  std::string image_digest;  // it was made from
  State state = State::kCreated;
  uint32_t exit_code = 0;
  std::string health;  // "", starting, healthy, unhealthy
  std::vector<std::string> networks;
  std::vector<std::string> volumes;  // names
};

struct ObservedResource {
  std::string project;  // "": not made by compose
  std::string hash;     // "": made by a tool that gives none, and kept as it is
};

struct Observed {
  std::vector<ObservedContainer> containers;         // of the project, one-offs too
  std::map<std::string, ObservedResource> networks;  // by name
  std::map<std::string, ObservedResource> volumes;
  std::map<std::string, std::string> images;         // reference -> digest of those that are here
  std::map<std::string, absl::Duration> image_ages;  // since they got that name
};

struct UpOptions {
  std::vector<std::string> services;  // none: all
  bool no_deps = false;
  bool force_recreate = false;
  bool no_recreate = false;
  bool remove_orphans = false;
  bool ignore_orphans = false;
  bool start = true;
  std::string pull;  // "", always, missing, never
  bool build = false;
  bool no_build = false;
  // Pulls and builds are done, and what is observed is what they have left.
  bool images_done = false;
  bool recreate_deps = false;  // make containers of services that are not named anew
  std::map<std::string, int> scale;
  // A service whose new containers do not become ready goes back to the old ones.
  bool rollback = false;
};

struct Step {
  enum class Kind {
    kPull,
    kBuild,
    kCreateNetwork,
    kRecreateNetwork,
    kCreateVolume,
    kCreate,
    kRecreate,
    kUpdate,  // containers of a service in exchange for new ones (service_update.h), started too
    kRename,  // one that a killed `up` has left under a temporary name
    kRemove,
    kStart,
    kRestart,
    kProvide,  // a service that a program provides (provider.h): done before the plan is made
    kKeep,     // nothing to do: shown, so that everything is accounted for
  };
  Kind kind = Kind::kKeep;
  std::string object;   // image, network, volume or container, by name
  std::string service;  // of containers and images
  std::string key;      // of networks and volumes
  int number = 0;       // of containers
  bool builds = false;  // of kPull: the service says how to build what cannot be pulled
  std::string id;       // of a container that is there
  std::string reason;   // "configuration changed", ...
  // Of kUpdate.
  std::vector<OldContainer> members = {};
  UpdatePolicy policy = {};
  std::vector<size_t> after = {};
};

struct Plan {
  std::vector<Step> steps;
  std::vector<std::string> warnings;

  // Whether any step changes something.
  bool Changes() const;
  // The pulls and builds alone. Whether a container is made anew for its image is known when these
  // are done: then the plan is made again, with `images_done`.
  Plan OnlyImages() const;
};

//   kNotFound            "no such service: x"; an external network or volume that is not there
//   kFailedPrecondition  an image that may not be pulled or built is not here
absl::StatusOr<Plan> PlanUp(const Project& project, const Observed& observed,
                            const UpOptions& options);

// A line per step, as `plan` prints it: "recreate  container demo-web-1  (configuration changed)".
std::string DescribeStep(const Step& step);

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_PLAN_H_
