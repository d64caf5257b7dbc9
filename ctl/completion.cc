// Completion half of verb.h: the shell asks `ctl __complete WORDS...` and gets one candidate a
// line.
#include "ctl/completion.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "ctl/completion_values.h"
#include "ctl/contexts.h"
#include "ctl/global_flags.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::ctl {
namespace {

std::map<std::string, CompletionSource>& Sources() {
  static std::map<std::string, CompletionSource> sources;
  return sources;
}

std::vector<std::string> ObjectNames(Context& context, absl::string_view kind) {
  std::vector<std::string> names;
  if (kind.empty() || kind == "files") return names;
  if (const auto source = Sources().find(std::string(kind)); source != Sources().end())
    return source->second(context);
  if (kind == "shells") return {"bash", "fish", "zsh"};
  if (kind == "contexts") {
    auto records = ContextStore(context.environment()).List();
    names.push_back(kDefaultContext);
    if (!records.ok()) return names;
    for (const ContextRecord& record : *records) names.push_back(record.name);
    return names;
  }
  auto client = context.client();
  if (!client.ok()) return names;
  if (kind == "objects") {
    names = ObjectNames(context, "containers");
    for (const char* other : {"images", "networks", "volumes"}) {
      for (std::string& name : ObjectNames(context, other)) names.push_back(std::move(name));
    }
    return names;
  }
  if (kind == "images") {
    v1::ListImagesResponse images;
    if (!(*client)->Call(v1::ListImagesRequest(), &images, kCompletionPatience).ok()) return names;
    for (const auto& image : images.images()) {
      names.insert(names.end(), image.repo_tags().begin(), image.repo_tags().end());
    }
    return names;
  }
  if (kind == "volumes") {
    v1::ListVolumesResponse volumes;
    if (!(*client)->Call(v1::ListVolumesRequest(), &volumes, kCompletionPatience).ok())
      return names;
    for (const auto& volume : volumes.volumes()) names.push_back(volume.name());
    return names;
  }
  if (kind == "networks") {
    v1::ListNetworksResponse networks;
    if (!(*client)->Call(v1::ListNetworksRequest(), &networks, kCompletionPatience).ok())
      return names;
    for (const auto& network : networks.networks()) names.push_back(network.name());
    return names;
  }
  v1::ListContainersRequest request;
  request.set_all(kind != "running");
  v1::ListContainersResponse containers;
  if (!(*client)->Call(request, &containers, kCompletionPatience).ok()) return names;
  for (const auto& container : containers.containers()) {
    if (kind == "stopped" && container.state() == v1::CONTAINER_STATE_RUNNING) continue;
    names.push_back(container.name());
  }
  return names;
}

const FlagSet::Flag* FlagOfWord(const FlagSet& flags, absl::string_view word) {
  if (absl::ConsumePrefix(&word, "--")) return flags.Find(word);
  if (word.size() >= 2 && word[0] == '-') return flags.FindLetter(word.back());
  return nullptr;
}

constexpr char kBash[] = R"sh(# ctl completion bash > /etc/bash_completion.d/ctl
_ctl_complete() {
    # Bash splits words at : and =, and names of images and --flag=value hold them: join what has no space between.
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}" words=() word="" i
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        if [ ${#words[@]} -gt 0 ] && [ "$i" -gt 1 ] && { [[ "$word" == [:=]* ]] || [[ "${COMP_WORDS[i-1]}" == *[:=] ]]; } &&
            [[ "$line" == *"${words[-1]}$word"* ]]; then
            words[-1]="${words[-1]}$word"
        else
            words+=("$word")
        fi
    done
    local current="${words[-1]}" flag=""
    mapfile -t COMPREPLY < <(ctl __complete -- "${words[@]}" 2>/dev/null)
    # Names of files, besides what else there is.
    if [ "${COMPREPLY[0]}" = ":files" ]; then
        COMPREPLY=("${COMPREPLY[@]:1}")
        if [[ "$current" == --*=* ]]; then flag="${current%%=*}="; fi
        if [ ${#COMPREPLY[@]} -eq 0 ]; then compopt -o filenames; fi
        while IFS= read -r word; do
            if [ -d "$word" ] && [ ${#COMPREPLY[@]} -gt 0 ]; then word="$word/"; fi
            COMPREPLY+=("$flag$word")
        done < <(compgen -f -- "${current#"$flag"}")
    fi
    # What bash inserts replaces only the part after the last : or =.
    local prefix="${current%"${current##*[:=]}"}"
    if [ -n "$prefix" ]; then COMPREPLY=("${COMPREPLY[@]#"$prefix"}"); fi
    # More follows after these.
    if [ ${#COMPREPLY[@]} -eq 1 ] && [[ "${COMPREPLY[0]}" == *[:=,] ]]; then compopt -o nospace; fi
}
complete -F _ctl_complete ctl
)sh";

constexpr char kZsh[] = R"sh(#compdef ctl
# ctl completion zsh > "${fpath[1]}/_ctl"
_ctl() {
    local -a candidates
    local files
    candidates=("${(@f)$(ctl __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    candidates=("${(@)candidates:#}")
    if [[ "${candidates[1]}" == ":files" ]]; then
        files=yes
        shift candidates
    fi
    # More follows after a word that ends in one of these.
    compadd -S '' -- "${(@M)candidates:#*[:=,]}"
    compadd -- "${(@)candidates:#*[:=,]}"
    if [[ -n "$files" ]]; then
        if [[ "$PREFIX" == --*=* ]]; then compset -P '*='; fi
        _files
    fi
}
# Loaded by compinit from fpath, this file is the function's first call; elsewhere it is sourced.
if [ "$funcstack[1]" = "_ctl" ]; then
    _ctl "$@"
else
    compdef _ctl ctl
fi
)sh";

constexpr char kFish[] = R"sh(# ctl completion fish > ~/.config/fish/completions/ctl.fish
function __ctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l candidates (ctl __complete -- $words[2..-1] 2>/dev/null)
    if test "$candidates[1]" = ":files"
        set -e candidates[1]
        set -l current (string unescape -- (commandline -ct))
        set -l flag (string match -r -- '^--[^=]*=' "$current")
        for path in (__fish_complete_path (string replace -- "$flag" "" "$current"))
            echo "$flag$path"
        end
    end
    if set -q candidates[1]
        printf '%s\n' $candidates
    end
end
complete -c ctl -f -a '(__ctl_complete)'
)sh";

}  // namespace

void AddCompletionSource(const std::string& kind, CompletionSource source) {
  Sources()[kind] = std::move(source);
}

std::vector<std::string> Complete(const Verb& root, Context& context,
                                  const std::vector<std::string>& words) {
  // `ctl help image ls` is about `ctl image ls`.
  if (words.size() > 1 && words[0] == "help")
    return Complete(root, context, {words.begin() + 1, words.end()});
  const std::string current = words.empty() ? "" : words.back();
  const Verb* verb = &root;
  std::string group_name;  // the verb's
  std::unique_ptr<Action> action;
  FlagSet flags;
  GlobalOptions options;
  AddGlobalFlags(flags, context, &options);
  // Options of the groups on the way: their values say what there is to choose from.
  FlagSet group;
  const auto take = [&](const FlagSet::Flag& flag, const std::string& value) {
    // A value that is no good is the command's to refuse.
    if (verb == &root || group.Find(flag.name) != nullptr) flag.set(value).IgnoreError();
    // The global ones say whom to ask for names.
    if (verb == &root && flag.name == "context") context.ChooseDaemon(false);
  };
  const FlagSet::Flag* wants_value = nullptr;
  bool past_first_argument = false;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (wants_value != nullptr) {
      take(*wants_value, word);
      wants_value = nullptr;
      continue;
    }
    if (word.size() > 1 && word[0] == '-') {
      const size_t equals = word.find('=');
      const FlagSet::Flag* flag = FlagOfWord(flags, word.substr(0, equals));
      if (flag == nullptr || flag->value_name.empty()) continue;
      if (equals == std::string::npos) {
        wants_value = flag;
      } else {
        take(*flag, word.substr(equals + 1));
      }
      continue;
    }
    if (!verb->verbs.empty()) {
      const auto found = std::find_if(verb->verbs.begin(), verb->verbs.end(), [&](const Verb& v) {
        return v.name == word ||
               std::find(v.aliases.begin(), v.aliases.end(), word) != v.aliases.end();
      });
      if (found == verb->verbs.end()) return {};
      group_name = std::string(verb->name);
      verb = &*found;
      if (verb->group_flags) {
        group = FlagSet();
        verb->group_flags(group, context);
        flags = group;
      }
      if (verb->make) {
        flags = FlagSet();
        action = verb->make();
        action->AddFlags(flags);
        flags.Inherit(group);
      }
      continue;
    }
    past_first_argument = true;
  }

  std::vector<std::string> candidates;
  bool files = false;
  // What may follow `front`, the beginning of the word that is not the value's.
  const auto offer = [&](const FlagSet::Flag& flag, const std::string& front) {
    const CompletionOffer found =
        OfferForFlag(group_name.empty() ? root.name : group_name, verb->name, flag,
                     current.substr(front.size()), context.environment());
    for (const std::string& word : found.words) candidates.push_back(absl::StrCat(front, word));
    for (const std::string& name : ObjectNames(context, found.kind)) {
      candidates.push_back(absl::StrCat(front, found.before, name, found.after));
    }
    files = found.files;
  };
  const size_t equals = absl::StartsWith(current, "--") ? current.find('=') : std::string::npos;
  if (wants_value == nullptr && equals != std::string::npos) {
    // --flag=value in one word.
    if (const FlagSet::Flag* flag = flags.Find(current.substr(2, equals - 2)); flag != nullptr)
      offer(*flag, current.substr(0, equals + 1));
  } else if (wants_value != nullptr) {
    offer(*wants_value, "");
  } else if (absl::StartsWith(current, "-") && !(verb->hands_on && past_first_argument)) {
    for (const FlagSet::Flag& flag : flags.flags()) {
      if (!flag.hidden) candidates.push_back(absl::StrCat("--", flag.name));
    }
    candidates.push_back("--help");
  } else if (!verb->verbs.empty()) {
    for (const Verb& v : verb->verbs) {
      if (!v.hidden) candidates.emplace_back(v.name);
    }
    if (verb == &root) candidates.push_back("help");
  } else if (verb->completes == "files" || (verb->hands_on && past_first_argument)) {
    files = true;
  } else if (verb->completes == "containers-or-files") {
    if (absl::StrContains(current, ":")) return {};  // a path in a container
    if (!absl::StrContains(current, "/") && !absl::StartsWith(current, ".")) {
      for (const std::string& name : ObjectNames(context, "containers")) {
        if (absl::StartsWith(name, current)) candidates.push_back(absl::StrCat(name, ":"));
      }
    }
    files = candidates.empty();
  } else if (verb->completes == "network-and-container") {
    candidates = ObjectNames(context, past_first_argument ? "containers" : "networks");
  } else if (verb->completes == "volume-and-files") {
    if (past_first_argument) {
      files = true;
    } else {
      candidates = ObjectNames(context, "volumes");
    }
  } else {
    candidates = ObjectNames(context, verb->completes);
  }
  std::set<std::string> fitting;
  for (std::string& candidate : candidates) {
    if (absl::StartsWith(candidate, current)) fitting.insert(std::move(candidate));
  }
  std::vector<std::string> out;
  if (files) out.push_back(":files");
  out.insert(out.end(), fitting.begin(), fitting.end());
  return out;
}

absl::StatusOr<std::string> CompletionScript(absl::string_view shell) {
  if (shell == "bash") return std::string(kBash);
  if (shell == "zsh") return std::string(kZsh);
  if (shell == "fish") return std::string(kFish);
  return absl::InvalidArgumentError(
      absl::StrCat("no completion for \"", shell, "\"; there is bash, zsh and fish"));
}

}  // namespace gantry::ctl
