#include "base/engine/engine_json.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/engine/device_request.h"
#include "base/engine/proto_time.h"
#include "base/engine/state_words.h"
#include "base/engine/units.h"
#include "base/system_paths.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"
#include "proto/gantry/v1/container_views.pb.h"
#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::engine {
namespace {

Value TimeField(const google::protobuf::Timestamp& t) { return JsonTime(FromProto(t)); }

// Docker writes null for an empty list of these.
template <class Range>
Value ListOrNull(const Range& range) {
  return range.size() == 0 ? Value() : Value::StringRange(range);
}

// Capabilities with their whole names, as docker keeps them whatever the client wrote.
template <class Range>
Value Capabilities(const Range& range) {
  if (range.size() == 0) return Value();
  Value list = Value::EmptyList();
  for (const std::string& text : range) {
    std::string name = absl::AsciiStrToUpper(text);
    if (name != "ALL" && !absl::StartsWith(name, "CAP_")) name = absl::StrCat("CAP_", name);
    list.Append(std::move(name));
  }
  return list;
}

int64_t DurationNanos(const google::protobuf::Duration& d) {
  return d.seconds() * 1000000000 + d.nanos();
}

std::string MountTypeWord(v1::Mount::Type type) {
  switch (type) {
    case v1::Mount::BIND:
      return "bind";
    case v1::Mount::VOLUME:
      return "volume";
    case v1::Mount::TMPFS:
      return "tmpfs";
    case v1::Mount::IMAGE:
      return "image";
    default:
      return "";
  }
}

// What docker has in an object of its own for each type of mount; left out where all of it is
// unset.
void SetMountOptions(const v1::Mount& mount, Value& entry) {
  Value options;
  switch (mount.type()) {
    case v1::Mount::BIND:
      if (!mount.propagation().empty()) options.Set("Propagation", mount.propagation());
      if (mount.non_recursive()) options.Set("NonRecursive", true);
      if (mount.create_source()) options.Set("CreateMountpoint", true);
      if (mount.read_only_non_recursive()) options.Set("ReadOnlyNonRecursive", true);
      if (mount.read_only_force_recursive()) options.Set("ReadOnlyForceRecursive", true);
      if (!options.is_null()) entry.Set("BindOptions", std::move(options));
      return;
    case v1::Mount::VOLUME: {
      if (mount.no_copy()) options.Set("NoCopy", true);
      if (!mount.volume_labels().empty())
        options.Set("Labels", Value::StringMap(mount.volume_labels()));
      Value driver;
      if (!mount.volume_driver().empty()) driver.Set("Name", mount.volume_driver());
      if (!mount.volume_options().empty())
        driver.Set("Options", Value::StringMap(mount.volume_options()));
      if (!driver.is_null()) options.Set("DriverConfig", std::move(driver));
      if (!mount.subpath().empty()) options.Set("Subpath", mount.subpath());
      if (!options.is_null()) entry.Set("VolumeOptions", std::move(options));
      return;
    }
    case v1::Mount::TMPFS: {
      if (mount.tmpfs_size_bytes() != 0) options.Set("SizeBytes", mount.tmpfs_size_bytes());
      if (mount.tmpfs_mode() != 0) options.Set("Mode", mount.tmpfs_mode());
      Value words = Value::EmptyList();
      for (const std::string& option : mount.options()) {
        Value pair = Value::EmptyList();
        for (absl::string_view part : absl::StrSplit(option, absl::MaxSplits('=', 1)))
          pair.Append(part);
        words.Append(std::move(pair));
      }
      if (!words.list().empty()) options.Set("Options", std::move(words));
      if (!options.is_null()) entry.Set("TmpfsOptions", std::move(options));
      return;
    }
    case v1::Mount::IMAGE:
      if (!mount.subpath().empty()) options.Set("Subpath", mount.subpath());
      if (!options.is_null()) entry.Set("ImageOptions", std::move(options));
      return;
    default:
      return;
  }
}

// Whether docker's short form, "NAME:TARGET:OPTIONS", says all of a volume.
bool FitsBind(const v1::Mount& mount) {
  return mount.subpath().empty() && mount.volume_labels().empty() &&
         mount.volume_options().empty() &&
         (mount.volume_driver().empty() || mount.volume_driver() == "local");
}

// A volume of which nothing but its place was asked for.
bool IsBareAnonymous(const v1::Mount& mount) {
  return mount.type() == v1::Mount::VOLUME && mount.source().empty() && FitsBind(mount) &&
         !mount.read_only() && !mount.no_copy();
}

Value PortBindings(const google::protobuf::RepeatedPtrField<v1::PortBinding>& bindings) {
  Value out = Value::EmptyObject();
  for (const v1::PortBinding& binding : bindings) {
    const std::string key = absl::StrCat(binding.container_port(), "/", binding.protocol());
    Value list = out.Find(key) == nullptr ? Value::EmptyList() : *out.Find(key);
    Value entry = Value::EmptyObject();
    entry.Set("HostIp", binding.host_ip());
    entry.Set("HostPort", binding.host_port());
    list.Append(std::move(entry));
    out.Set(key, std::move(list));
  }
  return out;
}

Value DeviceRates(const google::protobuf::RepeatedPtrField<v1::DeviceRate>& rates,
                  const char* name) {
  Value list = Value::EmptyList();
  for (const v1::DeviceRate& rate : rates) {
    Value entry = Value::EmptyObject();
    entry.Set("Path", rate.path());
    entry.Set(name, rate.rate());
    list.Append(std::move(entry));
  }
  return list;
}

// What a container without paths of its own has masked and read-only: docker's list, and that of
// oci/default_profile.
constexpr const char* kMaskedPaths[] = {"/proc/acpi",
                                        "/proc/asound",
                                        "/proc/interrupts",
                                        "/proc/kcore",
                                        "/proc/keys",
                                        "/proc/latency_stats",
                                        "/proc/sched_debug",
                                        "/proc/scsi",
                                        "/proc/timer_list",
                                        "/proc/timer_stats",
                                        "/sys/devices/virtual/powercap",
                                        "/sys/firmware"};
constexpr const char* kReadonlyPaths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                          "/proc/sysrq-trigger"};

