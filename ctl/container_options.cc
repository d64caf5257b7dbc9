#include "ctl/container_options.h"

#include <set>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/engine/device_request.h"
#include "base/engine/units.h"
#include "base/engine/value_syntax.h"
#include "base/status_macros.h"
#include "base/utf8.h"
#include "ctl/option_files.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"

namespace gantry::ctl {
namespace {

absl::Status Named(absl::string_view option, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat("--", option, ": ", status.message()));
}

absl::Status SetBytes(absl::string_view option, const std::string& text, int64_t* out) {
  if (text.empty()) return absl::OkStatus();
  auto bytes = engine::ParseBytes(text);
  if (!bytes.ok()) return Named(option, bytes.status());
  *out = *bytes;
  return absl::OkStatus();
}

absl::Status SetDuration(absl::string_view option, const std::string& text,
                         google::protobuf::Duration* (v1::HealthCheck::*field)(),
                         v1::HealthCheck* check) {
  if (text.empty()) return absl::OkStatus();
  auto duration = engine::ParseDuration(text);
  if (!duration.ok()) return Named(option, duration.status());
  google::protobuf::Duration* out = (check->*field)();
  out->set_seconds(absl::ToInt64Seconds(*duration));
  out->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(*duration - absl::Seconds(out->seconds()))));
  return absl::OkStatus();
}

}  // namespace

void ResourceOptions::AddFlags(FlagSet& flags) {
  flags.String(&memory_, "memory", 'm', "bytes", "Memory limit");
  flags.String(&memory_reservation_, "memory-reservation", 0, "bytes", "Memory soft limit");
  flags.String(&memory_swap_, "memory-swap", 0, "bytes",
               "Memory and swap together; -1 for unlimited swap");
  flags.OptionalInt(&memory_swappiness_, "memory-swappiness", 0, "How eagerly to swap (0 to 100)");
  flags.String(&kernel_memory_, "kernel-memory", 0, "bytes", "Ignored; kernels no longer have it")
      .hidden = true;
  flags.String(&cpus_, "cpus", 0, "decimal", "Number of CPUs");
  flags.Int(&cpu_shares_, "cpu-shares", 'c', "CPU weight, relative to others");
  flags.Int(&cpu_period_, "cpu-period", 0, "CFS period in microseconds");
  flags.Int(&cpu_quota_, "cpu-quota", 0, "CFS quota in microseconds");
  flags.Int(&cpu_rt_period_, "cpu-rt-period", 0, "Real-time period in microseconds");
  flags.Int(&cpu_rt_runtime_, "cpu-rt-runtime", 0, "Real-time runtime in microseconds");
  flags.String(&cpuset_cpus_, "cpuset-cpus", 0, "list", "CPUs it may use (0-3, 0,1)");
  flags.String(&cpuset_mems_, "cpuset-mems", 0, "list", "Memory nodes it may use");
  flags.OptionalInt(&pids_limit_, "pids-limit", 0, "Number of processes; -1 for unlimited");
  flags.Int(&blkio_weight_, "blkio-weight", 0, "Block I/O weight (10 to 1000)");
}

