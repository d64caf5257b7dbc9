#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "ctl/commands/compose.h"
#include "ctl/commands/compose_watch.h"
#include "ctl/compose/apply.h"
#include "ctl/compose/container_config.h"
#include "ctl/compose/plan.h"
#include "ctl/compose/provider.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

using compose::ObservedContainer;
using compose::ProgressBoard;

constexpr int kInterrupted = 130;

// `--pull missing` and the like; "" for the services' own policies.
absl::Status CheckPull(const std::string& pull) {
  if (pull.empty() || pull == "always" || pull == "missing" || pull == "never" ||
      pull == "if_not_present")
    return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--pull: \"", pull, "\": use always, missing or never"));
}

absl::Status ParseScale(const std::vector<std::string>& texts, std::map<std::string, int>* scale) {
  for (const std::string& text : texts) {
    const auto [service, number] = engine::SplitAssignment(text);
    int count = 0;
    if (!absl::SimpleAtoi(number, &count) || count < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--scale: \"", text, "\": expected SERVICE=NUMBER"));
    }
    (*scale)[service] = count;
  }
  return absl::OkStatus();
}

// Options that up, create and plan share.
class UpFlags {
 public:
  void AddFlags(FlagSet& flags, bool starts) {
    flags.Bool(&options_.build, "build", 0, "Build images before");
    flags.Bool(&options_.no_build, "no-build", 0, "Never build");
    flags.String(&options_.pull, "pull", 0, "when", "always, missing or never");
    flags.Bool(&options_.force_recreate, "force-recreate", 0, "Make all containers anew");
    flags.Bool(&options_.no_recreate, "no-recreate", 0, "Leave containers that are there");
    flags.Bool(&options_.remove_orphans, "remove-orphans", 0,
               "Remove containers of services that are gone");
    flags.Strings(&scale_, "scale", 0, "service=n", "Number of containers of a service");
    flags.Bool(&quiet_pull_, "quiet-pull", 0, "No progress of pulls");
    if (starts) {
      flags.Bool(&options_.rollback, "rollback", 0,
                 "Go back to a service's old containers when the new ones do not become ready");
    }
    flags.Bool(&yes_, "yes", 'y', "Accepted: nothing is asked");
    if (!starts) return;
    flags.Bool(&options_.no_deps, "no-deps", 0, "Without the services they depend on");
    flags.Bool(&renew_, "renew-anon-volumes", 'V', "New anonymous volumes");
    flags.OptionalInt(&timeout_, "timeout", 't', "Seconds to stop before a kill");
  }

  absl::StatusOr<compose::UpOptions> Make(Context& context,
                                          const std::vector<std::string>& services) {
    compose::UpOptions out = options_;
    out.services = services;
    GANTRY_RETURN_IF_ERROR(CheckPull(out.pull));
    if (out.pull == "missing" || out.pull == "if_not_present") out.pull.clear();
    if (out.force_recreate && out.no_recreate) {
      return absl::InvalidArgumentError("--force-recreate and --no-recreate exclude each other");
    }
    GANTRY_RETURN_IF_ERROR(ParseScale(scale_, &out.scale));
    if (context.Environment("COMPOSE_REMOVE_ORPHANS") == "true" ||
        context.Environment("COMPOSE_REMOVE_ORPHANS") == "1")
      out.remove_orphans = true;
    if (context.Environment("COMPOSE_ROLLBACK") == "true" ||
        context.Environment("COMPOSE_ROLLBACK") == "1")
      out.rollback = true;
    out.ignore_orphans = context.Environment("COMPOSE_IGNORE_ORPHANS") == "true" ||
                         context.Environment("COMPOSE_IGNORE_ORPHANS") == "1";
    return out;
  }

  std::optional<int> timeout() const {
    return timeout_.has_value() ? std::optional<int>(static_cast<int>(*timeout_)) : std::nullopt;
  }
  bool renew() const { return renew_; }

 private:
  compose::UpOptions options_;
  std::vector<std::string> scale_;
  std::optional<int64_t> timeout_;
  bool quiet_pull_ = false, renew_ = false, yes_ = false;
};

