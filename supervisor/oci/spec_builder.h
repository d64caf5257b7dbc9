// ContainerConfig (what the user asked for) -> config.json of the OCI runtime, with docker's
// defaults.
//
// Free functions, safe to call from any thread; nothing here touches the disk but the host's /dev
// for --privileged and --device.
#ifndef GANTRY_SUPERVISOR_OCI_SPEC_BUILDER_H_
#define GANTRY_SUPERVISOR_OCI_SPEC_BUILDER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/id_map.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/image_config.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/oci/user_lookup.h"

namespace gantry::oci {

using IdRange = gantry::IdRange;

struct MountConfig {
  enum class Type { kBind, kTmpfs, kOverlay };
  Type type = Type::kBind;
  std::string source = {};       // absolute host path; unused for tmpfs
  std::string destination = {};  // absolute path in the container
  bool read_only = false;
  bool recursive_read_only = false;       // sub-mounts too; needs a runtime that knows "rro"
  bool non_recursive = false;             // "bind" rather than "rbind"
  std::string propagation = {};           // "rprivate" when empty
  std::vector<std::string> options = {};  // appended: "size=64m", "mode=1777", "noexec", ...
  // Of kOverlay, which is read-only: its directories, uppermost first.
  std::vector<std::string> layers = {};
  // The ids of its files are shown by these; empty: as they are. Needs a runtime that knows
  // idmapped mounts.
  std::vector<IdRange> uids = {};
  std::vector<IdRange> gids = {};

  friend bool operator==(const MountConfig&, const MountConfig&) = default;
};

struct DeviceConfig {
  std::string host_path = {};
  std::string container_path = {};  // "" for host_path
  std::string permissions = "rwm";

  friend bool operator==(const DeviceConfig&, const DeviceConfig&) = default;
};

// How a kernel namespace is chosen.
struct NamespaceMode {
  enum class Kind { kPrivate, kHost, kPath };
  Kind kind = Kind::kPrivate;
  std::string path;  // for kPath: "/proc/123/ns/pid", "/run/netns/x"

  static NamespaceMode Private() { return {}; }
  static NamespaceMode Host() { return {Kind::kHost, ""}; }
  static NamespaceMode Path(std::string path) { return {Kind::kPath, std::move(path)}; }
  friend bool operator==(const NamespaceMode&, const NamespaceMode&) = default;
};

struct ContainerConfig {
  std::string id;  // 64 hex digits or a client's own; short form is the default host name
  std::vector<std::string> args;  // whole command line
  std::vector<std::string> env;   // "NAME=value"; later ones win
  std::string working_dir;        // "" for "/"
  std::string user;               // "" for root; ResolveUser grammar
  std::vector<std::string> group_add;
  std::string hostname;  // "" for the short id, or the host's own with the host's UTS namespace
  std::string domainname;
  bool terminal = false;
  int console_width = 0;
  int console_height = 0;
  std::map<std::string, std::string> annotations;

  std::string root_path;  // where the shim mounts the root file system; relative to the bundle
  bool read_only_root = false;
  std::vector<MountConfig> mounts;
  int64_t shm_size_bytes = 67108864;
  std::string shm_path;   // host directory to be shown at /dev/shm; "" for a tmpfs of its own
  std::string init_path;  // host path of a static init to run as process 1; "" for none
  std::vector<std::string> init_args = {"--"};  // between the init and the command line

  bool privileged = false;
  std::vector<std::string> cap_add;
  std::vector<std::string> cap_drop;
  bool no_new_privileges = false;
  bool seccomp_unconfined = false;
  std::string seccomp_profile;   // docker or runtime JSON; "" for the default
  std::string apparmor_profile;  // "" for the default, "unconfined"
  std::string selinux_label;
  std::string mount_label;  // of SELinux, for what is mounted in the container
  std::vector<std::string> ambient_capabilities;
  std::optional<std::vector<std::string>> masked_paths;  // unset: the defaults
  std::optional<std::vector<std::string>> readonly_paths;
  std::vector<std::string> unmask;  // patterns of what is neither masked nor read-only; "ALL"
  std::vector<std::string> mask;    // paths to be masked besides
  bool writable_cgroups = false;
  std::vector<DeviceConfig> devices;
  std::vector<std::string> device_cgroup_rules;  // "c 1:3 rwm"
  std::vector<Rlimit> rlimits;
  std::map<std::string, std::string> sysctls;
  std::optional<int> oom_score_adj;
  Resources resources;

  std::string cgroups_path;  // as the runtime wants it: "/gantry/<id>" or "slice:prefix:id"
  NamespaceMode network;
  NamespaceMode pid;
  NamespaceMode ipc;
  NamespaceMode uts;
  NamespaceMode cgroup;  // private takes effect on cgroup v2, or where it is asked for
  bool own_cgroup_namespace = false;
  // The user namespace is the host's where there are no ranges; else a new one with these, or that
  // at `user_namespace`, which has these.
  std::vector<IdRange> uids;
  std::vector<IdRange> gids;
  std::string user_namespace;
};

// Applies one `--security-opt`: "no-new-privileges[=true|false]",
// "seccomp=unconfined|builtin|<json>", "apparmor=<profile>", "label=disable|<label>", a part of the
// label ("label=user|role|type|level|filetype:<part>"), "systempaths=unconfined",
// "mask=<path>[:<path>]", "unmask=ALL|<pattern>[:<pattern>]", "writable-cgroups[=true|false]". ':'
// may stand for the first '='.
// kInvalidArgument: anything else.
absl::Status ApplySecurityOption(absl::string_view option, ContainerConfig& config);

// The whole configuration. `user` is ResolveUser(database, config.user, config.group_add).
//   kInvalidArgument     relative or escaping paths, duplicate mount points, unknown capabilities,
//                        bad sysctls (or one of a namespace the container does not own), malformed
//                        resources
//   kNotFound            a device that does not exist on the host
absl::StatusOr<RuntimeSpec> BuildSpec(const ContainerConfig& config, const User& user,
                                      const HostFacts& host);

// "nofile=1024:2048" or "nofile=1024", any case, with or without "RLIMIT_"; -1 and "unlimited" are
// infinity.
absl::StatusOr<Rlimit> ParseUlimit(absl::string_view text);

struct ExecConfig {
  std::vector<std::string> args = {};
  std::vector<std::string> env = {};     // added to the container's
  std::string working_dir = {};          // "" for the container's
  std::optional<std::string> user = {};  // unset: the container's
  bool terminal = false;
  int console_width = 0;
  int console_height = 0;
  bool privileged = false;
};

// A list of system controls as it is written to /proc/sys, names with dots. Those of namespaces
// that are not private in `config` are refused, as in BuildSpec().
absl::StatusOr<std::map<std::string, std::string>> CheckedSysctls(const ContainerConfig& config);

// The process for an exec into a container that runs `spec`: same limits, labels and bounding set,
// the user's own capabilities. `user` is only read when config.user is set.
absl::StatusOr<ProcessSpec> BuildExecProcess(const RuntimeSpec& spec, const ExecConfig& config,
                                             const std::optional<User>& user,
                                             const HostFacts& host);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_SPEC_BUILDER_H_
