#include "supervisor/config.h"

#include <cctype>
#include <functional>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "toml++/toml.h"

#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/version.h"

namespace gantry {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;

// Walks a parsed file and remembers which keys somebody asked for, so that the rest can be reported by name.
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
  void Take(const std::vector<std::string>& path, absl::Duration& out) {
    std::string text;
    Take(path, text);
    if (!text.empty() && !absl::ParseDuration(text, &out)) {
      error_ =
          absl::InvalidArgumentError(absl::StrCat(file_, ": ", absl::StrJoin(path, "."), " = \"",
                                                  text, "\": not a duration such as \"100ms\""));
    }
  }

  const toml::table* Table(const std::vector<std::string>& path) {
    const toml::node* node = Lookup(path);
    return node == nullptr ? nullptr : node->as_table();
  }

  // Dotted names of all leaves nobody took.
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
      if (const toml::table* inner = node.as_table()) {
        Collect(*inner, here, names);
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
  in.Take({"docker_address"}, config.docker_address);
  in.Take({"metrics_address"}, config.metrics_address);
  in.Take({"shim"}, config.shim_path);
  in.Take({"log_level"}, config.log_level);
  in.Take({"snapshotter"}, config.snapshotter);
  in.Take({"default_runtime"}, config.default_runtime);
  in.Take({"restrict_oom_score_adj"}, config.restrict_oom_score_adj);
  in.TakeInt({"grpc", "max_message_bytes"}, config.max_message_bytes);
  in.TakeInt({"grpc", "uid"}, config.socket_uid);
  in.TakeInt({"grpc", "gid"}, config.socket_gid);
  in.Take({"registry", "config_path"}, config.registry_config_path);
  in.TakeInt({"registry", "max_concurrent_downloads"}, config.max_concurrent_downloads);
  in.Take({"registry", "compressed_blobs"}, config.compressed_blobs);
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
    }
  }
}

// containerd's own layout. Plugin sections moved between versions; each place that one of them used is looked at.
void ReadContainerd(Reader& in, Config& config) {
  int64_t version = 0;
  in.TakeInt({"version"}, version);
  in.Take({"root"}, config.root);
  in.Take({"state"}, config.state);
  in.Take({"debug", "level"}, config.log_level);
  in.Take({"grpc", "address"}, config.address);
  in.TakeInt({"grpc", "uid"}, config.socket_uid);
  in.TakeInt({"grpc", "gid"}, config.socket_gid);
  in.TakeInt({"grpc", "max_recv_message_size"}, config.max_message_bytes);
  in.Take({"plugins", "io.containerd.server.v1.grpc", "address"}, config.address);
  in.TakeInt({"plugins", "io.containerd.server.v1.grpc", "uid"}, config.socket_uid);
  in.TakeInt({"plugins", "io.containerd.server.v1.grpc", "gid"}, config.socket_gid);
  in.TakeInt({"plugins", "io.containerd.server.v1.grpc", "max_recv_message_size"},
             config.max_message_bytes);

  const std::string gc = "io.containerd.gc.v1.scheduler";
  in.Take({"plugins", gc, "pause_threshold"}, config.gc_pause_threshold);
  in.TakeInt({"plugins", gc, "deletion_threshold"}, config.gc_deletion_threshold);
  in.TakeInt({"plugins", gc, "mutation_threshold"}, config.gc_mutation_threshold);
  in.Take({"plugins", gc, "schedule_delay"}, config.gc_schedule_delay);
  in.Take({"plugins", gc, "startup_delay"}, config.gc_startup_delay);

  for (const char* cri : {"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"}) {
    in.Take({"plugins", cri, "restrict_oom_score_adj"}, config.restrict_oom_score_adj);
    in.Take({"plugins", cri, "containerd", "snapshotter"}, config.snapshotter);
    in.Take({"plugins", cri, "containerd", "default_runtime_name"}, config.default_runtime);
    if (const toml::table* runtimes = in.Table({"plugins", cri, "containerd", "runtimes"})) {
      for (const auto& [key, node] : *runtimes) {
        const std::string name(key.str());
        std::string type;
        RuntimeConfig runtime;
        in.Take({"plugins", cri, "containerd", "runtimes", name, "runtime_type"}, type);
        in.Take({"plugins", cri, "containerd", "runtimes", name, "options", "BinaryName"},
                runtime.path);
        in.Take({"plugins", cri, "containerd", "runtimes", name, "options", "SystemdCgroup"},
                runtime.systemd_cgroup);
        in.Take({"plugins", cri, "containerd", "runtimes", name, "options", "NoPivotRoot"},
                runtime.no_pivot_root);
        if (runtime.path.empty()) runtime.path = "runc";
        config.runtimes[name] = runtime;
      }
    }
  }
  in.Take({"plugins", "io.containerd.grpc.v1.cri", "registry", "config_path"},
          config.registry_config_path);
  in.Take({"plugins", "io.containerd.cri.v1.images", "registry", "config_path"},
          config.registry_config_path);
  in.Take({"plugins", "io.containerd.cri.v1.images", "snapshotter"}, config.snapshotter);
  in.TakeInt({"plugins", "io.containerd.grpc.v1.cri", "max_concurrent_downloads"},
             config.max_concurrent_downloads);
  in.TakeInt({"plugins", "io.containerd.cri.v1.images", "max_concurrent_downloads"},
             config.max_concurrent_downloads);
  in.Take({"plugins", "io.containerd.transfer.v1.local", "config_path"},
          config.registry_config_path);
  bool discard = false;
  in.Take({"plugins", "io.containerd.grpc.v1.cri", "containerd", "discard_unpacked_layers"},
          discard);
  in.Take({"plugins", "io.containerd.cri.v1.images", "discard_unpacked_layers"}, discard);
  if (discard) config.compressed_blobs = "discard";
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
      {"--docker-address", "SOCKET", "where docker's own clients connect",
       [](Config& c, std::string v) { c.docker_address = std::move(v); }},
      {"--metrics-address", "HOST:PORT",
       "serve Prometheus' metrics at http://HOST:PORT/metrics (off)",
       [](Config& c, std::string v) { c.metrics_address = std::move(v); }},
      {"--shim", "FILE", "the gantry-shim program (beside gantryd)",
       [](Config& c, std::string v) { c.shim_path = std::move(v); }},
      {"--log-level", "LEVEL", "trace, debug, info, warn, error, fatal or panic",
       [](Config& c, std::string v) { c.log_level = std::move(v); }},
  };
  return *flags;
}