absl::StatusOr<compose::Plan> MakePlan(compose::Engine& engine, const compose::Project& project,
                                       const compose::UpOptions& options) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> services,
                          compose::InDependencyOrder(project, options.services, options.no_deps));
  for (const std::string& service : services) {
    if (project.FindService(service)->Find("provider") == nullptr)
      GANTRY_RETURN_IF_ERROR(compose::CheckService(project, service));
  }
  GANTRY_ASSIGN_OR_RETURN(const compose::Observed observed, engine.Observe(project, services));
  return compose::PlanUp(project, observed, options);
}

class UpAction final : public Action {
 public:
  enum class Kind { kUp, kCreate, kPlan, kScale };
  explicit UpAction(Kind kind) : kind_(kind) {}

  void AddFlags(FlagSet& flags) override {
    if (kind_ == Kind::kScale) {
      flags.Bool(&scale_no_deps_, "no-deps", 0, "Without the services they depend on");
      return;
    }
    up_.AddFlags(flags, kind_ != Kind::kCreate);
    if (kind_ != Kind::kUp) return;
    flags.Bool(&detach_, "detach", 'd', "Run in the background");
    flags.Bool(&no_start_, "no-start", 0, "Create only");
    flags.Bool(&dry_run_, "dry-run", 0, "Print the plan and change nothing");
    flags.Bool(&wait_, "wait", 0, "Wait until all run or are healthy; implies -d");
    flags.OptionalInt(&wait_timeout_, "wait-timeout", 0, "Seconds that --wait waits");
    flags.Bool(&abort_, "abort-on-container-exit", 0, "Stop all when one ends");
    flags.Bool(&abort_failure_, "abort-on-container-failure", 0, "Stop all when one fails");
    flags
        .String(&exit_code_from_, "exit-code-from", 0, "service",
                "Stop all when it ends, and end with its status")
        .completes = "services";
    flags.Strings(&attach_, "attach", 0, "service", "Print the output of these only").completes =
        "services";
    flags.Strings(&no_attach_, "no-attach", 0, "service", "Do not print the output of these")
        .completes = "services";
    flags.Bool(&no_color_, "no-color", 0, "Without colours");
    flags.Bool(&no_prefix_, "no-log-prefix", 0, "Without the names before lines");
    flags.Bool(&timestamps_, "timestamps", 0, "With the time of each line");
    flags.Bool(&watch_, "watch", 'w', "Sync, rebuild and restart when files change");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    std::vector<std::string> services = args;
    compose::UpOptions options;
    if (kind_ == Kind::kScale) {
      services.clear();
      GANTRY_RETURN_IF_ERROR(ParseScale(args, &options.scale));
      for (const auto& [service, count] : options.scale) services.push_back(service);
      options.services = services;
      options.no_deps = scale_no_deps_;
    } else {
      GANTRY_ASSIGN_OR_RETURN(options, up_.Make(context, services));
    }
    options.start = kind_ != Kind::kCreate && !no_start_;
    if (!exit_code_from_.empty()) abort_ = true;
    if (detach_ && (abort_ || abort_failure_)) {
      return absl::InvalidArgumentError(
          "--abort-on-container-exit, --abort-on-container-failure and --exit-code-from need the "
          "output attached; leave -d out");
    }
    if (watch_ && (detach_ || wait_ || no_start_ || abort_ || abort_failure_)) {
      return absl::InvalidArgumentError(
          "--watch needs the output attached; leave -d, --wait, --no-start and --abort-on-... out, "
          "or use `ctl compose watch`");
    }
    GANTRY_ASSIGN_OR_RETURN(compose::Project project, flags_.Load(context, services));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Interrupts interrupts;
    compose::Engine engine(*client, Interrupts::once());
    if (kind_ != Kind::kPlan && !dry_run_) {
      GANTRY_ASSIGN_OR_RETURN(
          const std::vector<std::string> needed,
          compose::InDependencyOrder(project, options.services, options.no_deps));
      GANTRY_RETURN_IF_ERROR(RunPrograms(context, flags_, project, needed));
    }
    GANTRY_ASSIGN_OR_RETURN(const compose::Plan plan, MakePlan(engine, project, options));
    for (const std::string& warning : plan.warnings)
      context.Err(absl::StrCat("WARN ", warning, "\n"));
    if (kind_ == Kind::kPlan || dry_run_) {
      PrintPlan(context, plan);
      return 0;
    }
    std::vector<std::string> started;
    GANTRY_RETURN_IF_ERROR(Do(context, engine, project, plan, &started));
    if (Interrupts::once()) return kInterrupted;
    if (wait_) return Wait(context, engine, project, started);
    if (kind_ != Kind::kUp || detach_ || no_start_) return 0;
    return Attach(context, engine, project, started);
  }