SystemPaths SystemPathsOf(const v1::ContainerConfig& config) {
  SystemPaths paths;
  if (!config.privileged()) {
    paths.masked.assign(std::begin(kMaskedPaths), std::end(kMaskedPaths));
    paths.read_only.assign(std::begin(kReadonlyPaths), std::end(kReadonlyPaths));
  }
  for (absl::string_view option : config.security_options()) {
    if (option == "systempaths=unconfined" || option == "systempaths:unconfined")
      paths = SystemPaths();
  }
  if (config.has_masked_paths())
    paths.masked.assign(config.masked_paths().values().begin(),
                        config.masked_paths().values().end());
  if (config.has_readonly_paths())
    paths.read_only.assign(config.readonly_paths().values().begin(),
                           config.readonly_paths().values().end());
  for (absl::string_view option : config.security_options()) {
    if (absl::ConsumePrefix(&option, "unmask=") || absl::ConsumePrefix(&option, "unmask:"))
      Unmask(option, paths);
  }
  for (absl::string_view option : config.security_options()) {
    if (absl::ConsumePrefix(&option, "mask=") || absl::ConsumePrefix(&option, "mask:"))
      Mask(option, paths);
  }
  return paths;
}

Value HostConfig(const v1::ContainerDetails& container) {
  const v1::ContainerConfig& config = container.config();
  const v1::Resources& r = config.resources();
  Value host = Value::EmptyObject();
  Value binds = Value::EmptyList();
  Value mounts = Value::EmptyList();
  Value tmpfs = Value::EmptyObject();
  for (const v1::Mount& mount : config.mounts()) {
    // Those of other containers and of the image were not asked for one by one; a bare anonymous
    // volume is in Config.Volumes.
    if (!mount.inherited_from().empty() || IsBareAnonymous(mount)) continue;
    if (mount.type() == v1::Mount::TMPFS && mount.tmpfs_size_bytes() == 0 &&
        mount.tmpfs_mode() == 0) {
      tmpfs.Set(mount.target(), absl::StrJoin(mount.options(), ","));
      continue;
    }
    if ((mount.type() == v1::Mount::BIND && mount.create_source()) ||
        (mount.type() == v1::Mount::VOLUME && !mount.source().empty() && FitsBind(mount))) {
      std::vector<std::string> options;
      if (mount.read_only()) options.push_back("ro");
      if (!mount.propagation().empty()) options.push_back(mount.propagation());
      if (mount.no_copy()) options.push_back("nocopy");
      for (const std::string& option : mount.options()) {
        // Of a volume it is the daemon's word.
        if (option != "idmap" || mount.type() == v1::Mount::BIND) options.push_back(option);
      }
      binds.Append(absl::StrCat(mount.source(), ":", mount.target(), options.empty() ? "" : ":",
                                absl::StrJoin(options, ",")));
      continue;
    }
    Value entry = Value::EmptyObject();
    entry.Set("Type", MountTypeWord(mount.type()));
    if (!mount.source().empty()) entry.Set("Source", mount.source());
    entry.Set("Target", mount.target());
    if (mount.read_only()) entry.Set("ReadOnly", true);
    SetMountOptions(mount, entry);
    mounts.Append(std::move(entry));
  }
  host.Set("Binds", binds.list().empty() ? Value() : binds);
  host.Set("ContainerIDFile", config.container_id_file());
  Value log = Value::EmptyObject();
  log.Set("Type", config.log().driver().empty() ? "json-file" : config.log().driver());
  log.Set("Config", Value::StringMap(config.log().options()));
  host.Set("LogConfig", std::move(log));
  host.Set("NetworkMode", config.network_mode().empty() ? "default" : config.network_mode());
  host.Set("PortBindings", PortBindings(config.port_bindings()));
  Value restart = Value::EmptyObject();
  restart.Set("Name",
              config.restart_policy().name().empty() ? "no" : config.restart_policy().name());
  restart.Set("MaximumRetryCount", config.restart_policy().maximum_retry_count());
  host.Set("RestartPolicy", std::move(restart));
  host.Set("AutoRemove", config.auto_remove());
  host.Set("VolumeDriver", "");
  host.Set("VolumesFrom", ListOrNull(config.volumes_from()));
  Value size = Value::EmptyList();
  size.Append(config.console_size().height());
  size.Append(config.console_size().width());
  host.Set("ConsoleSize", std::move(size));
  if (!config.annotations().empty())
    host.Set("Annotations", Value::StringMap(config.annotations()));
  host.Set("CapAdd", Capabilities(config.cap_add()));
  host.Set("CapDrop", Capabilities(config.cap_drop()));
  host.Set("CgroupnsMode", config.cgroupns_mode());
  host.Set("Dns", Value::StringRange(config.dns()));
  host.Set("DnsOptions", Value::StringRange(config.dns_options()));
  host.Set("DnsSearch", Value::StringRange(config.dns_search()));
  host.Set("ExtraHosts", ListOrNull(config.extra_hosts()));
  host.Set("GroupAdd", ListOrNull(config.group_add()));
  host.Set("IpcMode", config.ipc_mode().empty() ? "private" : config.ipc_mode());
  host.Set("Cgroup", "");
  host.Set("Links", ListOrNull(config.links()));
  host.Set("OomScoreAdj", config.oom_score_adj());
  host.Set("PidMode", config.pid_mode());
  host.Set("Privileged", config.privileged());
  host.Set("PublishAllPorts", config.publish_all_ports());
  host.Set("ReadonlyRootfs", config.read_only_rootfs());
  host.Set("SecurityOpt", ListOrNull(config.security_options()));
  if (!config.storage_options().empty()) {
    host.Set("StorageOpt", Value::StringMap(config.storage_options()));
  }
  if (!tmpfs.object().fields.empty()) host.Set("Tmpfs", std::move(tmpfs));
  host.Set("UTSMode", config.uts_mode());
  host.Set("UsernsMode", config.userns_mode());
  host.Set("ShmSize", config.shm_size_bytes() == 0 ? int64_t{64} << 20 : config.shm_size_bytes());
  if (!config.sysctls().empty()) host.Set("Sysctls", Value::StringMap(config.sysctls()));
  host.Set("Runtime", container.runtime());
  host.Set("Isolation", "");
  host.Set("CpuShares", r.cpu_shares());
  host.Set("Memory", r.memory_bytes());
  host.Set("NanoCpus", r.nano_cpus());
  host.Set("CgroupParent", config.cgroup_parent());
  host.Set("BlkioWeight", r.blkio_weight());
  host.Set("BlkioWeightDevice", DeviceRates(r.blkio_weight_device(), "Weight"));
  host.Set("BlkioDeviceReadBps", DeviceRates(r.blkio_device_read_bps(), "Rate"));
  host.Set("BlkioDeviceWriteBps", DeviceRates(r.blkio_device_write_bps(), "Rate"));
  host.Set("BlkioDeviceReadIOps", DeviceRates(r.blkio_device_read_iops(), "Rate"));
  host.Set("BlkioDeviceWriteIOps", DeviceRates(r.blkio_device_write_iops(), "Rate"));
  host.Set("CpuPeriod", r.cpu_period_micros());
  host.Set("CpuQuota", r.cpu_quota_micros());
  host.Set("CpuRealtimePeriod", r.cpu_rt_period_micros());
  host.Set("CpuRealtimeRuntime", r.cpu_rt_runtime_micros());
  host.Set("CpusetCpus", r.cpuset_cpus());
  host.Set("CpusetMems", r.cpuset_mems());
  Value devices = Value::EmptyList();
  for (const v1::Device& device : r.devices()) {
    Value entry = Value::EmptyObject();
    entry.Set("PathOnHost", device.host_path());
    entry.Set("PathInContainer", device.container_path());
    entry.Set("CgroupPermissions", device.permissions());
    devices.Append(std::move(entry));
  }
  host.Set("Devices", std::move(devices));
  host.Set("DeviceCgroupRules", ListOrNull(r.device_cgroup_rules()));
  host.Set("DeviceRequests", DeviceRequestsDocument(config));
  host.Set("MemoryReservation", r.memory_reservation_bytes());
  host.Set("MemorySwap", r.memory_swap_bytes());
  host.Set("MemorySwappiness", r.has_memory_swappiness() ? Value(r.memory_swappiness()) : Value());
  host.Set("OomKillDisable", r.oom_kill_disable());
  host.Set("PidsLimit", r.has_pids_limit() ? Value(r.pids_limit()) : Value());
  Value ulimits = Value::EmptyList();
  for (const v1::Ulimit& ulimit : r.ulimits()) {
    Value entry = Value::EmptyObject();
    entry.Set("Name", ulimit.name());
    entry.Set("Hard", ulimit.hard());
    entry.Set("Soft", ulimit.soft());
    ulimits.Append(std::move(entry));
  }
  host.Set("Ulimits", std::move(ulimits));
  // Windows' limits, which docker writes everywhere.
  for (const char* name : {"CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth"}) {
    host.Set(name, 0);
  }
  if (!mounts.list().empty()) host.Set("Mounts", std::move(mounts));
  const SystemPaths paths = SystemPathsOf(config);
  const auto list = [&](bool given, const std::vector<std::string>& names) {
    const bool none = names.empty() && !given && config.privileged();
    return none ? Value() : Value::StringRange(names);
  };
  host.Set("MaskedPaths", list(config.has_masked_paths(), paths.masked));
  host.Set("ReadonlyPaths", list(config.has_readonly_paths(), paths.read_only));
  if (config.has_init()) host.Set("Init", config.init());
  return host;
}

