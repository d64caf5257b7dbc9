#include "base/engine/system_json.h"

#include <initializer_list>
#include <string>
#include <utility>

#include "base/engine/api_version.h"
#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::engine {
namespace {

constexpr char kPlatform[] = "Gantry";

Value Words(std::initializer_list<const char*> words) {
  Value list = Value::EmptyList();
  for (const char* word : words) list.Append(word);
  return list;
}

Value ListOrNull(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  return texts.empty() ? Value() : Value::StringRange(texts);
}

// docker's word where it does not know the commit that a program was built from.
Value UnknownCommit() {
  Value commit = Value::EmptyObject();
  commit.Set("ID", "N/A");
  commit.Set("Expected", "N/A");  // clients print it where it differs
  return commit;
}

Value Registries() {
  Value hub = Value::EmptyObject();
  hub.Set("Name", "docker.io");
  hub.Set("Mirrors", Value::EmptyList());
  hub.Set("Secure", true);
  hub.Set("Official", true);
  Value indexes = Value::EmptyObject();
  indexes.Set("docker.io", std::move(hub));
  Value out = Value::EmptyObject();
  out.Set("InsecureRegistryCIDRs", Words({"::1/128", "127.0.0.0/8"}));
  out.Set("IndexConfigs", std::move(indexes));
  out.Set("Mirrors", Value::EmptyList());
  return out;
}

Value Plugins(const v1::InfoResponse& info) {
  Value out = Value::EmptyObject();
  Value volumes = Value::EmptyList();
  for (const std::string& driver : info.volume_drivers()) volumes.Append(driver);
  out.Set("Volume", std::move(volumes));
  out.Set("Network", Words({"bridge", "host", "ipvlan", "macvlan", "null"}));
  out.Set("Authorization", Value());
  out.Set("Log", Words({"fluentd", "journald", "json-file", "local", "none", "syslog"}));
  return out;
}

Value Swarm() {
  Value out = Value::EmptyObject();
  out.Set("NodeID", "");
  out.Set("NodeAddr", "");
  out.Set("LocalNodeState", "inactive");
  out.Set("ControlAvailable", false);
  out.Set("Error", "");
  out.Set("RemoteManagers", Value());
  return out;
}

// By name; `ours` is what docker does not say of a runtime.
Value Runtimes(const v1::InfoResponse& info, bool path, bool ours) {
  Value out = Value::EmptyObject();
  for (const auto& runtime : info.runtimes()) {
    Value entry = Value::EmptyObject();
    if (path) entry.Set("path", runtime.path());
    if (ours) {
      entry.Set("version", runtime.version());
      entry.Set("problem", runtime.problem());
    }
    out.Set(runtime.name(), std::move(entry));
  }
  return out;
}

Value DockersKeys(const v1::InfoResponse& info) {
  Value out = Value::EmptyObject();
  out.Set("ID", info.id());
  out.Set("Containers", info.containers());
  out.Set("ContainersRunning", info.containers_running());
  out.Set("ContainersPaused", info.containers_paused());
  out.Set("ContainersStopped", info.containers_stopped());
  out.Set("Images", info.images());
  out.Set("Driver", info.snapshotter());
  Value status = Value::EmptyList();
  // By this clients know a store of images in which an id is a manifest's digest.
  status.Append(Words({"driver-type", "io.containerd.snapshotter.v1"}));
  const Value sorted = Value::StringMap(info.snapshotter_status());
  for (const auto& [key, value] : sorted.object().fields) {
    Value pair = Value::EmptyList();
    pair.Append(key);
    pair.Append(value);
    status.Append(std::move(pair));
  }
  out.Set("DriverStatus", std::move(status));
  out.Set("Plugins", Plugins(info));
  out.Set("MemoryLimit", info.memory_limit());
  out.Set("SwapLimit", info.swap_limit());
  out.Set("CpuCfsPeriod", info.cpu_quota());  // one kernel option for both
  out.Set("CpuCfsQuota", info.cpu_quota());
  out.Set("CPUShares", info.cpu_shares());
  out.Set("CPUSet", info.cpuset());
  out.Set("PidsLimit", info.pids_limit());
  out.Set("IPv4Forwarding", info.ipv4_forwarding());
  out.Set("BridgeNfIptables", info.bridge_nf_iptables());
  out.Set("BridgeNfIp6tables", info.bridge_nf_ip6tables());
  out.Set("Debug", false);
  out.Set("OomKillDisable", info.oom_kill_disable());
  out.Set("SystemTime", JsonTime(FromProto(info.system_time())));
  out.Set("LoggingDriver", info.log_driver());
  out.Set("CgroupDriver", info.cgroup_driver());
  out.Set("CgroupVersion", info.cgroup_version());
  out.Set("KernelVersion", info.kernel_version());
  out.Set("OperatingSystem", info.operating_system());
  out.Set("OSVersion", info.os_version());
  out.Set("OSType", info.os_type());
  out.Set("Architecture", info.architecture());
  out.Set("IndexServerAddress", "https://index.docker.io/v1/");
  out.Set("RegistryConfig", Registries());
  out.Set("NCPU", info.cpus());
  out.Set("MemTotal", info.memory_bytes());
  out.Set("GenericResources", Value());
  out.Set("DockerRootDir", info.root_dir());
  out.Set("Name", info.name());
  out.Set("Labels", Value::EmptyList());
  out.Set("ExperimentalBuild", false);
  out.Set("ServerVersion", info.server_version());
  out.Set("Runtimes", Runtimes(info, /*path=*/true, /*ours=*/false));
  out.Set("DefaultRuntime", info.default_runtime());
  out.Set("Swarm", Swarm());
  out.Set("LiveRestoreEnabled", true);  // containers always outlive the daemon
  out.Set("Isolation", "");
  out.Set("InitBinary", "gantry-init");
  out.Set("ContainerdCommit", UnknownCommit());
  out.Set("RuncCommit", UnknownCommit());
  out.Set("InitCommit", UnknownCommit());
  out.Set("SecurityOptions", Value::StringRange(info.security_options()));
  out.Set("CDISpecDirs", Value::StringRange(info.cdi_spec_dirs()));
  if (!info.discovered_devices().empty()) {
    Value devices = Value::EmptyList();
    for (const auto& device : info.discovered_devices()) {
      Value entry = Value::EmptyObject();
      entry.Set("Source", device.source());
      entry.Set("ID", device.id());
      devices.Append(std::move(entry));
    }
    out.Set("DiscoveredDevices", std::move(devices));
  }
  out.Set("Warnings", ListOrNull(info.warnings()));
  return out;
}

void AddOurKeys(const v1::InfoResponse& info, Value& out) {
  out.Set("CgroupControllers", Value::StringRange(info.cgroup_controllers()));
  out.Set("StateDir", info.state_dir());
  out.Set("ConfigFile", info.config_file());
  out.Set("Address", info.address());
  out.Set("DockerAddress", info.docker_address());
  out.Set("Namespaces", Value::StringRange(info.namespaces()));
  out.Set("Pid", info.pid());
  out.Set("StartedAt", JsonTime(FromProto(info.started_at())));
}

}  // namespace

