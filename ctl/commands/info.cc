#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/engine/proto_time.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/listing.h"
#include "ctl/version.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::ctl {
namespace {

Value Document(const v1::InfoResponse& info) {
  Value out = Value::EmptyObject();
  out.Set("ID", info.id());
  out.Set("Containers", info.containers());
  out.Set("ContainersRunning", info.containers_running());
  out.Set("ContainersPaused", info.containers_paused());
  out.Set("ContainersStopped", info.containers_stopped());
  out.Set("Images", info.images());
  out.Set("Driver", info.snapshotter());
  Value status = Value::EmptyList();
  const Value sorted = Value::StringMap(info.snapshotter_status());
  for (const auto& [key, value] : sorted.object().fields) {
    Value pair = Value::EmptyList();
    pair.Append(key);
    pair.Append(value);
    status.Append(std::move(pair));
  }
  out.Set("DriverStatus", std::move(status));
  out.Set("MemoryLimit", info.memory_limit());
  out.Set("SwapLimit", info.swap_limit());
  out.Set("CpuCfsQuota", info.cpu_quota());
  out.Set("CPUShares", info.cpu_shares());
  out.Set("CPUSet", info.cpuset());
  out.Set("PidsLimit", info.pids_limit());
  out.Set("OomKillDisable", info.oom_kill_disable());
  out.Set("SystemTime", engine::JsonTime(engine::FromProto(info.system_time())));
  out.Set("LoggingDriver", info.log_driver());
  out.Set("CgroupDriver", info.cgroup_driver());
  out.Set("CgroupVersion", info.cgroup_version());
  out.Set("CgroupControllers", Value::StringRange(info.cgroup_controllers()));
  out.Set("KernelVersion", info.kernel_version());
  out.Set("OperatingSystem", info.operating_system());
  out.Set("OSVersion", info.os_version());
  out.Set("OSType", info.os_type());
  out.Set("Architecture", info.architecture());
  out.Set("NCPU", info.cpus());
  out.Set("MemTotal", info.memory_bytes());
  out.Set("DockerRootDir", info.root_dir());
  out.Set("StateDir", info.state_dir());
  out.Set("ConfigFile", info.config_file());
  out.Set("Address", info.address());
  out.Set("DockerAddress", info.docker_address());
  out.Set("Name", info.name());
  out.Set("ServerVersion", info.server_version());
  Value runtimes = Value::EmptyObject();
  for (const auto& runtime : info.runtimes()) {
    Value entry = Value::EmptyObject();
    entry.Set("path", runtime.path());
    entry.Set("version", runtime.version());
    entry.Set("problem", runtime.problem());
    runtimes.Set(runtime.name(), std::move(entry));
  }
  out.Set("Runtimes", std::move(runtimes));
  out.Set("DefaultRuntime", info.default_runtime());
  out.Set("SecurityOptions", Value::StringRange(info.security_options()));
  out.Set("Namespaces", Value::StringRange(info.namespaces()));
  out.Set("Pid", info.pid());
  out.Set("StartedAt", engine::JsonTime(engine::FromProto(info.started_at())));
  out.Set("Warnings", Value::StringRange(info.warnings()));
  return out;
}

std::string Text(const v1::InfoResponse& info) {
  std::string out = absl::StrCat("Client: ctl\n Version: ", kCtlVersion, "\n\nServer:\n");
  const auto line = [&](absl::string_view name, absl::string_view value) {
    if (!value.empty()) absl::StrAppend(&out, " ", name, ": ", value, "\n");
  };
  line("Containers", absl::StrCat(info.containers()));
  line(" Running", absl::StrCat(info.containers_running()));
  line(" Paused", absl::StrCat(info.containers_paused()));
  line(" Stopped", absl::StrCat(info.containers_stopped()));
  line("Images", absl::StrCat(info.images()));
  line("Server Version", info.server_version());
  line("Snapshotter", info.snapshotter());
  const Value status = Value::StringMap(info.snapshotter_status());
  for (const auto& [key, value] : status.object().fields)
    line(absl::StrCat(" ", key), value.Text());
  line("Logging Driver", info.log_driver());
  line("Cgroup Driver", info.cgroup_driver());
  line("Cgroup Version", info.cgroup_version());
  line("Cgroup Controllers", absl::StrJoin(info.cgroup_controllers(), " "));
  std::vector<std::string> names;
  for (const auto& runtime : info.runtimes()) {
    names.push_back(runtime.problem().empty()
                        ? runtime.name()
                        : absl::StrCat(runtime.name(), " (not usable: ", runtime.problem(), ")"));
  }
  line("Runtimes", absl::StrJoin(names, ", "));
  line("Default Runtime", info.default_runtime());
  line("Security Options", absl::StrJoin(info.security_options(), ", "));
  line("Kernel Version", info.kernel_version());
  line("Operating System", info.operating_system());
  line("OSType", info.os_type());
  line("Architecture", info.architecture());
  line("CPUs", absl::StrCat(info.cpus()));
  line("Total Memory", engine::BinarySize(static_cast<uint64_t>(info.memory_bytes())));
  line("Name", info.name());
  line("ID", info.id());
  line("Root Dir", info.root_dir());
  line("State Dir", info.state_dir());
  line("Config File", info.config_file());
  line("Address", info.address());
  line("Docker Address", info.docker_address());
  line("Namespaces", absl::StrJoin(info.namespaces(), ", "));
  for (const std::string& warning : info.warnings()) absl::StrAppend(&out, "\nWARNING: ", warning);
  if (!info.warnings().empty()) out += "\n";
  return out;
}

class InfoAction final : public Action {
 public:
  void AddFlags(FlagSet& flags) override {
    flags.String(&format_, "format", 'f', "template", "json, or a Go template");
  }

  absl::StatusOr<int> Run(Context& context, const std::vector<std::string>& args) override {
    GANTRY_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::InfoResponse info;
    GANTRY_RETURN_IF_ERROR(client->Call(v1::InfoRequest(), &info));
    if (format_.empty()) {
      context.Out(Text(info));
      return 0;
    }
    GANTRY_ASSIGN_OR_RETURN(std::string text, RenderOne(Document(info), format_));
    context.Out(text);
    return 0;
  }

 private:
  std::string format_;
};

}  // namespace

Verb InfoVerb() {
  return {.name = "info",
          .arguments = "[OPTIONS]",
          .summary = "Show the state of gantryd and what the host offers",
          .examples = "  ctl info -f '{{.DefaultRuntime}}'\n",
          .max_args = 0,
          .make = [] { return std::make_unique<InfoAction>(); }};
}

}  // namespace gantry::ctl