Value HealthCheckDocument(const v1::HealthCheck& check) {
  Value out = Value::EmptyObject();
  if (!check.test().empty()) out.Set("Test", Value::StringRange(check.test()));
  if (check.has_interval()) out.Set("Interval", DurationNanos(check.interval()));
  if (check.has_timeout()) out.Set("Timeout", DurationNanos(check.timeout()));
  if (check.has_start_period()) out.Set("StartPeriod", DurationNanos(check.start_period()));
  if (check.has_start_interval()) out.Set("StartInterval", DurationNanos(check.start_interval()));
  if (check.retries() != 0) out.Set("Retries", check.retries());
  return out;
}

// The name that the container sees: its short id unless one was given or it has the host's.
std::string Hostname(const v1::ContainerDetails& container) {
  const v1::ContainerConfig& config = container.config();
  const bool foreign = config.uts_mode() == "host" || config.network_mode() == "host" ||
                       absl::StartsWith(config.network_mode(), "container:");
  if (!config.hostname().empty() || foreign) return config.hostname();
  return ShortId(container.summary().id());
}

Value ConfigDocument(const v1::ContainerDetails& container) {
  const v1::ContainerConfig& config = container.config();
  Value out = Value::EmptyObject();
  out.Set("Hostname", Hostname(container));
  out.Set("Domainname", config.domainname());
  out.Set("User", config.user());
  out.Set("AttachStdin", config.attach_stdin());
  out.Set("AttachStdout", config.attach_stdout());
  out.Set("AttachStderr", config.attach_stderr());
  if (!config.exposed_ports().empty()) {
    Value ports = Value::EmptyObject();
    for (const std::string& port : config.exposed_ports()) ports.Set(port, Value::EmptyObject());
    out.Set("ExposedPorts", std::move(ports));
  }
  out.Set("Tty", config.tty());
  out.Set("OpenStdin", config.open_stdin());
  out.Set("StdinOnce", config.stdin_once());
  out.Set("Env", Value::StringRange(config.env()));
  out.Set("Cmd", ListOrNull(config.command()));
  if (config.has_health_check()) out.Set("Healthcheck", HealthCheckDocument(config.health_check()));
  out.Set("Image", config.image());
  Value volumes;
  for (const v1::Mount& mount : config.mounts()) {
    if (mount.type() == v1::Mount::VOLUME && mount.source().empty() &&
        (mount.inherited_from().empty() || mount.inherited_from() == "image")) {
      volumes.Set(mount.target(), Value::EmptyObject());
    }
  }
  out.Set("Volumes", std::move(volumes));
  out.Set("WorkingDir", config.working_dir());
  out.Set("Entrypoint",
          config.has_entrypoint() ? ListOrNull(config.entrypoint().values()) : Value());
  out.Set("OnBuild", Value());
  out.Set("Labels", Value::StringMap(config.labels()));
  if (!config.stop_signal().empty()) out.Set("StopSignal", config.stop_signal());
  if (config.has_stop_timeout_seconds()) out.Set("StopTimeout", config.stop_timeout_seconds());
  return out;
}

