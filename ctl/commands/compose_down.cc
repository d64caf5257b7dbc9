#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "base/status_macros.h"
#include "ctl/commands/compose.h"
#include "ctl/compose/apply.h"
#include "ctl/compose/container_config.h"
#include "ctl/compose/provider.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::ctl {
namespace {

using compose::ObservedContainer;
using compose::ProgressBoard;
using Mark = compose::ProgressBoard::Mark;

constexpr int kInterrupted = 130;

// Whether containers wait for each other.
enum class Order {
  kNone,
  kAfterDependants,    // a service after those that depend on it: stops
  kAfterDependencies,  // a service after those that it depends on: starts
};

// For each container, those before it in the list that it waits for.
std::vector<std::vector<size_t>> WaitsFor(const compose::Project& project,
                                          const std::vector<ObservedContainer>& containers,
                                          Order order) {
  std::vector<std::vector<size_t>> after(containers.size());
  if (order == Order::kNone) return after;
  std::map<std::string, std::vector<size_t>> of_service;
  for (size_t i = 0; i < containers.size(); ++i) of_service[containers[i].service].push_back(i);
  for (const auto& [name, indexes] : of_service) {
    const compose::Node* service = project.FindService(name);
    if (service == nullptr) continue;
    for (const compose::Dependency& dependency : compose::DependenciesOf(*service)) {
      const auto others = of_service.find(dependency.service);
      if (others == of_service.end()) continue;
      for (const size_t own : indexes) {
        for (const size_t other : others->second) {
          const bool first = order == Order::kAfterDependencies;
          const size_t waits = first ? own : other;
          const size_t for_it = first ? other : own;
          if (for_it < waits) after[waits].push_back(for_it);
        }
      }
    }
  }
  return after;
}

// One call per container, several at a time.
absl::Status EachContainer(
    Context& context, const ProjectFlags& flags, ProgressBoard& board,
    const compose::Project& project, const std::vector<ObservedContainer>& containers, Order order,
    const char* doing, const char* done,
    const std::function<absl::Status(const ObservedContainer& container)>& work) {
  const std::vector<std::vector<size_t>> after = WaitsFor(project, containers, order);
  return compose::InOrder(
      containers.size(), flags.parallel(context), Interrupts::once(),
      [&](size_t i) -> const std::vector<size_t>& { return after[i]; },
      [&](size_t i) {
        const std::string part = absl::StrCat("Container ", containers[i].name);
        board.Update(part, doing, Mark::kWorking);
        const absl::Status status = work(containers[i]);
        board.Update(part, status.ok() ? done : "Error", status.ok() ? Mark::kDone : Mark::kFailed);
        return status;
      });
}

class DownAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&volumes_, "volumes", 'v', "Remove the project's volumes too");
    flags.Bool(&orphans_, "remove-orphans", 0, "Remove containers of services that are gone");
    flags.String(&images_, "rmi", 0, "which", "Remove images: local (without a name) or all");
    flags.OptionalInt(&timeout_, "timeout", 't', "Seconds to stop before a kill");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    if (!images_.empty() && images_ != "local" && images_ != "all")
      return absl::InvalidArgumentError(absl::StrCat("--rmi: \"", images_, "\": use local or all"));
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Interrupts interrupts;
    compose::Engine engine(*client, Interrupts::once());
    GANTRY_ASSIGN_OR_RETURN(
        std::vector<ObservedContainer> containers,
        ContainersOf(engine, project, args, /*all=*/true, /*one_offs=*/true, /*reversed=*/true));
    const bool has_model = !project.model.entries.empty();
    orphans_ |= SettingIsOn(context, project, "COMPOSE_REMOVE_ORPHANS");
    containers.erase(std::remove_if(containers.begin(), containers.end(),
                                    [&](const ObservedContainer& one) {
                                      if (orphans_ || !has_model) return false;
                                      return one.one_off ||
                                             project.FindService(one.service) == nullptr;
                                    }),
                     containers.end());
    GANTRY_ASSIGN_OR_RETURN(const ProgressBoard::Style style, flags_.ProgressStyle(context));
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "down");
    const std::optional<int> timeout =
        timeout_.has_value() ? std::optional<int>(static_cast<int>(*timeout_)) : std::nullopt;
    const absl::Status removed = EachContainer(
        context, flags_, *board, project, containers, Order::kAfterDependants, "Stopping",
        "Removed", [&](const ObservedContainer& container) -> absl::Status {
          const std::string part = absl::StrCat("Container ", container.name);
          GANTRY_RETURN_IF_ERROR(
              engine.StopWithHooks(project, container.service, container.id, timeout));
          board->Update(part, "Stopped", Mark::kWorking);
          board->Update(part, "Removing", Mark::kWorking);
          return engine.Remove(container.id, /*force=*/true, volumes_);
        });
    if (Interrupts::once()) return kInterrupted;
    GANTRY_RETURN_IF_ERROR(removed);
    if (has_model) {
      GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> services,
                              compose::InDependencyOrder(project, args, /*no_deps=*/true));
      std::reverse(services.begin(), services.end());
      compose::Project changed = project;
      GANTRY_RETURN_IF_ERROR(compose::RunProviders(changed, services, "down", {}));
    }
    size_t resources = 0;
    if (args.empty()) {
      GANTRY_RETURN_IF_ERROR(RemoveNetworks(engine, project, *board, &resources));
      if (volumes_) GANTRY_RETURN_IF_ERROR(RemoveVolumes(engine, project, *board, &resources));
      if (!images_.empty()) GANTRY_RETURN_IF_ERROR(RemoveImages(engine, project, *board));
    }
    board->Finish();
    if (Interrupts::once()) return kInterrupted;
    if (containers.empty() && resources == 0) {
      context.Err(absl::StrCat("Warning: No resource found to remove for project \"", project.name,
                               "\".\n"));
    }
    return 0;
  }

 private:
  template <typename Filters>
  static void OfProject(const compose::Project& project, Filters* filters) {
    auto* filter = filters->Add();
    filter->set_key("label");
    filter->set_value(absl::StrCat(compose::kProjectLabel, "=", project.name));
  }

  // By the labels, so that networks of services that are gone go too. External ones have none.
  static absl::Status RemoveNetworks(compose::Engine& engine, const compose::Project& project,
                                     ProgressBoard& board, size_t* count) {
    v1::ListNetworksRequest request;
    OfProject(project, request.mutable_filters());
    v1::ListNetworksResponse response;
    GANTRY_RETURN_IF_ERROR(engine.client().Call(request, &response));
    for (const v1::Network& network : response.networks()) {
      ++*count;
      const std::string part = absl::StrCat("Network ", network.name());
      board.Update(part, "Removing", Mark::kWorking);
      absl::StatusOr<bool> removed = engine.RemoveNetwork(network.name());
      if (!removed.ok()) {
        board.Update(part, "Error", Mark::kFailed);
        return removed.status();
      }
      board.Update(part, *removed ? "Removed" : "Resource is still in use",
                   *removed ? Mark::kDone : Mark::kWarning);
    }
    return absl::OkStatus();
  }

  static absl::Status RemoveVolumes(compose::Engine& engine, const compose::Project& project,
                                    ProgressBoard& board, size_t* count) {
    v1::ListVolumesRequest request;
    OfProject(project, request.mutable_filters());
    v1::ListVolumesResponse response;
    GANTRY_RETURN_IF_ERROR(engine.client().Call(request, &response));
    for (const v1::Volume& volume : response.volumes()) {
      ++*count;
      const std::string part = absl::StrCat("Volume ", volume.name());
      board.Update(part, "Removing", Mark::kWorking);
      v1::RemoveVolumeRequest remove;
      remove.set_name(volume.name());
      v1::RemoveVolumeResponse removed;
      const absl::Status status = engine.client().Call(remove, &removed);
      const bool in_use = absl::IsFailedPrecondition(status);
      if (!status.ok() && !in_use && !absl::IsNotFound(status)) {
        board.Update(part, "Error", Mark::kFailed);
        return status;
      }
      board.Update(part, in_use ? "Resource is still in use" : "Removed",
                   in_use ? Mark::kWarning : Mark::kDone);
    }
    return absl::OkStatus();
  }

  absl::Status RemoveImages(compose::Engine& engine, const compose::Project& project,
                            ProgressBoard& board) {
    for (const std::string& service : project.ServiceNames()) {
      if (images_ == "local" && !project.FindService(service)->TextOf("image").empty()) continue;
      const std::string image = compose::ImageOf(project, service);
      const std::string part = absl::StrCat("Image ", image);
      board.Update(part, "Removing", Mark::kWorking);
      v1::RemoveImageRequest request;
      request.set_image(image);
      v1::RemoveImageResponse response;
      const absl::Status status = engine.client().Call(request, &response);
      const bool in_use = absl::IsFailedPrecondition(status);
      if (!status.ok() && !in_use && !absl::IsNotFound(status)) {
        board.Update(part, "Error", Mark::kFailed);
        return status;
      }
      board.Update(part, in_use ? "Resource is still in use" : "Removed",
                   in_use ? Mark::kWarning : Mark::kDone);
    }
    return absl::OkStatus();
  }

  ProjectFlags flags_;
  bool volumes_ = false, orphans_ = false;
  std::string images_;
  std::optional<int64_t> timeout_;
};

