#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "ctl/commands/builder.h"
#include "ctl/commands/commands.h"
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

// A Dockerfile of the compose file's own text, while a build reads it: in memory, so that a ctl
// that is killed leaves nothing behind.
class InlineDockerfile {
 public:
  absl::Status Write(const std::string& text) {
    file_.reset(::memfd_create("Dockerfile", MFD_CLOEXEC));
    if (!file_.valid()) return ErrnoToStatus(errno, "dockerfile_inline: memfd_create");
    GANTRY_RETURN_IF_ERROR(WriteAll(file_.get(), text));
    path_ = absl::StrCat("/proc/self/fd/", file_.get());
    return absl::OkStatus();
  }
  const std::string& path() const { return path_; }

 private:
  UniqueFd file_;
  std::string path_;  // "": there is none
};

// A service's `build` as the words of `ctl build`.
class BuildWords {
 public:
  BuildWords(const compose::Project& project, const std::string& service)
      : project_(project),
        service_(service),
        build_(*project.FindService(service)->Find("build")),
        action_(BuildVerb().make()) {
    action_->AddFlags(known_);
  }

  // `image` is the name of what is built. kFailedPrecondition: a key that `ctl build` has no option
  // for; names its place.
  absl::StatusOr<std::vector<std::string>> Make(const std::string& image,
                                                ProgressBoard::Style style) {
    const char* view = style == ProgressBoard::Style::kRedraw   ? "--progress=tty"
                       : style == ProgressBoard::Style::kSilent ? "--silent"
                                                                : "--progress=plain";
    words_ = {view, "-t", image};
    for (const auto& [key, value] : build_.entries) {
      if (value.is_null() || absl::StartsWith(key, "x-")) continue;
      GANTRY_RETURN_IF_ERROR(Key(key, value));
    }
    const std::string context = build_.TextOf("context");
    const std::string dockerfile = build_.TextOf("dockerfile");
    if (!inline_.path().empty()) {
      words_.insert(words_.end(), {"-f", inline_.path()});
    } else if (!dockerfile.empty()) {
      words_.insert(words_.end(), {"-f", absl::StartsWith(dockerfile, "/")
                                             ? dockerfile
                                             : absl::StrCat(context, "/", dockerfile)});
    }
    words_.push_back(context);
    return words_;
  }

 private:
  absl::Status Refused(const std::string& key, const compose::Node& value,
                       absl::string_view why) const {
    return absl::FailedPreconditionError(
        absl::StrCat(value.at.Text(), ": services.", service_, ".build.", key, ": ", why));
  }

  // --flag=text, where `ctl build` has that flag.
  absl::Status Word(const std::string& key, const compose::Node& value, absl::string_view flag,
                    const std::string& text) {
    if (known_.Find(flag) == nullptr)
      return Refused(key, value, absl::StrCat("ctl build has no --", flag));
    words_.push_back(absl::StrCat("--", flag, "=", text));
    return absl::OkStatus();
  }

  absl::Status Each(const std::string& key, const compose::Node& list, absl::string_view flag) {
    for (const compose::Node& item : list.items)
      GANTRY_RETURN_IF_ERROR(Word(key, list, flag, item.text));
    return absl::OkStatus();
  }

  absl::Status Pairs(const std::string& key, const compose::Node& map, absl::string_view flag) {
    for (const auto& [name, text] : map.entries) {
      GANTRY_RETURN_IF_ERROR(
          Word(key, map, flag, text.is_null() ? name : absl::StrCat(name, "=", text.text)));
    }
    return absl::OkStatus();
  }

