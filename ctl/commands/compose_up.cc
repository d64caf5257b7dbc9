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
#include "ctl/commands/builder.h"
#include "ctl/commands/compose.h"
#include "ctl/commands/transfer.h"
#include "ctl/compose/apply.h"
#include "ctl/compose/plan.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"

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
  GANTRY_ASSIGN_OR_RETURN(const compose::Observed observed, engine.Observe(project, services));
  return compose::PlanUp(project, observed, options);
}

// Fetches one image; the board shows its layers as one line.
absl::Status PullOne(Context& context, ProgressBoard& board, const compose::Project& project,
                     const compose::Step& step) {
  const std::string part = absl::StrCat("Image ", step.object);
  board.Update(part, "Pulling", ProgressBoard::Mark::kWorking);
  ProgressView silent(
      ProgressView::Style::kSilent, [](absl::string_view) {}, [] { return absl::Now(); });
  const compose::Node* service = project.FindService(step.service);
  const absl::Status status = PullImage(context, step.object, service->TextOf("platform"), false,
                                        silent, [](const v1::PulledImage&) {});
  board.Update(part, status.ok() ? "Pulled" : "Error",
               status.ok() ? ProgressBoard::Mark::kDone : ProgressBoard::Mark::kFailed);
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("service ", step.service, ": image ", step.object,
                                                  ": ", status.message()));
}

// The words of `ctl build` for a service. kFailedPrecondition: a key that it has no option for.
absl::StatusOr<std::vector<std::string>> BuildWords(const compose::Project& project,
                                                    const compose::Step& step) {
  const compose::Node& build = *project.FindService(step.service)->Find("build");
  std::vector<std::string> words = {"--progress=plain", "-t", step.object};
  std::string dockerfile;
  for (const auto& [key, value] : build.entries) {
    if (key == "context" || value.is_null() || absl::StartsWith(key, "x-")) continue;
    if (key == "dockerfile") {
      dockerfile = value.text;
    } else if (key == "args" || key == "labels") {
      for (const auto& [name, text] : value.entries) {
        words.push_back(absl::StrCat(key == "args" ? "--build-arg=" : "--label=", name,
                                     text.is_null() ? "" : absl::StrCat("=", text.text)));
      }
    } else if (key == "target" || key == "network" || key == "shm_size") {
      words.push_back(absl::StrCat("--", key == "shm_size" ? "shm-size" : key, "=", value.text));
    } else if (key == "no_cache" || key == "pull") {
      if (value.text == "true") words.push_back(key == "pull" ? "--pull" : "--no-cache");
    } else if (key == "tags") {
      for (const compose::Node& tag : value.items) words.insert(words.end(), {"-t", tag.text});
    } else if (key == "extra_hosts") {
      for (const compose::Node& host : value.items)
        words.push_back(absl::StrCat("--add-host=", host.text));
    } else {
      return absl::FailedPreconditionError(absl::StrCat(value.at.Text(), ": services.",
                                                        step.service, ".build.", key,
                                                        ": not supported by ctl compose"));
    }
  }
  const std::string context = build.TextOf("context");
  if (!dockerfile.empty()) {
    words.insert(words.end(), {"-f", absl::StartsWith(dockerfile, "/")
                                         ? dockerfile
                                         : absl::StrCat(context, "/", dockerfile)});
  }
  words.push_back(context);
  return words;
}

absl::Status BuildOne(Context& context, ProgressBoard& board, const compose::Project& project,
                      const compose::Step& step) {
  const std::string part = absl::StrCat("Image ", step.object);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> words, BuildWords(project, step));
  board.Update(part, "Building", ProgressBoard::Mark::kWorking);
  const absl::StatusOr<int> status = RunVerbWith(context, BuildVerb(), words);
  const bool built = status.ok() && *status == 0;
  board.Update(part, built ? "Built" : "Error",
               built ? ProgressBoard::Mark::kDone : ProgressBoard::Mark::kFailed);
  if (!status.ok()) return status.status();
  if (built) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("service ", step.service, ": image ", step.object, " was not built"));
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
    flags.String(&exit_code_from_, "exit-code-from", 0, "service",
                 "Stop all when it ends, and end with its status");
    flags.Strings(&attach_, "attach", 0, "service", "Print the output of these only");
    flags.Strings(&no_attach_, "no-attach", 0, "service", "Do not print the output of these");
    flags.Bool(&no_color_, "no-color", 0, "Without colours");
    flags.Bool(&no_prefix_, "no-log-prefix", 0, "Without the names before lines");
    flags.Bool(&timestamps_, "timestamps", 0, "With the time of each line");
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
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.Load(context, services));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Interrupts interrupts;
    compose::Engine engine(*client, Interrupts::once());
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
       timestamps_ = false;
  std::optional<int64_t> wait_timeout_;
  std::string exit_code_from_;
  std::vector<std::string> attach_, no_attach_;
};

class PullAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&deps_, "include-deps", 0, "Also of the services they depend on");
    flags.Bool(&ignore_failures_, "ignore-pull-failures", 0, "Go on with those that can be had");
    flags.Bool(&ignore_buildable_, "ignore-buildable", 0, "Leave out what can be built");
    flags.String(&policy_, "policy", 0, "when", "missing or always");
    flags.Bool(&quiet_, "quiet", 'q', "No progress");
  }
  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.Load(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    Interrupts interrupts;
    compose::Engine engine(*client, Interrupts::once());
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> services,
                            compose::InDependencyOrder(project, args, !deps_ && !args.empty()));
    std::vector<compose::Step> steps;
    for (const std::string& service : services) {
      const compose::Node& node = *project.FindService(service);
      const bool builds = node.Find("build") != nullptr;
      if (node.TextOf("image").empty() || (builds && ignore_buildable_)) continue;
      compose::Step step;
      step.object = node.TextOf("image");
      step.service = service;
      const bool known = std::any_of(steps.begin(), steps.end(), [&](const compose::Step& one) {
        return one.object == step.object;
      });
      if (known) continue;
      if (policy_ == "missing" && engine.ImageDigest(step.object).ok()) continue;
      steps.push_back(std::move(step));
    }
    GANTRY_ASSIGN_OR_RETURN(ProgressBoard::Style style, flags_.ProgressStyle(context));
    if (quiet_) style = ProgressBoard::Style::kSilent;
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "pull");
    static const std::vector<size_t> kNone;
    absl::Mutex mutex;
    std::vector<absl::Status> failures;
    const absl::Status status = compose::InOrder(
        steps.size(), flags_.parallel(context), Interrupts::once(),
        [](size_t) -> const std::vector<size_t>& { return kNone; },
        [&](size_t i) {
          const absl::Status pulled = PullOne(context, *board, project, steps[i]);
          if (pulled.ok()) return pulled;
          absl::MutexLock lock(&mutex);
          failures.push_back(pulled);
          return absl::OkStatus();
        });
    board->Finish();
    GANTRY_RETURN_IF_ERROR(status);
    for (const absl::Status& failure : failures) context.Complain(failure);
    return failures.empty() || ignore_failures_ ? 0 : 1;
  }

 private:
  ProjectFlags flags_;
  bool deps_ = false, ignore_failures_ = false, ignore_buildable_ = false, quiet_ = false;
  std::string policy_;
};

}  // namespace

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
                       "  ctl compose up --exit-code-from tests\n",
           .make = [] { return std::make_unique<UpAction>(UpAction::Kind::kUp); }},
          {.name = "plan",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Show what `up` would change, and why",
           .examples = "  ctl compose plan\n",
           .make = [] { return std::make_unique<UpAction>(UpAction::Kind::kPlan); }},
          {.name = "create",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Create the containers of a project without starting them",
           .examples = "  ctl compose create\n",
           .make = [] { return std::make_unique<UpAction>(UpAction::Kind::kCreate); }},
          {.name = "scale",
           .arguments = "[OPTIONS] SERVICE=NUMBER...",
           .summary = "Change the number of containers of services",
           .examples = "  ctl compose scale web=3 worker=5\n",
           .min_args = 1,
           .make = [] { return std::make_unique<UpAction>(UpAction::Kind::kScale); }},
          {.name = "pull",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Fetch the images of a project",
           .examples = "  ctl compose pull --policy missing\n",
           .make = [] { return std::make_unique<PullAction>(); }}};
}

}  // namespace gantry::ctl
