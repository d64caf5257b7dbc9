#include "supervisor/core/container_spec.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/field_error.h"
#include "base/file.h"
#include "base/project_quota.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_health.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/container_mounts.h"
#include "supervisor/core/health_check.h"
#include "supervisor/core/log_options.h"
#include "supervisor/core/network_choice.h"

namespace gantry::core {
namespace {

bool HasNul(absl::string_view text) { return text.find('\0') != absl::string_view::npos; }

// Labels with these prefixes steer the daemon; an image must not set them.
bool ReservedLabel(absl::string_view key) {
  return absl::StartsWith(key, "containerd.io/") || absl::StartsWith(key, "io.cri-containerd");
}

absl::string_view EnvName(absl::string_view entry) { return entry.substr(0, entry.find('=')); }

// The modes that a namespace has, for messages.
absl::string_view ModesOf(absl::string_view file) {
  if (file == "uts") return "host or private";
  if (file == "cgroup") return "host or private";
  return "host, private or container:NAME";
}

absl::StatusOr<oci::NamespaceMode> ToNamespace(absl::string_view field, absl::string_view mode,
                                               absl::string_view file, const SpecPlace& place) {
  if (mode.empty() || mode == "private" || mode == "shareable" || (file == "ipc" && mode == "none"))
    return oci::NamespaceMode::Private();
  if (mode == "host") return oci::NamespaceMode::Host();
  if (absl::ConsumePrefix(&mode, "container:")) {
    GANTRY_ASSIGN_OR_RETURN(int32_t pid, place.pid_of(mode));
    return oci::NamespaceMode::Path(absl::StrCat("/proc/", pid, "/ns/", file));
  }
  return FieldError(field, absl::StrCat("\"", mode, "\" is not valid; use ", ModesOf(file)));
}

absl::Status ToDeviceLimits(absl::string_view field,
                            const google::protobuf::RepeatedPtrField<v1::DeviceRate>& in,
                            std::vector<oci::DeviceLimit>& out) {
  for (const v1::DeviceRate& rate : in) {
    struct stat info;
    if (rate.path().empty() || rate.path().front() != '/' ||
        stat(rate.path().c_str(), &info) != 0 || !S_ISBLK(info.st_mode)) {
      return FieldError(field,
                        absl::StrCat("\"", rate.path(), "\" is not a block device of this host"));
    }
    out.push_back({major(info.st_rdev), minor(info.st_rdev), rate.rate()});
  }
  return absl::OkStatus();
}

bool IsAddress(const std::string& text) {
  unsigned char bytes[sizeof(in6_addr)];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

// What ends up as a line of /etc/hosts or /etc/resolv.conf must not become two.
bool IsOneWord(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
}

absl::Status CheckNames(const v1::ContainerConfig& config) {
  for (const std::string& host : config.extra_hosts()) {
    const size_t split = host.find(':');
    if (split == std::string::npos || !IsOneWord(absl::string_view(host).substr(0, split))) {
      return FieldError("extra_hosts", absl::StrCat("\"", host, "\" is not NAME:ADDRESS"));
    }
    const std::string address = host.substr(split + 1);
    if (address != "host-gateway" && !IsAddress(address)) {
      return FieldError("extra_hosts", absl::StrCat("\"", address, "\" is not an IP address"));
    }
  }
  for (const std::string& server : config.dns()) {
    if (!IsAddress(server))
      return FieldError("dns", absl::StrCat("\"", server, "\" is not an IP address"));
  }
  for (const std::string& domain : config.dns_search()) {
    if (!IsOneWord(domain))
      return FieldError("dns_search", absl::StrCat("\"", domain, "\" is not a domain"));
  }
  for (const std::string& option : config.dns_options()) {
    if (!IsOneWord(option))
      return FieldError("dns_options", absl::StrCat("\"", option, "\" is not an option"));
  }
  return absl::OkStatus();
}

// What the request leaves open comes from the image, each part by itself; the test NONE leaves
// nothing open.
void InheritHealthCheck(const oci::HealthCheck& image, v1::HealthCheck& check) {
  if (check.test_size() == 1 && check.test(0) == "NONE") return;
  if (check.test().empty()) {
    for (const std::string& word : image.test) check.add_test(word);
  }
  const auto set = [](absl::Duration value, google::protobuf::Duration* out) {
    const int64_t nanos = absl::ToInt64Nanoseconds(value);
    out->set_seconds(nanos / 1000000000);
    out->set_nanos(static_cast<int32_t>(nanos % 1000000000));
  };
  if (!check.has_interval()) set(image.interval, check.mutable_interval());
  if (!check.has_timeout()) set(image.timeout, check.mutable_timeout());
  if (!check.has_start_period()) set(image.start_period, check.mutable_start_period());
  if (!check.has_start_interval()) set(image.start_interval, check.mutable_start_interval());
  if (check.retries() == 0) check.set_retries(image.retries);
}

// One network of a container's; `connected`: it has a network namespace of its own.
absl::Status CheckAttachment(const v1::NetworkAttachment& attachment, bool connected,
                             absl::string_view why) {
  const bool addressed = !attachment.ipv4_address().empty() || !attachment.ipv6_address().empty();
  const char* const address = attachment.ipv4_address().empty() ? "ipv6_address" : "ipv4_address";
  if (!connected) {
    if (addressed) return FieldError(address, why);
    if (attachment.aliases_size() > 0) return FieldError("aliases", why);
    if (attachment.link_local_addresses_size() > 0) return FieldError("link_local_addresses", why);
    return absl::OkStatus();
  }
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice choice, ParseNetworkMode(attachment.network()));
  if (choice.kind != NetworkChoice::Kind::kNetwork) {
    return FieldError("networks", absl::StrCat("\"", attachment.network(),
                                               "\" cannot be combined with another network"));
  }
  if (choice.network == "bridge") {
    if (addressed) {
      return FieldError(address,
                        "user-specified IP address is supported on user-defined networks only");
    }
    if (attachment.aliases_size() > 0) {
      return FieldError("aliases",
                        "network-scoped aliases are only supported for user-defined networks");
    }
  }
  for (const std::string& alias : attachment.aliases()) {
    if (!IsOneWord(alias) || alias.size() > 255)
      return FieldError("aliases", absl::StrCat("\"", absl::CHexEscape(alias), "\" is not a name"));
  }
  for (const std::string& text : attachment.link_local_addresses()) {
    const bool ipv4 = absl::StartsWith(text, "169.254.");
    const bool ipv6 =
        absl::StartsWithIgnoreCase(text, "fe8") || absl::StartsWithIgnoreCase(text, "fe9") ||
        absl::StartsWithIgnoreCase(text, "fea") || absl::StartsWithIgnoreCase(text, "feb");
    if (!IsAddress(text) || (!ipv4 && !ipv6)) {
      return FieldError("link_local_addresses",
                        absl::StrCat("invalid link local IP address: ", absl::CHexEscape(text)));
    }
  }
  return absl::OkStatus();
}

// With another container's network namespace, what is that container's to say. Docker's words,
// which clients know.
absl::Status CheckOthersNetwork(const v1::ContainerConfig& config) {
  const auto conflict = [](absl::string_view field, absl::string_view what,
                           absl::string_view mode = "the network mode") {
    return FieldError(field, absl::StrCat("conflicting options: ", what, " and ", mode));
  };
  if (!config.hostname().empty()) return conflict("hostname", "hostname");
  if (config.dns_size() > 0) return conflict("dns", "dns");
  if (config.extra_hosts_size() > 0) return conflict("extra_hosts", "custom host-to-IP mapping");
  if (!config.mac_address().empty()) return conflict("mac_address", "mac-address");
  if (config.port_bindings_size() > 0 || config.publish_all_ports()) {
    return conflict(config.publish_all_ports() ? "publish_all_ports" : "port_bindings",
                    "port publishing", "the container type network mode");
  }
  return absl::OkStatus();
}

// What docker knows and this version does not: refused, so that it is never silently without
// effect.
absl::Status CheckUnsupported(const v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice network, NetworkOf(config));
  const bool connected = network.kind == NetworkChoice::Kind::kNetwork;
  const std::string why = absl::StrCat("needs a network of the container's own; with \"",
                                       network.Print(), "\" it has no effect");
  if (network.kind == NetworkChoice::Kind::kContainer)
    GANTRY_RETURN_IF_ERROR(CheckOthersNetwork(config));
  // docker drops ports with the host's network and says so; elsewhere they could not be reached.
  if (config.port_bindings_size() > 0 && !connected && !network.host())
    return FieldError("port_bindings", why);
  for (const v1::PortBinding& port : config.port_bindings()) {
    if (port.container_port() == 0 || port.container_port() > 65535)
      return FieldError("port_bindings", "a container's port is from 1 to 65535");
    if (!port.protocol().empty() && port.protocol() != "tcp" && port.protocol() != "udp" &&
        port.protocol() != "sctp") {
      return FieldError("port_bindings",
                        absl::StrCat("\"", port.protocol(), "\" is not tcp, udp or sctp"));
    }
  }
  if (config.publish_all_ports() && !connected && !network.host())
    return FieldError("publish_all_ports", why);
  // docker's words, which clients know.
  const char* const sharing = network.host()                                    ? "host"
                              : network.kind == NetworkChoice::Kind::kContainer ? "container"
                                                                                : nullptr;
  const absl::Status no_links = FieldError(
      "links", sharing == nullptr
                   ? why
                   : absl::StrCat("conflicting options: ", sharing,
                                  " type networking can't be used with links. This would result "
                                  "in undefined behavior"));
  if (config.links_size() > 0 && !connected) return no_links;
  if (!config.mac_address().empty() && !connected) return FieldError("mac_address", why);
  for (const v1::NetworkAttachment& attachment : config.networks()) {
    GANTRY_RETURN_IF_ERROR(CheckAttachment(attachment, connected, why));
    if (attachment.links_size() > 0 && !connected) return no_links;
  }
  GANTRY_RETURN_IF_ERROR(ParseUsernsMode(config.userns_mode()).status());
  for (const auto& [key, value] : config.storage_options()) {
    if (key != "size")
      return FieldError("storage_options", absl::StrCat("unknown option ", key, "; use size=N"));
    if (const absl::Status size = ParseTreeSize(value).status(); !size.ok())
      return FieldError("storage_options", size.message());
  }
  return absl::OkStatus();
}

}  // namespace

