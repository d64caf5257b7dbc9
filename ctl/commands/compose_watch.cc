#include "ctl/commands/compose_watch.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "ctl/compose/file_watcher.h"
#include "ctl/compose/plan.h"
#include "ctl/compose/watch_rules.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::ctl {
namespace {

using compose::ObservedContainer;
using compose::ProgressBoard;
using compose::WatchRule;
using compose::WatchWork;

constexpr size_t kMaxFileBytes = 1u << 30;
constexpr absl::Duration kQuiet = absl::Milliseconds(150);
constexpr absl::Duration kLook = absl::Milliseconds(300);  // between two looks at `stopped`

class ProjectWatch {
 public:
  ProjectWatch(Context& context, const ProjectFlags& flags, compose::Engine& engine,
               const compose::Project& project, const WatchOptions& options)
      : context_(context), flags_(flags), engine_(engine), project_(project), options_(options) {}

  absl::Status Run(const std::atomic<bool>& stopped) {
    GANTRY_ASSIGN_OR_RETURN(
        rules_, compose::WatchRulesOf(project_, options_.services, [](const std::string& path) {
          return ReadFile(path, 4 << 20);
        }));
    compose::FileWatcher watcher([this](const std::string& folder) { return Skipped(folder); });
    std::set<std::string> roots;
    for (const WatchRule& rule : rules_) {
      if (roots.insert(rule.path).second) GANTRY_RETURN_IF_ERROR(watcher.Add(rule.path));
    }
    for (const WatchRule& rule : rules_) {
      if (rule.initial_sync) SyncWhole(rule);
    }
    Say("Watch enabled");
    while (!stopped) {
      GANTRY_ASSIGN_OR_RETURN(const std::set<std::string> changed, watcher.Next(kLook, kQuiet));
      if (!changed.empty()) Handle(compose::WorkFor(rules_, changed));
    }
    return absl::OkStatus();
  }

 private:
  void Say(const std::string& line) {
    if (!options_.quiet) context_.Err(absl::StrCat("\u29bf ", line, "\n"));
  }

  void Fail(const std::string& service, const absl::Status& status) {
    if (absl::IsCancelled(status)) return;
    context_.Err(absl::StrCat("\u29bf Error handling changes for service \"", service,
                              "\": ", status.message(), "\n"));
  }

  // A folder that no rule takes anything of.
  bool Skipped(const std::string& folder) const {
    return std::none_of(rules_.begin(), rules_.end(), [&](const WatchRule& rule) {
      if (rule.path == folder) return true;
      const std::string prefix = rule.path == "/" ? "/" : rule.path + "/";
      if (folder.compare(0, prefix.size(), prefix) != 0) return false;
      const std::string below = folder.substr(prefix.size());
      return !rule.ignored.Ignores(below) || rule.ignored.MayContainTaken(below);
    });
  }

  void Handle(const WatchWork& work) {
    for (const std::string& service : work.rebuilds) {
      Say(absl::StrCat("Rebuilding service \"", service, "\" after ", work.changes.at(service),
                       " changes were detected..."));
      const absl::Status status = Rebuild(service);
      if (!status.ok()) {
        Fail(service, status);
      } else {
        Say(absl::StrCat("Service \"", service, "\" successfully built"));
      }
    }
    std::set<std::string> failed;
    for (const auto& [service, syncs] : work.syncs) {
      Say(absl::StrCat("Syncing service \"", service, "\" after ", work.changes.at(service),
                       " changes were detected"));
      const absl::Status status = Sync(service, syncs);
      if (status.ok()) continue;
      Fail(service, status);
      failed.insert(service);
    }
    for (const auto& [service, exec] : work.execs) {
      if (failed.count(service) > 0) continue;
      const absl::Status status = ForContainers(service, [&](const ObservedContainer& container) {
        return engine_.RunHook(*exec, absl::StrCat("services.", service, ".develop.watch"),
                               container.id);
      });
      if (!status.ok()) Fail(service, status);
    }
    for (const std::string& service : work.restarts) {
      if (failed.count(service) > 0) continue;
      const absl::Status status = ForContainers(service, [&](const ObservedContainer& container) {
        return engine_.Restart(container.id, std::nullopt);
      });
      if (!status.ok()) {
        Fail(service, status);
      } else {
        Say(absl::StrCat("Service \"", service, "\" restarted"));
      }
    }
  }