  absl::Status Secrets(const std::string& key, const compose::Node& list) {
    const compose::Node* declared = project_.model.Find("secrets");
    for (const compose::Node& item : list.items) {
      const std::string source = item.TextOf("source");
      const compose::Node* secret = declared == nullptr ? nullptr : declared->Find(source);
      if (secret == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat(list.at.Text(), ": service \"", service_,
                                                       "\" refers to undefined build secret ",
                                                       source, "; declare it under secrets:"));
      }
      const std::string target = item.TextOf("target");
      const std::string file = secret->TextOf("file");
      GANTRY_RETURN_IF_ERROR(Word(
          key, list, "secret",
          absl::StrCat("id=", target.empty() ? source : target, file.empty() ? ",env=" : ",src=",
                       file.empty() ? secret->TextOf("environment") : file)));
    }
    return absl::OkStatus();
  }

  absl::Status Contexts(const std::string& key, const compose::Node& map) {
    for (const auto& [name, text] : map.entries) {
      absl::string_view other = text.text;
      const bool service = absl::ConsumePrefix(&other, "service:");
      if (service && project_.FindService(other) == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat(
            text.at.Text(), ": services.", service_, ".build.", key, ": no such service: ", other));
      }
      GANTRY_RETURN_IF_ERROR(
          Word(key, map, "build-context",
               absl::StrCat(name, "=",
                            service ? absl::StrCat("docker-image://",
                                                   compose::ImageOf(project_, std::string(other)))
                                    : text.text)));
    }
    return absl::OkStatus();
  }

  absl::Status Key(const std::string& key, const compose::Node& value) {
    if (key == "context" || key == "dockerfile") return absl::OkStatus();
    if (key == "dockerfile_inline") return inline_.Write(value.text);
    if (key == "args") return Pairs(key, value, "build-arg");
    if (key == "labels") return Pairs(key, value, "label");
    if (key == "target" || key == "network") return Word(key, value, key, value.text);
    if (key == "shm_size") return Word(key, value, "shm-size", value.text);
    if (key == "provenance" || key == "sbom")
      return value.text == "false" ? absl::OkStatus() : Word(key, value, key, value.text);
    if (key == "no_cache" || key == "pull") {
      return value.text == "true" ? Word(key, value, key == "pull" ? "pull" : "no-cache", "true")
                                  : absl::OkStatus();
    }
    if (key == "no_cache_filter") return Each(key, value, "no-cache-filter");
    if (key == "tags") return Each(key, value, "tag");
    if (key == "extra_hosts") return Each(key, value, "add-host");
    if (key == "cache_from") return Each(key, value, "cache-from");
    if (key == "cache_to") return Each(key, value, "cache-to");
    if (key == "ssh") return Each(key, value, "ssh");
    if (key == "entitlements") return Each(key, value, "allow");
    if (key == "secrets") return Secrets(key, value);
    if (key == "additional_contexts") return Contexts(key, value);
    if (key == "platforms") {
      std::vector<std::string> platforms;
      for (const compose::Node& item : value.items) platforms.push_back(item.text);
      return platforms.empty() ? absl::OkStatus()
                               : Word(key, value, "platform", absl::StrJoin(platforms, ","));
    }
    if (key == "ulimits") {
      for (const auto& [name, limit] : value.entries) {
        const std::string text = limit.is_map()
                                     ? absl::StrCat(limit.TextOf("soft"), ":", limit.TextOf("hard"))
                                     : limit.text;
        GANTRY_RETURN_IF_ERROR(Word(key, value, "ulimit", absl::StrCat(name, "=", text)));
      }
      return absl::OkStatus();
    }
    if (key == "privileged") {
      return value.text == "true" ? Refused(key, value,
                                            "builds are not privileged; use entitlements: "
                                            "[security.insecure] and RUN --security=insecure")
                                  : absl::OkStatus();
    }
    if (key == "isolation" && (value.text == "default" || value.text == "process"))
      return absl::OkStatus();
    return Refused(key, value, "not supported by ctl build");
  }

  const compose::Project& project_;
  const std::string& service_;
  const compose::Node& build_;
  const std::unique_ptr<Action> action_;
  FlagSet known_;
  InlineDockerfile inline_;
  std::vector<std::string> words_;
};

// The image's name, and those of build.tags.
std::vector<std::string> NamesOf(const compose::Project& project, const std::string& service) {
  std::vector<std::string> names = {compose::ImageOf(project, service)};
  const compose::Node* build = project.FindService(service)->Find("build");
  const compose::Node* tags = build == nullptr ? nullptr : build->Find("tags");
  if (tags == nullptr) return names;
  for (const compose::Node& tag : tags->items) names.push_back(tag.text);
  return names;
}

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
    // ^C ends ctl, and with it the pulls.
    static const std::atomic<bool> kNever{false};
    compose::Engine engine(*client, kNever);
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
    std::vector<std::string> buildable;
    const absl::Status status = compose::InOrder(
        steps.size(), flags_.parallel(context), kNever,
        [](size_t) -> const std::vector<size_t>& { return kNone; },
        [&](size_t i) {
          const absl::Status pulled = PullOne(context, *board, project, steps[i]);
          if (pulled.ok()) return pulled;
          absl::MutexLock lock(&mutex);
          if (project.FindService(steps[i].service)->Find("build") != nullptr) {
            buildable.push_back(steps[i].service);
            return absl::OkStatus();
          }
          failures.push_back(pulled);
          return absl::OkStatus();
        });
    board->Finish();
    GANTRY_RETURN_IF_ERROR(status);
    for (const absl::Status& failure : failures) context.Complain(failure);
    if (!buildable.empty()) {
      context.Err(
          absl::StrCat("WARN Some service image(s) must be built from source by running:\n"
                       "    ctl compose build ",
                       absl::StrJoin(buildable, " "), "\n"));
    }
    return failures.empty() || ignore_failures_ ? 0 : 1;
  }

 private:
  ProjectFlags flags_;
  bool deps_ = false, ignore_failures_ = false, ignore_buildable_ = false, quiet_ = false;
  std::string policy_;
};

