#include "supervisor/config.h"

#include <glob.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <tuple>
#include <utility>

#define TOML_EXCEPTIONS 0  // as everywhere: third_party/BUILD.bazel
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "toml++/toml.h"

#include "base/file.h"
#include "base/status_macros.h"
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

// Walks a parsed file and remembers which keys were asked for, so that the rest can be reported
// by name.
class Reader {
 public:
  Reader(const toml::table& table, std::string file) : root_(table), file_(std::move(file)) {}

  // Sets `out` when the dotted `path` is there; records a wrong type as an error.
  void Take(const std::vector<std::string>& path, std::string& out) {
    if (const toml::node* node = Find(path)) {
      if (auto value = node->value<std::string>())
        out = *value;
      else
        Wrong(path, *node, "a string");
    }
  }
  void Take(const std::vector<std::string>& path, bool& out) {
    if (const toml::node* node = Find(path)) {
      if (node->is_boolean())
        out = *node->value<bool>();
      else
        Wrong(path, *node, "true or false");
    }
  }
  void Take(const std::vector<std::string>& path, double& out) {
    if (const toml::node* node = Find(path)) {
      if (node->is_number())
        out = *node->value<double>();
      else
        Wrong(path, *node, "a number");
    }
  }
  template <typename Integer>
  void TakeInt(const std::vector<std::string>& path, Integer& out) {
    if (const toml::node* node = Find(path)) {
      if (node->is_integer())
        out = static_cast<Integer>(*node->value<int64_t>());
      else
        Wrong(path, *node, "a whole number");
    }
  }
  void Take(const std::vector<std::string>& path, std::vector<std::string>& out) {
    const toml::node* node = Find(path);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    std::vector<std::string> texts;
    for (size_t i = 0; array != nullptr && i < array->size(); ++i) {
      if (auto text = array->get(i)->value<std::string>()) texts.push_back(*std::move(text));
    }
    if (array == nullptr || texts.size() != array->size()) {
      Wrong(path, *node, "a list of strings");
    } else {
      out = std::move(texts);
    }
  }
  // A string, or a list of them.
  void TakeOneOrMany(const std::vector<std::string>& path, std::vector<std::string>& out) {
    if (const toml::node* node = Lookup(path); node != nullptr && node->is_string()) {
      out = {""};
      Take(path, out.front());
    } else {
      Take(path, out);
    }
  }
  // As Go reads one: a text such as "100ms", or a number of nanoseconds.
  void Take(const std::vector<std::string>& path, absl::Duration& out) {
    if (const toml::node* node = Lookup(path); node != nullptr && node->is_integer()) {
      (void)Find(path);
      out = absl::Nanoseconds(*node->value<int64_t>());
      return;
    }
    std::string text;
    Take(path, text);
    if (!text.empty() && !absl::ParseDuration(text, &out)) {
      error_ =
          absl::InvalidArgumentError(absl::StrCat(file_, ": ", absl::StrJoin(path, "."), " = \"",
                                                  text, "\": not a duration such as \"100ms\""));
    }
  }

  // Read, so that it can be written out again, but nothing is done with it: reported like an
  // unknown key.
  void HasNoEffect(const std::vector<std::string>& path) {
    taken_.erase(absl::StrJoin(path, "\x1f"));
  }

  const toml::table* Table(const std::vector<std::string>& path) {
    const toml::node* node = Lookup(path);
    return node == nullptr ? nullptr : node->as_table();
  }

  // A text as it stands, "" when there is none. Does not count as taken.
  std::string Peek(const std::vector<std::string>& path) const {
    const toml::node* node = Lookup(path);
    return node == nullptr ? "" : node->value_or<std::string>("");
  }

  // Dotted names of all leaves that were not taken.
  std::vector<std::string> Untaken() const {
    std::vector<std::string> names;
    Collect(root_, {}, names);
    return names;
  }

  const absl::Status& error() const { return error_; }

 private:
  const toml::node* Lookup(const std::vector<std::string>& path) const {
    const toml::node* node = &root_;
    for (const std::string& part : path) {
      const toml::table* table = node->as_table();
      if (table == nullptr) return nullptr;
      node = table->get(part);
      if (node == nullptr) return nullptr;
    }
    return node;
  }

