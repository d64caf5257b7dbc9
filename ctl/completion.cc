// Completion half of verb.h: the shell asks `ctl __complete WORDS...` and gets one candidate a line.
#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "ctl/verb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"

namespace gantry::ctl {
namespace {

// A daemon that does not answer must not hang the shell.
constexpr absl::Duration kPatience = absl::Seconds(2);

std::vector<std::string> ObjectNames(Context& context, absl::string_view kind) {
  std::vector<std::string> names;
  if (kind.empty() || kind == "files") return names;
  auto client = context.client();
  if (!client.ok()) return names;
  if (kind == "images") {
    v1::ListImagesResponse images;
    if (!(*client)->Call(v1::ListImagesRequest(), &images, kPatience).ok()) return names;
    for (const auto& image : images.images()) {
      names.insert(names.end(), image.repo_tags().begin(), image.repo_tags().end());
    }
    return names;
  }
  v1::ListContainersRequest request;
  request.set_all(kind == "containers");
  v1::ListContainersResponse containers;
  if (!(*client)->Call(request, &containers, kPatience).ok()) return names;
  for (const auto& container : containers.containers()) names.push_back(container.name());
  return names;
}

const FlagSet::Flag* FlagOfWord(const FlagSet& flags, absl::string_view word) {
  if (absl::ConsumePrefix(&word, "--")) return flags.Find(word);
  if (word.size() >= 2 && word[0] == '-') return flags.FindLetter(word.back());
  return nullptr;
}

constexpr char kBash[] = R"sh(# ctl completion bash > /etc/bash_completion.d/ctl
_ctl_complete() {
    local IFS=$'\n' current="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=($(ctl __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    if [ ${#COMPREPLY[@]} -eq 1 ] && [ "${COMPREPLY[0]}" = ":files" ]; then
        COMPREPLY=($(compgen -f -- "$current"))
        compopt -o filenames
    fi
    if declare -F __ltrimcolon_completions >/dev/null; then __ltrimcolon_completions "$current"; fi
}
complete -F _ctl_complete ctl
)sh";

constexpr char kZsh[] = R"sh(#compdef ctl
# ctl completion zsh > "${fpath[1]}/_ctl"
_ctl() {
    local -a candidates
    candidates=("${(@f)$(ctl __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ "${candidates[1]}" == ":files" ]]; then
        _files
    else
        compadd -- "${candidates[@]}"
    fi
}
compdef _ctl ctl
)sh";

constexpr char kFish[] = R"sh(# ctl completion fish > ~/.config/fish/completions/ctl.fish
function __ctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l candidates (ctl __complete -- $words[2..-1] 2>/dev/null)
    if test "$candidates[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $candidates
    end
end
complete -c ctl -f -a '(__ctl_complete)'
)sh";

}  // namespace

std::vector<std::string> Complete(const Verb& root, Context& context,
                                  const std::vector<std::string>& words) {
  const std::string current = words.empty() ? "" : words.back();
  const Verb* verb = &root;
  std::unique_ptr<Action> action;
  FlagSet flags;
  flags.String(&context.address, "address", 'H', "SOCKET", "");
  flags.String(&context.name_space, "namespace", 'n', "NAME", "");
  const FlagSet::Flag* wants_value = nullptr;
  bool past_first_argument = false;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (wants_value != nullptr) {
      if (wants_value->name == "address" || wants_value->name == "namespace") {
        (void)wants_value->set(word);
      }
      wants_value = nullptr;
      continue;
    }
    if (word.size() > 1 && word[0] == '-') {
      const FlagSet::Flag* flag = FlagOfWord(flags, word);
      if (flag != nullptr && !flag->value_name.empty() && !absl::StrContains(word, "=")) {
        wants_value = flag;
      }
      continue;
    }
    if (!verb->verbs.empty()) {
      const auto found = std::find_if(verb->verbs.begin(), verb->verbs.end(), [&](const Verb& v) {
        return v.name == word ||
               std::find(v.aliases.begin(), v.aliases.end(), word) != v.aliases.end();
      });
      if (found == verb->verbs.end()) return {};
      verb = &*found;
      if (verb->make) {
        flags = FlagSet();
        action = verb->make();
        action->AddFlags(flags);
      }
      continue;
    }
    past_first_argument = true;
  }

  std::vector<std::string> candidates;
  if (wants_value != nullptr) {
    if (wants_value->completes == "files") return {":files"};
    candidates = ObjectNames(context, wants_value->completes);
  } else if (absl::StartsWith(current, "-") && !(verb->hands_on && past_first_argument)) {
    for (const FlagSet::Flag& flag : flags.flags()) {
      if (!flag.hidden) candidates.push_back(absl::StrCat("--", flag.name));
    }
    candidates.push_back("--help");
  } else if (!verb->verbs.empty()) {
    for (const Verb& v : verb->verbs) {
      if (!v.hidden) candidates.push_back(v.name);
    }
  } else if (verb->completes == "files" || (verb->hands_on && past_first_argument)) {
    return {":files"};
  } else {
    candidates = ObjectNames(context, verb->completes);
  }
  std::set<std::string> fitting;
  for (std::string& candidate : candidates) {
    if (absl::StartsWith(candidate, current)) fitting.insert(std::move(candidate));
  }
  return {fitting.begin(), fitting.end()};
}

absl::StatusOr<std::string> CompletionScript(absl::string_view shell) {
  if (shell == "bash") return std::string(kBash);
  if (shell == "zsh") return std::string(kZsh);
  if (shell == "fish") return std::string(kFish);
  return absl::InvalidArgumentError(
      absl::StrCat("no completion for \"", shell, "\"; there is bash, zsh and fish"));
}

}  // namespace gantry::ctl
