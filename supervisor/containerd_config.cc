#include "supervisor/containerd_config.h"

#include <cstdint>
#include <string>
#include <vector>

#define TOML_EXCEPTIONS 0  // as everywhere: third_party/BUILD.bazel
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "toml++/toml.h"

namespace gantry {
namespace {

// One handler of the CRI section: its options are those of containerd's runc shim. A handler of
// another shim (a virtual machine, say) has no counterpart here; nothing of it is taken, so that it
// is reported.
void ReadContainerdRuntime(ConfigReader& in, const std::vector<std::string>& section,
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

void ReadContainerdStreams(ConfigReader& in, Config& config) {
  const char* const cri = "io.containerd.grpc.v1.cri";
  std::string host, port;
  in.Take({"plugins", cri, "stream_server_address"}, host);
  in.Take({"plugins", cri, "stream_server_port"}, port);
  if (!host.empty() || !port.empty()) {
    if (absl::StrContains(host, ':')) host = absl::StrCat("[", host, "]");
    config.cri_stream_address =
        absl::StrCat(host.empty() ? "127.0.0.1" : host, ":", port.empty() ? "0" : port);
  }
  in.Take({"plugins", cri, "stream_idle_timeout"}, config.cri_stream_idle_time);
}

void ReadContainerdNri(ConfigReader& in, Config& config) {
  const char* const nri = "io.containerd.nri.v1.nri";
  bool disable = !config.nri_enabled;
  bool disable_connections = !config.nri_connections;
  in.Take({"plugins", nri, "disable"}, disable);
  in.Take({"plugins", nri, "disable_connections"}, disable_connections);
  config.nri_enabled = !disable;
  config.nri_connections = !disable_connections;
  in.Take({"plugins", nri, "socket_path"}, config.nri_socket);
  in.Take({"plugins", nri, "plugin_path"}, config.nri_plugin_directory);
  in.Take({"plugins", nri, "plugin_config_path"}, config.nri_config_directory);
  in.Take({"plugins", nri, "plugin_registration_timeout"}, config.nri_registration_timeout);
  in.Take({"plugins", nri, "plugin_request_timeout"}, config.nri_request_timeout);
}

}  // namespace

void ReadContainerd(ConfigReader& in, Config& config) {
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
    in.Take({"plugins", cri, "cdi_spec_dirs"}, config.cdi_spec_dirs);
    bool cdi = true;
    in.Take({"plugins", cri, "enable_cdi"}, cdi);
    if (!cdi) config.cdi_spec_dirs.clear();
  }
  ReadContainerdStreams(in, config);
  ReadContainerdNri(in, config);
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
        &Config::default_runtime, &Config::cni_conf_dir, &Config::nri_plugin_directory,
        &Config::nri_config_directory}) {
    if ((config.*text).empty()) config.*text = before.*text;
  }
  if (config.max_concurrent_downloads == 0)
    config.max_concurrent_downloads = before.max_concurrent_downloads;
  if (config.restart_interval == absl::ZeroDuration())
    config.restart_interval = before.restart_interval;
  if (config.cni_bin_dirs.empty()) config.cni_bin_dirs = before.cni_bin_dirs;
}

}  // namespace gantry