Value NetworkSettings(const v1::ContainerDetails& container) {
  Value out = Value::EmptyObject();
  out.Set("Bridge", "");
  out.Set("SandboxID", container.sandbox_id());
  out.Set("SandboxKey", container.sandbox_key());
  Value ports = Value::EmptyObject();
  for (const v1::PublishedPort& port : container.summary().ports()) {
    const std::string key = absl::StrCat(port.private_port(), "/", port.protocol());
    if (port.public_port() == 0) {
      if (ports.Find(key) == nullptr) ports.Set(key, Value());
      continue;
    }
    Value list = ports.Find(key) == nullptr || ports.Find(key)->is_null() ? Value::EmptyList()
                                                                          : *ports.Find(key);
    Value entry = Value::EmptyObject();
    entry.Set("HostIp", port.ip());
    entry.Set("HostPort", absl::StrCat(port.public_port()));
    list.Append(std::move(entry));
    ports.Set(key, std::move(list));
  }
  out.Set("Ports", std::move(ports));
  out.Set("HairpinMode", false);
  out.Set("LinkLocalIPv6Address", "");
  out.Set("LinkLocalIPv6PrefixLen", 0);
  out.Set("SecondaryIPAddresses", Value());
  out.Set("SecondaryIPv6Addresses", Value());
  // The addresses on the default bridge, which older clients look for here.
  v1::NetworkEndpoint bridge;
  for (const v1::NetworkEndpoint& endpoint : container.endpoints()) {
    if (endpoint.network() == "bridge") bridge = endpoint;
  }
  out.Set("EndpointID", bridge.endpoint_id());
  out.Set("Gateway", bridge.gateway());
  out.Set("GlobalIPv6Address", bridge.global_ipv6_address());
  out.Set("GlobalIPv6PrefixLen", bridge.global_ipv6_prefix_len());
  out.Set("IPAddress", bridge.ip_address());
  out.Set("IPPrefixLen", bridge.ip_prefix_len());
  out.Set("IPv6Gateway", bridge.ipv6_gateway());
  out.Set("MacAddress", bridge.mac_address());
  Value networks = Value::EmptyObject();
  const auto asked = [&container](const std::string& name,
                                  const std::string& id) -> const v1::NetworkAttachment* {
    for (const v1::NetworkAttachment& one : container.config().networks()) {
      if (one.network() == name || (!id.empty() && one.network() == id)) return &one;
    }
    return nullptr;
  };
  for (const v1::NetworkEndpoint& endpoint : container.endpoints()) {
    networks.Set(endpoint.network(),
                 EndpointDocument(endpoint, asked(endpoint.network(), endpoint.network_id())));
  }
  for (const std::string& network : container.summary().networks()) {
    if (networks.Find(network) == nullptr)
      networks.Set(network, EndpointDocument(v1::NetworkEndpoint(), asked(network, "")));
  }
  out.Set("Networks", std::move(networks));
  return out;
}

}  // namespace

