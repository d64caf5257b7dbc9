// A pod's network and the init of a shared process namespace.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/pod_cgroup.h"
#include "supervisor/core/pod_entry.h"
#include "supervisor/core/pod_service.h"
#include "supervisor/core/task_service.h"
#include "supervisor/network/cni.h"
#include "supervisor/network/links.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

// As the kubelet expects it of what holds a pod: the last to be killed when memory is short.
constexpr int kInitOomScore = -998;

constexpr char kIngressBandwidth[] = "kubernetes.io/ingress-bandwidth";
constexpr char kEgressBandwidth[] = "kubernetes.io/egress-bandwidth";
constexpr uint64_t kBurstBits = 4294967295;

// "10M" -> 10,000,000; 0 for what is no quantity.
uint64_t BitsPerSecond(const std::string& text) {
  static constexpr std::pair<absl::string_view, double> kUnits[] = {
      {"Ki", 1024.0}, {"Mi", 1048576.0}, {"Gi", 1073741824.0}, {"k", 1e3}, {"M", 1e6},
      {"G", 1e9},     {"", 1.0}};
  for (const auto& [unit, factor] : kUnits) {
    double number = 0;
    absl::string_view digits = text;
    if (!absl::ConsumeSuffix(&digits, unit) || !absl::SimpleAtod(digits, &number)) continue;
    return number > 0 && number * factor < 1e15 ? static_cast<uint64_t>(number * factor) : 0;
  }
  return 0;
}

std::string Annotation(const v1::PodConfig& config, const char* name) {
  const auto found = config.annotations().find(name);
  return found == config.annotations().end() ? "" : found->second;
}

network::CniRequest NetworkRequestOf(const std::string& id, const v1::PodConfig& config,
                                     const std::string& netns) {
  network::CniRequest request;
  request.container_id = id;
  request.netns = netns;
  request.args = {{"IgnoreUnknown", "1"},
                  {"K8S_POD_NAMESPACE", config.group()},
                  {"K8S_POD_NAME", config.name()},
                  {"K8S_POD_INFRA_CONTAINER_ID", id},
                  {"K8S_POD_UID", config.uid()}};
  for (const v1::PortBinding& port : config.ports()) {
    network::CniPortMapping& one = request.port_mappings.emplace_back();
    one.container_port = static_cast<int32_t>(port.container_port());
    // Written by the door as a number.
    (void)absl::SimpleAtoi(port.host_port(), &one.host_port);
    one.protocol = port.protocol();
    one.host_ip = port.host_ip();
  }
  network::CniBandwidth bandwidth;
  bandwidth.ingress_rate = BitsPerSecond(Annotation(config, kIngressBandwidth));
  bandwidth.egress_rate = BitsPerSecond(Annotation(config, kEgressBandwidth));
  if (bandwidth.ingress_rate > 0) bandwidth.ingress_burst = kBurstBits;
  if (bandwidth.egress_rate > 0) bandwidth.egress_burst = kBurstBits;
  if (bandwidth.ingress_rate + bandwidth.egress_rate > 0) request.bandwidth = bandwidth;
  if (config.has_dns()) {
    network::CniDns& dns = request.dns.emplace();
    dns.servers.assign(config.dns().servers().begin(), config.dns().servers().end());
    dns.searches.assign(config.dns().searches().begin(), config.dns().searches().end());
    dns.options.assign(config.dns().options().begin(), config.dns().options().end());
  }
  request.cgroup_path = config.cgroup_parent();
  const nlohmann::json annotations =
      std::map<std::string, std::string>(config.annotations().begin(), config.annotations().end());
  request.more["io.kubernetes.cri.pod-annotations"] =
      annotations.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return request;
}

}  // namespace