std::string Help() {
  std::string out =
      "gantryd: the Gantry container supervisor\n\n"
      "Usage: gantryd [flags]\n\nFlags (each wins over the file; -x and --x are the same):\n";
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
  toml::table table;
  try {
    table = toml::parse(std::string_view(text.data(), text.size()), std::string_view(file));
  } catch (const toml::parse_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ":", error.source().begin.line, ":", error.source().begin.column, ": ",
                     absl::string_view(error.description().data(), error.description().size())));
  }
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
    config.containerd_dialect = true;
    ReadContainerd(reader, config);
  } else {
    ReadGantry(reader, config);
  }
  GANTRY_RETURN_IF_ERROR(reader.error());
  config.ignored = reader.Untaken();
  return absl::OkStatus();
}

std::string PrintConfig(const Config& config) {
  std::ostringstream out;
  auto text = [&out](const char* key, const std::string& value) {
    out << key << " = " << Quote(value) << "\n";
  };
  text("root", config.root);
  text("state", config.state);
  text("address", config.address);
  text("docker_address", config.docker_address);
  text("metrics_address", config.metrics_address);
  text("shim", config.shim_path);
  text("log_level", config.log_level);
  text("snapshotter", config.snapshotter);
  text("default_runtime", config.default_runtime);
  out << "restrict_oom_score_adj = " << (config.restrict_oom_score_adj ? "true" : "false") << "\n";
  out << "\n[grpc]\nmax_message_bytes = " << config.max_message_bytes
      << "\nuid = " << config.socket_uid << "\ngid = " << config.socket_gid << "\n";
  out << "\n[registry]\n";
  text("config_path", config.registry_config_path);
  out << "max_concurrent_downloads = " << config.max_concurrent_downloads << "\n";
  text("compressed_blobs", config.compressed_blobs);
  out << "\n[logs]\nmax_size_bytes = " << config.log_max_size_bytes
      << "\nmax_files = " << config.log_max_files << "\n";
  out << "\n[gc]\npause_threshold = " << absl::StrFormat("%g", config.gc_pause_threshold)
      << (config.gc_pause_threshold == static_cast<int64_t>(config.gc_pause_threshold) ? ".0" : "")
      << "\ndeletion_threshold = " << config.gc_deletion_threshold
      << "\nmutation_threshold = " << config.gc_mutation_threshold << "\n";
  text("schedule_delay", absl::FormatDuration(config.gc_schedule_delay));
  text("startup_delay", absl::FormatDuration(config.gc_startup_delay));
  for (const auto& [name, runtime] : config.runtimes) {
    out << "\n[runtimes." << Quote(name) << "]\n";
    text("path", runtime.path);
    out << "systemd_cgroup = " << (runtime.systemd_cgroup ? "true" : "false")
        << "\nno_pivot_root = " << (runtime.no_pivot_root ? "true" : "false") << "\n";
  }
  return out.str();
}

absl::Status CheckConfig(const Config& config) {
  for (const auto& [name, path] : {std::pair<const char*, const std::string&>{"root", config.root},
                                   {"state", config.state},
                                   {"address", config.address},
                                   {"docker_address", config.docker_address}}) {
    if (path.empty() || path.front() != '/' || absl::StrContains(path, std::string(1, '\0'))) {
      return absl::InvalidArgumentError(
          absl::StrCat("setting ", name, " = \"", path, "\": must be an absolute path"));
    }
  }
  // sun_path holds 108 bytes, the last of them NUL.
  for (const std::string& socket : {config.address, config.docker_address}) {
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
  if (config.max_message_bytes < (1 << 20)) {
    return absl::InvalidArgumentError("setting grpc.max_message_bytes: at least 1048576");
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

absl::StatusOr<Config> LoadConfig(int argc, char** argv, std::string* text) {
  std::vector<std::pair<const Flag*, std::string>> given;
  std::string file;
  bool file_given = false;
  for (int i = 1; i < argc; ++i) {
    absl::string_view word = argv[i];
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
    if (!absl::StrContains(word, '=')) {
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
  Config config;
  if (!file_given) file = "/etc/gantry/config.toml";
  absl::StatusOr<std::string> contents = ReadFile(file, kMaxConfigBytes);
  if (contents.ok()) {
    GANTRY_RETURN_IF_ERROR(ApplyConfigText(*contents, file, config));
  } else if (file_given || !absl::IsNotFound(contents.status())) {
    return absl::Status(contents.status().code(),
                        absl::StrCat("configuration: ", contents.status().message()));
  }
  for (auto& [flag, value] : given) flag->set(config, value);
  GANTRY_RETURN_IF_ERROR(CheckConfig(config));
  return config;
}

}  // namespace gantry