namespace {

// The addresses that were asked for; null: none.
Value AskedAddresses(const v1::NetworkAttachment& asked) {
  Value out;
  if (!asked.ipv4_address().empty()) out.Set("IPv4Address", asked.ipv4_address());
  if (!asked.ipv6_address().empty()) out.Set("IPv6Address", asked.ipv6_address());
  if (!asked.link_local_addresses().empty())
    out.Set("LinkLocalIPs", Value::StringRange(asked.link_local_addresses()));
  return out;
}

}  // namespace

Value EndpointDocument(const v1::NetworkEndpoint& e, const v1::NetworkAttachment* asked) {
  static const auto* const nothing = new v1::NetworkAttachment;
  const v1::NetworkAttachment& wish = asked == nullptr ? *nothing : *asked;
  Value entry = Value::EmptyObject();
  entry.Set("IPAMConfig", AskedAddresses(wish));
  entry.Set("Links", ListOrNull(e.links().empty() ? wish.links() : e.links()));
  entry.Set("Aliases", ListOrNull(e.aliases().empty() ? wish.aliases() : e.aliases()));
  const auto& options = e.driver_options().empty() ? wish.driver_options() : e.driver_options();
  entry.Set("DriverOpts", options.empty() ? Value() : Value::StringMap(options));
  if (asked != nullptr) entry.Set("GwPriority", wish.gateway_priority());
  entry.Set("NetworkID", e.network_id());
  entry.Set("EndpointID", e.endpoint_id());
  entry.Set("Gateway", e.gateway());
  entry.Set("IPAddress", e.ip_address());
  entry.Set("IPPrefixLen", e.ip_prefix_len());
  entry.Set("IPv6Gateway", e.ipv6_gateway());
  entry.Set("GlobalIPv6Address", e.global_ipv6_address());
  entry.Set("GlobalIPv6PrefixLen", e.global_ipv6_prefix_len());
  entry.Set("MacAddress", e.mac_address().empty() ? wish.mac_address() : e.mac_address());
  entry.Set("DNSNames", ListOrNull(e.dns_names()));
  return entry;
}