// Docker's rule for names, with an end: a name appears in paths, tables and lookups, where "a/b",
// ".." or 4 KB have no place.
absl::Status CheckContainerConfig(const v1::ContainerConfig& config) {
  if (config.image().empty()) return FieldError("image", "no image given");
  for (const std::string& entry : config.env()) {
    if (entry.empty() || entry.front() == '=' || HasNul(entry)) {
      return FieldError("env", absl::StrCat("\"", entry, "\" is not NAME=value"));
    }
  }
  for (const std::string& word : config.command()) {
    if (HasNul(word)) return FieldError("command", "an argument holds a NUL byte");
  }
  if (!config.working_dir().empty() &&
      (config.working_dir().front() != '/' || HasNul(config.working_dir()))) {
    return FieldError("working_dir",
                      absl::StrCat("\"", config.working_dir(), "\" is not an absolute path"));
  }
  if (config.hostname().size() > 63 || HasNul(config.hostname())) {
    return FieldError("hostname", "at most 63 characters");
  }
  GANTRY_RETURN_IF_ERROR(CheckUnsupported(config));
  GANTRY_RETURN_IF_ERROR(CheckHealthCheck(config.health_check()));
  GANTRY_RETURN_IF_ERROR(CheckNames(config));
  for (absl::string_view part : absl::StrSplit(config.cgroup_parent(), '/')) {
    if (part == ".." || HasNul(part)) {
      return FieldError("cgroup_parent", absl::StrCat("\"", config.cgroup_parent(),
                                                      "\" leads out of the hierarchy"));
    }
  }
  if (const int64_t cpus = get_nprocs(); config.resources().nano_cpus() > cpus * 1000000000) {
    return FieldError("nano_cpus", absl::StrCat("from 0.01 to ", cpus, ": this host has no more"));
  }
  GANTRY_RETURN_IF_ERROR(CheckMounts(config));
  if (!config.stop_signal().empty())
    GANTRY_RETURN_IF_ERROR(ParseSignal(config.stop_signal()).status());
  const std::string& driver = config.log().driver();
  if (!driver.empty() && driver != "json-file" && driver != "local" && driver != "none" &&
      !IsCollector(driver)) {
    return FieldError("log.driver", absl::StrCat("\"", driver,
                                                 "\" is not valid; use json-file, local, none, "
                                                 "journald, syslog or fluentd"));
  }
  shim::v1::Log probe;
  LogCollector collector;
  GANTRY_RETURN_IF_ERROR(ApplyLogOptions(config, LogOwner(), probe, collector));
  const std::string& restart = config.restart_policy().name();
  if (!restart.empty() && restart != "no" && restart != "always" && restart != "on-failure" &&
      restart != "unless-stopped") {
    return FieldError(
        "restart_policy",
        absl::StrCat("\"", restart,
                     "\" is not valid; use no, always, on-failure[:N] or unless-stopped"));
  }
  if (config.auto_remove() && !restart.empty() && restart != "no") {
    return FieldError("auto_remove", "cannot be combined with a restart policy");
  }
  std::set<absl::string_view> limits;
  for (const v1::Ulimit& limit : config.resources().ulimits()) {
    const auto refuse = [&limit](absl::string_view why) {
      return FieldError("ulimits", absl::StrCat("\"", limit.name(), "\": ", why));
    };
    if (absl::StartsWithIgnoreCase(limit.name(), "rlimit_") ||
        !oci::ParseUlimit(absl::StrCat(limit.name(), "=0")).ok())
      return refuse("there is no such limit");
    if (!limits.insert(limit.name()).second) return refuse("given twice");
    // -1 is "unlimited".
    if (static_cast<uint64_t>(limit.soft()) > static_cast<uint64_t>(limit.hard())) {
      return refuse(
          absl::StrCat("the soft limit ", limit.soft(), " is above the hard limit ", limit.hard()));
    }
  }
  return ToResources(config.resources()).status();
}