absl::Status PodService::Attach(const CallContext& context, Entry& entry) {
  if (entry.config->host_network()) return absl::OkStatus();
  const std::string netns = Directory(entry.key) + "/net";
  if (parts_.cni == nullptr) {
    const UniqueFd fd(open(netns.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return ErrnoToStatus(errno, "the pod's network namespace");
    GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<network::Links> inside,
                            network::Links::OpenIn(fd.get()));
    return inside->SetUp("lo");
  }
  GANTRY_ASSIGN_OR_RETURN(
      const network::CniResult result,
      parts_.cni->Add(NetworkRequestOf(entry.key.second, *entry.config, netns), context.cancel));
  absl::MutexLock lock(&entry.mu);
  entry.addresses = result.PodAddresses();
  entry.network_json = result.json;
  return absl::OkStatus();
}

absl::Status PodService::Detach(const CallContext& context, const Entry& entry) {
  if (entry.config->host_network() || parts_.cni == nullptr) return absl::OkStatus();
  const absl::Status removed = parts_.cni->Remove(entry.key.second, context.cancel);
  // A plugin that fails is called again until it succeeds, whatever becomes of the pod.
  LOG_IF(WARNING, !removed.ok()) << "ns=" << entry.key.first << " pod=" << entry.key.second
                                 << " its network is given back later: " << removed;
  return absl::OkStatus();
}

void PodService::ReadAddresses(Entry& entry) {
  if (entry.config->host_network() || parts_.cni == nullptr) return;
  const absl::StatusOr<network::CniResult> result = parts_.cni->Result(entry.key.second);
  if (!result.ok()) return;  // it was stopped
  absl::MutexLock lock(&entry.mu);
  entry.addresses = result->PodAddresses();
  entry.network_json = result->json;
}

absl::Status PodService::NetworkReady(const CallContext& context) const {
  return parts_.cni == nullptr ? absl::OkStatus() : parts_.cni->Ready(context.cancel);
}

std::string PodService::NetworkConfigJson() const {
  return parts_.cni == nullptr ? "{}" : parts_.cni->ConfigJson();
}

std::string PodService::NetworkLoadStatus() const {
  return parts_.cni == nullptr ? "OK" : parts_.cni->LoadStatus();
}

absl::Status PodService::StartInit(const CallContext& context, const Entry& entry) {
  if (parts_.init_path.empty()) {
    return absl::FailedPreconditionError(
        "a shared process namespace needs the program gantry-init, which is not installed beside "
        "gantryd");
  }
  const v1::PodConfig& config = *entry.config;
  const std::string directory = Directory(entry.key);
  const std::string root = directory + "/root";
  GANTRY_RETURN_IF_ERROR(MakeDirectories(root, 0755));
  const IdMaps ids = IdsOf(config);
  // The runtime makes mount points in it as the namespace's root.
  if (!ids.empty() && chown(root.c_str(), HostIdOf(ids.uids, 0).value_or(0),
                            HostIdOf(ids.gids, 0).value_or(0)) != 0)
    return ErrnoToStatus(errno, absl::StrCat("chown ", root));

  oci::ContainerConfig spec;
  spec.id = entry.key.second;
  spec.args = {"/dev/init", "--pod"};
  spec.root_path = directory + "/root";
  spec.read_only_root = false;
  spec.seccomp_unconfined = false;
  spec.cap_drop = {"ALL"};
  spec.no_new_privileges = true;
  oci::MountConfig init;
  init.source = parts_.init_path;
  init.destination = "/dev/init";
  init.read_only = true;
  spec.mounts.push_back(std::move(init));
  spec.oom_score_adj = kInitOomScore;
  spec.resources.cpu_shares = 2;
  const auto joined = [&](bool host, const char* file) {
    return host ? oci::NamespaceMode::Host()
                : oci::NamespaceMode::Path(absl::StrCat(directory, "/", file));
  };
  spec.network = joined(config.host_network(), "net");
  spec.uts = joined(config.host_network(), "uts");
  spec.ipc = joined(config.host_ipc(), "ipc");
  if (!config.host_ipc()) spec.shm_path = directory + "/shm";
  spec.uids = ids.uids;
  spec.gids = ids.gids;
  if (!ids.empty()) spec.user_namespace = directory + "/user";
  GANTRY_ASSIGN_OR_RETURN(const runtime::RuntimeInfo chosen,
                          parts_.runtimes->Resolve(config.runtime()));
  spec.cgroups_path =
      PodCgroupsPath(entry.key.second, config.cgroup_parent(), chosen.systemd_cgroup);
  GANTRY_ASSIGN_OR_RETURN(const oci::RuntimeSpec document,
                          oci::BuildSpec(spec, oci::User(), *parts_.host));

  CreateTask task;
  task.container_id = entry.key.second;
  task.spec_json = document.Print();
  task.runtime = config.runtime();
  task.start = true;
  GANTRY_ASSIGN_OR_RETURN(const int32_t pid, parts_.tasks->Create(context, task));
  // The namespace of the first process; the kernel ends it with that process.
  const std::string path = directory + "/pid";
  const UniqueFd point(open(path.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0600));
  if (!point.valid()) return ErrnoToStatus(errno, path);
  const std::string source = absl::StrCat("/proc/", pid, "/ns/pid");
  if (mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0)
    return ErrnoToStatus(errno, absl::StrCat("keeping a namespace at ", path));
  return absl::OkStatus();
}

}  // namespace gantry::core