Value MountPointsDocument(const v1::ContainerSummary& container) {
  Value mounts = Value::EmptyList();
  for (const v1::MountPoint& mount : container.mounts()) {
    Value entry = Value::EmptyObject();
    entry.Set("Type", mount.type());
    if (!mount.name().empty()) entry.Set("Name", mount.name());
    entry.Set("Source", mount.source());
    entry.Set("Destination", mount.destination());
    if (!mount.driver().empty()) entry.Set("Driver", mount.driver());
    entry.Set("Mode", mount.mode());
    entry.Set("RW", mount.read_write());
    entry.Set("Propagation", mount.propagation());
    mounts.Append(std::move(entry));
  }
  return mounts;
}

Value ManifestDocument(const v1::ImageManifest& manifest) {
  Value out = Value::EmptyObject();
  out.Set("mediaType", manifest.media_type());
  out.Set("digest", manifest.digest());
  out.Set("size", manifest.size_bytes());
  const std::vector<std::string> parts = absl::StrSplit(manifest.platform(), '/');
  if (parts.size() < 2) return out;
  Value platform = Value::EmptyObject();
  platform.Set("architecture", parts[1]);
  platform.Set("os", parts[0]);
  if (parts.size() > 2) platform.Set("variant", parts[2]);
  out.Set("platform", std::move(platform));
  return out;
}