absl::Status ResourceOptions::Fill(v1::Resources* out) const {
  int64_t bytes = 0;
  GANTRY_RETURN_IF_ERROR(SetBytes("memory", memory_, &bytes));
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--memory: \"", memory_, "\" is negative"));
  }
  if (bytes != 0 && bytes < (6 << 20)) {
    return absl::InvalidArgumentError("--memory: must be at least 6m");
  }
  out->set_memory_bytes(bytes);
  bytes = 0;
  GANTRY_RETURN_IF_ERROR(SetBytes("memory-reservation", memory_reservation_, &bytes));
  out->set_memory_reservation_bytes(bytes);
  if (memory_swap_ == "-1") {
    out->set_memory_swap_bytes(-1);
  } else {
    bytes = 0;
    GANTRY_RETURN_IF_ERROR(SetBytes("memory-swap", memory_swap_, &bytes));
    out->set_memory_swap_bytes(bytes);
  }
  if (out->memory_swap_bytes() > 0 && out->memory_bytes() > 0 &&
      out->memory_swap_bytes() < out->memory_bytes()) {
    return absl::InvalidArgumentError(
        "--memory-swap is memory and swap together, so it cannot be below --memory");
  }
  if (memory_swappiness_) {
    if (*memory_swappiness_ < -1 || *memory_swappiness_ > 100) {
      return absl::InvalidArgumentError("--memory-swappiness: between 0 and 100");
    }
    if (*memory_swappiness_ >= 0) out->set_memory_swappiness(*memory_swappiness_);
  }
  if (!cpus_.empty()) {
    auto cpus = engine::ParseNanoCpus(cpus_);
    if (!cpus.ok()) return Named("cpus", cpus.status());
    if (cpu_period_ != 0 || cpu_quota_ != 0) {
      return absl::InvalidArgumentError(
          "--cpus cannot be combined with --cpu-period or --cpu-quota");
    }
    out->set_nano_cpus(*cpus);
  }
  if (cpu_shares_ < 0) return absl::InvalidArgumentError("--cpu-shares: negative");
  out->set_cpu_shares(static_cast<uint64_t>(cpu_shares_));
  out->set_cpu_period_micros(cpu_period_);
  out->set_cpu_quota_micros(cpu_quota_);
  out->set_cpu_rt_period_micros(cpu_rt_period_);
  out->set_cpu_rt_runtime_micros(cpu_rt_runtime_);
  out->set_cpuset_cpus(cpuset_cpus_);
  out->set_cpuset_mems(cpuset_mems_);
  if (pids_limit_) out->set_pids_limit(*pids_limit_);
  if (blkio_weight_ != 0 && (blkio_weight_ < 10 || blkio_weight_ > 1000)) {
    return absl::InvalidArgumentError("--blkio-weight: between 10 and 1000");
  }
  out->set_blkio_weight(static_cast<uint32_t>(blkio_weight_));
  return absl::OkStatus();
}

