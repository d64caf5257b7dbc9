#include "supervisor/config.h"

#include <glob.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#define TOML_EXCEPTIONS 0  // as everywhere: third_party/BUILD.bazel
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "toml++/toml.h"

#include "base/file.h"
#include "base/man_page.h"
#include "base/status_macros.h"
#include "supervisor/config_keys.h"
#include "supervisor/config_reader.h"
#include "supervisor/containerd_config.h"
#include "supervisor/network/address.h"
#include "supervisor/network/pool_source.h"
#include "supervisor/service_cgroup.h"
#include "supervisor/version.h"

namespace gantry {
namespace {

constexpr char kDockerAddressFlag[] = "--docker-address";
constexpr char kTlsVerifyFlag[] = "--tlsverify";  // without a value, as dockerd has it
// As an address: docker's clients are not served.
constexpr char kNoDockerAddress[] = "none";
constexpr char kConfigFile[] = "/etc/gantry/config.toml";

constexpr size_t kMaxConfigBytes = 1 << 20;
constexpr int kMaxImportDepth = 8;
constexpr char kContainerdAddress[] = "/run/containerd/containerd.sock";

// The files that an `imports` pattern names, in order; relative ones lie beside `file`.
std::vector<std::string> Expand(const std::string& pattern, const std::string& file) {
  const size_t slash = file.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : file.substr(0, slash);
  const std::string full =
      absl::StartsWith(pattern, "/") ? pattern : absl::StrCat(directory, "/", pattern);
  std::vector<std::string> files;
  glob_t found = {};
  if (glob(full.c_str(), GLOB_NOSORT, nullptr, &found) == 0)
    files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  std::sort(files.begin(), files.end());
  return files;
}

absl::Status ApplyFile(const std::string& file, int depth, std::set<std::string>& seen,
                       Config& config) {
  if (!seen.insert(file).second) return absl::OkStatus();
  if (depth > kMaxImportDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": imported through more than ", kMaxImportDepth, " other files"));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::string text, ReadFile(file, kMaxConfigBytes));
  const std::string source = config.source;
  GANTRY_RETURN_IF_ERROR(ApplyConfigText(text, file, config));
  if (depth > 0) config.source = source;
  const std::vector<std::string> imports = std::exchange(config.imports, {});
  for (const std::string& pattern : imports) {
    for (const std::string& imported : Expand(pattern, file))
      GANTRY_RETURN_IF_ERROR(ApplyFile(imported, depth + 1, seen, config));
  }
  return absl::OkStatus();
}

struct Flag {
  absl::string_view name;
  absl::string_view value_name;
  absl::string_view help;
  std::function<void(Config&, std::string)> set;
};

const std::vector<Flag>& Flags() {
  static const auto* flags = new std::vector<Flag>{
      {"--config", "FILE",
       "settings; Gantry's own or containerd's config.toml (/etc/gantry/config.toml)", nullptr},
      {"--root", "DIR", "what must survive a reboot: blobs, snapshots, metadata",
       [](Config& c, std::string v) { c.root = std::move(v); }},
      {"--state", "DIR", "what lives until the next boot: bundles and sockets of shims",
       [](Config& c, std::string v) { c.state = std::move(v); }},
      {"--address", "SOCKET", "where ctl, ctr, nerdctl, dockerd and kubelet connect",
       [](Config& c, std::string v) { c.address = std::move(v); }},
      {kDockerAddressFlag, "SOCKET",
       "where docker, docker compose and its SDKs connect: a path or tcp://HOST:PORT; may be "
       "repeated, none: off (docker.sock in the state directory)",
       [](Config& c, std::string v) { c.docker_addresses.push_back(std::move(v)); }},
      {kTlsVerifyFlag, "", "clients at tcp:// addresses must show a certificate; always so",
       [](Config&, std::string) {}},
      {"--tlscacert", "FILE", "who signs the certificates of clients at tcp:// addresses",
       [](Config& c, std::string v) { c.docker_tls_ca = std::move(v); }},
      {"--tlscert", "FILE", "the certificate that tcp:// addresses show",
       [](Config& c, std::string v) { c.docker_tls_certificate = std::move(v); }},
      {"--tlskey", "FILE", "its key",
       [](Config& c, std::string v) { c.docker_tls_key = std::move(v); }},
      {"--metrics-address", "HOST:PORT",
       "serve Prometheus' metrics at http://HOST:PORT/metrics (off)",
       [](Config& c, std::string v) { c.metrics_address = std::move(v); }},
      {"--shim", "FILE", "the gantry-shim program (beside gantryd)",
       [](Config& c, std::string v) { c.shim_path = std::move(v); }},
      {"--default-network", "NETWORK",
       "of containers that do not choose one: bridge, none or host (bridge)",
       [](Config& c, std::string v) { c.default_network = std::move(v); }},
      {"--userns-remap", "USER[:GROUP]",
       "whose subordinate ids containers have: default, a name or a number (the host's ids)",
       [](Config& c, std::string v) { c.userns_remap = std::move(v); }},
      {"--log-level", "LEVEL", "trace, debug, info, warn, error, fatal or panic",
       [](Config& c, std::string v) { c.log_level = std::move(v); }},
  };
  return *flags;
}