  const toml::node* Find(const std::vector<std::string>& path) {
    const toml::node* node = Lookup(path);
    if (node != nullptr) taken_.insert(absl::StrJoin(path, "\x1f"));
    return node;
  }

  void Wrong(const std::vector<std::string>& path, const toml::node& node,
             absl::string_view wanted) {
    if (!error_.ok()) return;
    error_ = absl::InvalidArgumentError(absl::StrCat(
        file_, ":", node.source().begin.line, ": ", absl::StrJoin(path, "."), " must be ", wanted));
  }

  void Collect(const toml::table& table, std::vector<std::string> path,
               std::vector<std::string>& names) const {
    for (const auto& [key, node] : table) {
      std::vector<std::string> here = path;
      here.emplace_back(key.str());
      if (const toml::table* inner = node.as_table(); inner != nullptr && !inner->empty()) {
        Collect(*inner, here, names);
      } else if (inner != nullptr) {
        continue;  // says nothing
      } else if (taken_.count(absl::StrJoin(here, "\x1f")) == 0) {
        std::vector<std::string> shown;
        for (const std::string& part : here) {
          shown.push_back(absl::StrContains(part, '.') ? absl::StrCat("\"", part, "\"") : part);
        }
        names.push_back(absl::StrJoin(shown, "."));
      }
    }
  }

  const toml::table& root_;
  const std::string file_;
  std::set<std::string> taken_;
  absl::Status error_;
};

void ReadGantry(Reader& in, Config& config) {
  in.Take({"root"}, config.root);
  in.Take({"state"}, config.state);
  in.Take({"address"}, config.address);
  in.TakeOneOrMany({"docker_address"}, config.docker_addresses);
  in.Take({"docker_tls", "ca"}, config.docker_tls_ca);
  in.Take({"docker_tls", "certificate"}, config.docker_tls_certificate);
  in.Take({"docker_tls", "key"}, config.docker_tls_key);
  in.Take({"metrics_address"}, config.metrics_address);
  in.Take({"shim"}, config.shim_path);
  in.Take({"log_level"}, config.log_level);
  in.Take({"snapshotter"}, config.snapshotter);
  in.Take({"default_runtime"}, config.default_runtime);
  in.Take({"restrict_oom_score_adj"}, config.restrict_oom_score_adj);
  in.Take({"restart_interval"}, config.restart_interval);
  in.TakeInt({"grpc", "max_receive_bytes"}, config.max_receive_bytes);
  in.TakeInt({"grpc", "max_send_bytes"}, config.max_send_bytes);
  in.TakeInt({"grpc", "uid"}, config.socket_uid);
  in.TakeInt({"grpc", "gid"}, config.socket_gid);
  in.Take({"cgroup", "path"}, config.cgroup_path);
  in.Take({"registry", "config_path"}, config.registry_config_path);
  in.Take({"registry", "insecure_registries"}, config.insecure_registries);
  in.TakeInt({"registry", "max_concurrent_downloads"}, config.max_concurrent_downloads);
  in.Take({"registry", "compressed_blobs"}, config.compressed_blobs);
  in.Take({"registry", "pinned_images"}, config.pinned_images);
  in.Take({"cni", "bin_dirs"}, config.cni_bin_dirs);
  in.Take({"cni", "conf_dir"}, config.cni_conf_dir);
  in.Take({"network", "default"}, config.default_network);
  in.Take({"network", "default_bind"}, config.default_bind);
  in.Take({"network", "default_address_pools"}, config.default_address_pools);
  in.TakeInt({"logs", "max_size_bytes"}, config.log_max_size_bytes);
  in.TakeInt({"logs", "max_files"}, config.log_max_files);
  in.Take({"gc", "pause_threshold"}, config.gc_pause_threshold);
  in.TakeInt({"gc", "deletion_threshold"}, config.gc_deletion_threshold);
  in.TakeInt({"gc", "mutation_threshold"}, config.gc_mutation_threshold);
  in.Take({"gc", "schedule_delay"}, config.gc_schedule_delay);
  in.Take({"gc", "startup_delay"}, config.gc_startup_delay);
  if (const toml::table* runtimes = in.Table({"runtimes"})) {
    for (const auto& [key, node] : *runtimes) {
      const std::string name(key.str());
      RuntimeConfig& runtime = config.runtimes[name];
      in.Take({"runtimes", name, "path"}, runtime.path);
      in.Take({"runtimes", name, "systemd_cgroup"}, runtime.systemd_cgroup);
      in.Take({"runtimes", name, "no_pivot_root"}, runtime.no_pivot_root);
      in.Take({"runtimes", name, "no_new_keyring"}, runtime.no_new_keyring);
      in.Take({"runtimes", name, "state_root"}, runtime.state_root);
    }
  }
}