 private:
  static void PrintPlan(Context& context, const compose::Plan& plan) {
    for (const compose::Step& step : plan.steps)
      context.Out(absl::StrCat(compose::DescribeStep(step), "\n"));
    if (!plan.Changes()) context.Out("nothing to change\n");
  }

  absl::Status Do(Context& context, compose::Engine& engine, const compose::Project& project,
                  const compose::Plan& plan, std::vector<std::string>* started) {
    GANTRY_ASSIGN_OR_RETURN(const ProgressBoard::Style style, flags_.ProgressStyle(context));
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "up");
    compose::ApplyOptions apply;
    apply.parallel = flags_.parallel(context);
    apply.timeout_seconds = up_.timeout();
    apply.renew_anonymous_volumes = up_.renew();
    apply.pull = [&](const compose::Step& step) { return PullOne(context, *board, project, step); };
    apply.build = [&](const compose::Step& step) {
      return BuildOne(context, *board, project, step);
    };
    const absl::Status status =
        compose::Apply(project, plan, engine, *board, apply, Interrupts::once(), started);
    board->Finish();
    return status;
  }

  absl::StatusOr<int> Wait(Context& context, compose::Engine& engine,
                           const compose::Project& project,
                           const std::vector<std::string>& started) {
    const absl::Time deadline = wait_timeout_.has_value()
                                    ? absl::Now() + absl::Seconds(*wait_timeout_)
                                    : absl::InfiniteFuture();
    // What others want completed may end.
    std::vector<std::string> completes;
    for (const std::string& service : project.ServiceNames()) {
      for (const compose::Dependency& dependency :
           compose::DependenciesOf(*project.FindService(service))) {
        if (dependency.condition == compose::Dependency::Condition::kCompleted)
          completes.push_back(dependency.service);
      }
    }
    GANTRY_ASSIGN_OR_RETURN(const std::vector<ObservedContainer> containers,
                            Those(engine, project, started));
    for (const ObservedContainer& container : containers) {
      const bool may_complete =
          std::find(completes.begin(), completes.end(), container.service) != completes.end();
      const absl::Status status = engine.AwaitReady(container.id, deadline, may_complete);
      if (absl::IsDeadlineExceeded(status)) {
        return absl::DeadlineExceededError(
            absl::StrCat("application not healthy after ", *wait_timeout_, "s"));
      }
      GANTRY_RETURN_IF_ERROR(status);
    }
    return 0;
  }

  static absl::StatusOr<std::vector<ObservedContainer>> Those(compose::Engine& engine,
                                                              const compose::Project& project,
                                                              const std::vector<std::string>& ids) {
    GANTRY_ASSIGN_OR_RETURN(
        std::vector<ObservedContainer> all,
        ContainersOf(engine, project, {}, /*all=*/true, /*one_offs=*/false, /*reversed=*/false));
    all.erase(std::remove_if(all.begin(), all.end(),
                             [&](const ObservedContainer& one) {
                               return std::find(ids.begin(), ids.end(), one.id) == ids.end();
                             }),
              all.end());
    return all;
  }

  bool Attached(const compose::Project& project, const std::string& service) const {
    const auto in = [&](const std::vector<std::string>& list) {
      return std::find(list.begin(), list.end(), service) != list.end();
    };
    if (in(no_attach_)) return false;
    if (!attach_.empty()) return in(attach_);
    const compose::Node* node = project.FindService(service);
    return node == nullptr || node->TextOf("attach") != "false";
  }

  // Prints what they print until all have ended, one ends that may not, or ^C.
  absl::StatusOr<int> Attach(Context& context, compose::Engine& engine,
                             const compose::Project& project,
                             const std::vector<std::string>& started) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<ObservedContainer> all,
                            Those(engine, project, started));
    std::vector<ObservedContainer> shown;
    std::vector<std::string> names;
    for (const ObservedContainer& container : all) {
      if (!Attached(project, container.service)) continue;
      shown.push_back(container);
      names.push_back(ShortName(project, container.name));
    }
    if (names.empty()) return 0;
    context.Out(absl::StrCat("Attaching to ", absl::StrJoin(names, ", "), "\n"));
    FollowOptions follow;
    follow.prefix = !no_prefix_;
    follow.color = !no_color_;
    follow.timestamps = timestamps_;
    follow.say_exits = true;
    if (watch_) return AttachAndWatch(context, engine, project, shown, follow);
    absl::Mutex mutex;
    std::optional<int> status;
    bool stopping = false;
    const auto on_exit = [&](const ObservedContainer& container, int code) {
      bool stop = false;
      {
        absl::MutexLock lock(&mutex);
        const bool ours = exit_code_from_.empty() || exit_code_from_ == container.service;
        if (!stopping && ours && (abort_ || (abort_failure_ && code != 0))) {
          stopping = stop = true;
          status = code;
        }
      }
      if (!stop) return;
      context.Err("Aborting on container exit...\n");
      for (const ObservedContainer& other : all) {
        // An error shows in the output of the container that goes on.
        if (other.id != container.id) engine.Stop(other.id, up_.timeout()).IgnoreError();
      }
    };
    GANTRY_RETURN_IF_ERROR(PrintOutput(context, engine, project, shown, follow, on_exit));
    if (Interrupts::once()) return StopAll(context, engine, project, all);
    return status.value_or(0);
  }

  // Prints the output of containers, also of those that rebuilds make, until ^C.
  absl::StatusOr<int> AttachAndWatch(Context& context, compose::Engine& engine,
                                     const compose::Project& project,
                                     const std::vector<ObservedContainer>& shown,
                                     FollowOptions follow) {
    follow.outlive_exits = true;
    absl::Mutex mutex;
    std::vector<std::thread> printers;
    const auto print = [&](const std::vector<ObservedContainer>& containers) {
      absl::MutexLock lock(&mutex);
      printers.emplace_back([&context, &engine, &project, &follow, containers] {
        const absl::Status status = PrintOutput(context, engine, project, containers, follow, {});
        if (!status.ok()) context.Complain(status);
      });
    };
    print(shown);
    WatchOptions options;
    options.on_renewed = [&](const std::vector<ObservedContainer>& renewed) {
      std::vector<ObservedContainer> attached;
      for (const ObservedContainer& one : renewed) {
        if (Attached(project, one.service)) attached.push_back(one);
      }
      if (!attached.empty()) print(attached);
    };
    const absl::Status watched =
        WatchProject(context, flags_, engine, project, options, Interrupts::once());
    if (!watched.ok()) {
      context.Complain(watched);
      while (!Interrupts::once()) absl::SleepFor(absl::Milliseconds(50));
    }
    for (std::thread& printer : printers) printer.join();
    GANTRY_ASSIGN_OR_RETURN(const std::vector<ObservedContainer> containers,
                            ContainersOf(engine, project, {}, /*all=*/false, /*one_offs=*/false,
                                         /*reversed=*/true));
    return StopAll(context, engine, project, containers);
  }

  // ^C: a stop with patience, which a second ^C cuts short.
  absl::StatusOr<int> StopAll(Context& context, compose::Engine& engine,
                              const compose::Project& project,
                              const std::vector<ObservedContainer>& containers) {
    context.Err("Gracefully stopping... (press Ctrl+C again to force)\n");
    GANTRY_ASSIGN_OR_RETURN(const ProgressBoard::Style style, flags_.ProgressStyle(context));
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "stop");
    static const std::vector<size_t> kNone;
    static const std::atomic<bool> kNever{false};
    std::atomic<size_t> left{containers.size()};
    std::thread killer([&] {
      while (left > 0 && !Interrupts::twice()) absl::SleepFor(absl::Milliseconds(50));
      if (left == 0) return;
      for (const ObservedContainer& container : containers) {
        // One that has ended meanwhile needs no kill.
        engine.Kill(container.id, "KILL").IgnoreError();
      }
    });
    const absl::Status status = compose::InOrder(
        containers.size(), 64, kNever, [](size_t) -> const std::vector<size_t>& { return kNone; },
        [&](size_t i) {
          const std::string part = absl::StrCat("Container ", containers[i].name);
          board->Update(part, "Stopping", ProgressBoard::Mark::kWorking);
          const absl::Status stopped = engine.Stop(containers[i].id, up_.timeout());
          board->Update(part, stopped.ok() ? "Stopped" : "Error",
                        stopped.ok() ? ProgressBoard::Mark::kDone : ProgressBoard::Mark::kFailed);
          --left;
          return stopped;
        });
    left = 0;
    killer.join();
    board->Finish();
    GANTRY_RETURN_IF_ERROR(status);
    return kInterrupted;
  }

  const Kind kind_;
  ProjectFlags flags_;
  UpFlags up_;
  bool scale_no_deps_ = false, detach_ = false, no_start_ = false, dry_run_ = false, wait_ = false,
       abort_ = false, abort_failure_ = false, no_color_ = false, no_prefix_ = false,
       timestamps_ = false, watch_ = false;
  std::optional<int64_t> wait_timeout_;
  std::string exit_code_from_;
  std::vector<std::string> attach_, no_attach_;
};

}  // namespace

