#include "base/engine/config_json.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "base/engine/device_request.h"
#include "base/engine/field_reader.h"
#include "base/engine/network_request_json.h"
#include "base/engine/value_syntax.h"
#include "base/field_error.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"

namespace gantry::engine {
namespace {

constexpr int64_t kLeastMemory = 6 << 20;
constexpr int64_t kNanos = 1000000000;

constexpr int64_t kMostInt32 = std::numeric_limits<int32_t>::max();

void SetDuration(int64_t nanos, google::protobuf::Duration* out) {
  out->set_seconds(nanos / kNanos);
  out->set_nanos(static_cast<int32_t>(nanos % kNanos));
}

void ReadHealthCheck(FieldReader in, v1::HealthCheck& out) {
  in.Strings("Test", [&](std::string word) { out.add_test(std::move(word)); });
  if (out.test_size() > 0 && out.test(0) != "NONE" && out.test(0) != "CMD" &&
      out.test(0) != "CMD-SHELL" && !out.test(0).empty()) {
    in.Refuse("Test",
              absl::StrCat("begins with \"", out.test(0), "\"; there is NONE, CMD and CMD-SHELL"));
  }
  const std::pair<const char*, google::protobuf::Duration* (v1::HealthCheck::*)()> durations[] = {
      {"Interval", &v1::HealthCheck::mutable_interval},
      {"Timeout", &v1::HealthCheck::mutable_timeout},
      {"StartPeriod", &v1::HealthCheck::mutable_start_period},
      {"StartInterval", &v1::HealthCheck::mutable_start_interval}};
  for (const auto& [key, mutable_field] : durations) {
    const int64_t nanos = in.Integer(key, 0);
    if (nanos == 0) continue;
    // docker's least, so that a number meant as seconds is noticed.
    if (nanos < 1000000) in.Refuse(key, "must be at least 1 ms (the unit is nanoseconds)");
    SetDuration(nanos, (out.*mutable_field)());
  }
  out.set_retries(static_cast<int32_t>(in.Integer("Retries", 0, kMostInt32)));
}

// "80/tcp", "80", "8000-8010/udp": port numbers and a protocol.
absl::StatusOr<std::string> PortKey(absl::string_view text) {
  const absl::StatusOr<std::vector<v1::PortBinding>> ports = ParsePublish(text);
  if (!ports.ok()) return ports.status();
  if (absl::StrContains(text, ":"))
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not PORT[/PROTOCOL]"));
  const absl::string_view numbers = text.substr(0, text.find('/'));
  return absl::StrCat(numbers, "/", ports->front().protocol());
}

// The fields of Config.
void ReadConfig(FieldReader& in, v1::ContainerConfig& out) {
  out.set_image(in.String("Image"));
  out.set_hostname(in.String("Hostname"));
  out.set_domainname(in.String("Domainname"));
  out.set_user(in.String("User"));
  out.set_attach_stdin(in.Bool("AttachStdin"));
  out.set_attach_stdout(in.Bool("AttachStdout"));
  out.set_attach_stderr(in.Bool("AttachStderr"));
  out.set_tty(in.Bool("Tty"));
  out.set_open_stdin(in.Bool("OpenStdin"));
  out.set_stdin_once(in.Bool("StdinOnce"));
  out.set_working_dir(in.String("WorkingDir"));
  out.set_mac_address(in.String("MacAddress"));
  out.set_stop_signal(in.String("StopSignal"));
  in.Strings("Env", [&](std::string text) {
    if (text.empty() || text[0] == '=')
      in.Refuse("Env", absl::StrCat("\"", text, "\" has no name"));
    out.add_env(std::move(text));
  });
  in.Strings(
      "Cmd", [&](std::string word) { out.add_command(std::move(word)); }, true);
  if (in.Find("Entrypoint") != nullptr) {
    v1::StringList& entrypoint = *out.mutable_entrypoint();
    in.Strings(
        "Entrypoint", [&](std::string word) { entrypoint.add_values(std::move(word)); }, true);
    // [""] is how clients say "none".
    if (entrypoint.values_size() == 1 && entrypoint.values(0).empty()) entrypoint.clear_values();
  }
  if (in.Find("Healthcheck") != nullptr)
    ReadHealthCheck(in.Object("Healthcheck"), *out.mutable_health_check());
  if (in.Find("StopTimeout") != nullptr)
    out.set_stop_timeout_seconds(static_cast<int32_t>(in.Integer("StopTimeout", -1, kMostInt32)));
  in.StringMap("Labels", out.mutable_labels());
  std::set<std::string> exposed;
  in.EachField("ExposedPorts", [&](const std::string& port, const Value&, const std::string&) {
    in.Parsed(PortKey(port), "ExposedPorts",
              [&](std::string text) { exposed.insert(std::move(text)); });
  });
  for (const std::string& port : exposed) out.add_exposed_ports(port);
  in.EachField("Volumes", [&](const std::string& target, const Value&, const std::string&) {
    if (absl::StrContains(target, ":"))
      return in.Refuse("Volumes", absl::StrCat("\"", target, "\" is not a path in the container"));
    in.Parsed(ParseVolume(target, "/"), "Volumes",
              [&](v1::Mount mount) { *out.add_mounts() = std::move(mount); });
  });
}

void ReadRates(FieldReader& in, absl::string_view key, const char* rate_key,
               google::protobuf::RepeatedPtrField<v1::DeviceRate>* out, int64_t most) {
  in.EachObject(key, [&](FieldReader& entry) {
    v1::DeviceRate& rate = *out->Add();
    rate.set_path(entry.String("Path"));
    rate.set_rate(static_cast<uint64_t>(entry.Integer(rate_key, 0, most)));
    if (!absl::StartsWith(rate.path(), "/")) entry.Refuse("Path", "is not an absolute path");
  });
}

// The resources of HostConfig, which an update has too.
void ReadResources(FieldReader& in, v1::Resources& out) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const int64_t memory = in.Integer("Memory");
  if (memory < 0) in.Refuse("Memory", absl::StrCat(memory, " is negative"));
  if (memory > 0 && memory < kLeastMemory)
    in.Refuse("Memory", absl::StrCat(memory, " is too little; the least that works is 6 MiB"));
  out.set_memory_bytes(memory);
  out.set_memory_reservation_bytes(in.Integer("MemoryReservation", 0));
  if (out.memory_reservation_bytes() > 0 && memory > 0 && out.memory_reservation_bytes() > memory)
    in.Refuse("MemoryReservation", "is more than Memory");
  const int64_t swap = in.Integer("MemorySwap", -1);
  if (swap > 0 && memory == 0) in.Refuse("MemorySwap", "needs Memory, which it includes");
  if (swap > 0 && swap < memory) in.Refuse("MemorySwap", "is less than Memory, which it includes");
  out.set_memory_swap_bytes(swap);
  if (in.Find("MemorySwappiness") != nullptr) {
    const int64_t swappiness = in.Integer("MemorySwappiness", -1, 100);
    if (swappiness >= 0) out.set_memory_swappiness(swappiness);  // -1: the host's, as absent
  }
  out.set_oom_kill_disable(in.Bool("OomKillDisable"));
  out.set_nano_cpus(in.Integer("NanoCpus", 0));
  out.set_cpu_shares(static_cast<uint64_t>(in.Integer("CpuShares", 0)));
  out.set_cpu_period_micros(in.Integer("CpuPeriod", 0));
  out.set_cpu_quota_micros(in.Integer("CpuQuota", -1));
  if (out.nano_cpus() > 0 && (out.cpu_period_micros() > 0 || out.cpu_quota_micros() > 0))
    in.Refuse("NanoCpus", "cannot be combined with CpuPeriod or CpuQuota");
  out.set_cpu_rt_period_micros(in.Integer("CpuRealtimePeriod", 0));
  out.set_cpu_rt_runtime_micros(in.Integer("CpuRealtimeRuntime", 0));
  out.set_cpuset_cpus(in.String("CpusetCpus"));
  out.set_cpuset_mems(in.String("CpusetMems"));
  if (in.Find("PidsLimit") != nullptr) out.set_pids_limit(in.Integer("PidsLimit", -1));
  const int64_t weight = in.Integer("BlkioWeight", 0, 1000);
  if (weight > 0 && weight < 10) in.Refuse("BlkioWeight", "is not between 10 and 1000");
  out.set_blkio_weight(static_cast<uint32_t>(weight));
  ReadRates(in, "BlkioWeightDevice", "Weight", out.mutable_blkio_weight_device(), 1000);
  ReadRates(in, "BlkioDeviceReadBps", "Rate", out.mutable_blkio_device_read_bps(), kMost);
  ReadRates(in, "BlkioDeviceWriteBps", "Rate", out.mutable_blkio_device_write_bps(), kMost);
  ReadRates(in, "BlkioDeviceReadIOps", "Rate", out.mutable_blkio_device_read_iops(), kMost);
  ReadRates(in, "BlkioDeviceWriteIOps", "Rate", out.mutable_blkio_device_write_iops(), kMost);
  in.EachObject("Devices", [&](FieldReader& entry) {
    v1::Device& device = *out.add_devices();
    device.set_host_path(entry.String("PathOnHost"));
    device.set_container_path(entry.String("PathInContainer"));
    device.set_permissions(entry.String("CgroupPermissions"));
    if (!absl::StartsWith(device.host_path(), "/"))
      entry.Refuse("PathOnHost", "is not an absolute path");
    if (device.container_path().empty()) device.set_container_path(device.host_path());
    if (!absl::StartsWith(device.container_path(), "/"))
      entry.Refuse("PathInContainer", "is not an absolute path");
    if (device.permissions().empty()) device.set_permissions("rwm");
    if (device.permissions().find_first_not_of("rwm") != std::string::npos)
      entry.Refuse("CgroupPermissions",
                   absl::StrCat("\"", device.permissions(), "\" is not made of r, w and m"));
  });
  in.Strings("DeviceCgroupRules",
             [&](std::string rule) { out.add_device_cgroup_rules(std::move(rule)); });
  in.EachObject("Ulimits", [&](FieldReader& entry) {
    const int64_t soft = entry.Integer("Soft", -1);
    const int64_t hard = entry.Integer("Hard", -1);
    const std::string text = absl::StrCat(entry.String("Name"), "=", soft, ":", hard);
    entry.Parsed(ParseUlimit(text), "Name",
                 [&](v1::Ulimit ulimit) { *out.add_ulimits() = std::move(ulimit); });
  });
}

void ReadRestartPolicy(FieldReader in, v1::RestartPolicy& out) {
  const std::string name = in.String("Name");
  const int64_t count = in.Integer("MaximumRetryCount", 0, kMostInt32);
  if (name.empty()) {
    if (count > 0) in.Refuse("MaximumRetryCount", "needs the policy on-failure");
    return;
  }
  if (count > 0 && name != "on-failure")
    in.Refuse("MaximumRetryCount", absl::StrCat("cannot be used with the policy ", name));
  in.Parsed(absl::StrContains(name, ":")
                ? absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is not a policy"))
                : ParseRestartPolicy(name),
            "Name", [&](v1::RestartPolicy policy) { out = std::move(policy); });
  out.set_maximum_retry_count(static_cast<int32_t>(count));
}

void ReadBindOptions(FieldReader in, v1::Mount& out) {
  out.set_propagation(in.String("Propagation"));
  constexpr const char* kKnown[] = {"",        "private", "rprivate", "shared",
                                    "rshared", "slave",   "rslave"};
  if (std::find(std::begin(kKnown), std::end(kKnown), out.propagation()) == std::end(kKnown))
    in.Refuse("Propagation", absl::StrCat("\"", out.propagation(), "\" is not known"));
  out.set_non_recursive(in.Bool("NonRecursive"));
  out.set_create_source(in.Bool("CreateMountpoint"));
  out.set_read_only_non_recursive(in.Bool("ReadOnlyNonRecursive"));
  out.set_read_only_force_recursive(in.Bool("ReadOnlyForceRecursive"));
}

void ReadMount(FieldReader& in, v1::Mount& out) {
  const std::string type = in.String("Type");
  if (type == "bind") {
    out.set_type(v1::Mount::BIND);
  } else if (type == "volume" || type.empty()) {
    out.set_type(v1::Mount::VOLUME);
  } else if (type == "tmpfs") {
    out.set_type(v1::Mount::TMPFS);
  } else if (type == "image") {
    out.set_type(v1::Mount::IMAGE);
  } else {
    in.Refuse("Type", absl::StrCat("\"", type, "\"; there is bind, volume, tmpfs and image"));
  }
  out.set_source(in.String("Source"));
  const std::string target = in.String("Target");
  // The rules for a path in the container, and its plain spelling, are those of a volume.
  if (!absl::StartsWith(target, "/")) in.Refuse("Target", "is not an absolute path");
  if (absl::StrContains(target, ":")) {
    out.set_target(target);
  } else {
    in.Parsed(ParseVolume(target, "/"), "Target",
              [&](v1::Mount parsed) { out.set_target(parsed.target()); });
  }
  out.set_read_only(in.Bool("ReadOnly"));
  if (in.Find("BindOptions") != nullptr) {
    if (out.type() != v1::Mount::BIND) in.Refuse("BindOptions", "belong to a bind mount");
    ReadBindOptions(in.Object("BindOptions"), out);
  }
  if (in.Find("VolumeOptions") != nullptr) {
    if (out.type() != v1::Mount::VOLUME) in.Refuse("VolumeOptions", "belong to a volume");
    FieldReader volume = in.Object("VolumeOptions");
    out.set_no_copy(volume.Bool("NoCopy"));
    out.set_subpath(volume.String("Subpath"));
    volume.StringMap("Labels", out.mutable_volume_labels());
    FieldReader driver = volume.Object("DriverConfig");
    out.set_volume_driver(driver.String("Name"));
    driver.StringMap("Options", out.mutable_volume_options());
  }
  if (in.Find("ImageOptions") != nullptr) {
    if (out.type() != v1::Mount::IMAGE) in.Refuse("ImageOptions", "belong to an image mount");
    out.set_subpath(in.Object("ImageOptions").String("Subpath"));
  }
  if (in.Find("TmpfsOptions") != nullptr) {
    if (out.type() != v1::Mount::TMPFS) in.Refuse("TmpfsOptions", "belong to a tmpfs");
    FieldReader tmpfs = in.Object("TmpfsOptions");
    out.set_tmpfs_size_bytes(tmpfs.Integer("SizeBytes", 0));
    out.set_tmpfs_mode(static_cast<uint32_t>(tmpfs.Integer("Mode", 0, 07777)));
    if (const Value* options = tmpfs.Find("Options")) {
      // [["noexec"], ["uid", "7"]]
      tmpfs.EachOf(*options, tmpfs.PathOf("Options"), [&](const Value& pair, std::string path) {
        std::vector<std::string> words;
        tmpfs.EachOf(pair, path, [&](const Value& word, const std::string& at) {
          words.push_back(tmpfs.StringAt(word, at));
        });
        if (words.empty() || words.size() > 2)
          return tmpfs.Refuse("Options", "has an entry that is not [NAME] or [NAME, VALUE]");
        out.add_options(words.size() == 1 ? words[0] : absl::StrCat(words[0], "=", words[1]));
      });
    }
  }
  if (out.type() == v1::Mount::BIND && !absl::StartsWith(out.source(), "/"))
    in.Refuse("Source", "of a bind mount is not an absolute path");
  if (out.type() == v1::Mount::TMPFS && !out.source().empty())
    in.Refuse("Source", "must be empty for a tmpfs");
  if (out.type() == v1::Mount::IMAGE && out.source().empty())
    in.Refuse("Source", "is missing: the image");
}

void ReadPortBindings(FieldReader& in, v1::ContainerConfig& out) {
  in.EachField(
      "PortBindings", [&](const std::string& port, const Value& bindings, const std::string& path) {
        const absl::StatusOr<std::string> key = PortKey(port);
        in.Parsed(key, "PortBindings", [](const std::string&) {});
        if (!key.ok() || bindings.is_null()) return;
        in.EachOf(bindings, path, [&](const Value& value, const std::string& at) {
          FieldReader entry = in.At(value, at);
          const std::string host_ip = entry.String("HostIp");
          const std::string host_port = entry.String("HostPort");
          // "[::1]:8080:80/tcp": an address has a place even without a port.
          const bool v6 = absl::StrContains(host_ip, ":");
          const std::string text = absl::StrCat(
              host_ip.empty() ? "" : absl::StrCat(v6 ? "[" : "", host_ip, v6 ? "]" : "", ":"),
              host_ip.empty() && host_port.empty() ? "" : absl::StrCat(host_port, ":"), *key);
          in.Parsed(ParsePublish(text), "PortBindings", [&](std::vector<v1::PortBinding> parsed) {
            for (v1::PortBinding& binding : parsed) *out.add_port_bindings() = std::move(binding);
          });
        });
      });
}

template <typename Add>
void ReadList(FieldReader& in, absl::string_view key, Add add) {
  in.Strings(key, [&](std::string text) { add(std::move(text)); });
}

void ReadHostConfig(FieldReader in, v1::ContainerConfig& out) {
  const std::string volume_driver = in.String("VolumeDriver");
  ReadList(in, "Binds", [&](std::string text) {
    if (absl::StartsWith(text, ".") || absl::StartsWith(text, "~"))
      return in.Refuse("Binds", absl::StrCat("\"", text, "\": the source is not absolute"));
    in.Parsed(ParseVolume(text, "/"), "Binds", [&](v1::Mount mount) {
      if (mount.type() == v1::Mount::VOLUME) mount.set_volume_driver(volume_driver);
      *out.add_mounts() = std::move(mount);
    });
  });
  in.EachObject("Mounts", [&](FieldReader& entry) { ReadMount(entry, *out.add_mounts()); });
  in.EachField("Tmpfs",
               [&](const std::string& target, const Value& options, const std::string& path) {
                 const std::string text =
                     absl::StrCat(target, ":", options.is_null() ? "" : in.StringAt(options, path));
                 in.Parsed(ParseTmpfs(text), "Tmpfs",
                           [&](v1::Mount mount) { *out.add_mounts() = std::move(mount); });
               });
  ReadList(in, "VolumesFrom", [&](std::string text) { out.add_volumes_from(std::move(text)); });
  out.set_container_id_file(in.String("ContainerIDFile"));
  FieldReader log = in.Object("LogConfig");
  out.mutable_log()->set_driver(log.String("Type"));
  log.StringMap("Config", out.mutable_log()->mutable_options());
  out.set_network_mode(in.String("NetworkMode"));
  ReadPortBindings(in, out);
  out.set_publish_all_ports(in.Bool("PublishAllPorts"));
  if (in.Find("RestartPolicy") != nullptr)
    ReadRestartPolicy(in.Object("RestartPolicy"), *out.mutable_restart_policy());
  out.set_auto_remove(in.Bool("AutoRemove"));
  if (out.auto_remove() && !out.restart_policy().name().empty() &&
      out.restart_policy().name() != "no")
    in.Refuse("AutoRemove", "cannot be combined with a restart policy");
  out.set_runtime(in.String("Runtime"));
  in.StringMap("Annotations", out.mutable_annotations());
  in.StringMap("StorageOpt", out.mutable_storage_options());
  in.StringMap("Sysctls", out.mutable_sysctls());
  out.set_privileged(in.Bool("Privileged"));
  out.set_read_only_rootfs(in.Bool("ReadonlyRootfs"));
  out.set_shm_size_bytes(in.Integer("ShmSize", 0));
  if (in.Find("Init") != nullptr) out.set_init(in.Bool("Init"));
  ReadList(in, "CapAdd", [&](std::string text) { out.add_cap_add(std::move(text)); });
  ReadList(in, "CapDrop", [&](std::string text) { out.add_cap_drop(std::move(text)); });
  ReadList(in, "SecurityOpt", [&](std::string text) { out.add_security_options(std::move(text)); });
  ReadList(in, "GroupAdd", [&](std::string text) { out.add_group_add(std::move(text)); });
  ReadList(in, "Dns", [&](std::string text) { out.add_dns(std::move(text)); });
  ReadList(in, "DnsOptions", [&](std::string text) { out.add_dns_options(std::move(text)); });
  ReadList(in, "DnsSearch", [&](std::string text) { out.add_dns_search(std::move(text)); });
  ReadList(in, "Links", [&](std::string text) { out.add_links(std::move(text)); });
  ReadList(in, "ExtraHosts", [&](std::string text) {
    in.Parsed(ParseExtraHost(text), "ExtraHosts",
              [&](std::string host) { out.add_extra_hosts(std::move(host)); });
  });
  out.set_userns_mode(in.String("UsernsMode"));
  out.set_pid_mode(in.String("PidMode"));
  out.set_ipc_mode(in.String("IpcMode"));
  out.set_uts_mode(in.String("UTSMode"));
  out.set_cgroupns_mode(in.String("CgroupnsMode"));
  out.set_cgroup_parent(in.String("CgroupParent"));
  if (in.Find("OomScoreAdj") != nullptr)
    out.set_oom_score_adj(static_cast<int32_t>(in.Integer("OomScoreAdj", -1000, 1000)));
  if (in.Find("MaskedPaths") != nullptr) {
    v1::StringList& paths = *out.mutable_masked_paths();
    ReadList(in, "MaskedPaths", [&](std::string text) { paths.add_values(std::move(text)); });
  }
  if (in.Find("ReadonlyPaths") != nullptr) {
    v1::StringList& paths = *out.mutable_readonly_paths();
    ReadList(in, "ReadonlyPaths", [&](std::string text) { paths.add_values(std::move(text)); });
  }
  v1::TerminalSize console;
  if (ReadConsoleSize(in, console)) *out.mutable_console_size() = console;
  const std::string isolation = in.String("Isolation");
  if (!isolation.empty() && isolation != "default")
    in.Refuse("Isolation", absl::StrCat("\"", isolation, "\" does not exist on Linux"));
  in.EachObject("DeviceRequests",
                [&](FieldReader& entry) { ReadDeviceRequest(entry, *out.add_device_requests()); });
  ReadResources(in, *out.mutable_resources());
}

void ReadNetworking(FieldReader in, v1::ContainerConfig& out) {
  in.EachField("EndpointsConfig",
               [&](const std::string& name, const Value& value, const std::string& path) {
                 v1::NetworkAttachment& network = *out.add_networks();
                 network.set_network(name);
                 if (value.is_null()) return;
                 FieldReader entry = in.At(value, path);
                 ReadEndpoint(entry, network);
               });
}

}  // namespace