Value EngineInfoDocument(const v1::InfoResponse& info) {
  Value out = DockersKeys(info);
  Value registries = Registries();
  // Layers that no registry takes: the API had them until 1.47.
  for (const char* name :
       {"AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames"})
    registries.Set(name, Value::EmptyList());
  out.Set("RegistryConfig", std::move(registries));
  Value gantry = Value::EmptyObject();
  AddOurKeys(info, gantry);
  gantry.Set("Runtimes", Runtimes(info, /*path=*/false, /*ours=*/true));
  out.Set("Gantry", std::move(gantry));
  return out;
}

Value InfoDocument(const v1::InfoResponse& info) {
  Value out = DockersKeys(info);
  out.Set("Runtimes", Runtimes(info, /*path=*/true, /*ours=*/true));
  AddOurKeys(info, out);
  return out;
}

Value VersionDocument(const v1::VersionResponse& version) {
  Value out = Value::EmptyObject();
  Value platform = Value::EmptyObject();
  platform.Set("Name", kPlatform);
  out.Set("Platform", std::move(platform));
  Value components = Value::EmptyList();
  Value details = Value::EmptyObject();
  details.Set("ApiVersion", kApiVersion);
  details.Set("Arch", version.arch());
  details.Set("BuildTime", version.build_time());
  details.Set("Experimental", "false");
  details.Set("GitCommit", version.git_commit());
  details.Set("GoVersion", "");
  details.Set("KernelVersion", version.kernel_version());
  details.Set("MinAPIVersion", kMinApiVersion);
  details.Set("Os", version.os());
  // docker's clients take the first of this name for the server itself.
  Value engine = Value::EmptyObject();
  engine.Set("Name", "Engine");
  engine.Set("Version", version.version());
  engine.Set("Details", std::move(details));
  components.Append(std::move(engine));
  for (const auto& component : version.components()) {
    Value entry = Value::EmptyObject();
    entry.Set("Name", component.name());
    entry.Set("Version", component.version());
    entry.Set("Details", Value::StringMap(component.details()));
    components.Append(std::move(entry));
  }
  out.Set("Components", std::move(components));
  out.Set("Version", version.version());
  out.Set("ApiVersion", kApiVersion);
  out.Set("MinAPIVersion", kMinApiVersion);
  out.Set("GitCommit", version.git_commit());
  out.Set("GoVersion", "");
  out.Set("Os", version.os());
  out.Set("Arch", version.arch());
  out.Set("KernelVersion", version.kernel_version());
  out.Set("BuildTime", version.build_time());
  return out;
}

}  // namespace gantry::engine