Value ContainerDocument(const v1::ContainerDetails& container) {
  const v1::ContainerSummary& c = container.summary();
  Value out = Value::EmptyObject();
  out.Set("Id", c.id());
  out.Set("Created", TimeField(c.created_at()));
  out.Set("Path", container.path());
  out.Set("Args", Value::StringRange(container.args()));
  Value state = Value::EmptyObject();
  state.Set("Status", StateWord(c.state()));
  state.Set("Running", c.state() == v1::CONTAINER_STATE_RUNNING ||
                           c.state() == v1::CONTAINER_STATE_PAUSED ||
                           c.state() == v1::CONTAINER_STATE_RESTARTING);
  state.Set("Paused", c.state() == v1::CONTAINER_STATE_PAUSED);
  state.Set("Restarting", c.state() == v1::CONTAINER_STATE_RESTARTING);
  state.Set("OOMKilled", c.oom_killed());
  state.Set("Dead", c.state() == v1::CONTAINER_STATE_DEAD);
  state.Set("Pid", c.pid());
  state.Set("ExitCode", c.exit_code());
  state.Set("Error", container.error());
  state.Set("StartedAt", TimeField(c.started_at()));
  state.Set("FinishedAt", TimeField(c.finished_at()));
  if (container.has_health()) {
    Value health = Value::EmptyObject();
    health.Set("Status", container.health().status());
    health.Set("FailingStreak", container.health().failing_streak());
    Value log = Value::EmptyList();
    for (const v1::HealthResult& result : container.health().log()) {
      Value entry = Value::EmptyObject();
      entry.Set("Start", TimeField(result.start()));
      entry.Set("End", TimeField(result.end()));
      entry.Set("ExitCode", result.exit_code());
      entry.Set("Output", result.output());
      log.Append(std::move(entry));
    }
    health.Set("Log", std::move(log));
    state.Set("Health", std::move(health));
  }
  out.Set("State", std::move(state));
  out.Set("Image", c.image_id());
  out.Set("ResolvConfPath", container.resolv_conf_path());
  out.Set("HostnamePath", container.hostname_path());
  out.Set("HostsPath", container.hosts_path());
  out.Set("LogPath", container.log_path());
  out.Set("Name", absl::StrCat("/", c.name()));
  out.Set("RestartCount", c.restart_count());
  out.Set("Driver", container.driver());
  out.Set("Platform", c.platform().empty() ? "linux" : c.platform());
  out.Set("MountLabel", container.mount_label());
  out.Set("ProcessLabel", container.process_label());
  out.Set("AppArmorProfile", container.app_armor_profile());
  out.Set("ExecIDs", ListOrNull(container.exec_ids()));
  out.Set("HostConfig", HostConfig(container));
  Value driver = Value::EmptyObject();
  driver.Set("Data", Value::StringMap(container.graph_driver_data()));
  driver.Set("Name", container.driver());
  out.Set("GraphDriver", std::move(driver));
  if (c.has_size_rw_bytes()) out.Set("SizeRw", c.size_rw_bytes());
  if (c.has_size_rootfs_bytes()) out.Set("SizeRootFs", c.size_rootfs_bytes());
  out.Set("Mounts", MountPointsDocument(c));
  out.Set("Config", ConfigDocument(container));
  out.Set("NetworkSettings", NetworkSettings(container));
  if (c.has_image_manifest())
    out.Set("ImageManifestDescriptor", ManifestDocument(c.image_manifest()));
  Value gantry = Value::EmptyObject();
  gantry.Set("Bundle", container.bundle_path());
  gantry.Set("CgroupPath", container.cgroup_path());
  gantry.Set("PodID", container.pod_id());
  gantry.Set("ShimPid", container.shim_pid());
  gantry.Set("SnapshotKey", container.snapshot_key());
  out.Set("Gantry", std::move(gantry));
  return out;
}