std::string Help() {
  std::string out =
      "gantryd: the Gantry container supervisor\n\n"
      "Usage: gantryd [flags]\n"
      "       gantryd [--config FILE] config default|dump|migrate|reference\n\nFlags (each wins "
      "over "
      "the file; -x and --x are the same):\n";
  for (const Flag& flag : Flags()) {
    std::string left = absl::StrCat("  ", flag.name, " ", flag.value_name);
    left.resize(std::max<size_t>(left.size() + 1, 30), ' ');
    absl::StrAppend(&out, left, flag.help, "\n");
  }
  absl::StrAppend(&out,
                  "  --version                   print the version and exit\n"
                  "  --help                      print this and exit\n\n"
                  "Examples:\n"
                  "  gantryd\n"
                  "  gantryd --root /srv/gantry --state /run/gantry2 --address /run/gantry2.sock\n"
                  "  gantryd --config /etc/containerd/config.toml\n");
  return out;
}

ManPage DaemonManual() {
  ManPage page("gantryd", 8, absl::StrCat("gantry ", kVersion), "the Gantry container supervisor");
  page.Section("SYNOPSIS");
  page.Usage("gantryd", "[FLAGS]");
  page.Usage("gantryd", "[--config FILE] config default|dump|migrate|reference");
  page.Section("DESCRIPTION");
  page.Paragraph(
      "Keeps images and containers and serves ctl, containerd's clients, kubelet and docker's "
      "clients. Each container has a process of its own, gantry-shim; containers run on while "
      "gantryd is stopped, killed or upgraded. Must run as root; usually systemd starts it.");
  page.Section("FLAGS");
  page.Paragraph("Each wins over the configuration file.");
  for (const Flag& flag : Flags()) {
    absl::string_view name = flag.name;
    absl::ConsumePrefix(&name, "--");
    page.Option(0, name, flag.value_name, flag.help);
  }
  page.Option(0, "version", "", "print the version and exit");
  page.Option(0, "help", "", "print the flags and exit");
  page.Section("COMMANDS");
  page.Item("config default", "Print the built-in configuration.");
  page.Item("config dump", "Print the configuration as the file and the defaults give it.");
  page.Item("config migrate", "Print a configuration of containerd as one of Gantry.");
  page.Item("config reference", "Print every key with its meaning, as Markdown.");
  page.Section("SIGNALS");
  page.Item("SIGTERM, SIGINT", "Stop within 5 seconds. Containers run on.");
  page.Item("SIGHUP", "Read the configuration again; runtimes and log level take effect.");
  page.Section("ENVIRONMENT");
  page.Item("NOTIFY_SOCKET, WATCHDOG_USEC",
            "Readiness is reported to systemd, and the watchdog as long as the daemon answers on "
            "its own socket.");
  page.Item("LISTEN_FDS, LISTEN_FDNAMES",
            "Sockets that systemd listens on take the place of those of the same path; the ones "
            "named docker serve docker's clients, whatever their path.");
  page.Section("FILES");
  page.Item("/etc/gantry/config.toml", "The configuration; may be absent.");
  page.Item("/var/lib/gantry", "Images, snapshots, volumes and records.");
  page.Item("/run/gantry", "Sockets, and what lives until the next boot.");
  page.SeeAlso({"ctl(1)", "gantry-config.toml(5)"});
  return page;
}