bool ReadConsoleSize(FieldReader& in, v1::TerminalSize& size) {
  const Value* given = in.Find("ConsoleSize");
  if (given == nullptr) return false;
  std::vector<uint32_t> sides;
  in.EachOf(*given, in.PathOf("ConsoleSize"), [&](const Value& side, const std::string& path) {
    sides.push_back(static_cast<uint32_t>(in.IntegerAt(side, path, 0, 65535)));
  });
  if (in.ok() && sides.size() != 2) in.Refuse("ConsoleSize", "is not [HEIGHT, WIDTH]");
  if (!in.ok() || sides[0] == 0 || sides[1] == 0) return false;
  size.set_height(sides[0]);
  size.set_width(sides[1]);
  return true;
}

absl::StatusOr<v1::ContainerConfig> ConfigFromDocument(const Value& body) {
  v1::ContainerConfig config;
  absl::Status status;
  FieldReader in(body, "", &status);
  if (!body.is_object()) return FieldError("body", "is not a JSON object");
  ReadConfig(in, config);
  ReadHostConfig(in.Object("HostConfig"), config);
  ReadNetworking(in.Object("NetworkingConfig"), config);
  if (in.Bool("NetworkDisabled")) config.set_network_mode("none");
  if (!status.ok()) return status;
  // A volume of Config.Volumes gives way to a mount that HostConfig has for the same place.
  std::set<std::string> targets;
  google::protobuf::RepeatedPtrField<v1::Mount> kept;
  for (auto mount = config.mounts().rbegin(); mount != config.mounts().rend(); ++mount) {
    const bool fresh = targets.insert(mount->target()).second;
    const bool anonymous = mount->type() == v1::Mount::VOLUME && mount->source().empty();
    if (!fresh && !anonymous)
      return FieldError("HostConfig", absl::StrCat("two mounts at ", mount->target()));
    if (fresh) *kept.Add() = *mount;
  }
  std::reverse(kept.begin(), kept.end());
  config.mutable_mounts()->Swap(&kept);
  return config;
}

absl::StatusOr<v1::ContainerConfig> ConfigFromJson(absl::string_view body) {
  absl::StatusOr<Value> document = Value::FromJson(body);
  if (!document.ok()) return FieldError("body", document.status().message());
  return ConfigFromDocument(*document);
}

absl::Status UpdateFromDocument(const Value& body, v1::Resources& resources,
                                v1::RestartPolicy& policy) {
  absl::Status status;
  if (!body.is_object()) return FieldError("body", "is not a JSON object");
  FieldReader in(body, "", &status);
  ReadResources(in, resources);
  ReadRestartPolicy(in.Object("RestartPolicy"), policy);
  return status;
}

}  // namespace gantry::engine
