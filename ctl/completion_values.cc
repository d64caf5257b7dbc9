#include "ctl/completion_values.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace gantry::ctl {
namespace {

using Words = std::vector<std::string>;

bool IsList(absl::string_view verb) { return verb == "ls" || verb == "list"; }

// Keys and values of --filter; one whose value is open ends in =.
Words FilterWords(absl::string_view group, absl::string_view verb) {
  if (verb == "prune") {
    if (group == "volume") return {"all=false", "all=true", "label!=", "label="};
    if (group == "image") return {"dangling=false", "dangling=true", "label!=", "label=", "until="};
    if (group == "builder") return {"id=", "type=", "until="};
    return {"label!=", "label=", "until="};
  }
  if (verb == "du") return {"id=", "type="};
  if (verb == "images" || (group == "image" && IsList(verb))) {
    return {
        "before=", "dangling=false", "dangling=true", "label=", "reference=", "since=", "until="};
  }
  if (verb == "events") {
    return {"container=",   "event=",       "image=",         "label=",      "network=",
            "scope=local",  "type=builder", "type=container", "type=daemon", "type=image",
            "type=network", "type=volume",  "volume="};
  }
  if (verb == "search") return {"is-official=false", "is-official=true", "stars="};
  if (group == "volume" && IsList(verb)) {
    return {"dangling=false", "dangling=true", "driver=local", "label=", "name="};
  }
  if (group == "network" && IsList(verb)) {
    return {"dangling=false", "dangling=true", "driver=bridge", "driver=host", "driver=ipvlan",
            "driver=macvlan", "driver=null",   "id=",           "label=",      "name=",
            "scope=local",    "type=builtin",  "type=custom"};
  }
  if (group == "plugin" && IsList(verb)) return {"capability=", "enabled=false", "enabled=true"};
  if (group == "compose") {
    if (IsList(verb)) return {"name="};
    return {"status=created", "status=dead",     "status=exited",    "status=paused",
            "status=running", "status=removing", "status=restarting"};
  }
  if (verb == "ps" || (group == "container" && IsList(verb))) {
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

// What the value of one of those keys names: the kind of its objects.
std::string FilterKind(absl::string_view group, absl::string_view verb, absl::string_view key) {
  const bool of_images = verb == "images" || group == "image";
  if (key == "container") return "containers";
  if (key == "image" || key == "ancestor" || key == "reference") return "images";
  if (key == "network") return "networks";
  if (key == "volume") return "volumes";
  if (key == "before" || key == "since") return of_images ? "images" : "containers";
  if (key == "name") {
    if (group == "compose") return "";
    return group == "volume" ? "volumes" : group == "network" ? "networks" : "containers";
  }
  return "";
}

CompletionOffer FilterOffer(absl::string_view group, absl::string_view verb,
                            absl::string_view typed) {
  const size_t equals = typed.find('=');
  if (equals != typed.npos) {
    const absl::string_view key = typed.substr(0, equals);
    if (key == "event") {
      Words events;
      for (const char* action :
           {"attach",   "commit",     "connect", "copy",           "create",       "delete",
            "destroy",  "detach",     "die",     "disconnect",     "exec_create",  "exec_detach",
            "exec_die", "exec_start", "export",  "extract-to-dir", "archive-path", "health_status",
            "import",   "kill",       "load",    "mount",          "oom",          "pause",
            "prune",    "pull",       "push",    "reload",         "remove",       "rename",
            "resize",   "restart",    "save",    "start",          "stop",         "tag",
            "top",      "unmount",    "unpause", "untag",          "update"}) {
        events.push_back(absl::StrCat("event=", action));
      }
      return {.words = std::move(events)};
    }
    if (std::string kind = FilterKind(group, verb, key); !kind.empty()) {
      return {.kind = std::move(kind), .before = absl::StrCat(key, "=")};
    }
  }
  return {.words = FilterWords(group, verb)};
}

Words Capabilities() {
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

// Flags that mean the same wherever they are.
const std::map<std::string, Words>& CommonWords() {
  static const auto* const kWords = new std::map<std::string, Words>{
      {"allow", {"network.host", "security.insecure"}},
      {"ansi", {"always", "auto", "never"}},
      {"attest", {"type=provenance", "type=sbom"}},
      {"cache-from", {"type=local,src=", "type=registry,ref="}},
      {"cache-to", {"inline", "type=inline", "type=local,dest=", "type=registry,ref="}},
      {"call", {"build", "check", "outline", "targets"}},
      {"cap-add", Capabilities()},
      {"cap-drop", Capabilities()},
      {"cgroupns", {"host", "private"}},
      {"condition", {"next-exit", "not-running", "removed"}},
      {"docker", {"host="}},
      {"gantry", {"host="}},
      {"gpus", {"all", "device="}},
      {"ipam-driver", {"default"}},
      {"isolation", {"default"}},
      {"log-driver", {"fluentd", "journald", "json-file", "local", "none", "syslog"}},
      {"log-level", {"debug", "error", "fatal", "info", "warn"}},
      {"log-opt",
       {"compress=", "env=", "env-regex=", "labels=", "labels-regex=", "max-buffer-size=",
        "max-file=", "max-size=", "mode=blocking", "mode=non-blocking", "tag="}},
      {"mount", {"type=bind,", "type=image,", "type=tmpfs,", "type=volume,"}},
      {"os", {"linux", "windows"}},
      {"platform", {"linux/386", "linux/amd64", "linux/arm/v7", "linux/arm64"}},
      {"policy", {"always", "missing"}},
      {"progress", {"auto", "plain", "quiet", "rawjson", "tty"}},
      {"protocol", {"sctp", "tcp", "udp"}},
      {"provenance", {"false", "max", "min", "mode="}},
      {"pull", {"always", "missing", "never"}},
      {"restart", {"always", "no", "on-failure", "unless-stopped"}},
      {"rmi", {"all", "local"}},
      {"runtime", {"crun", "runc"}},
      {"sbom", {"false", "true"}},
      {"scope", {"local"}},
      {"secret", {"id="}},
      {"security-opt",
       {"apparmor=", "label=", "mask=", "no-new-privileges", "seccomp=", "seccomp=unconfined",
        "systempaths=unconfined", "unmask=", "unmask=ALL", "writable-cgroups"}},
      {"snapshotter", {"native", "overlayfs"}},
      {"ssh", {"default"}},
      {"status", {"created", "dead", "exited", "paused", "removing", "restarting", "running"}},
      {"storage-opt", {"size="}},
      {"type", {"container", "image", "network", "volume"}},
      {"ulimit",
       {"core=", "cpu=", "data=", "fsize=", "locks=", "memlock=", "msgqueue=", "nice=", "nofile=",
        "nproc=", "rss=", "rtprio=", "rttime=", "sigpending=", "stack="}},
      {"userns", {"auto", "auto:size=", "host", "remap", "remap:"}},
      {"uts", {"host"}},
      {"variant", {"v5", "v6", "v7", "v8"}},
      {"volume-driver", {"local"}}};
  return *kWords;
}

Words FormatWords(absl::string_view group, absl::string_view verb) {
  if (group == "compose" && verb == "config") return {"json", "yaml"};
  if (group == "compose" && verb == "version") return {"json", "pretty"};
  if (verb == "ps" || verb == "images" || IsList(verb)) return {"json", "raw", "table"};
  static constexpr absl::string_view kTables[] = {"df",    "du",     "history",
                                                  "ports", "search", "stats"};
  if (std::find(std::begin(kTables), std::end(kTables), verb) != std::end(kTables))
    return {"json", "table"};
  return {"json"};
}

// "container:NAME", for the flags that join a namespace.
CompletionOffer Joins(absl::string_view typed, Words words) {
  if (absl::StartsWith(typed, "container:")) return {.kind = "running", .before = "container:"};
  words.push_back("container:");
  return {.words = std::move(words)};
}

}  // namespace

CompletionOffer OfferForFlag(absl::string_view group, absl::string_view verb,
                             const FlagSet::Flag& flag, absl::string_view typed,
                             const std::map<std::string, std::string>& environment) {
  const std::string& name = flag.name;
  if (name == "filter") return FilterOffer(group, verb, typed);
  if (name == "format") return {.words = FormatWords(group, verb)};
  if (name == "attach" && (verb == "run" || verb == "create"))
    return {.words = {"stderr", "stdin", "stdout"}};
  if (name == "ipc") return Joins(typed, {"host", "none", "private", "shareable"});
  if (name == "pid") return Joins(typed, {"host"});
  if (name == "network" && (verb == "run" || verb == "create") && group != "compose") {
    if (absl::StartsWith(typed, "container:")) return Joins(typed, {});
    return {.words = {"container:"}, .kind = "networks"};
  }
  if (name == "network" && verb == "build")
    return {.words = {"default", "host", "none"}, .kind = "networks"};
  if (name == "network" || name == "no-network" || name == "config-from")
    return {.kind = "networks"};
  if (name == "driver") {
    if (group == "network") return {.words = {"bridge", "ipvlan", "macvlan"}};
    return {.words = {"local"}};
  }
  if (name == "opt" && group == "network") {
    return {
        .words = {"com.docker.network.bridge.enable_icc=",
                  "com.docker.network.bridge.enable_ip_masquerade=",
                  "com.docker.network.bridge.gateway_mode_ipv4=",
                  "com.docker.network.bridge.gateway_mode_ipv6=",
                  "com.docker.network.bridge.host_binding_ipv4=", "com.docker.network.bridge.name=",
                  "com.docker.network.container_iface_prefix=", "com.docker.network.driver.mtu=",
                  "ipvlan_mode=", "macvlan_mode=", "parent="}};
  }
  if (name == "opt" && group == "volume") return {.words = {"device=", "o=", "size=", "type="}};
  if (name == "output" && verb == "build") {
    return {.words = {"type=docker", "type=image",
                      "type=local,dest=", "type=oci,dest=", "type=registry", "type=tar,dest="},
            .files = true};
  }
  if (name == "arch") {
    return {.words = {"386", "amd64", "arm", "arm64", "mips64le", "ppc64le", "riscv64", "s390x"}};
  }
  if (name == "signal" || name == "stop-signal") {
    return {.words = {"SIGABRT", "SIGALRM", "SIGCONT", "SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT",
                      "SIGSTOP", "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2",
                      "SIGWINCH"}};
  }
  if (name == "env" && !absl::StrContains(typed, "=")) {
    Words names;
    for (const auto& [variable, value] : environment) names.push_back(variable);
    return {.words = std::move(names)};
  }
  if (name == "volume" && !absl::StrContains(typed, ":"))
    return {.kind = "volumes", .after = ":", .files = true};
  if (name == "volume") return {};
  if (name == "volumes-from") return {.kind = "containers"};
  if (name == "link") return {.kind = "containers", .after = ":"};
  if (name == "scale") return {.kind = "services", .after = "="};
  if (name == "hash") return {.words = {"*"}, .kind = "services"};
  if (name == "device" || name == "checkpoint-dir" || name == "project-directory" ||
      name == "root") {
    return {.files = true};
  }
  if (const auto found = CommonWords().find(name); found != CommonWords().end())
    return {.words = found->second};
  if (flag.completes == "files") return {.files = true};
  return {.kind = flag.completes};
}

}  // namespace gantry::ctl