void ContainerOptions::AddFlags(FlagSet& flags) {
  flags.String(&name, "name", 0, "string", "Name of the container");
  flags.String(&cidfile, "cidfile", 0, "file", "Write the container's id there").completes =
      "files";
  flags.String(&pull, "pull", 0, "when",
               "Pull the image: always, missing, never (default missing)");
  flags.String(&platform, "platform", 0, "os/arch", "Platform, where the image has several");
  flags.Bool(&quiet, "quiet", 'q', "No progress of the pull");
  flags.Bool(&interactive, "interactive", 'i', "Keep stdin open");
  flags.Bool(&tty, "tty", 't', "Give it a terminal");
  flags.Bool(&auto_remove, "rm", 0, "Remove the container when it exits");
  flags.Strings(&attach, "attach", 'a', "list", "Attach to stdin, stdout or stderr only");

  flags.Strings(&env_, "env", 'e', "NAME=value", "Environment variable; a bare NAME takes ours");
  flags.Strings(&env_files_, "env-file", 0, "file", "File of environment variables").completes =
      "files";
  flags.Strings(&labels_, "label", 'l', "key=value", "Label");
  flags.Strings(&label_files_, "label-file", 0, "file", "File of labels").completes = "files";
  flags.Strings(&annotations_, "annotation", 0, "key=value", "Annotation for the OCI runtime");
  flags.String(&workdir_, "workdir", 'w', "path", "Working directory");
  flags.String(&user_, "user", 'u', "user[:group]", "Name or number");
  flags.Strings(&group_add_, "group-add", 0, "group", "Additional group");
  flags.String(&hostname_, "hostname", 'h', "name", "Host name inside");
  flags.String(&domainname_, "domainname", 0, "name", "NIS domain name inside");
  flags.Custom("entrypoint", 0, "command", "Instead of the image's entrypoint",
               [this](absl::string_view text) {
                 entrypoint_ = std::string(text);
                 entrypoint_seen_ = true;
                 return absl::OkStatus();
               });
  flags.OptionalBool(&init_, "init", 0, "An init that forwards signals and reaps processes");
  flags.String(&stop_signal_, "stop-signal", 0, "signal", "Signal that asks it to stop");
  flags.OptionalInt(&stop_timeout_, "stop-timeout", 0, "Seconds to stop before it is killed");
  flags.String(&restart_, "restart", 0, "policy",
               "When it exits: no, always, on-failure[:N], unless-stopped");
  flags.String(&runtime_, "runtime", 0, "name", "OCI runtime");

  flags.Strings(&volumes_, "volume", 'v', "[src:]dst[:opts]", "Bind mount or volume").completes =
      "files";
  flags.Strings(&mounts_, "mount", 0, "spec",
                "type=bind|volume|tmpfs|image, src=, dst=, ... (commas between)");
  flags.Strings(&tmpfs_, "tmpfs", 0, "dst[:opts]", "Mount a tmpfs");
  flags.Strings(&volumes_from_, "volumes-from", 0, "container", "Mounts of another container");
  flags.String(&volume_driver_, "volume-driver", 0, "name", "Driver of new volumes");
  flags.Bool(&read_only_, "read-only", 0, "Root file system read-only");
  flags.String(&shm_size_, "shm-size", 0, "bytes", "Size of /dev/shm (default 64m)");
  flags.Strings(&storage_options_, "storage-opt", 0, "key=value",
                "size=N: how large its layer may grow");

  flags
      .Custom("isolation", 0, "name", "Only \"default\": the others are Windows'",
              [](absl::string_view text) {
                if (text.empty() || text == "default") return absl::OkStatus();
                return absl::InvalidArgumentError(
                    absl::StrCat("\"", text, "\" is not valid; use default"));
              })
      .completes = "";
  flags.Bool(&privileged_, "privileged", 0, "Every capability and device, no seccomp");
  flags.Strings(&cap_add_, "cap-add", 0, "capability", "Add a capability; ALL for all");
  flags.Strings(&cap_drop_, "cap-drop", 0, "capability", "Take a capability away; ALL for all");
  flags.Strings(&security_options_, "security-opt", 0, "option",
                "no-new-privileges, seccomp=FILE|unconfined, apparmor=, label=, ...");
  flags.Strings(&sysctls_, "sysctl", 0, "key=value", "Kernel parameter inside");
  flags.String(&userns_, "userns", 0, "mode",
               "User namespace: host, remap[:USER[:GROUP]], auto[:size=N]");
  flags.String(&pid_, "pid", 0, "mode", "Process namespace: host, container:NAME");
  flags.String(&ipc_, "ipc", 0, "mode", "IPC namespace: private, shareable, none, host, ...");
  flags.String(&uts_, "uts", 0, "mode", "UTS namespace: host");
  flags.String(&cgroupns_, "cgroupns", 0, "mode", "cgroup namespace: host, private");
  flags.String(&cgroup_parent_, "cgroup-parent", 0, "path", "cgroup above the container's");
  flags.OptionalInt(&oom_score_adj_, "oom-score-adj", 0,
                    "Preference of the OOM killer (-1000 to 1000)");
  flags.Bool(&oom_kill_disable_, "oom-kill-disable", 0, "No OOM killer for it");
  flags.Strings(&devices_, "device", 0, "host[:ctr[:rwm]]",
                "Device, or a CDI name: vendor.com/class=name");
  flags.Strings(&gpus_, "gpus", 0, "all|n|device=id", "GPUs, as CDI files describe them");
  flags.Strings(&device_rules_, "device-cgroup-rule", 0, "rule", "Rule for the device cgroup");
  flags.Strings(&ulimits_, "ulimit", 0, "name=soft[:hard]", "Resource limit");
  flags.Strings(&blkio_weight_device_, "blkio-weight-device", 0, "dev:weight", "Block I/O weight");
  flags.Strings(&read_bps_, "device-read-bps", 0, "dev:rate", "Bytes read per second");
  flags.Strings(&write_bps_, "device-write-bps", 0, "dev:rate", "Bytes written per second");
  flags.Strings(&read_iops_, "device-read-iops", 0, "dev:rate", "Reads per second");
  flags.Strings(&write_iops_, "device-write-iops", 0, "dev:rate", "Writes per second");

  flags
      .Strings(&networks_, "network", 0, "name",
               "Network: a network's name, bridge, host, none or container:NAME")
      .completes = "networks";
  flags.Alias("net", "network");
  flags.Strings(&network_aliases_, "network-alias", 0, "name", "Name in the network");
  flags.Alias("net-alias", "network-alias");
  flags.String(&ip_, "ip", 0, "address", "IPv4 address");
  flags.String(&ip6_, "ip6", 0, "address", "IPv6 address");
  flags.Strings(&link_local_, "link-local-ip", 0, "address",
                "Further address, in 169.254/16 or fe80::/10");
  flags.String(&mac_address_, "mac-address", 0, "address", "MAC address");
  flags.Strings(&publish_, "publish", 'p', "[host:]ctr[/proto]", "Publish a port");
  flags.Bool(&publish_all_, "publish-all", 'P', "Publish every exposed port");
  flags.Strings(&expose_, "expose", 0, "port", "Expose a port");
  flags.Strings(&dns_, "dns", 0, "address", "DNS server");
  flags.Strings(&dns_search_, "dns-search", 0, "domain", "DNS search domain");
  flags.Strings(&dns_options_, "dns-option", 0, "option", "DNS option");
  flags.Alias("dns-opt", "dns-option");
  flags.Strings(&extra_hosts_, "add-host", 0, "name:address", "Line of /etc/hosts");
  flags.Strings(&links_, "link", 0, "container", "Name another container");

  flags.String(&log_driver_, "log-driver", 0, "name",
               "json-file, local, none, journald, syslog or fluentd");
  flags.Strings(&log_options_, "log-opt", 0, "key=value", "max-size, max-file, ...");
  flags.String(&health_cmd_, "health-cmd", 0, "command", "Command that checks health");
  flags.String(&health_interval_, "health-interval", 0, "duration", "Time between checks");
  flags.String(&health_timeout_, "health-timeout", 0, "duration", "Time one check may take");
  flags.String(&health_start_period_, "health-start-period", 0, "duration", "Time to start up");
  flags.String(&health_start_interval_, "health-start-interval", 0, "duration",
               "Time between checks while starting");
  flags.Int(&health_retries_, "health-retries", 0, "Failures before it is unhealthy");
  flags.Bool(&no_healthcheck_, "no-healthcheck", 0, "Not even the image's health check");
  resources_.AddFlags(flags);
}