absl::Status MergeImageConfig(const oci::ImageConfig& image, v1::ContainerConfig& config) {
  // docker's rule: who gives an entrypoint does not get the image's command.
  if (!config.has_entrypoint()) {
    v1::StringList* entrypoint = config.mutable_entrypoint();
    for (const std::string& word : image.entrypoint) entrypoint->add_values(word);
    if (config.command().empty()) {
      for (const std::string& word : image.cmd) config.add_command(word);
    }
  } else if (config.entrypoint().values_size() == 1 && config.entrypoint().values(0).empty()) {
    config.mutable_entrypoint()->clear_values();  // --entrypoint "" means none
  }
  if (config.entrypoint().values().empty() && config.command().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("image ", config.image(), " has no command: say what to run after its name"));
  }

  // The container's own come first, then those of the image that it does not name. A bare NAME
  // takes the image's away and stays in the record, as docker shows it.
  std::vector<std::string> env;
  std::map<std::string, size_t> where;
  for (const std::string& entry : config.env()) {
    const auto [it, fresh] = where.emplace(std::string(EnvName(entry)), env.size());
    if (fresh) {
      env.push_back(entry);
    } else {
      env[it->second] = entry;
    }
  }
  for (const std::string& entry : image.env) {
    if (where.count(std::string(EnvName(entry))) == 0) env.push_back(entry);
  }
  config.clear_env();
  for (std::string& entry : env) config.add_env(std::move(entry));

  if (config.working_dir().empty() && !image.working_dir.empty()) {
    // Images name relative directories too; the builder that made them started at the root.
    config.set_working_dir(absl::StrCat(image.working_dir[0] == '/' ? "" : "/", image.working_dir));
  }
  if (config.user().empty()) config.set_user(image.user);
  if (config.stop_signal().empty()) config.set_stop_signal(image.stop_signal);
  if (!config.has_stop_timeout_seconds() && image.stop_timeout_seconds.has_value()) {
    config.set_stop_timeout_seconds(*image.stop_timeout_seconds);
  }
  for (const auto& [key, value] : image.labels) {
    if (!ReservedLabel(key)) config.mutable_labels()->insert({key, value});
  }
  for (const std::string& port : image.exposed_ports) {
    const auto& have = config.exposed_ports();
    if (std::find(have.begin(), have.end(), port) == have.end()) config.add_exposed_ports(port);
  }
  if (image.health_check.has_value()) {
    InheritHealthCheck(*image.health_check, *config.mutable_health_check());
  }
  return absl::OkStatus();
}