// Options of `build`, put into the project before it is built.
class BuildServicesAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&no_cache_, "no-cache", 0, "Do not use the build cache");
    flags.Bool(&pull_, "pull", 0, "Ask the registries for newer base images");
    flags.Bool(&push_, "push", 0, "Push the images afterwards");
    flags.Bool(&quiet_, "quiet", 'q', "No progress");
    flags.Bool(&deps_, "with-dependencies", 0, "Also the services they depend on");
    flags.Strings(&arguments_, "build-arg", 0, "NAME=VALUE", "Value of a variable of ARG");
    flags.Strings(&ssh_, "ssh", 0, "id[=path]", "SSH agent or keys for the builds");
    flags.String(&memory_, "memory", 'm', "bytes", "Accepted, and ignored as by docker compose")
        .hidden = true;
    flags.String(&builder_, "builder", 0, "name", "Accepted: there is one builder").hidden = true;
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(compose::Project project, flags_.Load(context, args));
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> services,
                            compose::InDependencyOrder(project, args, !deps_ && !args.empty()));
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> order,
                            compose::InBuildOrder(project, services));
    GANTRY_ASSIGN_OR_RETURN(ProgressBoard::Style style, flags_.ProgressStyle(context));
    if (quiet_) style = ProgressBoard::Style::kSilent;
    std::vector<compose::Step> steps;
    for (const std::string& service : order) {
      compose::Node& node = *project.model.Find("services")->Find(service);
      compose::Node* build = node.Find("build");
      if (build == nullptr) continue;
      Change(*build);
      compose::Step step;
      step.service = service;
      step.object = compose::ImageOf(project, service);
      steps.push_back(std::move(step));
    }
    if (steps.empty()) {
      context.Err("WARN no service to build\n");
      return 0;
    }
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context, style, "build");
    for (const compose::Step& step : steps)
      GANTRY_RETURN_IF_ERROR(BuildOne(context, *board, project, step));
    board->Finish();
    for (const compose::Step& step : steps) {
      if (!push_) break;
      for (const std::string& name : NamesOf(project, step.service)) {
        GANTRY_ASSIGN_OR_RETURN(const int status, RunVerbWith(context, PushVerb(), {name}));
        if (status != 0) return status;
      }
    }
    return 0;
  }

 private:
  void Change(compose::Node& build) const {
    if (no_cache_) build.Set("no_cache", compose::Node::Bool(true));
    if (pull_) build.Set("pull", compose::Node::Bool(true));
    for (const std::string& text : arguments_) {
      compose::Node* all = build.Find("args");
      if (all == nullptr) all = &build.Set("args", compose::Node::Map());
      const size_t equals = text.find('=');
      all->Set(text.substr(0, equals), equals == std::string::npos
                                           ? compose::Node::Null()
                                           : compose::Node::String(text.substr(equals + 1)));
    }
    for (const std::string& id : ssh_) {
      compose::Node* all = build.Find("ssh");
      if (all == nullptr) all = &build.Set("ssh", compose::Node::List());
      all->Append(compose::Node::String(id));
    }
  }

  ProjectFlags flags_;
  bool no_cache_ = false, pull_ = false, push_ = false, quiet_ = false, deps_ = false;
  std::vector<std::string> arguments_, ssh_;
  std::string memory_, builder_;
};

class PushAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&deps_, "include-deps", 0, "Also of the services they depend on");
    flags.Bool(&ignore_failures_, "ignore-push-failures", 0, "Go on with the others");
    flags.Bool(&quiet_, "quiet", 'q', "No progress");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.Load(context, args));
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> services,
                            compose::InDependencyOrder(project, args, !deps_ && !args.empty()));
    int result = 0;
    for (const std::string& service : services) {
      const compose::Node& node = *project.FindService(service);
      if (node.Find("build") == nullptr) continue;
      if (node.TextOf("image").empty()) {
        context.Err(
            absl::StrCat("WARN service ", service, " has no image: to push to, and is left out\n"));
        continue;
      }
      for (const std::string& name : NamesOf(project, service)) {
        std::vector<std::string> words = {name};
        if (quiet_) words.insert(words.begin(), "--quiet");
        const absl::StatusOr<int> status = RunVerbWith(context, PushVerb(), words);
        if (!status.ok() && !ignore_failures_) return status.status();
        if (!status.ok()) context.Complain(status.status());
        if (status.ok() && *status != 0 && !ignore_failures_) result = *status;
      }
    }
    return result;
  }

 private:
  ProjectFlags flags_;
  bool deps_ = false, ignore_failures_ = false, quiet_ = false;
};

