// The daemon's configuration: flags over file over built-in defaults.
//
// Two file dialects are read. Gantry's own (`/etc/gantry/config.toml`, see packaging/config.toml
// for every key), and containerd's `config.toml` versions 2 to 4 with the files it imports,
// recognised by its `version` key: keys that Gantry honours take effect, all others are listed in
// `ignored` and reported once. A file that does not parse is refused whole, with line and column.
//
// A containerd file that names no socket gets containerd's own, /run/containerd/containerd.sock,
// since its clients look there. One that names no root or state gets Gantry's: two daemons of
// different make should not meet in one directory by accident.
#ifndef GANTRY_SUPERVISOR_CONFIG_H_
#define GANTRY_SUPERVISOR_CONFIG_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gantry {

struct RuntimeConfig {
  std::string path;  // absolute, or a name looked up in PATH
  bool systemd_cgroup = false;
  bool no_pivot_root = false;
  bool no_new_keyring = false;
  std::string state_root;  // the runtime's own --root; "" below our state directory
};

struct Config {
  std::string root = "/var/lib/gantry";
  std::string state = "/run/gantry";
  std::string address = "/run/gantry/gantry.sock";
  // Where docker's own clients connect: paths of sockets, and tcp://HOST:PORT, where both sides
  // show certificates. None: docker.sock in the state directory. The word "none": nowhere.
  std::vector<std::string> docker_addresses;
  // PEM files for tcp:// addresses: the CA that signs certificates of clients, and our own.
  std::string docker_tls_ca;
  std::string docker_tls_certificate;
  std::string docker_tls_key;
  std::string metrics_address;  // "" off
  std::string shim_path;        // "" beside gantryd, else in PATH
  std::string log_level = "info";

  int64_t max_receive_bytes = 16 << 20;  // of one message
  int64_t max_send_bytes = 16 << 20;
  int32_t socket_uid = 0;
  int32_t socket_gid = 0;

  std::string cgroup_path;  // of the daemon and what it starts; "": where it was started

  std::string snapshotter = "overlayfs";
  std::string default_runtime = "auto";
  std::map<std::string, RuntimeConfig> runtimes;

  // Directories of <host>/hosts.toml, parted by ':'; "" the built-in places.
  std::string registry_config_path;
  std::vector<std::string> insecure_registries;  // host, host:port or IPv4 network
  int32_t max_concurrent_downloads = 4;
  std::string compressed_blobs = "keep";  // or "discard"
  std::vector<std::string>
      pinned_images;  // full names; labelled as pinned when they come in, and not pruned

  // Where network plugins of pods and their settings lie. Of no effect as long as no pods are
  // served, and reported so; kept because PrintConfig() would lose them otherwise.
  // The second directory is where Debian's plugins are.
  std::vector<std::string> cni_bin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
  std::string cni_conf_dir = "/etc/cni/net.d";

  // Where exec, attach and port-forward of pods are served: HOST:PORT, port 0: any.
  std::string cri_stream_address = "127.0.0.1:0";
  absl::Duration cri_stream_idle_time = absl::Hours(4);

  // NRI: plugins that see pods and containers, and change containers before they are made.
  bool nri_enabled = true;
  bool nri_connections = true;  // plugins may connect; else only those of the directory run
  // "": /var/run/nri/nri.sock, or nri.sock in a state directory that is not the default one.
  std::string nri_socket;
  std::string nri_plugin_directory = "/opt/nri/plugins";  // programs by the name NN-NAME
  std::string nri_config_directory = "/etc/nri/conf.d";
  absl::Duration nri_registration_timeout = absl::Seconds(5);
  absl::Duration nri_request_timeout = absl::Seconds(2);

  // Of a container that does not choose its network: "bridge", "none" or "host".
  std::string default_network = "bridge";
  // Of published ports without an address of their own; "": every address of the host.
  std::string default_bind;
  // Where subnets of networks come from, as docker writes it: "base=10.0.0.0/8,size=24"; none: the
  // built-in ones.
  std::vector<std::string> default_address_pools;

  // Whose subordinate ids containers have that do not choose: "default" or USER[:GROUP] of
  // /etc/subuid and /etc/subgid; "": they have the host's ids.
  std::string userns_remap;
  // Whose subordinate ids are given out to containers with --userns auto.
  std::string userns_auto_user = "containers";

  // Where volume drivers put their sockets, and where files say at which address one is.
  std::string volume_plugin_sockets = "/run/docker/plugins";
  std::vector<std::string> volume_plugin_specs = {"/etc/docker/plugins", "/usr/lib/docker/plugins"};

  // Directories of CDI files, which describe devices; of two that describe one, the later counts.
  std::vector<std::string> cdi_spec_dirs = {"/etc/cdi", "/var/run/cdi"};

  // Of a container that sets no limit of its own; 0: none.
  int64_t default_pids_limit = 4096;
  // What a container may make of its hosts, hostname and resolv.conf together; 0: no limit, and
  // what it writes goes to the host's disk.
  int64_t generated_files_bytes = 1 << 20;
  // An exec whose client leaves while it is attached is ended, with what it has started.
  bool execs_end_with_client = true;

  // The ceiling of the build cache; 0: none.
  int64_t build_cache_bytes = int64_t{20} << 30;

  int64_t log_max_size_bytes = 20 << 20;
  int32_t log_max_files = 5;

  double gc_pause_threshold = 0.02;
  int32_t gc_deletion_threshold = 0;
  int32_t gc_mutation_threshold = 100;
  absl::Duration gc_schedule_delay = absl::ZeroDuration();
  absl::Duration gc_startup_delay = absl::Milliseconds(100);

  // Containers are killed for memory before the daemon is: none gets a lower score than the daemon
  // has.
  bool restrict_oom_score_adj = false;
  absl::Duration restart_interval =
      absl::Seconds(10);  // the most that a restart by label is put off

  std::string source;  // the file that was read; "" none
  bool containerd_dialect = false;
  std::vector<std::string> ignored;  // dotted names of keys, and flags, that have no effect
  std::vector<std::string> imports;  // of the file read last: patterns, as they are written there
};

// Reads a file's text, but not what it imports. kInvalidArgument names file, line and key.
absl::Status ApplyConfigText(absl::string_view text, const std::string& file, Config& config);

// Reads a file and the files it imports, each over those before. kNotFound: there is no such file.
absl::Status ApplyConfigFile(const std::string& file, Config& config);

// `ignored` for people, one line for each table: "plugins.\"x\": a, b".
std::vector<std::string> IgnoredByTable(const Config& config);

// The value as Gantry's own dialect writes it: parsing the result gives the same Config. `ctl
// config migrate` prints this.
std::string PrintConfig(const Config& config);

// The addresses of docker's sockets, the default included; empty when they are off.
std::vector<std::string> DockerAddresses(const Config& config);

// HOST:PORT of tcp://HOST:PORT; nullopt: a path.
std::optional<std::string> TcpAddress(absl::string_view docker_address);

// The directories that registry_config_path names; none: the built-in places.
std::vector<std::string> ConfigPaths(const Config& config);

// Where plugins of NRI connect; "": nowhere.
std::string NriSocket(const Config& config);

// Sense of the whole: absolute paths, known levels and snapshotters, sizes above zero.
// kInvalidArgument names the setting.
absl::Status CheckConfig(const Config& config);

// Command line of gantryd. kCancelled: `--help`, `--version` or `config VERB` was asked for and
// `*text` is the answer.
absl::StatusOr<Config> LoadConfig(int argc, char** argv, std::string* text);

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_CONFIG_H_
