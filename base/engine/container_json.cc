#include "base/engine/container_json.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "base/engine/config_json.h"
#include "base/engine/engine_json.h"
#include "base/engine/field_reader.h"
#include "base/engine/json_text.h"
#include "base/engine/proto_time.h"
#include "base/engine/state_words.h"
#include "base/engine/units.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_files.pb.h"
#include "proto/gantry/v1/container_streams.pb.h"
#include "proto/gantry/v1/container_views.pb.h"

namespace gantry::engine {
namespace {

void AppendPorts(const v1::ContainerSummary& container, JsonText& json) {
  json.Key("Ports");
  json.OpenList();
  for (const v1::PublishedPort& port : container.ports()) {
    json.OpenObject();
    if (!port.ip().empty()) json.Field("IP", port.ip());
    json.Number("PrivatePort", port.private_port());
    if (port.public_port() != 0) json.Number("PublicPort", port.public_port());
    json.Field("Type", port.protocol());
    json.CloseObject();
  }
  json.CloseList();
}

// What a list says of an endpoint: where it is, and of what was asked for the addresses only.
void AppendEndpoint(const v1::NetworkEndpoint& e, const v1::NetworkAttachment* asked,
                    const SummaryFields& fields, JsonText& json) {
  static const auto* const nothing = new v1::NetworkAttachment;
  const v1::NetworkAttachment& wish = asked == nullptr ? *nothing : *asked;
  json.OpenObject();
  json.Key("IPAMConfig");
  if (wish.ipv4_address().empty() && wish.ipv6_address().empty()) {
    json.Null();
  } else {
    json.OpenObject();
    if (!wish.ipv4_address().empty()) json.Field("IPv4Address", wish.ipv4_address());
    if (!wish.ipv6_address().empty()) json.Field("IPv6Address", wish.ipv6_address());
    json.CloseObject();
  }
  for (const char* name : {"Links", "Aliases", "DriverOpts"}) json.Null(name);
  if (fields.gateway_priority) json.Number("GwPriority", wish.gateway_priority());
  json.Field("NetworkID", e.network_id());
  json.Field("EndpointID", e.endpoint_id());
  json.Field("Gateway", e.gateway());
  json.Field("IPAddress", e.ip_address());
  json.Number("IPPrefixLen", e.ip_prefix_len());
  json.Field("IPv6Gateway", e.ipv6_gateway());
  json.Field("GlobalIPv6Address", e.global_ipv6_address());
  json.Number("GlobalIPv6PrefixLen", e.global_ipv6_prefix_len());
  json.Field("MacAddress", e.mac_address());
  if (fields.dns_names) json.Null("DNSNames");
  json.CloseObject();
}

void AppendNetworks(const v1::ContainerSummary& container,
                    const std::map<std::string, std::string>& network_ids,
                    const SummaryFields& fields, JsonText& json) {
  const auto asked = [&container](const std::string& name,
                                  const std::string& id) -> const v1::NetworkAttachment* {
    for (const v1::NetworkAttachment& one : container.attachments()) {
      if (one.network() == name || (!id.empty() && one.network() == id)) return &one;
    }
    return nullptr;
  };
  std::vector<absl::string_view> written;  // few
  const auto first = [&written](absl::string_view name) {
    if (std::find(written.begin(), written.end(), name) != written.end()) return false;
    written.push_back(name);
    return true;
  };
  json.Key("Networks");
  json.OpenObject();
  for (const v1::NetworkEndpoint& endpoint : container.endpoints()) {
    if (!first(endpoint.network())) continue;
    json.Key(endpoint.network());
    AppendEndpoint(endpoint, asked(endpoint.network(), endpoint.network_id()), fields, json);
  }
  for (const std::string& network : container.networks()) {
    if (!first(network)) continue;
    v1::NetworkEndpoint endpoint;
    const auto id = network_ids.find(network);
    if (id != network_ids.end()) endpoint.set_network_id(id->second);
    json.Key(network);
    AppendEndpoint(endpoint, asked(network, endpoint.network_id()), fields, json);
  }
  json.CloseObject();
}

// Go's io/fs.FileMode of a Linux mode.
uint32_t GoFileMode(uint32_t mode) {
  uint32_t out = mode & 0777;
  switch (mode & S_IFMT) {
    case S_IFDIR:
      out |= uint32_t{1} << 31;
      break;
    case S_IFLNK:
      out |= uint32_t{1} << 27;
      break;
    case S_IFBLK:
      out |= uint32_t{1} << 26;
      break;
    case S_IFCHR:
      out |= uint32_t{1} << 26 | uint32_t{1} << 21;
      break;
    case S_IFIFO:
      out |= uint32_t{1} << 25;
      break;
    case S_IFSOCK:
      out |= uint32_t{1} << 24;
      break;
    default:
      break;
  }
  if ((mode & S_ISUID) != 0) out |= uint32_t{1} << 23;
  if ((mode & S_ISGID) != 0) out |= uint32_t{1} << 22;
  if ((mode & S_ISVTX) != 0) out |= uint32_t{1} << 20;
  return out;
}

Value CpuDocument(const v1::ContainerStats& stats) {
  Value usage = Value::EmptyObject();
  usage.Set("total_usage", stats.cpu_total_nanos());
  if (!stats.per_cpu_nanos().empty()) {
    Value each = Value::EmptyList();
    for (const uint64_t nanos : stats.per_cpu_nanos()) each.Append(nanos);
    usage.Set("percpu_usage", std::move(each));
  }
  usage.Set("usage_in_kernelmode", stats.cpu_system_nanos());
  usage.Set("usage_in_usermode", stats.cpu_user_nanos());
  Value out = Value::EmptyObject();
  out.Set("cpu_usage", std::move(usage));
  if (stats.host_cpu_nanos() != 0) out.Set("system_cpu_usage", stats.host_cpu_nanos());
  if (stats.host_cpu_nanos() != 0) out.Set("online_cpus", stats.online_cpus());
  Value throttling = Value::EmptyObject();
  throttling.Set("periods", stats.cpu_periods());
  throttling.Set("throttled_periods", stats.throttled_periods());
  throttling.Set("throttled_time", stats.throttled_nanos());
  out.Set("throttling_data", std::move(throttling));
  return out;
}

Value BlockDocument(const v1::ContainerStats& stats) {
  // Null while it has touched no device.
  Value bytes, operations;
  const auto add = [](Value& list, const v1::BlockDeviceCounters& device, const char* op,
                      uint64_t value) {
    Value entry = Value::EmptyObject();
    entry.Set("major", device.major());
    entry.Set("minor", device.minor());
    entry.Set("op", op);
    entry.Set("value", value);
    list.Append(std::move(entry));
  };
  for (const v1::BlockDeviceCounters& device : stats.devices()) {
    add(bytes, device, "read", device.read_bytes());
    add(bytes, device, "write", device.write_bytes());
    add(operations, device, "read", device.read_operations());
    add(operations, device, "write", device.write_operations());
  }
  Value block = Value::EmptyObject();
  block.Set("io_service_bytes_recursive", std::move(bytes));
  block.Set("io_serviced_recursive", std::move(operations));
  for (const char* name :
       {"io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive",
        "io_merged_recursive", "io_time_recursive", "sectors_recursive"})
    block.Set(name, Value());
  return block;
}

Value InterfacesDocument(const v1::ContainerStats& stats) {
  Value networks = Value::EmptyObject();
  for (const v1::InterfaceCounters& one : stats.interfaces()) {
    Value entry = Value::EmptyObject();
    entry.Set("rx_bytes", one.rx_bytes());
    entry.Set("rx_packets", one.rx_packets());
    entry.Set("rx_errors", one.rx_errors());
    entry.Set("rx_dropped", one.rx_dropped());
    entry.Set("tx_bytes", one.tx_bytes());
    entry.Set("tx_packets", one.tx_packets());
    entry.Set("tx_errors", one.tx_errors());
    entry.Set("tx_dropped", one.tx_dropped());
    networks.Set(one.name(), std::move(entry));
  }
  return networks;
}

// What the kernel charges, from which clients take inactive pages of files away again.
uint64_t ChargedMemory(const v1::ContainerStats& stats, bool* cgroup_v1) {
  const auto& counters = stats.memory_stat();
  auto inactive = counters.find("total_inactive_file");
  *cgroup_v1 = inactive != counters.end();
  if (inactive == counters.end()) inactive = counters.find("inactive_file");
  return stats.memory_usage_bytes() + (inactive == counters.end() ? 0 : inactive->second);
}

}  // namespace

void AppendContainerSummary(const v1::ContainerSummary& container,
                            const std::map<std::string, std::string>& network_ids, absl::Time now,
                            const SummaryFields& fields, std::string* out) {
  JsonText json(out);
  json.OpenObject();
  json.Field("Id", container.id());
  json.Key("Names");
  json.OpenList();
  if (!container.name().empty()) json.String(absl::StrCat("/", container.name()));
  json.CloseList();
  json.Field("Image", container.image());
  json.Field("ImageID", container.image_id());
  if (fields.image_manifest && container.has_image_manifest()) {
    json.Key("ImageManifestDescriptor");
    json.Json(ManifestDocument(container.image_manifest()).ToJson());
  }
  json.Field("Command", CommandText(container));
  json.Number("Created", container.created_at().seconds());
  AppendPorts(container, json);
  if (container.has_size_rw_bytes() && container.size_rw_bytes() != 0)
    json.Number("SizeRw", container.size_rw_bytes());
  if (container.has_size_rootfs_bytes() && container.size_rootfs_bytes() != 0)
    json.Number("SizeRootFs", container.size_rootfs_bytes());
  json.Key("Labels");
  json.StringMap(container.labels());
  json.Field("State", StateWord(container.state()));
  json.Field("Status", StatusText(container, now));
  json.Key("HostConfig");
  json.OpenObject();
  json.Field("NetworkMode", container.network_mode());
  if (fields.annotations && !container.annotations().empty()) {
    json.Key("Annotations");
    json.StringMap(container.annotations());
  }
  json.CloseObject();
  json.Key("NetworkSettings");
  json.OpenObject();
  AppendNetworks(container, network_ids, fields, json);
  json.CloseObject();
  json.Key("Mounts");
  json.Json(container.mounts().empty() ? "[]" : MountPointsDocument(container).ToJson());
  json.CloseObject();
}

Value TopDocument(const v1::TopResponse& top) {
  Value out = Value::EmptyObject();
  Value processes = Value::EmptyList();
  for (const v1::StringList& row : top.processes())
    processes.Append(Value::StringRange(row.values()));
  out.Set("Processes", std::move(processes));
  out.Set("Titles", Value::StringRange(top.titles()));
  return out;
}

Value ChangesDocument(const v1::DiffResponse& diff) {
  Value out;
  for (const v1::DiffResponse::Change& change : diff.changes()) {
    Value entry = Value::EmptyObject();
    entry.Set("Path", change.path());
    entry.Set("Kind", static_cast<int>(change.kind()));
    out.Append(std::move(entry));
  }
  return out;
}

std::string PathStatHeader(const v1::PathStat& stat) {
  Value out = Value::EmptyObject();
  out.Set("name", stat.name());
  out.Set("size", stat.size_bytes());
  out.Set("mode", GoFileMode(stat.mode()));
  out.Set("mtime", JsonTime(FromProto(stat.has_modified_at(), stat.modified_at())));
  out.Set("linkTarget", stat.link_target());
  return absl::Base64Escape(out.ToJson());
}

Value StatsDocument(const v1::ContainerStats& stats, const v1::ContainerStats& previous) {
  Value out = Value::EmptyObject();
  out.Set("read", JsonTime(FromProto(stats.has_read_at(), stats.read_at())));
  out.Set("preread", JsonTime(FromProto(previous.has_read_at(), previous.read_at())));
  Value pids = Value::EmptyObject();
  if (stats.running()) pids.Set("current", stats.pids_current());
  if (stats.pids_limit() != 0) pids.Set("limit", stats.pids_limit());
  out.Set("pids_stats", std::move(pids));
  out.Set("blkio_stats", BlockDocument(stats));
  out.Set("num_procs", 0);
  out.Set("storage_stats", Value::EmptyObject());
  out.Set("cpu_stats", CpuDocument(stats));
  out.Set("precpu_stats", CpuDocument(previous));
  Value memory = Value::EmptyObject();
  if (stats.running()) {
    bool cgroup_v1 = false;
    memory.Set("usage", ChargedMemory(stats, &cgroup_v1));
    if (cgroup_v1) memory.Set("max_usage", stats.memory_max_usage_bytes());
    if (stats.memory_failures() != 0) memory.Set("failcnt", stats.memory_failures());
    Value counters = Value::EmptyObject();
    for (const auto& [name, value] :
         std::map<std::string, uint64_t>(stats.memory_stat().begin(), stats.memory_stat().end()))
      counters.Set(name, value);
    memory.Set("stats", std::move(counters));
    memory.Set("limit", stats.memory_limit_bytes());
  }
  out.Set("memory_stats", std::move(memory));
  out.Set("name", absl::StrCat("/", stats.name()));
  out.Set("id", stats.id());
  if (!stats.interfaces().empty()) out.Set("networks", InterfacesDocument(stats));
  return out;
}

absl::Status ExecFromDocument(const Value& body, v1::ExecConfig& config) {
  if (!body.is_object()) return absl::InvalidArgumentError("No exec command specified");
  absl::Status status;
  FieldReader in(body, "", &status);
  config.set_user(in.String("User"));
  config.set_privileged(in.Bool("Privileged"));
  config.set_tty(in.Bool("Tty"));
  config.set_attach_stdin(in.Bool("AttachStdin"));
  config.set_attach_stdout(in.Bool("AttachStdout"));
  config.set_attach_stderr(in.Bool("AttachStderr"));
  config.set_working_dir(in.String("WorkingDir"));
  config.set_detach_keys(in.String("DetachKeys"));
  in.Strings("Env", [&](std::string text) { config.add_env(std::move(text)); });
  in.Strings(
      "Cmd", [&](std::string text) { config.add_command(std::move(text)); }, true);
  v1::TerminalSize console;
  if (ReadConsoleSize(in, console)) *config.mutable_console_size() = console;
  if (!status.ok()) return status;
  if (config.command().empty()) return absl::InvalidArgumentError("No exec command specified");
  return absl::OkStatus();
}

Value ExecDocument(const v1::ExecDetails& exec) {
  const v1::ExecConfig& config = exec.config();
  Value out = Value::EmptyObject();
  out.Set("ID", exec.exec_id());
  out.Set("Running", exec.running());
  out.Set("ExitCode", exec.has_exit_code() ? Value(exec.exit_code()) : Value());
  Value process = Value::EmptyObject();
  process.Set("tty", config.tty());
  process.Set("entrypoint", config.command().empty() ? "" : config.command(0));
  Value arguments = Value::EmptyList();
  for (int i = 1; i < config.command_size(); ++i) arguments.Append(config.command(i));
  process.Set("arguments", std::move(arguments));
  process.Set("privileged", config.privileged());
  if (!config.user().empty()) process.Set("user", config.user());
  out.Set("ProcessConfig", std::move(process));
  out.Set("OpenStdin", config.attach_stdin());
  out.Set("OpenStderr", config.attach_stderr());
  out.Set("OpenStdout", config.attach_stdout());
  out.Set("CanRemove", false);
  out.Set("ContainerID", exec.container_id());
  out.Set("DetachKeys", config.detach_keys());
  out.Set("Pid", exec.pid());
  return out;
}

}  // namespace gantry::engine