// One handler of the CRI section: its options are those of containerd's runc shim. A handler of
// another shim (a virtual machine, say) has no counterpart here; nothing of it is taken, so that it
// is reported.
void ReadContainerdRuntime(Reader& in, const std::vector<std::string>& section,
                           const std::string& name, Config& config) {
  const auto at = [&section](std::vector<std::string> tail) {
    std::vector<std::string> path = section;
    path.insert(path.end(), tail.begin(), tail.end());
    return path;
  };
  std::string type = in.Peek(at({"runtime_type"}));
  if (!type.empty() && !absl::StartsWith(type, "io.containerd.runc.") &&
      type != "io.containerd.runtime.v1.linux") {
    return;
  }
  RuntimeConfig runtime;
  in.Take(at({"runtime_type"}), type);
  in.Take(at({"options", "BinaryName"}), runtime.path);
  in.Take(at({"options", "SystemdCgroup"}), runtime.systemd_cgroup);
  in.Take(at({"options", "NoPivotRoot"}), runtime.no_pivot_root);
  in.Take(at({"options", "NoNewKeyring"}), runtime.no_new_keyring);
  in.Take(at({"options", "Root"}), runtime.state_root);
  if (runtime.path.empty()) runtime.path = "runc";
  config.runtimes[name] = runtime;
}

