#include "ctl/compose/watch_rules.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"

namespace gantry::compose {
namespace {

using Action = WatchRule::Action;

Action ActionOf(const std::string& word) {
  if (word == "rebuild") return Action::kRebuild;
  if (word == "restart") return Action::kRestart;
  if (word == "sync+restart") return Action::kSyncAndRestart;
  if (word == "sync+exec") return Action::kSyncAndExec;
  return Action::kSync;
}

bool Syncs(Action action) {
  return action == Action::kSync || action == Action::kSyncAndRestart ||
         action == Action::kSyncAndExec;
}

// `path` below `folder`: "" for the folder itself, nullopt: it is not below.
std::optional<std::string> Below(const std::string& path, const std::string& folder) {
  if (path == folder) return "";
  const std::string prefix = folder == "/" ? "/" : folder + "/";
  if (!absl::StartsWith(path, prefix)) return std::nullopt;
  return path.substr(prefix.size());
}

absl::Status AtPlace(const Node& node, const std::string& path, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(node.at.Text(), ": ", path, ": ", why));
}

std::vector<std::string> Texts(const Node* list) {
  std::vector<std::string> out;
  if (list == nullptr) return out;
  for (const Node& item : list->items) {
    std::string text = item.text;
    while (text.size() > 1 && text.back() == '/') text.pop_back();
    out.push_back(std::move(text));
  }
  return out;
}

}  // namespace

absl::StatusOr<std::vector<WatchRule>> WatchRulesOf(
    const Project& project, const std::vector<std::string>& services,
    const std::function<absl::StatusOr<std::string>(const std::string&)>& read) {
  std::vector<WatchRule> rules;
  for (const std::string& name : project.ServiceNames()) {
    const bool named = std::find(services.begin(), services.end(), name) != services.end();
    if (!services.empty() && !named) continue;
    const Node& service = *project.FindService(name);
    const Node* develop = service.Find("develop");
    const Node* watch = develop == nullptr ? nullptr : develop->Find("watch");
    if (watch == nullptr || watch->items.empty()) {
      if (!named) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("service ", name, " has nothing to watch; say what under services.", name,
                       ".develop.watch"));
    }
    const Node* build = service.Find("build");
    const std::string context = build == nullptr ? "" : build->TextOf("context");
    engine::IgnoreRules of_context;
    if (absl::StartsWith(context, "/")) {
      const absl::StatusOr<std::string> text = read(context + "/.dockerignore");
      if (text.ok()) {
        absl::StatusOr<engine::IgnoreRules> parsed = engine::IgnoreRules::Parse(*text);
        if (!parsed.ok()) {
          return absl::InvalidArgumentError(
              absl::StrCat(context, "/.dockerignore: ", parsed.status().message()));
        }
        of_context = *std::move(parsed);
      }
    }
    for (size_t i = 0; i < watch->items.size(); ++i) {
      const Node& item = watch->items[i];
      const std::string place = absl::StrCat("services.", name, ".develop.watch[", i, "]");
      WatchRule rule;
      rule.service = name;
      rule.path = item.TextOf("path");
      rule.action = ActionOf(item.TextOf("action"));
      rule.target = item.TextOf("target");
      rule.initial_sync = item.TrueAt("initial_sync");
      rule.exec = item.Find("exec");
      rule.context = context;
      rule.ignored_of_context = of_context;
      if (Syncs(rule.action) && rule.target.empty())
        return AtPlace(item, place, "a sync needs a target: the path in the container");
      if (rule.action == Action::kSyncAndExec && rule.exec == nullptr)
        return AtPlace(item, place, "sync+exec needs exec: with the command");
      if (rule.action == Action::kRebuild && build == nullptr) {
        return AtPlace(item, place, absl::StrCat("rebuild needs a build: of service ", name));
      }
      absl::StatusOr<engine::IgnoreRules> ignored =
          engine::IgnoreRules::FromPatterns(Texts(item.Find("ignore")));
      if (!ignored.ok()) return AtPlace(item, place + ".ignore", ignored.status().message());
      rule.ignored = *std::move(ignored);
      for (const std::string& pattern : Texts(item.Find("include"))) {
        absl::StatusOr<engine::PathPattern> parsed =
            engine::PathPattern::Parse(pattern, engine::PathPattern::Wildcards::kAcrossFolders);
        if (!parsed.ok()) return AtPlace(item, place + ".include", parsed.status().message());
        rule.included.push_back(*std::move(parsed));
      }
      rules.push_back(std::move(rule));
    }
  }
  if (rules.empty()) {
    return absl::FailedPreconditionError(
        "none of the services has anything to watch; say what under services.NAME.develop.watch");
  }
  return rules;
}

bool IsTemporaryFile(absl::string_view path) {
  const absl::string_view name = path.substr(path.rfind('/') + 1);
  return absl::EndsWith(name, "~") || absl::EndsWith(name, ".swp") ||
         absl::EndsWith(name, ".swx") || absl::StartsWith(name, ".#") ||
         absl::StartsWith(name, ".goutputstream-") || absl::EndsWith(name, "___jb_tmp___") ||
         absl::EndsWith(name, "___jb_old___") || name == "4913" || name == ".DS_Store" ||
         absl::StrContains(path, "/.git/");
}

std::optional<std::string> AppliesTo(const WatchRule& rule, const std::string& path) {
  std::optional<std::string> below = Below(path, rule.path);
  if (!below.has_value() || IsTemporaryFile(path)) return std::nullopt;
  if (!below->empty() && rule.ignored.Ignores(*below)) return std::nullopt;
  if (!rule.context.empty()) {
    const std::optional<std::string> in_context = Below(path, rule.context);
    if (in_context.has_value() && !in_context->empty() &&
        rule.ignored_of_context.Ignores(*in_context))
      return std::nullopt;
  }
  if (!rule.included.empty() && !below->empty() &&
      std::none_of(rule.included.begin(), rule.included.end(), [&](const auto& pattern) {
        // A pattern without a folder is for the name, in whichever folder.
        return pattern.Matches(*below) || pattern.Matches(below->substr(below->rfind('/') + 1));
      }))
    return std::nullopt;
  return below;
}

WatchWork WorkFor(const std::vector<WatchRule>& rules, const std::set<std::string>& changed) {
  WatchWork work;
  std::set<const WatchRule*> hit;
  for (const WatchRule& rule : rules) {
    for (const std::string& path : changed) {
      const std::optional<std::string> below = AppliesTo(rule, path);
      if (!below.has_value()) continue;
      ++work.changes[rule.service];
      if (rule.action == Action::kRebuild) work.rebuilds.insert(rule.service);
      if (rule.action == Action::kRestart || rule.action == Action::kSyncAndRestart)
        work.restarts.insert(rule.service);
      if (Syncs(rule.action)) {
        work.syncs[rule.service].insert(
            {path, below->empty() ? rule.target : absl::StrCat(rule.target, "/", *below)});
      }
      if (rule.action == Action::kSyncAndExec && hit.insert(&rule).second)
        work.execs.emplace_back(rule.service, rule.exec);
    }
  }
  for (const std::string& service : work.rebuilds) {
    work.syncs.erase(service);
    work.restarts.erase(service);
    work.execs.erase(std::remove_if(work.execs.begin(), work.execs.end(),
                                    [&](const auto& exec) { return exec.first == service; }),
                     work.execs.end());
  }
  return work;
}

}  // namespace gantry::compose
