#include "supervisor/config_keys.h"

#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "supervisor/config_reader.h"
#include "supervisor/version.h"

namespace gantry {
namespace {

std::string Quote(absl::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", std::string(1, c));
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppend(&out, "\\u00", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
  return out;
}

// As TOML.
std::string Shown(const std::string& value) { return Quote(value); }
std::string Shown(bool value) { return value ? "true" : "false"; }
std::string Shown(int32_t value) { return absl::StrCat(value); }
std::string Shown(int64_t value) { return absl::StrCat(value); }
std::string Shown(double value) {
  return absl::StrCat(absl::StrFormat("%g", value),
                      value == static_cast<int64_t>(value) ? ".0" : "");
}
std::string Shown(absl::Duration value) {
  return Quote(value == absl::ZeroDuration() ? "0s" : absl::FormatDuration(value));
}
std::string Shown(const std::vector<std::string>& values) {
  return absl::StrCat(
      "[",
      absl::StrJoin(values, ", ",
                    [](std::string* to, const std::string& value) { to->append(Quote(value)); }),
      "]");
}

const char* TypeName(const std::string&) { return "string"; }
const char* TypeName(bool) { return "boolean"; }
const char* TypeName(int32_t) { return "integer"; }
const char* TypeName(int64_t) { return "integer"; }
const char* TypeName(double) { return "number"; }
const char* TypeName(absl::Duration) { return "duration"; }
const char* TypeName(const std::vector<std::string>&) { return "list of strings"; }

std::string ShownValue(const ConfigKey& key, const Config& config) {
  return std::visit([&config](auto member) { return Shown(config.*member); }, key.value);
}

std::string ShownType(const ConfigKey& key) {
  static const Config config;
  return absl::StrCat(key.one_or_many ? "string or " : "",
                      std::visit([](auto member) { return TypeName(config.*member); }, key.value));
}

// "registry" and "pinned_images"; the table of a key at the top is "".
std::pair<std::string, std::string> TableAndKey(absl::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == absl::string_view::npos) return {"", std::string(name)};
  return {std::string(name.substr(0, dot)), std::string(name.substr(dot + 1))};
}

// Pipes end cells.
std::string Cell(absl::string_view text) { return absl::StrReplaceAll(text, {{"|", "\\|"}}); }

}  // namespace

const std::vector<ConfigKey>& ConfigKeys() {
  using Print = ConfigKey::Print;
  static const auto* keys = new std::vector<ConfigKey>{
      {"root", &Config::root, "Directory that survives a reboot: blobs, snapshots, records."},
      {"state", &Config::state,
       "Directory that lives until the next boot: bundles, sockets of shims."},
      {"address", &Config::address, "Socket for ctl, ctr, nerdctl, dockerd and kubelet."},
      {"docker_address", &Config::docker_addresses,
       "Sockets for docker, docker compose and SDKs; \"none\" serves them nowhere. Left out: "
       "docker.sock in the state directory. Mode 0660, of the group docker where there is one. "
       "Also tcp://HOST:PORT, with [docker_tls] only.",
       Print::kIfSet, true},
      {"metrics_address", &Config::metrics_address,
       "HOST:PORT of Prometheus' metrics, path /metrics; \":9323\" is loopback only. Empty: off."},
      {"shim", &Config::shim_path, "The program gantry-shim. Empty: the one beside gantryd."},
      {"log_level", &Config::log_level,
       "trace, debug, info, warn, error, fatal or panic. Taken over by a reload."},
      {"snapshotter", &Config::snapshotter, "overlayfs, or native, which copies."},
      {"default_runtime", &Config::default_runtime,
       "auto is crun where it works on this host, else runc; or a name of [runtimes]. Taken over "
       "by a reload."},
      {"restrict_oom_score_adj", &Config::restrict_oom_score_adj,
       "No container is killed for memory later than the daemon."},
      {"restart_interval", &Config::restart_interval,
       "The most that a container with containerd's restart labels waits."},
      {"docker_tls.ca", &Config::docker_tls_ca,
       "PEM file of the CA that signs the certificates of clients at tcp:// addresses.",
       Print::kIfSet},
      {"docker_tls.certificate", &Config::docker_tls_certificate,
       "PEM file of the certificate that tcp:// addresses show.", Print::kIfSet},
      {"docker_tls.key", &Config::docker_tls_key, "PEM file of its key.", Print::kIfSet},
      {"grpc.max_receive_bytes", &Config::max_receive_bytes, "Largest message that is accepted."},
      {"grpc.max_send_bytes", &Config::max_send_bytes, "Largest message that is sent."},
      {"grpc.uid", &Config::socket_uid, "Owner of the socket, whose mode is 0660."},
      {"grpc.gid", &Config::socket_gid, "Group of the socket."},
      {"cgroup.path", &Config::cgroup_path,
       "Group of the daemon and its shims, such as /services/gantry. Empty: where it is started.",
       Print::kIfSet},
      {"registry.config_path", &Config::registry_config_path,
       "Directories of HOST/hosts.toml, separated by colons. Empty: the usual places."},
      {"registry.insecure_registries", &Config::insecure_registries,
       "Hosts and networks whose TLS certificates are not verified and that may speak plain "
       "HTTP: \"host:5000\", \"10.0.0.0/8\"."},
      {"registry.max_concurrent_downloads", &Config::max_concurrent_downloads,
       "Blobs of one pull that are fetched at a time."},
      {"registry.compressed_blobs", &Config::compressed_blobs,
       "keep, or discard after unpacking; then a push or save fetches them again."},
      {"registry.pinned_images", &Config::pinned_images,
       "Full names of images that prune leaves alone and kubelet does not collect."},
      {"cni.bin_dirs", &Config::cni_bin_dirs, "Where the network plugins of pods are.",
       Print::kIfSet},
      {"cni.conf_dir", &Config::cni_conf_dir,
       "Directory whose first file says which network pods are on.", Print::kIfSet},
      {"cri.stream_address", &Config::cri_stream_address,
       "HOST:PORT where kubelet is sent for exec, attach and port-forward; port 0: any. Who "
       "reaches "
       "it needs no more than the URL that kubelet was given.",
       Print::kIfSet},
      {"cri.stream_idle_time", &Config::cri_stream_idle_time,
       "After so long without a byte such a connection is closed.", Print::kIfSet},
      {"nri.enabled", &Config::nri_enabled, "Plugins of NRI see and change containers of pods.",
       Print::kIfSet},
      {"nri.connections", &Config::nri_connections,
       "Plugins may connect; else only those of the plugin directory run.", Print::kIfSet},
      {"nri.socket", &Config::nri_socket,
       "Where plugins connect. Empty: /var/run/nri/nri.sock, or nri.sock in a state directory that "
       "is not the default one.",
       Print::kIfSet},
      {"nri.plugin_directory", &Config::nri_plugin_directory,
       "Programs named NN-NAME that are started as plugins, NN being their place in the order.",
       Print::kIfSet},
      {"nri.config_directory", &Config::nri_config_directory,
       "NN-NAME.conf or NAME.conf in it is what a plugin is configured with.", Print::kIfSet},
      {"nri.registration_timeout", &Config::nri_registration_timeout,
       "How long a plugin may take to register and be configured.", Print::kIfSet},
      {"nri.request_timeout", &Config::nri_request_timeout,
       "How long a plugin may take for one request; one that does not answer is dropped.",
       Print::kIfSet},
      {"network.default", &Config::default_network,
       "Network of containers that do not choose one: bridge, none or host."},
      {"network.default_bind", &Config::default_bind,
       "Host address of published ports that name none, such as 127.0.0.1. Empty: every one."},
      {"network.default_address_pools", &Config::default_address_pools,
       "Where subnets of networks come from: \"base=10.0.0.0/8,size=24\". Empty: 172.17.0.0/16 "
       "and further ones, as docker."},
      {"user_namespaces.remap", &Config::userns_remap,
       "Whose subordinate ids, of /etc/subuid and /etc/subgid, containers have: \"default\" (user "
       "dockremap), USER, USER:GROUP or numbers. Empty: the host's ids."},
      {"user_namespaces.auto_user", &Config::userns_auto_user,
       "User whose subordinate ids containers with --userns auto get, each its own.",
       Print::kIfSet},
      {"volumes.plugin_sockets", &Config::volume_plugin_sockets,
       "Directory of the sockets of volume drivers.", Print::kIfSet},
      {"volumes.plugin_specs", &Config::volume_plugin_specs,
       "Directories of .spec and .json files that say where a volume driver is.", Print::kIfSet},
      {"cdi.spec_dirs", &Config::cdi_spec_dirs,
       "Directories of CDI files, which describe devices for --device and --gpus. Of two files "
       "that "
       "describe a device, the one in the later directory counts."},
      {"limits.pids", &Config::default_pids_limit,
       "Most processes and threads of a container that sets no limit itself; 0: no limit, as with "
       "docker. Pods have the kubelet's."},
      {"limits.generated_files_bytes", &Config::generated_files_bytes,
       "Most bytes that a container may write to its /etc/hosts, /etc/hostname and "
       "/etc/resolv.conf together; 0: no limit, and they lie on the host's disk, as with docker."},
      {"limits.execs_end_with_client", &Config::execs_end_with_client,
       "An exec whose client is killed or loses its connection ends, with what it has started; "
       "false: it goes on, as with docker."},
      {"build.cache_bytes", &Config::build_cache_bytes,
       "What the build cache of all namespaces may take on the disk after a build: layers, cache "
       "mounts and kept contexts. What was used least recently goes; 0: no limit."},
      {"logs.max_size_bytes", &Config::log_max_size_bytes,
       "Largest file of a container's log; 0: no limit."},
      {"logs.max_files", &Config::log_max_files, "Files of a container's log that are kept."},
      {"gc.pause_threshold", &Config::gc_pause_threshold,
       "Share of the time that collections may take, 0 to 0.5."},
      {"gc.deletion_threshold", &Config::gc_deletion_threshold,
       "Removals after which a collection begins; 0: only with the next one."},
      {"gc.mutation_threshold", &Config::gc_mutation_threshold,
       "Changes after which a collection begins."},
      {"gc.schedule_delay", &Config::gc_schedule_delay,
       "Between what asks for a collection and its begin."},
      {"gc.startup_delay", &Config::gc_startup_delay,
       "Between the start of the daemon and the first collection."},
  };
  return *keys;
}

const std::vector<RuntimeKey>& RuntimeKeys() {
  static const auto* keys = new std::vector<RuntimeKey>{
      {"path", &RuntimeConfig::path, "The program, absolute or looked up in PATH."},
      {"systemd_cgroup", &RuntimeConfig::systemd_cgroup,
       "Containers get a scope of systemd instead of a group of their own."},
      {"no_pivot_root", &RuntimeConfig::no_pivot_root, "For root file systems in RAM disks."},
      {"no_new_keyring", &RuntimeConfig::no_new_keyring, "Containers share the session's keyring."},
      {"state_root", &RuntimeConfig::state_root,
       "The runtime's --root. Empty: below the state directory."},
  };
  return *keys;
}

void ReadConfigKeys(ConfigReader& reader, Config& config) {
  for (const ConfigKey& key : ConfigKeys()) {
    const std::vector<std::string> path = absl::StrSplit(key.name, '.');
    std::visit(
        [&](auto member) {
          using Value = std::remove_reference_t<decltype(config.*member)>;
          if constexpr (std::is_same_v<Value, int32_t> || std::is_same_v<Value, int64_t>) {
            reader.TakeInt(path, config.*member);
          } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
            key.one_or_many ? reader.TakeOneOrMany(path, config.*member)
                            : reader.Take(path, config.*member);
          } else {
            reader.Take(path, config.*member);
          }
        },
        key.value);
  }
  const toml::table* runtimes = reader.Table({"runtimes"});
  if (runtimes == nullptr) return;
  for (const auto& [name, node] : *runtimes) {
    RuntimeConfig& runtime = config.runtimes[std::string(name.str())];
    for (const RuntimeKey& key : RuntimeKeys()) {
      std::visit(
          [&, table = std::string(name.str())](auto member) {
            reader.Take({"runtimes", table, std::string(key.name)}, runtime.*member);
          },
          key.value);
    }
  }
}