absl::Status WriteManual(const std::string& directory) {
  GANTRY_RETURN_IF_ERROR(WriteFileAtomic(directory + "/gantryd.8", DaemonManual().text(), 0644));
  return WriteFileAtomic(directory + "/gantry-config.toml.5", ConfigManual().text(), 0644);
}

}  // namespace

absl::Status ApplyConfigText(absl::string_view text, const std::string& file, Config& config) {
  const toml::parse_result parsed =
      toml::parse(std::string_view(text.data(), text.size()), std::string_view(file));
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return absl::InvalidArgumentError(
        absl::StrCat(file, ":", error.source().begin.line, ":", error.source().begin.column, ": ",
                     absl::string_view(error.description().data(), error.description().size())));
  }
  const toml::table& table = parsed.table();
  ConfigReader reader(table, file);
  config.source = file;
  if (const toml::node* version = table.get("version")) {
    if (!version->is_integer() || *version->value<int64_t>() < 2 ||
        *version->value<int64_t>() > 4) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ":", version->source().begin.line,
                       ": version: a containerd configuration of version 2, 3 or 4 can be read; "
                       "Gantry's own has no such key"));
    }
    if (!config.containerd_dialect) config.address = kContainerdAddress;
    config.containerd_dialect = true;
    ReadContainerd(reader, config);
  } else {
    ReadConfigKeys(reader, config);
  }
  GANTRY_RETURN_IF_ERROR(reader.error());
  for (std::string& name : reader.Untaken()) {
    if (std::find(config.ignored.begin(), config.ignored.end(), name) == config.ignored.end())
      config.ignored.push_back(std::move(name));
  }
  return absl::OkStatus();
}

absl::Status ApplyConfigFile(const std::string& file, Config& config) {
  std::set<std::string> seen;
  return ApplyFile(file, 0, seen, config);
}

std::vector<std::string> IgnoredByTable(const Config& config) {
  std::map<std::string, std::vector<std::string>> tables;
  for (const std::string& name : config.ignored) {
    // The last dot that is not within quotes parts table and key.
    size_t cut = std::string::npos;
    bool quoted = false;
    for (size_t i = 0; i < name.size(); ++i) {
      if (name[i] == '"') quoted = !quoted;
      if (name[i] == '.' && !quoted) cut = i;
    }
    if (cut == std::string::npos) {
      tables[""].push_back(name);
    } else {
      tables[name.substr(0, cut)].push_back(name.substr(cut + 1));
    }
  }
  std::vector<std::string> lines;
  for (const auto& [table, keys] : tables) {
    lines.push_back(absl::StrCat(table, table.empty() ? "" : ": ", absl::StrJoin(keys, ", ")));
  }
  return lines;
}

std::vector<std::string> DockerAddresses(const Config& config) {
  if (config.docker_addresses.empty()) return {config.state + "/docker.sock"};
  if (config.docker_addresses.front() == kNoDockerAddress) return {};
  return config.docker_addresses;
}

std::optional<std::string> TcpAddress(absl::string_view docker_address) {
  if (!absl::ConsumePrefix(&docker_address, "tcp://")) return std::nullopt;
  return std::string(docker_address);
}

std::string NriSocket(const Config& config) {
  static const Config defaults;
  if (!config.nri_enabled || !config.nri_connections) return "";
  if (!config.nri_socket.empty()) return config.nri_socket;
  // Daemons beside the machine's own are not in its way.
  return config.state == defaults.state ? "/var/run/nri/nri.sock" : config.state + "/nri.sock";
}

std::vector<std::string> ConfigPaths(const Config& config) {
  if (config.registry_config_path.empty()) return {};
  return absl::StrSplit(config.registry_config_path, ':');
}