absl::Status RunPrograms(Context& context, const ProjectFlags& flags, compose::Project& project,
                         const std::vector<std::string>& services) {
  if (!compose::NeedsPrograms(project, services)) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const ProgressBoard::Style style, flags.ProgressStyle(context));
  const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "up");
  compose::ProviderOptions options;
  options.cancelled = &Interrupts::once();
  options.info = [&](const std::string& service, const std::string& text) {
    board->Update(absl::StrCat("Service ", service), text, ProgressBoard::Mark::kWorking);
  };
  absl::Status status = compose::RunProviders(project, services, "up", options);
  if (status.ok()) status = compose::ServeModels(project, services, options);
  if (status.ok()) {
    for (const std::string& service : services) {
      if (project.FindService(service)->Find("provider") != nullptr)
        board->Update(absl::StrCat("Service ", service), "Provided", ProgressBoard::Mark::kDone);
    }
  }
  board->Finish();
  return status;
}

absl::Status ApplyQuietly(Context& context, const ProjectFlags& flags, compose::Engine& engine,
                          const compose::Project& project, const compose::Plan& plan) {
  GANTRY_ASSIGN_OR_RETURN(const ProgressBoard::Style style, flags.ProgressStyle(context));
  const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "run");
  static const std::atomic<bool> kNever{false};
  compose::ApplyOptions apply;
  apply.parallel = flags.parallel(context);
  apply.pull = [&](const compose::Step& step) { return PullOne(context, *board, project, step); };
  apply.build = [&](const compose::Step& step) { return BuildOne(context, *board, project, step); };
  return compose::Apply(project, plan, engine, *board, apply, kNever, nullptr);
}

