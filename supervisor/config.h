// What the daemon was told: flags over file over built-in defaults.
//
// Two file dialects are read. Gantry's own (`/etc/gantry/config.toml`, see packaging/config.toml for every key), and containerd's
// `config.toml` versions 2 to 4, recognised by its `version` key: keys that Gantry honours take effect, all others are listed in
// `ignored` and reported once. A file that does not parse is refused whole, with line and column.
#ifndef GANTRY_SUPERVISOR_CONFIG_H_
#define GANTRY_SUPERVISOR_CONFIG_H_

#include <cstdint>
#include <map>
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
};

struct Config {
  std::string root = "/var/lib/gantry";
  std::string state = "/run/gantry";
  std::string address = "/run/gantry/gantry.sock";
  std::string docker_address = "/run/gantry/docker.sock";
  std::string metrics_address;  // "" off
  std::string shim_path;        // "" beside gantryd, else in PATH
  std::string log_level = "info";

  int64_t max_message_bytes = 16 << 20;
  int32_t socket_uid = 0;
  int32_t socket_gid = 0;

  std::string snapshotter = "overlayfs";
  std::string default_runtime = "auto";
  std::map<std::string, RuntimeConfig> runtimes;

  std::string registry_config_path;  // directory of <host>/hosts.toml; "" the built-in places
  int32_t max_concurrent_downloads = 4;
  std::string compressed_blobs = "keep";  // or "discard"

  int64_t log_max_size_bytes = 20 << 20;
  int32_t log_max_files = 5;

  double gc_pause_threshold = 0.02;
  int32_t gc_deletion_threshold = 0;
  int32_t gc_mutation_threshold = 100;
  absl::Duration gc_schedule_delay = absl::ZeroDuration();
  absl::Duration gc_startup_delay = absl::Milliseconds(100);

  bool restrict_oom_score_adj = false;

  std::string source;  // the file that was read; "" none
  bool containerd_dialect = false;
  std::vector<std::string> ignored;  // dotted names of keys that have no effect
};

// Reads a file's text. kInvalidArgument names file, line and key.
absl::Status ApplyConfigText(absl::string_view text, const std::string& file, Config& config);

// The value as Gantry's own dialect writes it: parsing the result gives the same Config. `ctl config migrate` prints this.
std::string PrintConfig(const Config& config);

// Sense of the whole: absolute paths, known levels and snapshotters, sizes above zero. kInvalidArgument names the setting.
absl::Status CheckConfig(const Config& config);

// Command line of gantryd. kCancelled: `--help` or `--version` was asked for and `*text` is the answer.
absl::StatusOr<Config> LoadConfig(int argc, char** argv, std::string* text);

}  // namespace gantry

#endif  // GANTRY_SUPERVISOR_CONFIG_H_