// `export` and `commit`: the verbs of one container, for the container of a service.
class ContainerVerbAction final : public Action {
 public:
  explicit ContainerVerbAction(bool commit) : commit_(commit) {}

  void AddFlags(FlagSet& flags) override {
    flags.Int(&index_, "index", 0, "Number of the container");
    if (!commit_) {
      flags.String(&output_, "output", 'o', "file", "Write it there").completes = "files";
      return;
    }
    flags.String(&author_, "author", 'a', "name", "Author of the image");
    flags.String(&message_, "message", 'm', "text", "Message of the commit");
    flags.Strings(&changes_, "change", 'c', "instruction", "Dockerfile instruction to apply");
    pause_ = true;
    flags.Bool(&pause_, "pause", 'p', "Pause the container meanwhile (default true)");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.LoadOrName(context, {args[0]}));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    static const std::atomic<bool> kNever{false};
    compose::Engine engine(*client, kNever);
    GANTRY_ASSIGN_OR_RETURN(const ObservedContainer container,
                            ContainerNumbered(engine, project, args[0], index_, /*running=*/false));
    std::vector<std::string> words;
    if (!output_.empty()) words.push_back(absl::StrCat("--output=", output_));
    if (!author_.empty()) words.push_back(absl::StrCat("--author=", author_));
    if (!message_.empty()) words.push_back(absl::StrCat("--message=", message_));
    for (const std::string& change : changes_) words.push_back(absl::StrCat("--change=", change));
    if (commit_ && !pause_) words.push_back("--pause=false");
    words.push_back(container.id);
    words.insert(words.end(), args.begin() + 1, args.end());
    return RunVerbWith(context, commit_ ? CommitVerb() : ExportVerb(), words);
  }

 private:
  const bool commit_;
  ProjectFlags flags_;
  int64_t index_ = 0;
  std::string output_, author_, message_;
  std::vector<std::string> changes_;
  bool pause_ = true;
};

}  // namespace

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

absl::Status BuildOne(Context& context, ProgressBoard& board, const compose::Project& project,
                      const compose::Step& step, bool quiet) {
  const std::string part = absl::StrCat("Image ", step.object);
  const ProgressBoard::Style style = quiet ? ProgressBoard::Style::kSilent : board.style();
  BuildWords build(project, step.service);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> words, build.Make(step.object, style));
  board.Update(part, "Building", ProgressBoard::Mark::kWorking);
  // On a terminal each build draws itself, so that there is one at a time.
  static absl::Mutex terminal(absl::kConstInit);
  const bool draws = style == ProgressBoard::Style::kRedraw;
  const absl::StatusOr<int> status = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (!draws) return RunVerbWith(context, BuildVerb(), words);
    absl::MutexLock lock(&terminal);
    board.Leave();
    absl::StatusOr<int> built = RunVerbWith(context, BuildVerb(), words);
    board.Return();
    return built;
  }();
  const bool built = status.ok() && *status == 0;
  board.Update(part, built ? "Built" : "Error",
               built ? ProgressBoard::Mark::kDone : ProgressBoard::Mark::kFailed);
  if (!status.ok()) return status.status();
  if (built) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("service ", step.service, ": image ", step.object, " was not built"));
}

std::vector<Verb> ComposeImageVerbs() {
  return {{.name = "build",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Build the images of services",
           .examples = "  ctl compose build --pull web\n"
                       "  ctl compose build --build-arg VERSION=2\n",
           .completes = "services",
           .make = [] { return std::make_unique<BuildServicesAction>(); }},
          {.name = "pull",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Fetch the images of a project",
           .examples = "  ctl compose pull --policy missing\n",
           .completes = "services",
           .make = [] { return std::make_unique<PullAction>(); }},
          {.name = "push",
           .arguments = "[OPTIONS] [SERVICE...]",
           .summary = "Push the images of services that are built",
           .examples = "  ctl compose push web\n",
           .completes = "services",
           .make = [] { return std::make_unique<PushAction>(); }},
          {.name = "export",
           .arguments = "[OPTIONS] SERVICE",
           .summary = "Write the files of a service's container as a tar",
           .examples = "  ctl compose export -o web.tar web\n",
           .min_args = 1,
           .max_args = 1,
           .completes = "services",
           .make = [] { return std::make_unique<ContainerVerbAction>(/*commit=*/false); }},
          {.name = "commit",
           .arguments = "[OPTIONS] SERVICE [REPOSITORY[:TAG]]",
           .summary = "Make an image of a service's container",
           .examples = "  ctl compose commit web web:debug\n",
           .min_args = 1,
           .max_args = 2,
           .completes = "services",
           .make = [] { return std::make_unique<ContainerVerbAction>(/*commit=*/true); }}};
}

}  // namespace gantry::ctl