// stop, start, restart, kill, pause, unpause: one call for each container.
class EachAction final : public Action {
 public:
  enum class Kind { kStop, kStart, kRestart, kKill, kPause, kUnpause };
  explicit EachAction(Kind kind) : kind_(kind) {}

  void AddFlags(FlagSet& flags) override {
    if (kind_ == Kind::kStop || kind_ == Kind::kRestart)
      flags.OptionalInt(&timeout_, "timeout", 't', "Seconds to stop before a kill");
    if (kind_ == Kind::kRestart)
      flags.Bool(&no_deps_, "no-deps", 0, "Without those that depend on them with restart: true");
    if (kind_ == Kind::kKill) {
      flags.String(&signal_, "signal", 's', "signal", "Signal to send (default SIGKILL)");
      flags.Bool(&orphans_, "remove-orphans", 0, "Also those of services that are gone");
    }
    if (kind_ == Kind::kStart) {
      flags.Bool(&wait_, "wait", 0, "Wait until all run or are healthy");
      flags.OptionalInt(&wait_timeout_, "wait-timeout", 0, "Seconds that --wait waits");
    }
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Interrupts interrupts;
    compose::Engine engine(*client, Interrupts::once());
    const bool reversed = kind_ == Kind::kStop;
    const bool all = kind_ == Kind::kStart || kind_ == Kind::kRestart || kind_ == Kind::kStop;
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> services, Services(project, args));
    GANTRY_ASSIGN_OR_RETURN(
        std::vector<ObservedContainer> containers,
        ContainersOf(engine, project, services, all, /*one_offs=*/false, reversed));
    // With a file, what it has no service for is left alone.
    if (!project.model.entries.empty() && !orphans_) {
      containers.erase(std::remove_if(containers.begin(), containers.end(),
                                      [&](const ObservedContainer& one) {
                                        return project.FindService(one.service) == nullptr;
                                      }),
                       containers.end());
    }
    if (containers.empty()) return Nothing(context, project, args);
    GANTRY_ASSIGN_OR_RETURN(const ProgressBoard::Style style, flags_.ProgressStyle(context));
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, Words().title);
    const std::optional<int> timeout =
        timeout_.has_value() ? std::optional<int>(static_cast<int>(*timeout_)) : std::nullopt;
    const Order order = kind_ == Kind::kStop      ? Order::kAfterDependants
                        : kind_ == Kind::kStart   ? Order::kAfterDependencies
                        : kind_ == Kind::kRestart ? Order::kAfterDependencies
                                                  : Order::kNone;
    const absl::Status status = EachContainer(
        context, flags_, *board, project, containers, order, Words().doing, Words().done,
        [&](const ObservedContainer& container) -> absl::Status {
          switch (kind_) {
            case Kind::kStop:
              return engine.StopWithHooks(project, container.service, container.id, timeout);
            case Kind::kStart:
              if (container.state == compose::State::kRunning) return absl::OkStatus();
              if (project.FindService(container.service) != nullptr) {
                GANTRY_RETURN_IF_ERROR(engine.AwaitDependencies(
                    project, container.service, [](const std::string&, const char*) {}));
              }
              GANTRY_RETURN_IF_ERROR(engine.Start(container.id));
              return engine.RunHooks(project, container.service, container.id, "post_start");
            case Kind::kRestart:
              if (container.state == compose::State::kRunning) {
                GANTRY_RETURN_IF_ERROR(
                    engine.RunHooks(project, container.service, container.id, "pre_stop"));
              }
              GANTRY_RETURN_IF_ERROR(engine.Restart(container.id, timeout));
              return engine.RunHooks(project, container.service, container.id, "post_start");
            case Kind::kKill:
              return engine.Kill(container.id, signal_);
            case Kind::kPause:
              return engine.Pause(container.id, true);
            case Kind::kUnpause:
              return engine.Pause(container.id, false);
          }
          return absl::OkStatus();
        });
    board->Finish();
    if (Interrupts::once()) return kInterrupted;
    GANTRY_RETURN_IF_ERROR(status);
    if (!wait_) return 0;
    const absl::Time deadline = wait_timeout_.has_value()
                                    ? absl::Now() + absl::Seconds(*wait_timeout_)
                                    : absl::InfiniteFuture();
    for (const ObservedContainer& container : containers)
      GANTRY_RETURN_IF_ERROR(engine.AwaitReady(container.id, deadline, /*may_complete=*/false));
    return 0;
  }

 private:
  // What is worked on where services are named: a start needs what they depend on, too.
  absl::StatusOr<std::vector<std::string>> Services(const compose::Project& project,
                                                    const std::vector<std::string>& named) const {
    if (kind_ == Kind::kRestart) return WithDependants(project, named);
    if (kind_ != Kind::kStart || named.empty() || project.model.entries.empty()) return named;
    return compose::InDependencyOrder(project, named, /*no_deps=*/false);
  }

  // The services, and those that depend on them with restart: true.
  std::vector<std::string> WithDependants(const compose::Project& project,
                                          std::vector<std::string> services) const {
    if (no_deps_) return services;
    for (size_t i = 0; i < services.size(); ++i) {
      for (const std::string& other : project.ServiceNames()) {
        if (std::find(services.begin(), services.end(), other) != services.end()) continue;
        for (const compose::Dependency& one :
             compose::DependenciesOf(*project.FindService(other))) {
          if (one.restart && one.service == services[i]) services.push_back(other);
        }
      }
    }
    return services;
  }

  struct Wording {
    const char* title;
    const char* doing;
    const char* done;
  };
  Wording Words() const {
    switch (kind_) {
      case Kind::kStop:
        return {"stop", "Stopping", "Stopped"};
      case Kind::kStart:
        return {"start", "Starting", "Started"};
      case Kind::kRestart:
        return {"restart", "Restarting", "Started"};
      case Kind::kKill:
        return {"kill", "Killing", "Killed"};
      case Kind::kPause:
        return {"pause", "Pausing", "Paused"};
      case Kind::kUnpause:
        return {"unpause", "Unpausing", "Unpaused"};
    }
    return {"", "", ""};
  }

  absl::StatusOr<int> Nothing(Context& context, const compose::Project& project,
                              const std::vector<std::string>& services) const {
    if (project.model.entries.empty() && kind_ != Kind::kKill) {
      return absl::NotFoundError(
          absl::StrCat("no container found for project \"", project.name, "\": not found"));
    }
    if (kind_ == Kind::kKill) {
      context.Err("No container to kill\n");
      return 0;
    }
    if (kind_ == Kind::kStart) {
      const std::vector<std::string> names = services.empty() ? project.ServiceNames() : services;
      if (!names.empty()) {
        return absl::NotFoundError(
            absl::StrCat("service \"", names.front(), "\" has no container to start"));
      }
    }
    return 0;
  }

  const Kind kind_;
  ProjectFlags flags_;
  std::optional<int64_t> timeout_, wait_timeout_;
  std::string signal_;
  bool no_deps_ = false, orphans_ = false, wait_ = false;
};

class RmAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&force_, "force", 'f', "Do not ask");
    flags.Bool(&stop_, "stop", 's', "Stop them before");
    flags.Bool(&volumes_, "volumes", 'v', "Remove anonymous volumes too");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Interrupts interrupts;
    compose::Engine engine(*client, Interrupts::once());
    GANTRY_ASSIGN_OR_RETURN(
        std::vector<ObservedContainer> containers,
        ContainersOf(engine, project, args, /*all=*/true, /*one_offs=*/false, /*reversed=*/true));
    const bool has_model = !project.model.entries.empty();
    containers.erase(std::remove_if(containers.begin(), containers.end(),
                                    [&](const ObservedContainer& one) {
                                      if (has_model && project.FindService(one.service) == nullptr)
                                        return true;
                                      return !stop_ && (one.state == compose::State::kRunning ||
                                                        one.state == compose::State::kPaused ||
                                                        one.state == compose::State::kRestarting);
                                    }),
                     containers.end());
    if (containers.empty()) {
      context.Err("No stopped containers\n");
      return 0;
    }
    std::vector<std::string> names;
    for (const ObservedContainer& container : containers) names.push_back(container.name);
    context.Err(absl::StrCat("Going to remove ", absl::StrJoin(names, ", "), "\n"));
    if (!force_ && !Confirmed(context)) return 0;
    GANTRY_ASSIGN_OR_RETURN(const ProgressBoard::Style style, flags_.ProgressStyle(context));
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "rm");
    GANTRY_RETURN_IF_ERROR(
        EachContainer(context, flags_, *board, project, containers,
                      stop_ ? Order::kAfterDependants : Order::kNone, "Removing", "Removed",
                      [&](const ObservedContainer& container) -> absl::Status {
                        if (stop_) {
                          GANTRY_RETURN_IF_ERROR(engine.StopWithHooks(project, container.service,
                                                                      container.id, std::nullopt));
                        }
                        return engine.Remove(container.id, stop_, volumes_);
                      }));
    board->Finish();
    return Interrupts::once() ? kInterrupted : 0;
  }

 private:
  static bool Confirmed(Context& context) {
    context.Err("Are you sure? [y/N] ");
    char answer = 0;
    const bool read = ::read(context.in_fd(), &answer, 1) == 1;
    return read && (answer == 'y' || answer == 'Y');
  }

  ProjectFlags flags_;
  bool force_ = false, stop_ = false, volumes_ = false;
};

