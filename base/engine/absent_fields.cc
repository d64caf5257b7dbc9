#include "base/engine/absent_fields.h"

#include "absl/strings/str_split.h"
#include "absl/types/span.h"

namespace gantry::engine {
namespace {

struct Row {
  absl::string_view path;  // * stands for one key of a map
  absl::string_view zero;
};

// Fields with omitempty, pointers, and lists and maps that docker writes as null.
constexpr Row kConfig[] = {
    {"ArgsEscaped", "false"},
    {"AttachStderr", "false"},
    {"AttachStdin", "false"},
    {"AttachStdout", "false"},
    {"Cmd", "[]"},
    {"Domainname", "\"\""},
    {"Entrypoint", "[]"},
    {"Env", "[]"},
    {"ExposedPorts", "map[]"},
    {"ExposedPorts.*", "{}"},
    {"Healthcheck", "nil"},
    {"Healthcheck.Interval", "0"},
    {"Healthcheck.Retries", "0"},
    {"Healthcheck.StartInterval", "0"},
    {"Healthcheck.StartPeriod", "0"},
    {"Healthcheck.Test", "[]"},
    {"Healthcheck.Timeout", "0"},
    {"Hostname", "\"\""},
    {"Image", "\"\""},
    {"Labels", "map[]"},
    {"Labels.*", "<no value>"},
    {"MacAddress", "\"\""},
    {"NetworkDisabled", "false"},
    {"OnBuild", "[]"},
    {"OpenStdin", "false"},
    {"Shell", "[]"},
    {"StdinOnce", "false"},
    {"StopSignal", "\"\""},
    {"StopTimeout", "nil"},
    {"Tty", "false"},
    {"User", "\"\""},
    {"Volumes", "map[]"},
    {"Volumes.*", "{}"},
    {"WorkingDir", "\"\""},
};

constexpr Row kContainer[] = {
    {"ExecIDs", "[]"},
    {"GraphDriver.Data", "map[]"},
    {"GraphDriver.Data.*", "<no value>"},
    {"HostConfig.Annotations", "map[]"},
    {"HostConfig.Annotations.*", "<no value>"},
    {"HostConfig.Binds", "[]"},
    {"HostConfig.CapAdd", "[]"},
    {"HostConfig.CapDrop", "[]"},
    {"HostConfig.DeviceCgroupRules", "[]"},
    {"HostConfig.DeviceRequests", "[]"},
    {"HostConfig.ExtraHosts", "[]"},
    {"HostConfig.GroupAdd", "[]"},
    {"HostConfig.Init", "nil"},
    {"HostConfig.KernelMemory", "0"},
    {"HostConfig.KernelMemoryTCP", "0"},
    {"HostConfig.Links", "[]"},
    {"HostConfig.LogConfig.Config", "map[]"},
    {"HostConfig.LogConfig.Config.*", "<no value>"},
    {"HostConfig.MaskedPaths", "[]"},
    {"HostConfig.MemorySwappiness", "nil"},
    {"HostConfig.Mounts", "[]"},
    {"HostConfig.OomKillDisable", "nil"},
    {"HostConfig.PidsLimit", "nil"},
    {"HostConfig.PortBindings", "map[]"},
    {"HostConfig.PortBindings.*", "[]"},
    {"HostConfig.ReadonlyPaths", "[]"},
    {"HostConfig.SecurityOpt", "[]"},
    {"HostConfig.StorageOpt", "map[]"},
    {"HostConfig.StorageOpt.*", "<no value>"},
    {"HostConfig.Sysctls", "map[]"},
    {"HostConfig.Sysctls.*", "<no value>"},
    {"HostConfig.Tmpfs", "map[]"},
    {"HostConfig.Tmpfs.*", "<no value>"},
    {"HostConfig.VolumesFrom", "[]"},
    {"Mounts.#.Driver", "\"\""},
    {"Mounts.#.Name", "\"\""},
    {"Mounts.#.Source", "\"\""},
    {"NetworkSettings.Networks.*", "nil"},
    {"NetworkSettings.Networks.*.Aliases", "[]"},
    {"NetworkSettings.Networks.*.DNSNames", "[]"},
    {"NetworkSettings.Networks.*.DriverOpts", "map[]"},
    {"NetworkSettings.Networks.*.DriverOpts.*", "<no value>"},
    {"NetworkSettings.Networks.*.IPAMConfig", "nil"},
    {"NetworkSettings.Networks.*.Links", "[]"},
    {"NetworkSettings.Ports", "map[]"},
    {"NetworkSettings.Ports.*", "[]"},
    {"NetworkSettings.SecondaryIPAddresses", "[]"},
    {"NetworkSettings.SecondaryIPv6Addresses", "[]"},
    {"SizeRootFs", "nil"},
    {"SizeRw", "nil"},
    {"State.Health", "nil"},
    {"State.Health.Log", "[]"},
};

constexpr Row kImage[] = {
    {"Container", "\"\""},
    {"Descriptor", "nil"},
    {"Descriptor.annotations", "map[]"},
    {"Descriptor.platform", "nil"},
    {"DockerVersion", "\"\""},
    {"GraphDriver.Data", "map[]"},
    {"GraphDriver.Data.*", "<no value>"},
    {"Manifests", "[]"},
    {"OsVersion", "\"\""},
    {"RepoDigests", "[]"},
    {"RepoTags", "[]"},
    {"RootFS.Layers", "[]"},
    {"Variant", "\"\""},
    {"VirtualSize", "0"},
};

// Go's names of the fields whose JSON keys are in lower case.
constexpr Row kEvent[] = {
    {"Actor.Attributes", "map[]"},
    {"Actor.Attributes.*", "<no value>"},
    {"From", "=from"},
    {"ID", "=id"},
    {"Scope", "=scope"},
    {"Status", "=status"},
    {"Time", "=time"},
    {"TimeNano", "=timeNano"},
    {"from", "\"\""},
    {"id", "\"\""},
    {"status", "\"\""},
};

// Objects that are structs to docker's client, and what a template prints of them.
constexpr absl::string_view kHostConfig =
    "Binds=[] ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove "
    "VolumeDriver VolumesFrom=[] ConsoleSize Annotations=map[] CapAdd=[] CapDrop=[] CgroupnsMode "
    "Dns DnsOptions DnsSearch ExtraHosts=[] GroupAdd=[] IpcMode Cgroup Links=[] OomScoreAdj "
    "PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt=[] StorageOpt=map[] "
    "Tmpfs=map[] UTSMode UsernsMode ShmSize Sysctls=map[] Runtime Isolation { CpuShares Memory "
    "NanoCpus CgroupParent BlkioWeight BlkioWeightDevice=[] BlkioDeviceReadBps=[] "
    "BlkioDeviceWriteBps=[] BlkioDeviceReadIOps=[] BlkioDeviceWriteIOps=[] CpuPeriod CpuQuota "
    "CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems Devices=[] DeviceCgroupRules=[] "
    "DeviceRequests=[] KernelMemory=0 KernelMemoryTCP=0 MemoryReservation MemorySwap "
    "MemorySwappiness=<nil> OomKillDisable=<nil> PidsLimit=<nil> Ulimits=[] CpuCount CpuPercent "
    "IOMaximumIOps IOMaximumBandwidth } Mounts=[] MaskedPaths=[] ReadonlyPaths=[] Init=<nil>";

constexpr Row kContainerStructs[] = {
    {"Config",
     "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts=map[] Tty "
     "OpenStdin StdinOnce Env=[] Cmd=[] Healthcheck=<nil> ArgsEscaped=false Image Volumes=map[] "
     "WorkingDir Entrypoint=[] NetworkDisabled=false MacAddress OnBuild=[] Labels=map[] StopSignal "
     "StopTimeout=<nil> Shell=[]"},
    {"Config.Healthcheck",
     "Test=[] Interval:ns=0s Timeout:ns=0s StartPeriod:ns=0s StartInterval:ns=0s Retries=0"},
    {"GraphDriver", "Data=map[] Name"},
    {"HostConfig", kHostConfig},
    {"HostConfig.Devices.#", "PathOnHost PathInContainer CgroupPermissions"},
    {"HostConfig.DeviceRequests.#", "Driver Count DeviceIDs=[] Capabilities=[] Options=map[]"},
    {"HostConfig.LogConfig", "Type Config=map[]"},
    {"HostConfig.Mounts.#",
     "Type Source Target ReadOnly=false Consistency BindOptions=<nil> VolumeOptions=<nil> "
     "ImageOptions=<nil> TmpfsOptions=<nil> ClusterOptions=<nil>"},
    {"HostConfig.PortBindings.*.#", "HostIp HostPort"},
    {"HostConfig.RestartPolicy", "Name MaximumRetryCount"},
    {"HostConfig.Ulimits.#", "%[Name]=[Soft]:[Hard]"},
    {"Mounts.#", "Type Name Source Destination Driver Mode RW Propagation"},
    {"NetworkSettings.Networks.*",
     "IPAMConfig=<nil> Links=[] Aliases=[] MacAddress DriverOpts=map[] GwPriority=0 NetworkID "
     "EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address GlobalIPv6PrefixLen "
     "DNSNames=[]"},
    {"NetworkSettings.Networks.*.IPAMConfig", "IPv4Address IPv6Address LinkLocalIPs=[]"},
    {"NetworkSettings.Ports.*.#", "HostIp HostPort"},
    {"State",
     "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt "
     "Health=<nil>"},
    {"State.Health", "Status FailingStreak Log=[]"},
    {"State.Health.Log.#", "Start End ExitCode Output"},
};

constexpr Row kImageStructs[] = {
    {"Config",
     "{ User ExposedPorts=map[] Env=[] Entrypoint=[] Cmd=[] Volumes=map[] WorkingDir Labels=map[] "
     "StopSignal ArgsEscaped=false } { Healthcheck=<nil> OnBuild=[] Shell=[] }"},
    {"Config.Healthcheck",
     "Test=[] Interval:ns=0s Timeout:ns=0s StartPeriod:ns=0s StartInterval:ns=0s Retries=0"},
    {"GraphDriver", "Data=map[] Name"},
    {"RootFS", "Type Layers=[]"},
};

constexpr Row kNetworkStructs[] = {
    {"ConfigFrom", "Network"},
    {"Containers.*", "Name EndpointID MacAddress IPv4Address IPv6Address"},
    {"IPAM", "Driver Options=map[] Config=[]"},
    {"IPAM.Config.#", "Subnet IPRange Gateway AuxAddress=map[]"},
};

bool Fits(absl::string_view pattern, absl::Span<const std::string> path) {
  size_t i = 0;
  for (absl::string_view part : absl::StrSplit(pattern, '.')) {
    if (i == path.size() || (part != "*" && part != path[i])) return false;
    ++i;
  }
  return i == path.size();
}

absl::optional<absl::string_view> Find(absl::Span<const Row> rows,
                                       absl::Span<const std::string> path) {
  for (const Row& row : rows) {
    if (Fits(row.path, path)) return row.zero;
  }
  return absl::nullopt;
}

}  // namespace

absl::optional<absl::string_view> AbsentField(Document document,
                                              const std::vector<std::string>& path) {
  if (path.empty()) return absl::nullopt;
  if (path.back() == "{}") {
    const absl::Span<const std::string> object = absl::MakeConstSpan(path).first(path.size() - 1);
    switch (document) {
      case Document::kContainer:
        return Find(kContainerStructs, object);
      case Document::kImage:
        return Find(kImageStructs, object);
      case Document::kNetwork:
        return Find(kNetworkStructs, object);
      case Document::kEvent:
        return absl::nullopt;
    }
  }
  if (document == Document::kNetwork) return absl::nullopt;
  if (document == Document::kEvent) return Find(kEvent, path);
  if (path[0] == "Config") return Find(kConfig, absl::MakeConstSpan(path).subspan(1));
  return document == Document::kContainer ? Find(kContainer, path) : Find(kImage, path);
}

}  // namespace gantry::engine