  template <typename Work>
  absl::Status ForContainers(const std::string& service, Work work) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<ObservedContainer> containers,
                            ContainersOf(engine_, project_, {service}, /*all=*/false,
                                         /*one_offs=*/false, /*reversed=*/false));
    for (const ObservedContainer& container : containers) {
      if (container.state != compose::State::kRunning) continue;
      GANTRY_RETURN_IF_ERROR(work(container));
    }
    return absl::OkStatus();
  }

  absl::Status Rebuild(const std::string& service) {
    const std::string image = compose::ImageOf(project_, service);
    const absl::StatusOr<std::string> before = engine_.ImageDigest(image);
    GANTRY_ASSIGN_OR_RETURN(ProgressBoard::Style style, flags_.ProgressStyle(context_));
    if (options_.quiet) style = ProgressBoard::Style::kSilent;
    if (style == ProgressBoard::Style::kRedraw) style = ProgressBoard::Style::kLines;
    const std::unique_ptr<ProgressBoard> board = MakeBoard(context_, style, "watch");
    compose::Step step;
    step.object = image;
    step.service = service;
    GANTRY_RETURN_IF_ERROR(BuildOne(context_, *board, project_, step));
    compose::UpOptions up;
    up.services = {service};
    up.no_deps = true;
    up.images_done = true;
    GANTRY_ASSIGN_OR_RETURN(const compose::Observed observed, engine_.Observe(project_, {service}));
    GANTRY_ASSIGN_OR_RETURN(const compose::Plan plan, compose::PlanUp(project_, observed, up));
    GANTRY_RETURN_IF_ERROR(ApplyQuietly(context_, flags_, engine_, project_, plan, /*lines=*/true));
    if (options_.prune && before.ok()) {
      const absl::StatusOr<std::string> after = engine_.ImageDigest(image);
      // One that something else uses stays.
      if (after.ok() && *after != *before) engine_.RemoveImage(*before).IgnoreError();
    }
    if (!options_.on_renewed || !plan.Changes()) return absl::OkStatus();
    GANTRY_ASSIGN_OR_RETURN(const std::vector<ObservedContainer> containers,
                            ContainersOf(engine_, project_, {service}, /*all=*/true,
                                         /*one_offs=*/false, /*reversed=*/false));
    options_.on_renewed(containers);
    return absl::OkStatus();
  }

  // Everything below the rule's path that the rule takes.
  void SyncWhole(const WatchRule& rule) {
    std::set<std::string> files;
    Collect(rule.path, files);
    WatchWork work = compose::WorkFor({rule}, files);
    const auto syncs = work.syncs.find(rule.service);
    if (syncs == work.syncs.end()) return;
    Say(absl::StrCat("Syncing service \"", rule.service, "\": ", syncs->second.size(), " files"));
    const absl::Status status = Sync(rule.service, syncs->second);
    if (!status.ok()) Fail(rule.service, status);
  }

  void Collect(const std::string& path, std::set<std::string>& files) const {
    struct stat status;
    if (::lstat(path.c_str(), &status) != 0) return;
    if (!S_ISDIR(status.st_mode)) {
      files.insert(path);
      return;
    }
    if (Skipped(path)) return;
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(path.c_str()), ::closedir);
    if (entries == nullptr) return;
    while (const dirent* entry = ::readdir(entries.get())) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") Collect(absl::StrCat(path, "/", name), files);
    }
  }

  absl::Status Sync(const std::string& service, const std::set<WatchWork::Sync>& syncs) {
    std::vector<compose::SyncedFile> files;
    std::vector<std::string> gone;
    for (const WatchWork::Sync& sync : syncs) {
      struct stat status;
      if (::lstat(sync.from.c_str(), &status) != 0) {
        gone.push_back(sync.to);
        continue;
      }
      compose::SyncedFile file;
      file.target = sync.to;
      file.mode = status.st_mode & 07777;
      file.modified = absl::TimeFromTimespec(status.st_mtim);
      if (S_ISLNK(status.st_mode)) {
        char link[4096];
        const ssize_t n = ::readlink(sync.from.c_str(), link, sizeof link);
        if (n < 0) continue;
        file.link = std::string(link, static_cast<size_t>(n));
      } else if (S_ISDIR(status.st_mode)) {
        file.folder = true;
      } else if (S_ISREG(status.st_mode)) {
        absl::StatusOr<std::string> content = ReadFile(sync.from, kMaxFileBytes);
        // Gone again: its end is the next event.
        if (!content.ok()) continue;
        file.content = *std::move(content);
      } else {
        continue;
      }
      files.push_back(std::move(file));
    }
    return ForContainers(service, [&](const ObservedContainer& container) -> absl::Status {
      if (!gone.empty()) GANTRY_RETURN_IF_ERROR(engine_.RemoveFiles(container.id, gone));
      if (files.empty()) return absl::OkStatus();
      return engine_.CopyFiles(container.id, files);
    });
  }

  Context& context_;
  const ProjectFlags& flags_;
  compose::Engine& engine_;
  const compose::Project& project_;
  const WatchOptions& options_;
  std::vector<WatchRule> rules_;
};

class WatchAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.Bool(&no_up_, "no-up", 0, "Do not bring the services up before");
    prune_ = true;
    flags.Bool(&prune_, "prune", 0, "Remove images that rebuilds replace (default true)");
    flags.Bool(&quiet_, "quiet", 0, "No progress of builds");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(const compose::Project project, flags_.Load(context, args));
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    compose::Engine engine(*client, Interrupts::once());
    if (!no_up_) {
      compose::UpOptions up;
      up.services = args;
      GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> services,
                              compose::InDependencyOrder(project, args, /*no_deps=*/false));
      // The images first: what they are decides what is made anew.
      while (true) {
        GANTRY_ASSIGN_OR_RETURN(const compose::Observed observed,
                                engine.Observe(project, services));
        GANTRY_ASSIGN_OR_RETURN(const compose::Plan plan, compose::PlanUp(project, observed, up));
        const compose::Plan images = plan.OnlyImages();
        GANTRY_RETURN_IF_ERROR(
            ApplyQuietly(context, flags_, engine, project, images.steps.empty() ? plan : images));
        if (images.steps.empty()) break;
        up.images_done = true;
      }
    }
    Interrupts interrupts;
    WatchOptions options;
    options.services = args;
    options.prune = prune_;
    options.quiet = quiet_;
    GANTRY_RETURN_IF_ERROR(
        WatchProject(context, flags_, engine, project, options, Interrupts::once()));
    return 130;
  }

 private:
  ProjectFlags flags_;
  bool no_up_ = false, prune_ = true, quiet_ = false;
};

}  // namespace

absl::Status WatchProject(Context& context, const ProjectFlags& flags, compose::Engine& engine,
                          const compose::Project& project, const WatchOptions& options,
                          const std::atomic<bool>& stopped) {
  return ProjectWatch(context, flags, engine, project, options).Run(stopped);
}

Verb ComposeWatchVerb() {
  return {.name = "watch",
          .arguments = "[OPTIONS] [SERVICE...]",
          .summary = "Sync, rebuild or restart services when their files change",
          .examples =
              "  ctl compose watch\n"
              "  ctl compose watch --no-up web\n",
          .completes = "services",
          .make = [] { return std::make_unique<WatchAction>(); }};
}

}  // namespace gantry::ctl