std::string PrintConfig(const Config& config) {
  static const Config defaults;
  std::string out;
  std::string printed_table;
  for (const ConfigKey& key : ConfigKeys()) {
    if (key.print == ConfigKey::Print::kIfSet &&
        ShownValue(key, config) == ShownValue(key, defaults)) {
      continue;
    }
    const auto [table, name] = TableAndKey(key.name);
    if (table != printed_table) absl::StrAppend(&out, "\n[", table, "]\n");
    printed_table = table;
    absl::StrAppend(&out, name, " = ", ShownValue(key, config), "\n");
  }
  for (const auto& [name, runtime] : config.runtimes) {
    absl::StrAppend(&out, "\n[runtimes.", Quote(name), "]\n");
    for (const RuntimeKey& key : RuntimeKeys()) {
      const std::string value = std::visit(
          [&runtime = runtime](auto member) { return Shown(runtime.*member); }, key.value);
      absl::StrAppend(&out, key.name, " = ", value, "\n");
    }
  }
  return out;
}

std::string ConfigReference() {
  static const Config defaults;
  std::string out;
  std::string shown_table = "none yet";
  for (const ConfigKey& key : ConfigKeys()) {
    const auto [table, name] = TableAndKey(key.name);
    if (table != shown_table) {
      absl::StrAppend(&out, out.empty() ? "" : "\n", "## ",
                      table.empty() ? "At the top" : absl::StrCat("`[", table, "]`"),
                      "\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    }
    shown_table = table;
    absl::StrAppend(&out, "| `", name, "` | ", ShownType(key), " | `",
                    Cell(ShownValue(key, defaults)), "` | ", Cell(key.help), " |\n");
  }
  absl::StrAppend(&out,
                  "\n## `[runtimes.NAME]`\n\nMore runtimes, or other settings for `crun` and "
                  "`runc`. Taken over by a reload.\n\n| key | type | default | meaning |\n"
                  "| --- | --- | --- | --- |\n");
  static const RuntimeConfig runtime;
  for (const RuntimeKey& key : RuntimeKeys()) {
    absl::StrAppend(&out, "| `", key.name, "` | ",
                    std::visit([](auto member) { return TypeName(runtime.*member); }, key.value),
                    " | `",
                    std::visit([](auto member) { return Shown(runtime.*member); }, key.value),
                    "` | ", Cell(key.help), " |\n");
  }
  return out;
}

ManPage ConfigManual() {
  static const Config defaults;
  ManPage page("gantry-config.toml", 5, absl::StrCat("gantry ", kVersion),
               "configuration of gantryd");
  page.Section("SYNOPSIS");
  page.Usage("/etc/gantry/config.toml", "");
  page.Section("DESCRIPTION");
  page.Paragraph(
      "A TOML file. It may be absent, and every key may be left out. Flags of gantryd win over "
      "it. A file that does not parse is refused with its line; keys that are not known are "
      "reported in the log and have no effect. A reload (systemctl reload gantry) takes over "
      "runtimes and log level; everything else takes a restart, which leaves containers running.");
  std::string shown_table = "none yet";
  for (const ConfigKey& key : ConfigKeys()) {
    const auto [table, name] = TableAndKey(key.name);
    if (table != shown_table)
      page.Section(table.empty() ? "AT THE TOP" : absl::StrCat("[", table, "]"));
    shown_table = table;
    page.Item(name, absl::StrCat(key.help, "\nDefault: ", ShownValue(key, defaults), " (",
                                 ShownType(key), ")"));
  }
  page.Section("[runtimes.NAME]");
  for (const RuntimeKey& key : RuntimeKeys()) page.Item(key.name, key.help);
  page.SeeAlso({"gantryd(8)", "ctl-config(1)"});
  return page;
}

}  // namespace gantry