namespace {

// An address that others reach over the network gives root on this host: without certificates on
// both sides there is none.
absl::Status CheckDockerTls(const Config& config, absl::string_view address) {
  for (const auto& [name, flag, file] :
       {std::tuple<const char*, const char*, const std::string&>{"ca", "--tlscacert",
                                                                 config.docker_tls_ca},
        {"certificate", "--tlscert", config.docker_tls_certificate},
        {"key", "--tlskey", config.docker_tls_key}}) {
    if (file.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("setting docker_address = \"", address,
                       "\": served only with TLS and certificates of clients; docker_tls.", name,
                       " (", flag, ") is missing"));
    }
    if (file.front() != '/') {
      return absl::InvalidArgumentError(
          absl::StrCat("setting docker_tls.", name, " = \"", file, "\": must be an absolute path"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckConfig(const Config& config) {
  for (const auto& [name, path] : {std::pair<const char*, const std::string&>{"root", config.root},
                                   {"state", config.state},
                                   {"address", config.address}}) {
    if (path.empty() || path.front() != '/' || absl::StrContains(path, std::string(1, '\0'))) {
      return absl::InvalidArgumentError(
          absl::StrCat("setting ", name, " = \"", path, "\": must be an absolute path"));
    }
  }
  if (!config.shim_path.empty() && config.shim_path.front() != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("setting shim = \"", config.shim_path, "\": must be an absolute path"));
  }
  for (const auto& [name, path] :
       {std::pair<const char*, const std::string&>{"nri.socket", config.nri_socket},
        {"nri.plugin_directory", config.nri_plugin_directory},
        {"nri.config_directory", config.nri_config_directory}}) {
    if (!path.empty() && path.front() != '/') {
      return absl::InvalidArgumentError(
          absl::StrCat("setting ", name, " = \"", path, "\": must be an absolute path"));
    }
  }
  for (const auto& [name, time] : {std::pair<const char*, absl::Duration>{
                                       "nri.registration_timeout", config.nri_registration_timeout},
                                   {"nri.request_timeout", config.nri_request_timeout},
                                   {"cri.stream_idle_time", config.cri_stream_idle_time}}) {
    if (time <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "setting ", name, " = ", absl::FormatDuration(time), ": must be more than zero"));
    }
  }
  for (const std::string& directory : config.cdi_spec_dirs) {
    if (directory.empty() || directory.front() != '/') {
      return absl::InvalidArgumentError(
          absl::StrCat("setting cdi.spec_dirs: \"", directory, "\" must be an absolute path"));
    }
  }
  for (const auto& [name, number] :
       {std::pair<const char*, int64_t>{"limits.pids", config.default_pids_limit},
        {"limits.generated_files_bytes", config.generated_files_bytes}}) {
    if (number < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("setting ", name, " = ", number, ": must be above zero, or 0 for no limit"));
    }
  }
  if (!config.cgroup_path.empty() && !IsCgroupPath(config.cgroup_path)) {
    return absl::InvalidArgumentError(absl::StrCat("setting cgroup.path = \"", config.cgroup_path,
                                                   "\": must be the path of a cgroup"));
  }
  std::vector<std::string> sockets = {config.address};
  if (!config.nri_socket.empty()) sockets.push_back(config.nri_socket);
  for (const std::string& address : config.docker_addresses) {
    if (address == kNoDockerAddress && config.docker_addresses.size() == 1) continue;
    if (TcpAddress(address).has_value()) {
      GANTRY_RETURN_IF_ERROR(CheckDockerTls(config, address));
      continue;
    }
    if (address.empty() || address.front() != '/') {
      return absl::InvalidArgumentError(
          absl::StrCat("setting docker_address = \"", address,
                       "\": must be an absolute path, tcp://HOST:PORT, or none"));
    }
    sockets.push_back(address);
  }
  // sun_path holds 108 bytes, the last of them NUL.
  for (const std::string& socket : sockets) {
    if (socket.size() > 107) {
      return absl::InvalidArgumentError(absl::StrCat(
          "socket path \"", socket, "\" has ", socket.size(), " characters; the kernel takes 107"));
    }
  }
  if (config.root == config.state) {
    return absl::InvalidArgumentError("settings root and state name the same directory");
  }
  static const std::set<std::string> kLevels = {"trace", "debug", "info", "warn",
                                                "error", "fatal", "panic"};
  if (kLevels.count(config.log_level) == 0) {
    return absl::InvalidArgumentError(absl::StrCat("setting log_level = \"", config.log_level,
                                                   "\": use one of ",
                                                   absl::StrJoin(kLevels, ", ")));
  }
  if (config.snapshotter != "overlayfs" && config.snapshotter != "native") {
    return absl::InvalidArgumentError(absl::StrCat("setting snapshotter = \"", config.snapshotter,
                                                   "\": use overlayfs or native"));
  }
  if (config.compressed_blobs != "keep" && config.compressed_blobs != "discard") {
    return absl::InvalidArgumentError(absl::StrCat("setting registry.compressed_blobs = \"",
                                                   config.compressed_blobs,
                                                   "\": use keep or discard"));
  }
  if (config.default_network != "bridge" && config.default_network != "none" &&
      config.default_network != "host") {
    return absl::InvalidArgumentError(absl::StrCat(
        "setting network.default = \"", config.default_network, "\": use bridge, none or host"));
  }
  if (!config.default_bind.empty() && !network::Address::Parse(config.default_bind).ok()) {
    return absl::InvalidArgumentError(absl::StrCat("setting network.default_bind = \"",
                                                   config.default_bind,
                                                   "\": must be an IP address of the host"));
  }
  for (const std::string& pool : config.default_address_pools) {
    if (const absl::Status parsed = network::ParsePoolSource(pool).status(); !parsed.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("setting network.default_address_pools: ", parsed.message()));
    }
  }
  std::vector<std::string> plugin_places = config.volume_plugin_specs;
  plugin_places.push_back(config.volume_plugin_sockets);
  for (const std::string& path : plugin_places) {
    if (path.empty() || path.front() != '/') {
      return absl::InvalidArgumentError(absl::StrCat(
          "settings volumes.plugin_sockets and plugin_specs: \"", path, "\" must be absolute"));
    }
  }
  for (const std::string& path : ConfigPaths(config)) {
    if (path.empty() || path.front() != '/') {
      return absl::InvalidArgumentError(
          absl::StrCat("setting registry.config_path: \"", path,
                       "\" must be an absolute path; several are separated by colons"));
    }
  }
  for (const std::string& registry : config.insecure_registries) {
    if (registry.empty() || absl::StrContains(registry, "://") ||
        absl::StrContains(registry, ' ')) {
      return absl::InvalidArgumentError(absl::StrCat(
          "setting registry.insecure_registries: \"", registry,
          "\" is not a registry; write host, host:port or a network such as 10.0.0.0/8"));
    }
  }
  for (const int64_t bytes : {config.max_receive_bytes, config.max_send_bytes}) {
    if (bytes < (1 << 20) || bytes > (1 << 30)) {
      return absl::InvalidArgumentError(
          "settings grpc.max_receive_bytes and grpc.max_send_bytes: 1048576 to 1073741824");
    }
  }
  if (config.restart_interval <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("setting restart_interval: greater than zero");
  }
  if (config.max_concurrent_downloads < 1 || config.max_concurrent_downloads > 64) {
    return absl::InvalidArgumentError("setting registry.max_concurrent_downloads: 1 to 64");
  }
  if (config.gc_pause_threshold < 0 || config.gc_pause_threshold > 0.5) {
    return absl::InvalidArgumentError("setting gc.pause_threshold: 0 to 0.5");
  }
  if (config.build_cache_bytes < 0) {
    return absl::InvalidArgumentError("setting build.cache_bytes: at least 0");
  }
  if (config.log_max_files < 1 || config.log_max_size_bytes < 0) {
    return absl::InvalidArgumentError(
        "settings logs.max_files and logs.max_size_bytes: at least 1 and 0");
  }
  return absl::OkStatus();
}