absl::StatusOr<oci::Resources> ToResources(const v1::Resources& in) {
  oci::Resources out;
  if (in.memory_bytes() != 0) {
    if (in.memory_bytes() < (6 << 20)) return FieldError("memory_bytes", "must be at least 6m");
    out.memory_limit_bytes = in.memory_bytes();
  }
  if (in.memory_reservation_bytes() != 0)
    out.memory_reservation_bytes = in.memory_reservation_bytes();
  if (in.memory_swap_bytes() != 0) {
    out.memory_swap_bytes = in.memory_swap_bytes();
  } else if (in.memory_bytes() > 0) {
    out.memory_swap_bytes = in.memory_bytes() * 2;
  }
  if (in.has_memory_swappiness())
    out.memory_swappiness = static_cast<uint64_t>(in.memory_swappiness());
  if (in.oom_kill_disable()) out.oom_kill_disabled = true;
  if (in.nano_cpus() != 0) {
    if (in.cpu_quota_micros() != 0 || in.cpu_period_micros() != 0) {
      return FieldError("nano_cpus", "cannot be combined with a quota or a period");
    }
    if (in.nano_cpus() < 0) return FieldError("nano_cpus", "must be positive");
    out.cpu_period_micros = 100000;
    out.cpu_quota_micros = in.nano_cpus() / 10000;
    if (*out.cpu_quota_micros < 1000) return FieldError("nano_cpus", "at least 0.01");
  }
  if (in.cpu_shares() != 0) out.cpu_shares = in.cpu_shares();
  if (in.cpu_period_micros() != 0)
    out.cpu_period_micros = static_cast<uint64_t>(in.cpu_period_micros());
  if (in.cpu_quota_micros() != 0) out.cpu_quota_micros = in.cpu_quota_micros();
  if (in.cpu_rt_period_micros() != 0)
    out.cpu_realtime_period_micros = static_cast<uint64_t>(in.cpu_rt_period_micros());
  if (in.cpu_rt_runtime_micros() != 0) out.cpu_realtime_runtime_micros = in.cpu_rt_runtime_micros();
  out.cpuset_cpus = in.cpuset_cpus();
  out.cpuset_mems = in.cpuset_mems();
  if (in.has_pids_limit()) out.pids_limit = in.pids_limit() <= 0 ? -1 : in.pids_limit();
  if (in.blkio_weight() != 0) out.block_io_weight = static_cast<uint16_t>(in.blkio_weight());
  GANTRY_RETURN_IF_ERROR(
      ToDeviceLimits("blkio_weight_device", in.blkio_weight_device(), out.block_io_weight_device));
  GANTRY_RETURN_IF_ERROR(
      ToDeviceLimits("blkio_device_read_bps", in.blkio_device_read_bps(), out.block_io_read_bps));
  GANTRY_RETURN_IF_ERROR(ToDeviceLimits("blkio_device_write_bps", in.blkio_device_write_bps(),
                                        out.block_io_write_bps));
  GANTRY_RETURN_IF_ERROR(ToDeviceLimits("blkio_device_read_iops", in.blkio_device_read_iops(),
                                        out.block_io_read_iops));
  GANTRY_RETURN_IF_ERROR(ToDeviceLimits("blkio_device_write_iops", in.blkio_device_write_iops(),
                                        out.block_io_write_iops));
  GANTRY_RETURN_IF_ERROR(oci::CheckResources(out));
  return out;
}