// containerd's own layout. Plugin sections moved between versions; each place that one of them used
// is looked at.
void ReadContainerd(Reader& in, Config& config) {
  const Config before = config;
  int64_t version = 0;
  in.TakeInt({"version"}, version);
  in.Take({"imports"}, config.imports);
  in.Take({"root"}, config.root);
  in.Take({"state"}, config.state);
  in.Take({"cgroup", "path"}, config.cgroup_path);
  in.Take({"debug", "level"}, config.log_level);
  in.Take({"plugins", "io.containerd.server.v1.debug", "level"}, config.log_level);
  in.Take({"metrics", "address"}, config.metrics_address);
  in.Take({"plugins", "io.containerd.server.v1.metrics", "address"}, config.metrics_address);
  for (const std::vector<std::string>& section :
       {std::vector<std::string>{"grpc"}, {"plugins", "io.containerd.server.v1.grpc"}}) {
    const auto at = [&section](const char* key) {
      std::vector<std::string> path = section;
      path.emplace_back(key);
      return path;
    };
    std::string address;
    in.Take(at("address"), address);
    if (!address.empty()) config.address = address;
    in.TakeInt(at("uid"), config.socket_uid);
    in.TakeInt(at("gid"), config.socket_gid);
    // Zero means the default there.
    int64_t receive = 0, send = 0;
    in.TakeInt(at("max_recv_message_size"), receive);
    in.TakeInt(at("max_send_message_size"), send);
    if (receive > 0) config.max_receive_bytes = receive;
    if (send > 0) config.max_send_bytes = send;
  }

  const std::string gc = "io.containerd.gc.v1.scheduler";
  in.Take({"plugins", gc, "pause_threshold"}, config.gc_pause_threshold);
  in.TakeInt({"plugins", gc, "deletion_threshold"}, config.gc_deletion_threshold);
  in.TakeInt({"plugins", gc, "mutation_threshold"}, config.gc_mutation_threshold);
  in.Take({"plugins", gc, "schedule_delay"}, config.gc_schedule_delay);
  in.Take({"plugins", gc, "startup_delay"}, config.gc_startup_delay);
  for (const char* monitor :
       {"io.containerd.internal.v1.restart", "io.containerd.monitor.container.v1.restart"}) {
    in.Take({"plugins", monitor, "interval"}, config.restart_interval);
  }

  bool discard = false;
  for (const char* cri : {"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"}) {
    in.Take({"plugins", cri, "restrict_oom_score_adj"}, config.restrict_oom_score_adj);
    in.Take({"plugins", cri, "containerd", "snapshotter"}, config.snapshotter);
    in.Take({"plugins", cri, "containerd", "default_runtime_name"}, config.default_runtime);
    in.Take({"plugins", cri, "containerd", "discard_unpacked_layers"}, discard);
    const std::vector<std::string> section = {"plugins", cri, "containerd", "runtimes"};
    if (const toml::table* runtimes = in.Table(section)) {
      for (const auto& [key, node] : *runtimes) {
        std::vector<std::string> one = section;
        one.emplace_back(key.str());
        ReadContainerdRuntime(in, one, std::string(key.str()), config);
      }
    }
    std::string bin_dir;
    in.Take({"plugins", cri, "cni", "bin_dir"}, bin_dir);
    if (!bin_dir.empty()) config.cni_bin_dirs = {bin_dir};
    in.Take({"plugins", cri, "cni", "bin_dirs"}, config.cni_bin_dirs);
    in.Take({"plugins", cri, "cni", "conf_dir"}, config.cni_conf_dir);
  }
  const char* const images = "io.containerd.cri.v1.images";
  in.Take({"plugins", images, "snapshotter"}, config.snapshotter);
  in.Take({"plugins", images, "discard_unpacked_layers"}, discard);
  for (const char* pulls :
       {"io.containerd.grpc.v1.cri", images, "io.containerd.transfer.v1.local"}) {
    in.TakeInt({"plugins", pulls, "max_concurrent_downloads"}, config.max_concurrent_downloads);
  }
  for (const std::vector<std::string>& place :
       {std::vector<std::string>{"plugins", "io.containerd.grpc.v1.cri", "registry", "config_path"},
        {"plugins", images, "registry", "config_path"},
        {"plugins", "io.containerd.transfer.v1.local", "config_path"}}) {
    std::string directories;
    in.Take(place, directories);
    if (!directories.empty()) config.registry_config_path = directories;
  }
  std::string pause;
  in.Take({"plugins", "io.containerd.grpc.v1.cri", "sandbox_image"}, pause);
  if (!pause.empty()) config.pinned_images.push_back(pause);
  if (const toml::table* pinned = in.Table({"plugins", images, "pinned_images"})) {
    for (const auto& [key, node] : *pinned) {
      std::string name;
      in.Take({"plugins", images, "pinned_images", std::string(key.str())}, name);
      if (!name.empty()) config.pinned_images.push_back(name);
    }
  }
  if (discard) config.compressed_blobs = "discard";

  // `containerd config default` writes what is not set as well: empty, or zero.
  for (std::string Config::*text :
       {&Config::root, &Config::state, &Config::log_level, &Config::snapshotter,
        &Config::default_runtime, &Config::cni_conf_dir}) {
    if ((config.*text).empty()) config.*text = before.*text;
  }
  if (config.max_concurrent_downloads == 0)
    config.max_concurrent_downloads = before.max_concurrent_downloads;
  if (config.restart_interval == absl::ZeroDuration())
    config.restart_interval = before.restart_interval;
  if (config.cni_bin_dirs.empty()) config.cni_bin_dirs = before.cni_bin_dirs;
}

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
      {"--log-level", "LEVEL", "trace, debug, info, warn, error, fatal or panic",
       [](Config& c, std::string v) { c.log_level = std::move(v); }},
  };
  return *flags;
}

