#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
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
  for (const char* known : {"", "always", "missing", "never", "if_not_present", "policy"}) {
    if (pull == known) return absl::OkStatus();
  }
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
    flags.Bool(&quiet_build_, "quiet-build", 0, "No progress of builds");
    if (starts) {
      flags.Bool(&options_.rollback, "rollback", 0,
                 "Go back to a service's old containers when the new ones do not become ready");
    }
    flags.Bool(&yes_, "yes", 'y', "Accepted: nothing is asked");
    if (!starts) return;
    flags.Bool(&options_.recreate_deps, "always-recreate-deps", 0,
               "Make containers of the services they depend on anew");
    flags.Bool(&options_.no_deps, "no-deps", 0, "Without the services they depend on");
    flags.Bool(&renew_, "renew-anon-volumes", 'V', "New anonymous volumes");
    flags.OptionalInt(&timeout_, "timeout", 't', "Seconds to stop before a kill");
  }

  absl::StatusOr<compose::UpOptions> Make(const std::vector<std::string>& services) {
    compose::UpOptions out = options_;
    out.services = services;
    GANTRY_RETURN_IF_ERROR(CheckPull(out.pull));
    if (out.pull == "missing" || out.pull == "if_not_present" || out.pull == "policy")
      out.pull.clear();
    if ((out.force_recreate || out.recreate_deps) && out.no_recreate) {
      return absl::InvalidArgumentError(
          absl::StrCat(out.force_recreate ? "--force-recreate" : "--always-recreate-deps",
                       " and --no-recreate exclude each other"));
    }
    if (out.build && out.no_build)
      return absl::InvalidArgumentError("--build and --no-build exclude each other");
    GANTRY_RETURN_IF_ERROR(ParseScale(scale_, &out.scale));
    return out;
  }

  std::optional<int> timeout() const {
    return timeout_.has_value() ? std::optional<int>(static_cast<int>(*timeout_)) : std::nullopt;
  }
  bool renew() const { return renew_; }
  bool quiet_build() const { return quiet_build_; }

 private:
  compose::UpOptions options_;
  std::vector<std::string> scale_;
  std::optional<int64_t> timeout_;
  bool quiet_pull_ = false, quiet_build_ = false, renew_ = false, yes_ = false;
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
    flags.Bool(&attach_dependencies_, "attach-dependencies", 0,
               "Print the output of the services they depend on, too");
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
      GANTRY_ASSIGN_OR_RETURN(options, up_.Make(services));
    }
    options.start = kind_ != Kind::kCreate && !no_start_;
    if (!exit_code_from_.empty()) abort_ = true;
    if ((detach_ || wait_) &&
        (abort_ || abort_failure_ || attach_dependencies_ || !attach_.empty())) {
      return absl::InvalidArgumentError(
          "--abort-on-container-exit, --abort-on-container-failure, --exit-code-from, --attach and "
          "--attach-dependencies need the output attached; leave -d and --wait out");
    }
    if (watch_ && (detach_ || wait_ || no_start_ || abort_ || abort_failure_)) {
      return absl::InvalidArgumentError(
          "--watch needs the output attached; leave -d, --wait, --no-start and --abort-on-... out, "
          "or use `ctl compose watch`");
    }
    GANTRY_ASSIGN_OR_RETURN(compose::Project project, flags_.Load(context, services));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    GANTRY_RETURN_IF_ERROR(CheckNames(project, options));
    options.remove_orphans |= SettingIsOn(context, project, "COMPOSE_REMOVE_ORPHANS");
    options.ignore_orphans = SettingIsOn(context, project, "COMPOSE_IGNORE_ORPHANS");
    options.rollback |= SettingIsOn(context, project, "COMPOSE_ROLLBACK");
    const bool attached = kind_ == Kind::kUp && !detach_ && !wait_ && !no_start_ && !dry_run_;
    std::optional<Interrupts> interrupts(std::in_place);
    compose::Engine engine(*client, attached ? cancelled_ : Interrupts::once());
    if (kind_ != Kind::kPlan && !dry_run_) {
      GANTRY_ASSIGN_OR_RETURN(
          const std::vector<std::string> needed,
          compose::InDependencyOrder(project, options.services, options.no_deps));
      GANTRY_RETURN_IF_ERROR(RunPrograms(context, flags_, project, needed));
    }
    GANTRY_ASSIGN_OR_RETURN(compose::Plan plan, MakePlan(engine, project, options));
    for (const std::string& warning : plan.warnings)
      context.Err(absl::StrCat("WARN ", warning, "\n"));
    if (kind_ == Kind::kPlan || dry_run_) {
      PrintPlan(context, plan);
      return 0;
    }
    if (const compose::Plan images = plan.OnlyImages(); !images.steps.empty()) {
      // Nothing of the project has changed yet: ^C ends ctl, and with it pulls and builds.
      interrupts.reset();
      GANTRY_RETURN_IF_ERROR(Do(context, engine, project, images, nullptr, nullptr));
      interrupts.emplace();
      options.images_done = true;
      GANTRY_ASSIGN_OR_RETURN(plan, MakePlan(engine, project, options));
    }
    if (attached) return UpAttached(context, engine, project, plan, services);
    std::vector<std::string> started;
    const absl::Status done = Do(context, engine, project, plan, &started, nullptr);
    if (Interrupts::once()) return Interrupted(context, done);
    GANTRY_RETURN_IF_ERROR(done);
    if (!wait_) return 0;
    const absl::Status ready = Wait(engine, project, started);
    if (Interrupts::once()) return Interrupted(context, ready);
    GANTRY_RETURN_IF_ERROR(ready);
    return 0;
  }

 private:
  static void PrintPlan(Context& context, const compose::Plan& plan) {
    for (const compose::Step& step : plan.steps)
      context.Out(absl::StrCat(compose::DescribeStep(step), "\n"));
    if (!plan.Changes()) context.Out("nothing to change\n");
  }

  // The end of a command that ^C has ended: what an update that went back says is of use.
  static int Interrupted(Context& context, const absl::Status& status) {
    if (!status.ok() && status.message() != "interrupted") context.Complain(status);
    return kInterrupted;
  }

  // Services that options name are among those that this command brings up.
  absl::Status CheckNames(const compose::Project& project,
                          const compose::UpOptions& options) const {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> all,
                            compose::InDependencyOrder(project, options.services, options.no_deps));
    const auto known = [&](const std::string& name) {
      return std::find(all.begin(), all.end(), name) != all.end();
    };
    if (!exit_code_from_.empty() && !known(exit_code_from_)) {
      return absl::NotFoundError(
          absl::StrCat("--exit-code-from: no such service: ", exit_code_from_));
    }
    for (const std::string& name : attach_) {
      if (!known(name)) {
        return absl::NotFoundError(
            absl::StrCat("--attach: service ", name, " is not one that this command brings up"));
      }
    }
    return absl::OkStatus();
  }

  // `attach`: called between the making of containers and their start, when the board is done.
  absl::Status Do(Context& context, compose::Engine& engine, const compose::Project& project,
                  const compose::Plan& plan, std::vector<std::string>* started,
                  const std::function<absl::Status(const std::vector<std::string>&)>& attach) {
    GANTRY_ASSIGN_OR_RETURN(const ProgressBoard::Style style, flags_.ProgressStyle(context));
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "up");
    compose::ApplyOptions apply;
    apply.parallel = flags_.parallel(context);
    apply.timeout_seconds = up_.timeout();
    apply.renew_anonymous_volumes = up_.renew();
    apply.pull = [&](const compose::Step& step) { return PullOne(context, *board, project, step); };
    apply.build = [&](const compose::Step& step) {
      return BuildOne(context, *board, project, step, up_.quiet_build());
    };
    if (attach) {
      apply.before_starts = [&](const std::vector<std::string>& ids) {
        board->Finish();
        return attach(ids);
      };
    }
    const absl::Status status = compose::Apply(project, plan, engine, *board, apply,
                                               attach ? cancelled_ : Interrupts::once(), started);
    board->Finish();
    return status;
  }

  absl::Status Wait(compose::Engine& engine, const compose::Project& project,
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
    return absl::OkStatus();
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

  // Whether the output of a service is printed. `named`: the services of the command line.
  bool Attached(const compose::Project& project, const std::vector<std::string>& named,
                const std::string& service) const {
    const auto in = [&](const std::vector<std::string>& list) {
      return std::find(list.begin(), list.end(), service) != list.end();
    };
    if (in(no_attach_)) return false;
    if (!attach_.empty()) return in(attach_);
    if (!named.empty() && !attach_dependencies_ && !in(named)) return false;
    const compose::Node* node = project.FindService(service);
    return node == nullptr || node->TextOf("attach") != "false";
  }

  // Brings up and prints what the containers print, from the start of the first, until all have
  // ended, one ends that may not, or ^C.
  absl::StatusOr<int> UpAttached(Context& context, compose::Engine& engine,
                                 const compose::Project& project, const compose::Plan& plan,
                                 const std::vector<std::string>& services) {
    FollowOptions follow;
    follow.prefix = !no_prefix_;
    follow.color = !no_color_ && flags_.Colors(context);
    follow.timestamps = timestamps_;
    follow.say_exits = follow.errors_apart = follow.new_only = true;
    follow.outlive_exits = watch_;
    absl::Mutex mutex;
    std::optional<int> code;
    std::atomic<bool> aborting{false};
    OutputPrinter printer(
        context, engine, project, follow, [&](const ObservedContainer& container, int status) {
          const bool counts = exit_code_from_.empty() || exit_code_from_ == container.service;
          if (!counts || !(abort_ || (abort_failure_ && status != 0))) return;
          absl::MutexLock lock(&mutex);
          if (!code.has_value()) code = status;
          aborting = true;
        });
    const auto enough = [&aborting] { return Interrupts::once() || aborting; };

    // Either ends the waits of what is under way.
    absl::Notification done;
    std::thread relay([&] {
      while (!done.WaitForNotificationWithTimeout(absl::Milliseconds(20))) {
        if (enough()) cancelled_ = true;
      }
    });
    const absl::Cleanup join = [&] {
      done.Notify();
      relay.join();
    };
    bool shows = false;
    std::set<std::string> followed;
    const auto attach = [&](const std::vector<ObservedContainer>& containers) {
      std::vector<std::string> names;
      for (const ObservedContainer& container : containers) {
        if (!Attached(project, services, container.service)) continue;
        names.push_back(ShortName(project, container.name));
        printer.Announce(container);
      }
      if (!names.empty() && !shows)
        context.Out(absl::StrCat("Attaching to ", absl::StrJoin(names, ", "), "\n"));
      shows |= !names.empty();
      for (const ObservedContainer& container : containers) {
        if (!followed.insert(container.id).second) continue;
        const bool shown = Attached(project, services, container.service);
        // An end that ends all is waited for in any case.
        if (shown || abort_ || abort_failure_) printer.Add(container, shown);
      }
    };
    std::vector<std::string> started;
    const absl::Status up =
        Do(context, engine, project, plan, &started, [&](const std::vector<std::string>& ids) {
          GANTRY_ASSIGN_OR_RETURN(const std::vector<ObservedContainer> made,
                                  Those(engine, project, ids));
          attach(made);
          return absl::OkStatus();
        });
    if (!up.ok() && !enough()) {
      // The last words of what has failed are on their way.
      const absl::Time limit = absl::Now() + absl::Milliseconds(300);
      // That it has failed says more than that its output could not be read.
      printer.Wait([limit] { return absl::Now() > limit; }).IgnoreError();
      return up;
    }
    absl::Status printed;
    if (up.ok() && !enough()) {
      // Updates have made containers, too.
      GANTRY_ASSIGN_OR_RETURN(const std::vector<ObservedContainer> all,
                              Those(engine, project, started));
      attach(all);
      if (watch_) {
        printed = Watch(context, engine, project, services, printer);
      } else if (shows) {
        printed = printer.Wait(enough);
      }
    }
    if (!enough()) {
      GANTRY_RETURN_IF_ERROR(printed);
      return 0;
    }
    const bool interrupted = Interrupts::once();
    context.Err(interrupted ? "Gracefully stopping... (press Ctrl+C again to force)\n"
                            : "Aborting on container exit...\n");
    GANTRY_ASSIGN_OR_RETURN(
        const std::vector<ObservedContainer> running,
        ContainersOf(engine, project, interrupted ? services : std::vector<std::string>(),
                     /*all=*/false, /*one_offs=*/false, /*reversed=*/true));
    GANTRY_RETURN_IF_ERROR(StopAll(context, engine, project, running));
    const absl::Time limit = absl::Now() + absl::Seconds(2);
    // What is printed now is the end of containers that were stopped.
    printer.Wait([limit] { return absl::Now() > limit; }).IgnoreError();
    if (interrupted) return Interrupted(context, up);
    absl::MutexLock lock(&mutex);
    return code.value_or(0);
  }

  // Follows the files until ^C. What rebuilds make is printed, too.
  absl::Status Watch(Context& context, compose::Engine& engine, const compose::Project& project,
                     const std::vector<std::string>& services, OutputPrinter& printer) {
    WatchOptions options;
    options.on_renewed = [&](const std::vector<ObservedContainer>& renewed) {
      for (const ObservedContainer& one : renewed) {
        if (Attached(project, services, one.service)) printer.Add(one);
      }
    };
    const absl::Status watched =
        WatchProject(context, flags_, engine, project, options, Interrupts::once());
    if (!watched.ok()) {
      context.Complain(watched);
      while (!Interrupts::once()) absl::SleepFor(absl::Milliseconds(50));
    }
    return absl::OkStatus();
  }

  // A stop with patience, which another ^C cuts short. A line for each change, because the
  // containers go on printing.
  absl::Status StopAll(Context& context, compose::Engine& engine, const compose::Project& project,
                       const std::vector<ObservedContainer>& containers) {
    GANTRY_ASSIGN_OR_RETURN(ProgressBoard::Style style, flags_.ProgressStyle(context));
    if (style == ProgressBoard::Style::kRedraw) style = ProgressBoard::Style::kLines;
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "stop");
    const bool interrupted = Interrupts::once();
    absl::Notification stopped;
    std::thread killer([&] {
      const auto impatient = [&] {
        return interrupted ? Interrupts::twice().load() : Interrupts::once().load();
      };
      while (!impatient()) {
        if (stopped.WaitForNotificationWithTimeout(absl::Milliseconds(50))) return;
      }
      for (const ObservedContainer& container : containers) {
        // One that has ended meanwhile needs no kill.
        engine.Kill(container.id, "KILL").IgnoreError();
      }
    });
    const absl::Status status = StopContainers(*board, project, engine, containers, up_.timeout());
    stopped.Notify();
    killer.join();
    board->Finish();
    return status;
  }

  const Kind kind_;
  ProjectFlags flags_;
  UpFlags up_;
  bool scale_no_deps_ = false, detach_ = false, no_start_ = false, dry_run_ = false, wait_ = false,
       abort_ = false, abort_failure_ = false, no_color_ = false, no_prefix_ = false,
       timestamps_ = false, watch_ = false, attach_dependencies_ = false;
  std::atomic<bool> cancelled_{false};  // of an attached up: by ^C, or by the end of a container
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
                          const compose::Project& project, const compose::Plan& plan, bool lines) {
  GANTRY_ASSIGN_OR_RETURN(ProgressBoard::Style style, flags.ProgressStyle(context));
  if (lines && style == ProgressBoard::Style::kRedraw) style = ProgressBoard::Style::kLines;
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
