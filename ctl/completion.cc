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

#include "ctl/contexts.h"
#include "ctl/global_flags.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/gantry/v1/volumes.pb.h"

namespace gantry::ctl {
namespace {

// A daemon that does not answer must not hang the shell.
constexpr absl::Duration kPatience = absl::Seconds(2);

// Values of --filter of one listing; a value that is open ends in =.
std::vector<std::string> FilterValues(absl::string_view group, absl::string_view verb) {
  const bool lists = verb == "ls" || verb == "list";
  if (verb == "prune") return {"label!=", "label=", "until="};
  if (verb == "images" || (group == "image" && lists)) {
    return {
        "before=", "dangling=false", "dangling=true", "label=", "reference=", "since=", "until="};
  }
  if (verb == "events") {
    return {"container=",   "event=",       "image=",         "label=",      "network=",
            "scope=local",  "type=builder", "type=container", "type=daemon", "type=image",
            "type=network", "type=volume",  "volume="};
  }
  if (verb == "search") return {"is-official=false", "is-official=true", "stars="};
  if (group == "volume" && lists) {
    return {"dangling=false", "dangling=true", "driver=local", "label=", "name="};
  }
  if (group == "network" && lists) {
    return {"dangling=false", "dangling=true", "driver=bridge", "driver=host", "driver=ipvlan",
            "driver=macvlan", "driver=null",   "id=",           "label=",      "name=",
            "scope=local",    "type=builtin",  "type=custom"};
  }
  if (verb == "ps" || (group == "container" && lists)) {
    return {"ancestor=",
            "before=",
            "exited=",
            "expose=",
            "health=healthy",
            "health=none",
            "health=starting",
            "health=unhealthy",
            "id=",
            "label=",
            "name=",
            "network=",
            "publish=",
            "since=",
            "status=created",
            "status=dead",
            "status=exited",
            "status=paused",
            "status=removing",
            "status=restarting",
            "status=running",
            "volume="};
  }
  return {};
}

std::map<std::string, CompletionSource>& Sources() {
  static std::map<std::string, CompletionSource> sources;
  return sources;
}

// What may stand after a flag, where that is one of a few words.
std::vector<std::string> FlagValues(absl::string_view group, absl::string_view verb,
                                    absl::string_view flag) {
  static const auto* const kValues = new std::map<std::string, std::vector<std::string>>{
      {"cgroupns", {"host", "private"}},
      {"ipc", {"container:", "host", "none", "private", "shareable"}},
      {"isolation", {"default"}},
      {"log-driver", {"fluentd", "journald", "json-file", "local", "none", "syslog"}},
      {"log-level", {"debug", "error", "fatal", "info", "warn"}},
      {"log-opt",
       {"compress=", "env=", "env-regex=", "labels=", "labels-regex=", "max-buffer-size=",
        "max-file=", "max-size=", "mode=blocking", "mode=non-blocking", "tag="}},
      {"mount", {"type=bind,", "type=image,", "type=tmpfs,", "type=volume,"}},
      {"pid", {"container:", "host"}},
      {"platform", {"linux/386", "linux/amd64", "linux/arm/v7", "linux/arm64"}},
      {"ansi", {"always", "auto", "never"}},
      {"progress", {"auto", "plain", "quiet", "rawjson", "tty"}},
      {"pull", {"always", "missing", "never"}},
      {"restart", {"always", "no", "on-failure", "unless-stopped"}},
      {"runtime", {"crun", "runc"}},
      {"security-opt",
       {"apparmor=", "label=", "mask=", "no-new-privileges", "seccomp=", "seccomp=unconfined",
        "systempaths=unconfined", "unmask=", "unmask=ALL", "writable-cgroups"}},
      {"type", {"container", "image", "network", "volume"}},
      {"ulimit",
       {"core=", "cpu=", "data=", "fsize=", "locks=", "memlock=", "msgqueue=", "nice=", "nofile=",
        "nproc=", "rss=", "rtprio=", "rttime=", "sigpending=", "stack="}},
      {"userns", {"auto", "auto:size=", "host", "remap", "remap:"}},
      {"uts", {"host"}}};
  if (flag == "filter") return FilterValues(group, verb);
  if (flag == "attach" && verb == "run") return {"stderr", "stdin", "stdout"};
  if (flag == "driver") {
    return group == "network" ? std::vector<std::string>{"bridge", "ipvlan", "macvlan"}
                              : std::vector<std::string>{"local"};
  }
  if (flag == "format") {
    if (verb == "ps" || verb == "images" || verb == "ls") return {"json", "raw", "table"};
    return {"json", "table"};
  }
  if (flag == "signal" || flag == "stop-signal") {
    return {"SIGABRT", "SIGALRM", "SIGCONT", "SIGHUP",  "SIGINT",  "SIGKILL", "SIGQUIT", "SIGSTOP",
            "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGWINCH"};
  }
  if (flag == "cap-add" || flag == "cap-drop") {
    return {"ALL",
            "AUDIT_CONTROL",
            "AUDIT_READ",
            "AUDIT_WRITE",
            "BLOCK_SUSPEND",
            "BPF",
            "CHECKPOINT_RESTORE",
            "CHOWN",
            "DAC_OVERRIDE",
            "DAC_READ_SEARCH",
            "FOWNER",
            "FSETID",
            "IPC_LOCK",
            "IPC_OWNER",
            "KILL",
            "LEASE",
            "LINUX_IMMUTABLE",
            "MAC_ADMIN",
            "MAC_OVERRIDE",
            "MKNOD",
            "NET_ADMIN",
            "NET_BIND_SERVICE",
            "NET_BROADCAST",
            "NET_RAW",
            "PERFMON",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_ADMIN",
            "SYS_BOOT",
            "SYS_CHROOT",
            "SYS_MODULE",
            "SYS_NICE",
            "SYS_PACCT",
            "SYS_PTRACE",
            "SYS_RAWIO",
            "SYS_RESOURCE",
            "SYS_TIME",
            "SYS_TTY_CONFIG",
            "SYSLOG",
            "WAKE_ALARM"};
  }
  const auto found = kValues->find(std::string(flag));
  return found == kValues->end() ? std::vector<std::string>() : found->second;
}

// Kinds of objects that a flag names, where the flag itself does not say.
absl::string_view FlagObjects(const FlagSet::Flag& flag) {
  if (!flag.completes.empty()) return flag.completes;
  if (flag.name == "volumes-from" || flag.name == "link") return "containers";
  return "";
}

std::vector<std::string> ObjectNames(Context& context, absl::string_view kind) {
  std::vector<std::string> names;
  if (const auto source = Sources().find(std::string(kind)); source != Sources().end())
    return source->second(context);
  if (kind.empty() || kind == "files") return names;
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
    if (!(*client)->Call(v1::ListImagesRequest(), &images, kPatience).ok()) return names;
    for (const auto& image : images.images()) {
      names.insert(names.end(), image.repo_tags().begin(), image.repo_tags().end());
    }
    return names;
  }
  if (kind == "volumes") {
    v1::ListVolumesResponse volumes;
    if (!(*client)->Call(v1::ListVolumesRequest(), &volumes, kPatience).ok()) return names;
    for (const auto& volume : volumes.volumes()) names.push_back(volume.name());
    return names;
  }
  if (kind == "networks") {
    v1::ListNetworksResponse networks;
    if (!(*client)->Call(v1::ListNetworksRequest(), &networks, kPatience).ok()) return names;
    for (const auto& network : networks.networks()) names.push_back(network.name());
    return names;
  }
  v1::ListContainersRequest request;
  request.set_all(kind != "running");
  v1::ListContainersResponse containers;
  if (!(*client)->Call(request, &containers, kPatience).ok()) return names;
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
    local current="${words[-1]}"
    COMPREPLY=($(ctl __complete -- "${words[@]}" 2>/dev/null))
    if [ ${#COMPREPLY[@]} -eq 1 ] && [ "${COMPREPLY[0]}" = ":files" ]; then
        COMPREPLY=($(compgen -f -- "$current"))
        compopt -o filenames
    fi
    # What bash inserts replaces only the part after the last : or =.
    local prefix="${current%"${current##*[:=]}"}"
    if [ -n "$prefix" ]; then COMPREPLY=("${COMPREPLY[@]#"$prefix"}"); fi
    # More follows after these.
    if [ ${#COMPREPLY[@]} -eq 1 ] && [[ "${COMPREPLY[0]}" == *[:=] ]]; then compopt -o nospace; fi
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
        # More follows after a word that ends in : or =.
        compadd -S '' -- "${(@M)candidates:#*[:=]}"
        compadd -- "${(@)candidates:#*[:=]}"
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
      group_name = verb->name;
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
  const size_t equals = absl::StartsWith(current, "--") ? current.find('=') : std::string::npos;
  if (wants_value == nullptr && equals != std::string::npos) {
    // --flag=value in one word.
    const std::string name = current.substr(2, equals - 2);
    std::vector<std::string> values = FlagValues(group_name, verb->name, name);
    if (const FlagSet::Flag* flag = flags.Find(name); values.empty() && flag != nullptr)
      values = ObjectNames(context, FlagObjects(*flag));
    for (const std::string& value : values) {
      candidates.push_back(absl::StrCat("--", name, "=", value));
    }
  } else if (wants_value != nullptr) {
    if (wants_value->completes == "files") return {":files"};
    candidates = FlagValues(group_name, verb->name, wants_value->name);
    if (candidates.empty()) candidates = ObjectNames(context, FlagObjects(*wants_value));
  } else if (absl::StartsWith(current, "-") && !(verb->hands_on && past_first_argument)) {
    for (const FlagSet::Flag& flag : flags.flags()) {
      if (!flag.hidden) candidates.push_back(absl::StrCat("--", flag.name));
    }
    candidates.push_back("--help");
  } else if (!verb->verbs.empty()) {
    for (const Verb& v : verb->verbs) {
      if (!v.hidden) candidates.push_back(v.name);
    }
    if (verb == &root) candidates.push_back("help");
  } else if (verb->completes == "files" || (verb->hands_on && past_first_argument)) {
    return {":files"};
  } else if (verb->completes == "containers-or-files") {
    if (absl::StrContains(current, ":")) return {};  // a path in a container
    if (!absl::StrContains(current, "/") && !absl::StartsWith(current, ".")) {
      for (const std::string& name : ObjectNames(context, "containers")) {
        if (absl::StartsWith(name, current)) candidates.push_back(absl::StrCat(name, ":"));
      }
    }
    if (candidates.empty()) return {":files"};
  } else if (verb->completes == "network-and-container") {
    candidates = ObjectNames(context, past_first_argument ? "containers" : "networks");
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