template <EachAction::Kind kind>
std::unique_ptr<Action> MakeEach() {
  return std::make_unique<EachAction>(kind);
}

}  // namespace

absl::Status StopContainers(ProgressBoard& board, const compose::Project& project,
                            compose::Engine& engine,
                            const std::vector<ObservedContainer>& containers,
                            std::optional<int> timeout_seconds) {
  constexpr int kAtOnce = 64;
  static const std::atomic<bool> kNever{false};
  const std::vector<std::vector<size_t>> after =
      WaitsFor(project, containers, Order::kAfterDependants);
  return compose::InOrder(
      containers.size(), kAtOnce, kNever,
      [&](size_t i) -> const std::vector<size_t>& { return after[i]; },
      [&](size_t i) {
        const ObservedContainer& container = containers[i];
        const std::string part = absl::StrCat("Container ", container.name);
        board.Update(part, "Stopping", Mark::kWorking);
        const absl::Status stopped =
            engine.StopWithHooks(project, container.service, container.id, timeout_seconds);
        board.Update(part, stopped.ok() ? "Stopped" : "Error",
                     stopped.ok() ? Mark::kDone : Mark::kFailed);
        return stopped;
      });
}

std::vector<Verb> ComposeDownVerbs() {
  using Kind = EachAction::Kind;
  const std::string arguments = "[OPTIONS] [SERVICE...]";
  return {{.name = "down",
           .arguments = arguments,
           .summary = "Stop and remove the containers and networks of a project",
           .examples = "  ctl compose down\n"
                       "  ctl compose down -v --remove-orphans\n"
                       "  ctl compose -p demo down\n",
           .make = [] { return std::make_unique<DownAction>(); }},
          {.name = "start",
           .arguments = arguments,
           .summary = "Start containers that were created or stopped",
           .examples = "  ctl compose start db\n",
           .make = MakeEach<Kind::kStart>},
          {.name = "stop",
           .arguments = arguments,
           .summary = "Stop containers without removing them",
           .examples = "  ctl compose stop -t 30 web\n",
           .make = MakeEach<Kind::kStop>},
          {.name = "restart",
           .arguments = arguments,
           .summary = "Stop containers and start them again",
           .examples = "  ctl compose restart web\n",
           .make = MakeEach<Kind::kRestart>},
          {.name = "kill",
           .arguments = arguments,
           .summary = "Signal running containers",
           .examples = "  ctl compose kill -s HUP web\n",
           .make = MakeEach<Kind::kKill>},
          {.name = "pause",
           .arguments = arguments,
           .summary = "Freeze every process of containers",
           .examples = "  ctl compose pause\n",
           .make = MakeEach<Kind::kPause>},
          {.name = "unpause",
           .arguments = arguments,
           .summary = "Let frozen containers go on",
           .examples = "  ctl compose unpause\n",
           .make = MakeEach<Kind::kUnpause>},
          {.name = "rm",
           .arguments = arguments,
           .summary = "Remove stopped containers",
           .examples = "  ctl compose rm -sf worker\n",
           .make = [] { return std::make_unique<RmAction>(); }}};
}

}  // namespace gantry::ctl