Value ImageDocument(const v1::ImageDetails& image) {
  const v1::ImageSummary& summary = image.summary();
  Value config = Value::EmptyObject();
  if (auto parsed = Value::FromJson(image.config_json()); parsed.ok() && parsed->is_object()) {
    config = *std::move(parsed);
  }
  const auto field = [&](const char* name, Value fallback) {
    const Value* value = config.Find(name);
    return value == nullptr ? fallback : *value;
  };
  Value out = Value::EmptyObject();
  out.Set("Id", summary.id());
  out.Set("RepoTags", Value::StringRange(summary.repo_tags()));
  out.Set("RepoDigests", Value::StringRange(summary.repo_digests()));
  out.Set("Parent", summary.parent_id());
  Value comment = "";
  if (const Value* history = config.Find("history");
      history != nullptr && history->is_list() && !history->list().empty()) {
    if (const Value* c = history->list().back().Find("comment")) comment = *c;
  }
  out.Set("Comment", std::move(comment));
  out.Set("Created", field("created", "0001-01-01T00:00:00Z"));
  out.Set("DockerVersion", field("docker_version", ""));
  out.Set("Author", field("author", ""));
  out.Set("Config", field("config", Value::EmptyObject()));
  out.Set("Architecture", field("architecture", ""));
  if (config.Find("variant") != nullptr) out.Set("Variant", field("variant", ""));
  out.Set("Os", field("os", ""));
  if (config.Find("os.version") != nullptr) out.Set("OsVersion", field("os.version", ""));
  out.Set("Size", summary.size_bytes());
  Value driver = Value::EmptyObject();
  driver.Set("Data", image.graph_driver_data().empty()
                         ? Value()
                         : Value::StringMap(image.graph_driver_data()));
  driver.Set("Name", image.driver());
  out.Set("GraphDriver", std::move(driver));
  Value rootfs = Value::EmptyObject();
  rootfs.Set("Type", "layers");
  Value layers = Value::EmptyList();
  if (const Value* fs = config.Find("rootfs")) {
    if (const Value* ids = fs->Find("diff_ids")) layers = *ids;
  }
  rootfs.Set("Layers", std::move(layers));
  out.Set("RootFS", std::move(rootfs));
  Value metadata = Value::EmptyObject();
  metadata.Set("LastTagTime", TimeField(image.last_tagged_at()));
  out.Set("Metadata", std::move(metadata));
  Value descriptor = Value::EmptyObject();
  descriptor.Set("mediaType", summary.target().media_type());
  descriptor.Set("digest", summary.target().digest());
  descriptor.Set("size", summary.target().size_bytes());
  out.Set("Descriptor", std::move(descriptor));
  return out;
}

Value EventDocument(const v1::Event& event) {
  Value out = Value::EmptyObject();
  // What clients of the first versions look for.
  if (event.type() == "container" || event.type() == "image") {
    out.Set("status", event.action());
    out.Set("id", event.id());
    const auto from = event.attributes().find("image");
    if (event.type() == "container" && from != event.attributes().end())
      out.Set("from", from->second);
  }
  out.Set("Type", event.type());
  out.Set("Action", event.action());
  Value actor = Value::EmptyObject();
  actor.Set("ID", event.id());
  actor.Set("Attributes", Value::StringMap(event.attributes()));
  out.Set("Actor", std::move(actor));
  out.Set("scope", "local");
  const absl::Time at = FromProto(event.at());
  out.Set("time", absl::ToUnixSeconds(at));
  out.Set("timeNano", absl::ToUnixNanos(at));
  return out;
}

}  // namespace gantry::engine