namespace {

// `gantryd config VERB`, as containerd's program has it. `file` is --config's, "" when it was not
// given; flags do not count, as they are no part of a file.
absl::StatusOr<std::string> ConfigVerb(absl::string_view verb, const std::string& file) {
  Config config;
  if (verb == "default") return PrintConfig(config);
  if (verb == "reference") return ConfigReference();
  if (verb != "dump" && verb != "migrate") {
    return absl::InvalidArgumentError(
        absl::StrCat("config \"", verb, "\": use default, dump, migrate or reference"));
  }
  const bool migrate = verb == "migrate";
  const std::string usual = migrate ? "/etc/containerd/config.toml" : kConfigFile;
  const absl::Status read = ApplyConfigFile(file.empty() ? usual : file, config);
  if (!read.ok() && (migrate || !file.empty() || !absl::IsNotFound(read))) return read;
  if (migrate && !config.containerd_dialect) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.empty() ? usual : file,
                     ": has no key \"version\", so it is not a configuration of containerd 1.5 or "
                     "later; Gantry's own needs no migration"));
  }
  GANTRY_RETURN_IF_ERROR(CheckConfig(config));
  std::string text;
  for (const std::string& keys : IgnoredByTable(config))
    absl::StrAppend(&text, "# no effect in Gantry: ", keys, "\n");
  return text + PrintConfig(config);
}

}  // namespace