std::string CgroupsPath(absl::string_view id, const std::string& parent, bool systemd) {
  if (systemd) return absl::StrCat(parent.empty() ? "system.slice" : parent, ":gantry:", id);
  return absl::StrCat(parent.empty() ? "/gantry" : parent, "/", id);
}

absl::StatusOr<oci::ContainerConfig> ToSpecConfig(const v1::ContainerConfig& in,
                                                  const SpecPlace& place) {
  oci::ContainerConfig out;
  out.id = place.id;
  out.args.assign(in.entrypoint().values().begin(), in.entrypoint().values().end());
  out.args.insert(out.args.end(), in.command().begin(), in.command().end());
  for (const std::string& entry : in.env()) {
    if (absl::StrContains(entry, '=')) out.env.push_back(entry);
  }
  out.working_dir = in.working_dir();
  out.user = in.user();
  out.group_add.assign(in.group_add().begin(), in.group_add().end());
  out.hostname = in.hostname();
  out.domainname = in.domainname();
  out.terminal = in.tty();
  out.console_width = static_cast<int>(in.console_size().width());
  out.console_height = static_cast<int>(in.console_size().height());
  out.annotations.insert(in.annotations().begin(), in.annotations().end());
  out.root_path = "rootfs";
  out.read_only_root = in.read_only_rootfs();
  if (in.shm_size_bytes() != 0) out.shm_size_bytes = in.shm_size_bytes();
  if (in.ipc_mode() == "none") out.shm_size_bytes = 0;  // its own IPC namespace, and no /dev/shm
  if (in.init()) {
    if (place.init_path.empty())
      return absl::FailedPreconditionError(
          "init: the program gantry-init is not installed beside gantryd");
    out.init_path = place.init_path;
  }

  GANTRY_RETURN_IF_ERROR(AppendMounts(in, place.mount_sources, out.mounts));
  // What a name server, a host name and its own name are; files of ours unless the person mounts
  // something there.
  for (const char* file : {"resolv.conf", "hostname", "hosts"}) {
    const std::string target = absl::StrCat("/etc/", file);
    const bool taken =
        std::any_of(in.mounts().begin(), in.mounts().end(),
                    [&](const v1::Mount& mount) { return mount.target() == target; });
    if (taken) continue;
    oci::MountConfig spec;
    spec.type = oci::MountConfig::Type::kBind;
    spec.source = absl::StrCat(place.directory, "/", file);
    spec.destination = target;
    spec.read_only = in.read_only_rootfs();
    out.mounts.push_back(std::move(spec));
  }

  out.privileged = in.privileged();
  out.cap_add.assign(in.cap_add().begin(), in.cap_add().end());
  out.cap_drop.assign(in.cap_drop().begin(), in.cap_drop().end());
  for (const std::string& option : in.security_options()) {
    GANTRY_RETURN_IF_ERROR(oci::ApplySecurityOption(option, out));
  }
  if (in.has_masked_paths()) {
    out.masked_paths.emplace(in.masked_paths().values().begin(), in.masked_paths().values().end());
  }
  if (in.has_readonly_paths()) {
    out.readonly_paths.emplace(in.readonly_paths().values().begin(),
                               in.readonly_paths().values().end());
  }
  for (const v1::Device& device : in.resources().devices()) {
    out.devices.push_back({device.host_path(), device.container_path(),
                           device.permissions().empty() ? "rwm" : device.permissions()});
  }
  out.device_cgroup_rules.assign(in.resources().device_cgroup_rules().begin(),
                                 in.resources().device_cgroup_rules().end());
  for (const v1::Ulimit& limit : in.resources().ulimits()) {
    out.rlimits.push_back({absl::StrCat("RLIMIT_", absl::AsciiStrToUpper(limit.name())),
                           static_cast<uint64_t>(limit.soft()),
                           static_cast<uint64_t>(limit.hard())});
  }
  out.sysctls.insert(in.sysctls().begin(), in.sysctls().end());
  if (in.has_oom_score_adj()) out.oom_score_adj = in.oom_score_adj();
  GANTRY_ASSIGN_OR_RETURN(out.resources, ToResources(in.resources()));
  // A new group has no limit, and crun writes -1 as a number, which the kernel refuses.
  if (out.resources.pids_limit.value_or(0) <= 0) out.resources.pids_limit.reset();
  out.cgroups_path = place.cgroups_path;
  IdMaps ids = IdsOf(in);
  out.uids = std::move(ids.uids);
  out.gids = std::move(ids.gids);

  GANTRY_ASSIGN_OR_RETURN(const NetworkChoice network, NetworkOf(in));
  // The namespace of one that is connected to a network is made, and named, at each start.
  const bool own =
      network.kind == NetworkChoice::Kind::kNone || network.kind == NetworkChoice::Kind::kNetwork;
  const std::string network_namespace = own ? "private" : network.Print();
  GANTRY_ASSIGN_OR_RETURN(out.network,
                          ToNamespace("network_mode", network_namespace, "net", place));
  GANTRY_ASSIGN_OR_RETURN(out.pid, ToNamespace("pid_mode", in.pid_mode(), "pid", place));
  GANTRY_ASSIGN_OR_RETURN(out.ipc, ToNamespace("ipc_mode", in.ipc_mode(), "ipc", place));
  GANTRY_ASSIGN_OR_RETURN(out.uts, ToNamespace("uts_mode", in.uts_mode(), "uts", place));
  GANTRY_ASSIGN_OR_RETURN(out.cgroup,
                          ToNamespace("cgroupns_mode", in.cgroupns_mode(), "cgroup", place));
  out.own_cgroup_namespace = in.cgroupns_mode() == "private";
  return out;
}