std::string Help() {
  std::string out =
      "gantryd: the Gantry container supervisor\n\n"
      "Usage: gantryd [flags]\n"
      "       gantryd [--config FILE] config default|dump|migrate\n\nFlags (each wins over the "
      "file; -x and --x are the same):\n";
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
  Reader reader(table, file);
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
    ReadGantry(reader, config);
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

std::string PrintConfig(const Config& config) {
  std::ostringstream out;
  auto text = [&out](const char* key, const std::string& value) {
    out << key << " = " << Quote(value) << "\n";
  };
  auto list = [&out](const char* key, const std::vector<std::string>& values) {
    out << key << " = ["
        << absl::StrJoin(
               values, ", ",
               [](std::string* to, const std::string& value) { to->append(Quote(value)); })
        << "]\n";
  };
  text("root", config.root);
  text("state", config.state);
  text("address", config.address);
  if (!config.docker_addresses.empty()) list("docker_address", config.docker_addresses);
  text("metrics_address", config.metrics_address);
  text("shim", config.shim_path);
  text("log_level", config.log_level);
  text("snapshotter", config.snapshotter);
  text("default_runtime", config.default_runtime);
  out << "restrict_oom_score_adj = " << (config.restrict_oom_score_adj ? "true" : "false") << "\n";
  text("restart_interval", absl::FormatDuration(config.restart_interval));
  if (!config.docker_tls_ca.empty() || !config.docker_tls_certificate.empty() ||
      !config.docker_tls_key.empty()) {
    out << "\n[docker_tls]\n";
    text("ca", config.docker_tls_ca);
    text("certificate", config.docker_tls_certificate);
    text("key", config.docker_tls_key);
  }
  out << "\n[grpc]\nmax_receive_bytes = " << config.max_receive_bytes
      << "\nmax_send_bytes = " << config.max_send_bytes << "\nuid = " << config.socket_uid
      << "\ngid = " << config.socket_gid << "\n";
  if (!config.cgroup_path.empty()) {
    out << "\n[cgroup]\n";
    text("path", config.cgroup_path);
  }
  out << "\n[registry]\n";
  text("config_path", config.registry_config_path);
  std::vector<std::string> insecure;
  for (const std::string& registry : config.insecure_registries)
    insecure.push_back(Quote(registry));
  out << "insecure_registries = [" << absl::StrJoin(insecure, ", ") << "]\n";
  out << "max_concurrent_downloads = " << config.max_concurrent_downloads << "\n";
  text("compressed_blobs", config.compressed_blobs);
  list("pinned_images", config.pinned_images);
  if (config.cni_bin_dirs != Config().cni_bin_dirs ||
      config.cni_conf_dir != Config().cni_conf_dir) {
    out << "\n[cni]\n";
    list("bin_dirs", config.cni_bin_dirs);
    text("conf_dir", config.cni_conf_dir);
  }
  out << "\n[network]\n";
  text("default", config.default_network);
  text("default_bind", config.default_bind);
  list("default_address_pools", config.default_address_pools);
  out << "\n[logs]\nmax_size_bytes = " << config.log_max_size_bytes
      << "\nmax_files = " << config.log_max_files << "\n";
  out << "\n[gc]\npause_threshold = " << absl::StrFormat("%g", config.gc_pause_threshold)
      << (config.gc_pause_threshold == static_cast<int64_t>(config.gc_pause_threshold) ? ".0" : "")
      << "\ndeletion_threshold = " << config.gc_deletion_threshold
      << "\nmutation_threshold = " << config.gc_mutation_threshold << "\n";
  // With its unit also where it is zero, as the file that is shipped has it.
  const auto duration = [&text](const char* key, absl::Duration value) {
    text(key, value == absl::ZeroDuration() ? "0s" : absl::FormatDuration(value));
  };
  duration("schedule_delay", config.gc_schedule_delay);
  duration("startup_delay", config.gc_startup_delay);
  for (const auto& [name, runtime] : config.runtimes) {
    out << "\n[runtimes." << Quote(name) << "]\n";
    text("path", runtime.path);
    out << "systemd_cgroup = " << (runtime.systemd_cgroup ? "true" : "false")
        << "\nno_pivot_root = " << (runtime.no_pivot_root ? "true" : "false")
        << "\nno_new_keyring = " << (runtime.no_new_keyring ? "true" : "false") << "\n";
    text("state_root", runtime.state_root);
  }
  return out.str();
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
  if (!config.cgroup_path.empty() && !IsCgroupPath(config.cgroup_path)) {
    return absl::InvalidArgumentError(absl::StrCat("setting cgroup.path = \"", config.cgroup_path,
                                                   "\": must be the path of a cgroup"));
  }
  std::vector<std::string> sockets = {config.address};
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
      return absl::InvalidArgumentError(
          absl::StrCat("setting registry.insecure_registries: \"", registry,
                       "\" is no registry; write host, host:port or a network such as 10.0.0.0/8"));
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
  if (verb != "dump" && verb != "migrate") {
    return absl::InvalidArgumentError(
        absl::StrCat("config \"", verb, "\": use default, dump or migrate"));
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
    if (found->value_name[0] == '\0') {
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
