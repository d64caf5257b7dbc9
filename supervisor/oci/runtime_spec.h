// An OCI runtime configuration (config.json), and the two parts of it that travel alone: a process
// (for exec) and resources (for update).
//
// A RuntimeSpec holds the whole JSON, so what a client wrote and we do not know reaches the runtime
// unchanged. Thread-compatible. Spec: OCI runtime-spec v1.2.
#ifndef GANTRY_SUPERVISOR_OCI_RUNTIME_SPEC_H_
#define GANTRY_SUPERVISOR_OCI_RUNTIME_SPEC_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <nlohmann/json_fwd.hpp>

#include "supervisor/oci/host_facts.h"

namespace gantry::oci {

// The newest version every runtime we drive understands (crun 1.8 refuses 1.3.0).
inline constexpr char kSpecVersion[] = "1.0.2";

struct Rlimit {
  std::string type;  // "RLIMIT_NOFILE"
  uint64_t soft = 0;
  uint64_t hard = 0;

  friend bool operator==(const Rlimit&, const Rlimit&) = default;
};

class RuntimeSpec {
 public:
  // An empty object with ociVersion.
  RuntimeSpec();
  ~RuntimeSpec();
  RuntimeSpec(RuntimeSpec&&) noexcept;
  RuntimeSpec& operator=(RuntimeSpec&&) noexcept;
  RuntimeSpec(const RuntimeSpec&);
  RuntimeSpec& operator=(const RuntimeSpec&);

  // kInvalidArgument: not JSON or not an object, or members we read have the wrong type.
  static absl::StatusOr<RuntimeSpec> Parse(absl::string_view bytes);
  std::string Print() const;

  // For what the accessors below do not cover.
  const nlohmann::json& document() const { return *json_; }
  nlohmann::json& document() { return *json_; }

  std::string oci_version() const;
  bool terminal() const;
  std::vector<std::string> args() const;
  std::vector<std::string> env() const;
  std::string cwd() const;
  uint32_t uid() const;
  std::string hostname() const;
  std::string root_path() const;
  bool root_readonly() const;
  std::string cgroups_path() const;
  // Whether systemd is to make the group, as the form of cgroups_path() says: "slice:prefix:name"
  // is written for systemd, all else is a path. `otherwise` when the spec names none.
  bool systemd_makes_cgroup(bool otherwise) const;
  std::map<std::string, std::string> annotations() const;
  bool has_namespace(absl::string_view type) const;          // "pid", "network", ...
  std::string namespace_path(absl::string_view type) const;  // "" when new or absent
  // The group on the host that group 0 of the container's user namespace stands for; nullopt
  // without gidMappings of it.
  std::optional<uint32_t> root_gid_on_host() const;

  void SetRootPath(absl::string_view path);
  void SetCgroupsPath(absl::string_view path);
  void SetTerminal(bool terminal);
  void SetEnv(absl::string_view name, absl::string_view value);
  // Joins the namespace at `path`; a new one when `path` is empty.
  void SetNamespace(absl::string_view type, absl::string_view path);

  // Lowers ociVersion to `newest_known` when it is above it, and drops members that came later.
  // Returns what was changed, one phrase each, for the log.
  std::vector<std::string> LowerVersion(absl::string_view newest_known);

  // Lowers rlimits and raises oomScoreAdj to what this process may set, so that a container starts
  // where CAP_SYS_RESOURCE is withheld, and clamps the resources as below. Returns what was
  // changed, one phrase each.
  std::vector<std::string> ClampToHost(const HostFacts& host);

  // RLIMIT_NOFILE of the process, taken out of the spec, where it is so small that a runtime which
  // sets it may run out of descriptors itself, and where it can be set from outside on this host.
  // Nothing otherwise.
  std::optional<Rlimit> TakeSmallDescriptorLimit(const HostFacts& host);

 private:
  std::unique_ptr<nlohmann::json> json_;  // never null, except after being moved from
};

// The `process` object. Only what is set is printed.
struct ProcessSpec {
  bool terminal = false;
  int console_width = 0;
  int console_height = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> additional_gids;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd = "/";
  std::vector<std::string> bounding;  // capabilities
  std::vector<std::string> effective;
  std::vector<std::string> permitted;
  std::vector<std::string> inheritable;
  std::vector<std::string> ambient;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile;
  std::string selinux_label;
  std::optional<int> oom_score_adj;
};

nlohmann::json ProcessToJson(const ProcessSpec& process);
absl::StatusOr<ProcessSpec> ProcessFromJson(const nlohmann::json& value);
std::string PrintProcess(const ProcessSpec& process);
absl::StatusOr<ProcessSpec> ParseProcess(absl::string_view bytes);

// The `linux.resources` object, without its device rules.
// A limit of one block device.
struct DeviceLimit {
  int64_t major = 0;
  int64_t minor = 0;
  uint64_t value = 0;  // bytes or operations a second, or a weight

  friend bool operator==(const DeviceLimit&, const DeviceLimit&) = default;
};

struct Resources {
  std::optional<int64_t> memory_limit_bytes;
  std::optional<int64_t> memory_reservation_bytes;
  std::optional<int64_t> memory_swap_bytes;  // memory and swap together; -1: unlimited
  std::optional<uint64_t> memory_swappiness;
  std::optional<bool> oom_kill_disabled;
  std::optional<uint64_t> cpu_shares;
  std::optional<int64_t> cpu_quota_micros;
  std::optional<uint64_t> cpu_period_micros;
  std::optional<int64_t> cpu_realtime_runtime_micros;
  std::optional<uint64_t> cpu_realtime_period_micros;
  std::string cpuset_cpus;  // "0-1,3"
  std::string cpuset_mems;
  std::optional<int64_t> pids_limit;        // -1: unlimited
  std::optional<uint16_t> block_io_weight;  // 10..1000
  std::vector<DeviceLimit> block_io_weight_device;
  std::vector<DeviceLimit> block_io_read_bps;
  std::vector<DeviceLimit> block_io_write_bps;
  std::vector<DeviceLimit> block_io_read_iops;
  std::vector<DeviceLimit> block_io_write_iops;
  std::map<std::string, uint64_t> hugepage_limits;  // "2MB" -> bytes
  std::map<std::string, std::string> unified;       // cgroup v2 file -> value

  friend bool operator==(const Resources&, const Resources&) = default;
};

nlohmann::json ResourcesToJson(const Resources& resources);
absl::StatusOr<Resources> ResourcesFromJson(const nlohmann::json& value);
std::string PrintResources(const Resources& resources);
absl::StatusOr<Resources> ParseResources(absl::string_view bytes);

// Leaves out what runtimes refuse on this host because its cgroups have no file for it, from
// `linux.resources` or the document of an update. Returns what was changed, one phrase each.
std::vector<std::string> ClampResourcesToHost(const HostFacts& host, nlohmann::json& resources);

// Overwrites what `change` sets; for `update`.
void MergeResources(Resources& into, const Resources& change);

// kInvalidArgument: a combination the kernel or docker refuses (swap below memory, absurd cpusets,
// shares out of range).
absl::Status CheckResources(const Resources& resources);

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_RUNTIME_SPEC_H_