absl::StatusOr<int> ParseSignal(absl::string_view text) {
  int number = 0;
  if (absl::SimpleAtoi(text, &number)) {
    if (number >= 1 && number <= SIGRTMAX) return number;
  } else {
    std::string name = absl::AsciiStrToUpper(text);
    absl::string_view bare = name;
    absl::ConsumePrefix(&bare, "SIG");
    for (int signal = 1; signal < NSIG; ++signal) {
      const char* abbreviation = sigabbrev_np(signal);
      if (abbreviation != nullptr && bare == abbreviation) return signal;
    }
    int offset = 0;
    if (bare == "RTMIN") return SIGRTMIN;
    if (bare == "RTMAX") return SIGRTMAX;
    if (absl::ConsumePrefix(&bare, "RTMIN+") && absl::SimpleAtoi(bare, &offset) &&
        SIGRTMIN + offset <= SIGRTMAX && offset > 0) {
      return SIGRTMIN + offset;
    }
    if (absl::ConsumePrefix(&bare, "RTMAX-") && absl::SimpleAtoi(bare, &offset) &&
        SIGRTMAX - offset >= SIGRTMIN && offset > 0) {
      return SIGRTMAX - offset;
    }
  }
  return FieldError("signal", absl::StrCat("there is no signal \"", text, "\""));
}

}  // namespace gantry::core
