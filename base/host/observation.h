// What was seen of a host that is to run containers: plain values, with those of a clean host as
// defaults. Filled by observer.h and by the daemon, judged by checks.h.
#ifndef GANTRY_BASE_HOST_OBSERVATION_H_
#define GANTRY_BASE_HOST_OBSERVATION_H_

#include <cstdint>
#include <string>
#include <vector>

namespace gantry::host {

// A file system that holds something of the daemon's.
struct Space {
  std::string path;
  std::string type = "ext4";
  bool read_only = false;
  bool noexec = false, nosuid = false, nodev = false;
  bool project_quotas = true;
  uint64_t total_bytes = uint64_t{100} << 30;
  uint64_t free_bytes = uint64_t{50} << 30;
  uint64_t total_inodes = 1000000;  // 0: the file system does not count them
  uint64_t free_inodes = 900000;
};

struct SeenRuntime {
  std::string name;
  std::string path;
  std::string version;  // as it prints it, "1.1.5+ds1"
  std::string problem;  // why it cannot be used; ""
};

// Something that is there and belongs to no object of the daemon's.
struct Leftover {
  enum class Kind { kShim, kMount, kCgroup, kNetns, kBundle, kDirectory };
  Kind kind = Kind::kMount;
  std::string name;
};

struct Observation {
  // The kernel.
  std::string kernel = "6.1.0";
  std::vector<std::string> missing_namespaces;  // "pid", "net", ...
  bool overlay = true;  // listed in /proc/filesystems, or to be had as a module
  bool seccomp = true;
  bool nf_tables = true;
  bool root = true;                               // the observer is user 0
  std::vector<std::string> missing_capabilities;  // of the daemon
  int64_t max_user_namespaces = 10000;
  int64_t max_network_namespaces = 10000;
  int64_t pid_max = 4194304;
  int64_t processes = 200;  // threads there are
  int64_t threads_max = 100000;
  int64_t open_files = 5000, open_files_max = 9000000;
  int64_t inotify_instances_max = 128;
  int64_t key_count = 10, key_max = 200;               // of user 0
  int64_t connections = 100, connections_max = 65536;  // tracked; max 0: no tracking
  int64_t open_files_limit = 1048576;                  // RLIMIT_NOFILE of the observer

  // Control groups.
  enum class Cgroups { kV2, kV1, kHybrid, kNone };
  Cgroups cgroups = Cgroups::kV2;
  std::vector<std::string> missing_controllers;  // of cpu, cpuset, memory, pids, io
  bool cgroup_writable = true;
  bool systemd = true;

  // The network.
  bool uses_networks = false;  // the daemon has networks with containers
  bool forwarding = true;      // net.ipv4.ip_forward
  bool forwarding6 = true;
  bool uses_ipv6 = false;
  bool has_default_route = true;
  bool firewalld = false;
  bool ufw = false;
  bool forward_dropped = false;  // a base chain "forward" of another program drops by policy
  std::vector<std::string> name_servers = {"192.0.2.1"};
  bool resolv_conf_readable = true;
  bool localhost_in_hosts = true;

  // Time.
  int64_t unix_seconds = 1800000000;
  bool clock_synchronised = true;
  bool newest_record_is_later = false;  // files of the daemon are from the future

  // Disks.
  std::vector<Space> spaces;          // root, state
  bool project_quotas = true;         // of the root's file system
  bool wants_project_quotas = false;  // the configuration asks for a size per container
  bool state_survives_reboot = false;

  // Memory.
  uint64_t memory_bytes = uint64_t{8} << 30;
  uint64_t memory_available_bytes = uint64_t{4} << 30;

  // Security modules.
  bool apparmor = false, apparmor_parser = true;
  bool selinux_enforcing = false;

  // The daemon.
  bool daemon_answers = true;
  std::string daemon_error;  // what the call of it said
  bool socket_exists = true;
  bool socket_accepts = true;
  bool socket_permitted = true;
  bool socket_open_to_all = false;  // mode allows everyone
  bool daemon_runs = true;          // a process holds the lock of the root
  std::string socket = "/run/gantry/gantry.sock";
  std::vector<SeenRuntime> runtimes = {{"crun", "/usr/bin/crun", "1.24", ""}};
  bool default_runtime_usable = true;
  std::vector<std::string> silent_shims;    // ids of containers whose shim does not answer
  std::vector<std::string> stuck_removals;  // "ID: what it waits for"
  std::vector<Leftover> leftovers;
  std::vector<std::string> damaged;        // records that cannot be read
  std::vector<std::string> other_engines;  // "docker (/run/docker.sock)"
};

}  // namespace gantry::host

#endif  // GANTRY_BASE_HOST_OBSERVATION_H_