std::vector<Verb> ComposeUpVerbs() {
  return {{.name = "up",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Create and start the containers of a project",
           .examples = "  ctl compose up -d\n"
                       "  ctl compose up --dry-run\n"
                       "  ctl compose up --wait --wait-timeout 60\n"
                       "  ctl compose up -d --rollback\n"
                       "  ctl compose up --watch\n"
                       "  ctl compose up --exit-code-from tests\n",
           .completes = "services",
           .make = [] { return std::make_unique<UpAction>(UpAction::Kind::kUp); }},
          {.name = "plan",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Show what `up` would change, and why",
           .examples = "  ctl compose plan\n",
           .completes = "services",
           .make = [] { return std::make_unique<UpAction>(UpAction::Kind::kPlan); }},
          {.name = "create",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Create the containers of a project without starting them",
           .examples = "  ctl compose create\n",
           .completes = "services",
           .make = [] { return std::make_unique<UpAction>(UpAction::Kind::kCreate); }},
          {.name = "scale",
           .arguments = "[OPTIONS] SERVICE=NUMBER...",
           .summary = "Change the number of containers of services",
           .examples = "  ctl compose scale web=3 worker=5\n",
           .min_args = 1,
           .completes = "services",
           .make = [] { return std::make_unique<UpAction>(UpAction::Kind::kScale); }}};
}

}  // namespace gantry::ctl
