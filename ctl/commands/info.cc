#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/engine/system_json.h"
#include "base/engine/units.h"
#include "base/status_macros.h"
#include "ctl/commands/commands.h"
#include "ctl/listing.h"
#include "ctl/version.h"
#include "proto/gantry/v1/system.pb.h"

namespace gantry::ctl {
namespace {

Value Document(const v1::InfoResponse& info) {
  Value out = engine::InfoDocument(info);
  Value client = Value::EmptyObject();
  client.Set("Debug", false);
  client.Set("Version", kCtlVersion);
  client.Set("Os", "linux");
  client.Set("Arch", "amd64");
  client.Set("Context", "default");
  client.Set("Plugins", Value::EmptyList());
  client.Set("Warnings", Value());
  out.Set("ClientInfo", std::move(client));
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