absl::StatusOr<v1::ContainerConfig> ContainerOptions::Build(
    const FlagSet& flags, const std::vector<std::string>& args,
    const std::map<std::string, std::string>& environment, const std::string& cwd) const {
  v1::ContainerConfig config;
  config.set_image(args[0]);
  // As in docker: a container's configuration is JSON, so bytes that are not UTF-8 become U+FFFD.
  for (size_t i = 1; i < args.size(); ++i) config.add_command(ToValidUtf8(args[i]));
  if (entrypoint_seen_) {
    config.mutable_entrypoint();
    if (!entrypoint_.empty()) config.mutable_entrypoint()->add_values(ToValidUtf8(entrypoint_));
  }
  config.set_platform(platform);
  if (pull != "always" && pull != "missing" && pull != "never") {
    return absl::InvalidArgumentError(
        absl::StrCat("--pull: \"", pull, "\" is not valid; use always, missing or never"));
  }

  for (const std::string& file : env_files_) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> lines,
                            ReadAssignments(file, false, environment));
    for (const std::string& line : lines) config.add_env(ToValidUtf8(line));
  }
  for (const std::string& text : env_) {
    GANTRY_ASSIGN_OR_RETURN(std::string assignment, engine::ParseEnvironment(text, environment));
    config.add_env(ToValidUtf8(assignment));
  }
  for (const std::string& file : label_files_) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<std::string> lines, ReadAssignments(file, true, {}));
    for (const std::string& line : lines) {
      auto [key, value] = engine::SplitAssignment(line);
      (*config.mutable_labels())[ToValidUtf8(key)] = ToValidUtf8(value);
    }
  }
  const auto fill_map = [](absl::string_view option, const std::vector<std::string>& from,
                           bool needs_value, auto* to) -> absl::Status {
    for (const std::string& text : from) {
      auto [key, value] = engine::SplitAssignment(ToValidUtf8(text));
      if (key.empty() || (needs_value && !absl::StrContains(text, "="))) {
        return absl::InvalidArgumentError(
            absl::StrCat("--", option, ": \"", text, "\": write KEY=VALUE"));
      }
      (*to)[ToValidUtf8(key)] = ToValidUtf8(value);
    }
    return absl::OkStatus();
  };
  GANTRY_RETURN_IF_ERROR(fill_map("label", labels_, false, config.mutable_labels()));
  GANTRY_RETURN_IF_ERROR(fill_map("annotation", annotations_, false, config.mutable_annotations()));
  GANTRY_RETURN_IF_ERROR(fill_map("sysctl", sysctls_, true, config.mutable_sysctls()));
  GANTRY_RETURN_IF_ERROR(
      fill_map("storage-opt", storage_options_, true, config.mutable_storage_options()));
  GANTRY_RETURN_IF_ERROR(
      fill_map("log-opt", log_options_, true, config.mutable_log()->mutable_options()));
  config.mutable_log()->set_driver(log_driver_);

  config.set_working_dir(ToValidUtf8(workdir_));
  config.set_user(ToValidUtf8(user_));
  const auto copy = [](const std::vector<std::string>& from, auto* to) {
    to->Assign(from.begin(), from.end());
  };
  copy(group_add_, config.mutable_group_add());
  copy(cap_add_, config.mutable_cap_add());
  copy(cap_drop_, config.mutable_cap_drop());
  copy(volumes_from_, config.mutable_volumes_from());
  copy(dns_, config.mutable_dns());
  copy(dns_search_, config.mutable_dns_search());
  copy(dns_options_, config.mutable_dns_options());
  copy(links_, config.mutable_links());
  config.set_hostname(ToValidUtf8(hostname_));
  config.set_domainname(domainname_);
  config.set_tty(tty);
  config.set_open_stdin(interactive);
  config.set_stop_signal(stop_signal_);
  if (stop_timeout_) config.set_stop_timeout_seconds(static_cast<int32_t>(*stop_timeout_));
  if (init_) config.set_init(*init_);
  config.set_auto_remove(auto_remove);
  if (!restart_.empty()) {
    auto policy = engine::ParseRestartPolicy(restart_);
    if (!policy.ok()) return Named("restart", policy.status());
    *config.mutable_restart_policy() = *policy;
    if (auto_remove && policy->name() != "no") {
      return absl::InvalidArgumentError("--rm and --restart cannot be combined");
    }
  }
  config.set_runtime(runtime_);
  config.set_container_id_file(cidfile);

  for (const std::string& text : volumes_) {
    GANTRY_ASSIGN_OR_RETURN(v1::Mount mount, engine::ParseVolume(text, cwd));
    if (mount.type() == v1::Mount::VOLUME) mount.set_volume_driver(volume_driver_);
    *config.add_mounts() = std::move(mount);
  }
  for (const std::string& text : mounts_) {
    GANTRY_ASSIGN_OR_RETURN(v1::Mount mount, engine::ParseMount(text, cwd));
    *config.add_mounts() = std::move(mount);
  }
  for (const std::string& text : tmpfs_) {
    GANTRY_ASSIGN_OR_RETURN(v1::Mount mount, engine::ParseTmpfs(text));
    *config.add_mounts() = std::move(mount);
  }
  for (int i = 0; i < config.mounts_size(); ++i) {
    // A replaced character would name another directory.
    for (const std::string* path : {&config.mounts(i).source(), &config.mounts(i).target()}) {
      if (IsValidUtf8(*path)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("mount: the path \"", ToValidUtf8(*path),
                       "\" is not UTF-8 text, and a container's configuration can hold no other; "
                       "mount it by a link or a directory above it that has such a name"));
    }
    for (int j = 0; j < i; ++j) {
      if (config.mounts(i).target() == config.mounts(j).target()) {
        return absl::InvalidArgumentError(
            absl::StrCat("two mounts at ", config.mounts(i).target()));
      }
    }
  }
  config.set_read_only_rootfs(read_only_);
  int64_t shm = 0;
  GANTRY_RETURN_IF_ERROR(SetBytes("shm-size", shm_size_, &shm));
  config.set_shm_size_bytes(shm);

  config.set_privileged(privileged_);
  for (const std::string& text : security_options_) {
    GANTRY_ASSIGN_OR_RETURN(std::string option, ParseSecurityOption(text));
    config.add_security_options(std::move(option));
  }
  config.set_userns_mode(userns_);
  config.set_pid_mode(pid_);
  config.set_ipc_mode(ipc_);
  config.set_uts_mode(uts_);
  config.set_cgroupns_mode(cgroupns_);
  config.set_cgroup_parent(cgroup_parent_);
  if (oom_score_adj_) {
    if (*oom_score_adj_ < -1000 || *oom_score_adj_ > 1000) {
      return absl::InvalidArgumentError("--oom-score-adj: between -1000 and 1000");
    }
    config.set_oom_score_adj(static_cast<int32_t>(*oom_score_adj_));
  }

  v1::Resources* resources = config.mutable_resources();
  GANTRY_RETURN_IF_ERROR(resources_.Fill(resources));
  resources->set_oom_kill_disable(oom_kill_disable_);
  for (const std::string& text : devices_) {
    GANTRY_RETURN_IF_ERROR(engine::AddDevice(text, config));
  }
  for (const std::string& text : gpus_) {
    GANTRY_ASSIGN_OR_RETURN(*config.add_device_requests(), engine::ParseGpus(text));
  }
  copy(device_rules_, resources->mutable_device_cgroup_rules());
  for (const std::string& text : ulimits_) {
    GANTRY_ASSIGN_OR_RETURN(v1::Ulimit ulimit, engine::ParseUlimit(text));
    *resources->add_ulimits() = std::move(ulimit);
  }
  const struct {
    const std::vector<std::string>& from;
    bool bytes;
    google::protobuf::RepeatedPtrField<v1::DeviceRate>* to;
  } rates[] = {
      {blkio_weight_device_, false, resources->mutable_blkio_weight_device()},
      {read_bps_, true, resources->mutable_blkio_device_read_bps()},
      {write_bps_, true, resources->mutable_blkio_device_write_bps()},
      {read_iops_, false, resources->mutable_blkio_device_read_iops()},
      {write_iops_, false, resources->mutable_blkio_device_write_iops()},
  };
  for (const auto& rate : rates) {
    for (const std::string& text : rate.from) {
      GANTRY_ASSIGN_OR_RETURN(*rate.to->Add(), engine::ParseDeviceRate(text, rate.bytes));
    }
  }

  for (const std::string& text : networks_) {
    GANTRY_ASSIGN_OR_RETURN(v1::NetworkAttachment network, engine::ParseNetwork(text));
    *config.add_networks() = std::move(network);
  }
  std::set<std::string> named;
  for (const v1::NetworkAttachment& network : config.networks()) {
    const std::string& mode = network.network();
    if (!named.insert(mode).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("network \"", mode, "\" is specified multiple times"));
    }
    if (config.networks_size() > 1 &&
        (mode == "host" || mode == "none" || absl::StartsWith(mode, "container:"))) {
      return absl::InvalidArgumentError(
          absl::StrCat("--network: ", mode, " cannot be combined with another network"));
    }
  }
  if (!networks_.empty()) config.set_network_mode(config.networks(0).network());
  if (!network_aliases_.empty() || !ip_.empty() || !ip6_.empty() || !link_local_.empty()) {
    // Of several networks, they are about the first.
    v1::NetworkAttachment* network =
        config.networks_size() == 0 ? config.add_networks() : config.mutable_networks(0);
    for (const std::string& alias : network_aliases_) network->add_aliases(alias);
    if (!ip_.empty()) network->set_ipv4_address(ip_);
    if (!ip6_.empty()) network->set_ipv6_address(ip6_);
    for (const std::string& address : link_local_) network->add_link_local_addresses(address);
  }
  config.set_mac_address(mac_address_);
  for (const std::string& text : publish_) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<v1::PortBinding> bindings, engine::ParsePublish(text));
    for (v1::PortBinding& binding : bindings) *config.add_port_bindings() = std::move(binding);
  }
  for (const std::string& text : expose_) {
    GANTRY_ASSIGN_OR_RETURN(std::vector<v1::PortBinding> ports, engine::ParsePublish(text));
    for (const v1::PortBinding& port : ports) {
      config.add_exposed_ports(absl::StrCat(port.container_port(), "/", port.protocol()));
    }
  }
  config.set_publish_all_ports(publish_all_);
  for (const std::string& text : extra_hosts_) {
    GANTRY_ASSIGN_OR_RETURN(std::string host, engine::ParseExtraHost(text));
    config.add_extra_hosts(std::move(host));
  }

  const bool health = !health_cmd_.empty() || !health_interval_.empty() ||
                      !health_timeout_.empty() || !health_start_period_.empty() ||
                      !health_start_interval_.empty() || health_retries_ != 0;
  if (no_healthcheck_) {
    if (health) {
      return absl::InvalidArgumentError("--no-healthcheck and --health-* cannot be combined");
    }
    config.mutable_health_check()->add_test("NONE");
  } else if (health) {
    v1::HealthCheck* check = config.mutable_health_check();
    if (!health_cmd_.empty()) {
      check->add_test("CMD-SHELL");
      check->add_test(ToValidUtf8(health_cmd_));
    }
    using H = v1::HealthCheck;
    GANTRY_RETURN_IF_ERROR(
        SetDuration("health-interval", health_interval_, &H::mutable_interval, check));
    GANTRY_RETURN_IF_ERROR(
        SetDuration("health-timeout", health_timeout_, &H::mutable_timeout, check));
    GANTRY_RETURN_IF_ERROR(
        SetDuration("health-start-period", health_start_period_, &H::mutable_start_period, check));
    GANTRY_RETURN_IF_ERROR(SetDuration("health-start-interval", health_start_interval_,
                                       &H::mutable_start_interval, check));
    check->set_retries(static_cast<int32_t>(health_retries_));
  }

  for (const std::string& stream : attach) {
    const std::string lower = absl::AsciiStrToLower(stream);
    if (lower != "stdin" && lower != "stdout" && lower != "stderr") {
      return absl::InvalidArgumentError(
          absl::StrCat("--attach: \"", stream, "\"; there is stdin, stdout and stderr"));
    }
    if (lower == "stdin") config.set_attach_stdin(true);
    if (lower == "stdout") config.set_attach_stdout(true);
    if (lower == "stderr") config.set_attach_stderr(true);
  }
  if (attach.empty()) {
    config.set_attach_stdin(interactive);
    config.set_attach_stdout(true);
    config.set_attach_stderr(true);
  }
  // A client may attach to a terminal again; a pipe that has ended stays closed.
  config.set_stdin_once(interactive && config.attach_stdin() && !tty);
  return config;
}

}  // namespace gantry::ctl