absl::StatusOr<Config> LoadConfig(int argc, char** argv, std::string* text) {
  std::vector<std::pair<const Flag*, std::string>> given;
  std::string file;
  bool file_given = false;
  std::optional<std::string> verb;
  for (int i = 1; i < argc; ++i) {
    absl::string_view word = argv[i];
    if (word == "config") {
      verb = i + 1 < argc ? argv[++i] : "";
      continue;
    }
    if (word == "__man") {
      GANTRY_RETURN_IF_ERROR(WriteManual(i + 1 < argc ? argv[i + 1] : "."));
      text->clear();
      return absl::CancelledError("manual");
    }
    if (word == "--version" || word == "-version" || word == "-v") {
      *text = absl::StrCat("gantryd ", kVersion, "\n");
      return absl::CancelledError("version");
    }
    if (word == "--help" || word == "-help" || word == "-h") {
      *text = Help();
      return absl::CancelledError("help");
    }
    std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(word, absl::MaxSplits('=', 1));
    absl::string_view name = parts.first;
    std::string long_name(name);
    if (absl::StartsWith(name, "-") && !absl::StartsWith(name, "--"))
      long_name = absl::StrCat("-", name);
    if (long_name == "--c") long_name = "--config";
    if (long_name == "--a") long_name = "--address";
    if (long_name == "--l") long_name = "--log-level";
    const Flag* found = nullptr;
    for (const Flag& flag : Flags()) {
      if (flag.name == long_name) found = &flag;
    }
    if (found == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown argument \"", word, "\"; see gantryd --help"));
    }
    std::string value(parts.second);
    if (found->value_name.empty()) {
      if (absl::StrContains(word, '=') && value != "true" && value != "1") {
        return absl::InvalidArgumentError(
            absl::StrCat("flag ", found->name, " = ", value, ": it cannot be turned off"));
      }
    } else if (!absl::StrContains(word, '=')) {
      if (++i == argc) {
        return absl::InvalidArgumentError(absl::StrCat(
            "flag ", found->name, " needs a value: ", found->name, " ", found->value_name));
      }
      value = argv[i];
    }
    if (found->set == nullptr) {
      file = value;
      file_given = true;
    } else {
      given.emplace_back(found, value);
    }
  }
  if (verb.has_value()) {
    GANTRY_ASSIGN_OR_RETURN(*text, ConfigVerb(*verb, file_given ? file : ""));
    return absl::CancelledError("config");
  }
  Config config;
  if (!file_given) file = kConfigFile;
  const absl::Status read = ApplyConfigFile(file, config);
  if (!read.ok() && (file_given || !absl::IsNotFound(read)))
    return absl::Status(read.code(), absl::StrCat("configuration: ", read.message()));
  // A list from the command line replaces that of the file.
  for (const auto& [flag, value] : given) {
    if (flag->name == kDockerAddressFlag) config.docker_addresses.clear();
  }
  for (auto& [flag, value] : given) flag->set(config, value);
  GANTRY_RETURN_IF_ERROR(CheckConfig(config));
  return config;
}

}  // namespace gantry
