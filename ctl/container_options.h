// The options of `run` and `create`, and what they mean as a ContainerConfig.
#ifndef GANTRY_CTL_CONTAINER_OPTIONS_H_
#define GANTRY_CTL_CONTAINER_OPTIONS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "ctl/flags.h"

namespace gantry::v1 {
class ContainerConfig;
class Resources;
}  // namespace gantry::v1

namespace gantry::ctl {

// Limits, for `run`, `create` and `update`.
class ResourceOptions {
 public:
  void AddFlags(FlagSet& flags);
  absl::Status Fill(v1::Resources* resources) const;

 private:
  std::string memory_, memory_reservation_, memory_swap_, kernel_memory_, cpus_, cpuset_cpus_,
      cpuset_mems_;
  std::optional<int64_t> memory_swappiness_, pids_limit_;
  int64_t cpu_shares_ = 0, cpu_period_ = 0, cpu_quota_ = 0, cpu_rt_period_ = 0, cpu_rt_runtime_ = 0,
          blkio_weight_ = 0;
};

class ContainerOptions {
 public:
  void AddFlags(FlagSet& flags);

  // `args`: IMAGE [COMMAND] [ARG...]. kInvalidArgument: options that exclude each other, or a
  // bad value.
  absl::StatusOr<v1::ContainerConfig> Build(const FlagSet& flags,
                                            const std::vector<std::string>& args,
                                            const std::map<std::string, std::string>& environment,
                                            const std::string& cwd) const;

  std::string name;
  std::string cidfile;
  std::string pull = "missing";
  std::string platform;
  bool quiet = false;
  bool interactive = false;
  bool tty = false;
  bool auto_remove = false;
  std::vector<std::string> attach;  // stdin, stdout, stderr

 private:
  ResourceOptions resources_;
  bool privileged_ = false, read_only_ = false, publish_all_ = false, oom_kill_disable_ = false,
       no_healthcheck_ = false;
  std::optional<bool> init_;
  std::vector<std::string> env_, env_files_, labels_, label_files_, annotations_, volumes_, mounts_,
      tmpfs_, cap_add_, cap_drop_, security_options_, sysctls_, devices_, gpus_, device_rules_,
      ulimits_, group_add_, publish_, expose_, networks_, network_aliases_, link_local_, dns_,
      dns_search_, dns_options_, extra_hosts_, links_, log_options_, storage_options_,
      volumes_from_, blkio_weight_device_, read_bps_, write_bps_, read_iops_, write_iops_;
  std::string workdir_, user_, hostname_, domainname_, entrypoint_, stop_signal_, restart_,
      log_driver_, runtime_, userns_, pid_, ipc_, uts_, cgroupns_, cgroup_parent_, mac_address_,
      ip_, ip6_, shm_size_, health_cmd_, health_interval_, health_timeout_, health_start_period_,
      health_start_interval_, volume_driver_;
  std::optional<int64_t> stop_timeout_, oom_score_adj_;
  int64_t health_retries_ = 0;
  bool entrypoint_seen_ = false;
};

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_CONTAINER_OPTIONS_H_
