#include "supervisor/core/container_set.h"

#include <sys/types.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/gantry/v1/life.pb.h"
#include "proto/gantry/v1/networks.pb.h"
#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_mounts.h"
#include "supervisor/core/container_networks.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/container_volumes.h"
#include "supervisor/core/live_mounts.h"
#include "supervisor/core/log_options.h"
#include "supervisor/core/log_target.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/oci/project_guard.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

using Change = v1::SetContainerResponse::Change;

constexpr char kProcessWaits[] = "a process keeps what it was started with";
constexpr char kPortsWait[] = "ports are published when the container joins its networks";
constexpr char kLogWaits[] = "the log is opened at the start";

void Done(v1::SetContainerResponse& response, std::string what) {
  Change* const change = response.add_changes();
  change->set_what(std::move(what));
  change->set_done(true);
}

// In force now unless the container runs.
void AtStart(v1::SetContainerResponse& response, bool runs, std::string what, const char* why) {
  Change* const change = response.add_changes();
  change->set_what(std::move(what));
  change->set_done(!runs);
  if (runs) change->set_why(why);
}

std::string NameOfVariable(absl::string_view entry) {
  return std::string(entry.substr(0, entry.find('=')));
}

void RemoveVariable(v1::ContainerConfig& config, absl::string_view name) {
  auto& env = *config.mutable_env();
  env.erase(std::remove_if(env.begin(), env.end(),
                           [name](const std::string& one) { return NameOfVariable(one) == name; }),
            env.end());
}

std::string PortText(const v1::PortBinding& port) {
  return absl::StrCat(port.host_ip(), port.host_ip().empty() ? "" : ":", port.host_port(),
                      port.host_port().empty() ? "" : ":", port.container_port(), "/",
                      port.protocol().empty() ? "tcp" : port.protocol());
}

std::string ProtocolOf(const v1::PortBinding& port) {
  return port.protocol().empty() ? "tcp" : port.protocol();
}

// What the container has that `wanted` means: what is unset there may be anything.
bool IsMeant(const v1::PortBinding& has, const v1::PortBinding& wanted) {
  return has.container_port() == wanted.container_port() && ProtocolOf(has) == ProtocolOf(wanted) &&
         (wanted.host_ip().empty() || has.host_ip() == wanted.host_ip()) &&
         (wanted.host_port().empty() || has.host_port() == wanted.host_port());
}

// False: nothing is mounted there.
bool TakeMount(v1::ContainerConfig& config, const std::string& target) {
  auto& mounts = *config.mutable_mounts();
  const auto rest = std::remove_if(mounts.begin(), mounts.end(),
                                   [&](const v1::Mount& one) { return one.target() == target; });
  if (rest == mounts.end()) return false;
  mounts.erase(rest, mounts.end());
  return true;
}

// As the configuration of a new container has it.
nlohmann::json MountDocument(const oci::MountConfig& mount) {
  const bool tmpfs = mount.type == oci::MountConfig::Type::kTmpfs;
  std::vector<std::string> options;
  if (tmpfs) {
    options = {"noexec", "nosuid", "nodev", "rprivate"};
    for (const std::string& option : mount.options) {
      // "exec" takes "noexec" back.
      std::erase(options, absl::StrCat("no", option));
      if (std::find(options.begin(), options.end(), option) == options.end())
        options.push_back(option);
    }
    if (mount.read_only) options.push_back("ro");
  } else {
    options = {mount.non_recursive ? "bind" : "rbind", "rprivate"};
    if (mount.read_only) options.push_back(mount.recursive_read_only ? "rro" : "ro");
  }
  return {{"destination", mount.destination},
          {"type", tmpfs ? "tmpfs" : "bind"},
          {"source", tmpfs ? "tmpfs" : mount.source},
          {"options", options}};
}

bool HasMountAt(const v1::ContainerConfig& config, const std::string& target) {
  return std::any_of(config.mounts().begin(), config.mounts().end(),
                     [&](const v1::Mount& one) { return one.target() == target; });
}

bool UsesVolume(const v1::ContainerConfig& config, const std::string& name) {
  return std::any_of(config.mounts().begin(), config.mounts().end(), [&](const v1::Mount& one) {
    return one.type() == v1::Mount::VOLUME && one.volume_name() == name;
  });
}

// A filter of system calls of the person's own stays as it is.
bool HasOwnFilter(const v1::ContainerConfig& config) {
  return std::any_of(config.security_options().begin(), config.security_options().end(),
                     [](const std::string& one) {
                       return absl::StartsWith(one, "seccomp") && !absl::EndsWith(one, "builtin");
                     });
}

bool ChangesPorts(const v1::SetContainerRequest& request) {
  return request.publish_size() > 0 || request.unpublish_size() > 0;
}

bool IsBelow(const std::string& path, const std::string& directory) {
  return absl::StartsWith(path, directory + "/");
}

bool IsEmpty(const v1::SetContainerRequest& request) {
  v1::SetContainerRequest rest = request;
  rest.clear_container();
  return rest.ByteSizeLong() == 0;
}

}  // namespace

// What a call changes of mounts outside of the record. Unless it is kept, all of it is undone.
class MountChanges {
 public:
  // `pid`: the container's first process; 0: it does not run, and has no mounts now.
  MountChanges(const CallContext& context, const LoadedContainer& loaded, RunVolumes& runs,
               pid_t pid)
      : context_(context), loaded_(loaded), runs_(runs) {
    context_.cancel = nullptr;  // what is begun is ended
    if (pid != 0) live_.emplace(pid, loaded.id());
  }
  ~MountChanges() {
    live_.reset();
    for (const v1::Mount& mount : entered_) runs_.LeaveOne(context_, loaded_, mount);
  }
  MountChanges(const MountChanges&) = delete;
  MountChanges& operator=(const MountChanges&) = delete;

  bool running() const { return live_.has_value(); }
  absl::Status Add(const oci::MountConfig& mount) {
    return live_.has_value() ? live_->Add(mount) : absl::OkStatus();
  }
  // One that is not mounted from its source. `index` is its number in this call.
  absl::Status AddPlaced(const oci::MountConfig& mount, const v1::Mount& asked, int index) {
    if (!live_.has_value()) return absl::OkStatus();
    const absl::Cleanup hide = [&] { runs_.Hide(loaded_.id(), index); };
    GANTRY_RETURN_IF_ERROR(runs_.Show(context_, loaded_, asked, index));
    return live_->Add(mount);
  }
  absl::Status Remove(const std::string& destination) {
    return live_.has_value() ? live_->Remove(destination) : absl::OkStatus();
  }
  // A volume that a running container has not used before.
  absl::Status Enter(const v1::Mount& mount) {
    if (!live_.has_value()) return absl::OkStatus();
    const bool entered = std::any_of(entered_.begin(), entered_.end(), [&](const v1::Mount& one) {
      return one.volume_name() == mount.volume_name();
    });
    if (entered) return absl::OkStatus();
    GANTRY_RETURN_IF_ERROR(runs_.EnterOne(context_, loaded_, mount));
    entered_.push_back(mount);
    return absl::OkStatus();
  }
  // A volume that it uses no more.
  void LeaveWhenKept(const v1::Mount& mount) {
    if (live_.has_value()) left_.push_back(mount);
  }
  void Keep() {
    volumes.Keep();
    if (!live_.has_value()) return;
    live_->Keep();
    entered_.clear();
    std::set<std::string> done;
    for (const v1::Mount& mount : left_) {
      if (done.insert(mount.volume_name()).second) runs_.LeaveOne(context_, loaded_, mount);
    }
  }

  ContainerVolumes::Given volumes;

 private:
  CallContext context_;
  const LoadedContainer& loaded_;
  RunVolumes& runs_;
  std::vector<v1::Mount> entered_;
  std::vector<v1::Mount> left_;
  std::optional<LiveMountChanges> live_;
};

namespace {

// A container with a volume of limited size may not give files to another project. The filter of a
// process cannot be changed any more.
absl::Status GuardLimits(const v1::ContainerConfig& config, const MountChanges& changes,
                         oci::RuntimeSpec& spec) {
  if (!changes.volumes.limited() || HasOwnFilter(config)) return absl::OkStatus();
  nlohmann::json& linux_part = spec.document()["linux"];
  const auto filter = linux_part.find("seccomp");
  if (filter == linux_part.end()) return absl::OkStatus();
  const nlohmann::json before = *filter;
  oci::ForbidProjectChange(*filter);
  if (!changes.running() || *filter == before) return absl::OkStatus();
  return FieldError("mounts",
                    "a volume with a size cannot be given to a running container, whose filter of "
                    "system calls would let it out of the limit: stop the container first");
}

}  // namespace

absl::Status ApplySet(const v1::SetContainerRequest& request, bool runs,
                      v1::ContainerConfig& config, v1::SetContainerResponse& response) {
  for (const auto& [name, value] : request.labels()) {
    if (name.empty()) return FieldError("labels", "a label without a name");
    (*config.mutable_labels())[name] = value;
    Done(response, absl::StrCat("label ", name));
  }
  for (const std::string& name : request.remove_labels()) {
    if (config.mutable_labels()->erase(name) > 0) Done(response, absl::StrCat("no label ", name));
  }
  if (request.has_stop_signal()) {
    GANTRY_RETURN_IF_ERROR(ParseSignal(request.stop_signal()).status());
    config.set_stop_signal(request.stop_signal());
    Done(response, "stop signal");
  }
  if (request.has_stop_timeout_seconds()) {
    config.set_stop_timeout_seconds(request.stop_timeout_seconds());
    Done(response, "stop timeout");
  }
  for (const std::string& entry : request.env()) {
    const std::string name = NameOfVariable(entry);
    if (name.empty() || !absl::StrContains(entry, "="))
      return FieldError("env", absl::StrCat("\"", entry, "\" is not NAME=VALUE"));
    RemoveVariable(config, name);
    config.add_env(entry);
    AtStart(response, runs, absl::StrCat("variable ", name), kProcessWaits);
  }
  for (const std::string& name : request.remove_env()) {
    RemoveVariable(config, name);
    AtStart(response, runs, absl::StrCat("no variable ", name), kProcessWaits);
  }
  if (request.has_entrypoint()) {
    *config.mutable_entrypoint() = request.entrypoint();
    AtStart(response, runs, "entry point", kProcessWaits);
  }
  if (request.has_command()) {
    *config.mutable_command() = request.command().values();
    AtStart(response, runs, "command", kProcessWaits);
  }
  if (config.entrypoint().values().empty() && config.command().empty())
    return FieldError("command", "nothing would be left to run");
  if (request.has_working_dir()) {
    if (!absl::StartsWith(request.working_dir(), "/"))
      return FieldError("working_dir", "it is not an absolute path");
    config.set_working_dir(request.working_dir());
    AtStart(response, runs, "working directory", kProcessWaits);
  }
  for (const v1::PortBinding& wanted : request.unpublish()) {
    auto& ports = *config.mutable_port_bindings();
    const auto rest = std::remove_if(ports.begin(), ports.end(), [&](const v1::PortBinding& has) {
      return IsMeant(has, wanted);
    });
    if (rest == ports.end())
      return FieldError("unpublish", absl::StrCat(PortText(wanted), " is not published"));
    ports.erase(rest, ports.end());
    AtStart(response, runs, absl::StrCat("no port ", PortText(wanted)), kPortsWait);
  }
  for (const v1::PortBinding& port : request.publish()) {
    *config.add_port_bindings() = port;
    AtStart(response, runs, absl::StrCat("port ", PortText(port)), kPortsWait);
  }
  for (const std::string& target : request.remove_mounts()) {
    if (!TakeMount(config, CleanTarget(target)))
      return FieldError("remove_mounts", absl::StrCat("nothing is mounted at ", target));
    Done(response, absl::StrCat("no mount ", target));
  }
  for (const v1::Mount& mount : request.mounts()) {
    if (mount.type() == v1::Mount::IMAGE ||
        (!mount.subpath().empty() && mount.type() != v1::Mount::VOLUME) ||
        !mount.propagation().empty() || !mount.volume_options().empty()) {
      return FieldError("mounts", absl::StrCat(mount.target(),
                                               ": binds, tmpfs and volumes can be added, with "
                                               "private propagation; others when it is made"));
    }
    const std::string target = CleanTarget(mount.target());
    (void)TakeMount(config, target);  // a mount at the same place is replaced
    *config.add_mounts() = mount;
    config.mutable_mounts(config.mounts_size() - 1)->set_target(target);
    Done(response, absl::StrCat("mount ", mount.target()));
  }
  if (request.has_log()) {
    const std::string before = config.log().driver();
    if (!request.log().driver().empty()) *config.mutable_log() = request.log();
    for (const auto& [name, value] : request.log().options())
      (*config.mutable_log()->mutable_options())[name] = value;
    const bool moves = IsCollector(before) && before == config.log().driver();
    if (moves) {
      Done(response, "log options");
    } else {
      AtStart(response, runs, "log options", kLogWaits);
    }
  }
  return CheckContainerConfig(config);
}

absl::StatusOr<v1::SetContainerResponse> ContainerSet::Set(const CallContext& context,
                                                           const v1::SetContainerRequest& request) {
  if (IsEmpty(request))
    return absl::InvalidArgumentError("set: nothing is given that is to change");
  v1::SetContainerResponse response;
  const absl::Status set = [&]() -> absl::Status {
    GANTRY_RETURN_IF_ERROR(SetConfig(context, request, response));
    if (request.has_resources() || request.has_restart_policy()) {
      v1::UpdateContainerRequest update;
      update.set_container(request.container());
      if (request.has_resources()) *update.mutable_resources() = request.resources();
      if (request.has_restart_policy()) *update.mutable_restart_policy() = request.restart_policy();
      GANTRY_ASSIGN_OR_RETURN(const v1::UpdateContainerResponse updated,
                              parts_.lifecycle->Update(context, update));
      for (const std::string& warning : updated.warnings()) response.add_warnings(warning);
      if (request.has_resources()) Done(response, "limits");
      if (request.has_restart_policy()) Done(response, "restart policy");
    }
    for (const std::string& network : request.disconnect()) {
      v1::DisconnectNetworkRequest disconnect;
      disconnect.set_container(request.container());
      disconnect.set_network(network);
      GANTRY_RETURN_IF_ERROR(parts_.networks->Disconnect(context, disconnect));
      Done(response, absl::StrCat("no network ", network));
    }
    for (const v1::NetworkAttachment& attachment : request.connect()) {
      v1::ConnectNetworkRequest connect;
      connect.set_container(request.container());
      *connect.mutable_attachment() = attachment;
      GANTRY_RETURN_IF_ERROR(parts_.networks->Connect(context, connect));
      Done(response, absl::StrCat("network ", attachment.network()));
    }
    return absl::OkStatus();
  }();
  if (set.ok()) return response;
  if (response.changes().empty()) return set;
  std::vector<std::string> done;
  for (const Change& change : response.changes()) done.push_back(change.what());
  return absl::Status(
      set.code(),
      absl::StrCat(set.message(), "; these changes before it stay: ", absl::StrJoin(done, ", ")));
}

absl::Status ContainerSet::SetConfig(const CallContext& context,
                                     const v1::SetContainerRequest& request,
                                     v1::SetContainerResponse& response) {
  OperationLock lock;
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded,
                          parts_.records->LoadLocked(context, request.container(), lock));
  if (!loaded.ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "container ", loaded.id(), " was made by another client; change it with that one"));
  }
  GANTRY_RETURN_IF_ERROR(ContainerRecords::CheckReadable(loaded));
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, loaded.id(), "");
  const bool runs = task.ok() && task->status != ProcessStatus::kStopped;
  const v1::ContainerConfig before = loaded.config;
  v1::SetContainerResponse changed;
  GANTRY_RETURN_IF_ERROR(ApplySet(request, runs, loaded.config, changed));
  if (changed.changes().empty()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec,
                          oci::RuntimeSpec::Parse(loaded.record.spec().value()));
  GANTRY_RETURN_IF_ERROR(SetPorts(lock.Within(context), request, loaded, runs, changed));
  // Unless the record is written.
  absl::Cleanup former_ports = [&] {
    if (!runs || !ChangesPorts(request)) return;
    const absl::Status undone = parts_.networks->SetPorts(lock.Within(context), loaded, before);
    LOG_IF(WARNING, !undone.ok() && !absl::IsFailedPrecondition(undone))
        << "ns=" << context.ns << " id=" << loaded.id() << " its former ports: " << undone;
  };
  MountChanges mounts(lock.Within(context), loaded, *parts_.run_volumes, runs ? task->pid : 0);
  GANTRY_RETURN_IF_ERROR(SetMounts(lock.Within(context), request, before, loaded, spec, mounts));
  nlohmann::json& process = spec.document()["process"];
  if (request.has_command() || request.has_entrypoint()) {
    // What stands before the image's and the person's words is the init.
    std::vector<std::string> args;
    const size_t own = static_cast<size_t>(before.entrypoint().values_size()) +
                       static_cast<size_t>(before.command_size());
    const nlohmann::json& old = process["args"];
    for (size_t i = 0; old.is_array() && i + own < old.size(); ++i)
      args.push_back(old[i].get<std::string>());
    args.insert(args.end(), loaded.config.entrypoint().values().begin(),
                loaded.config.entrypoint().values().end());
    args.insert(args.end(), loaded.config.command().begin(), loaded.config.command().end());
    process["args"] = args;
  }
  if (request.env_size() > 0 || request.remove_env_size() > 0) {
    std::vector<std::string> env;
    const auto is_set = [&request](const std::string& name) {
      return std::any_of(request.env().begin(), request.env().end(),
                         [&](const std::string& one) { return NameOfVariable(one) == name; }) ||
             std::find(request.remove_env().begin(), request.remove_env().end(), name) !=
                 request.remove_env().end();
    };
    for (const nlohmann::json& one : process["env"]) {
      if (one.is_string() && !is_set(NameOfVariable(one.get<std::string>())))
        env.push_back(one.get<std::string>());
    }
    env.insert(env.end(), request.env().begin(), request.env().end());
    process["env"] = env;
  }
  if (request.has_working_dir()) process["cwd"] = request.working_dir();
  loaded.record.mutable_spec()->set_value(spec.Print());
  for (const auto& [name, value] : request.labels())
    if (RecordHolds(name, value)) {
      (*loaded.record.mutable_labels())[name] = value;
    } else {
      loaded.record.mutable_labels()->erase(name);
    }
  for (const std::string& name : request.remove_labels())
    loaded.record.mutable_labels()->erase(name);
  WriteIntent(loaded.config, loaded.record);
  GANTRY_RETURN_IF_ERROR(parts_.stores->containers
                             .Update(loaded.scope, loaded.record, {"labels", "spec", "extensions"})
                             .status());
  std::move(former_ports).Cancel();
  mounts.Keep();
  parts_.records->Publish(loaded, "update");
  response.MergeFrom(changed);
  const std::string& driver = loaded.config.log().driver();
  if (runs && request.has_log() && IsCollector(driver) && driver == before.log().driver())
    return MoveLog(lock.Within(context), loaded);
  return absl::OkStatus();
}

absl::Status ContainerSet::SetPorts(const CallContext& context,
                                    const v1::SetContainerRequest& request,
                                    const LoadedContainer& loaded, bool runs,
                                    v1::SetContainerResponse& response) {
  if (!runs || !ChangesPorts(request)) return absl::OkStatus();
  const absl::Status set = parts_.networks->SetPorts(context, loaded, loaded.config);
  // It has no network that ports could lead into now.
  const bool waits = absl::IsFailedPrecondition(set);
  if (!set.ok() && !waits) return set;
  for (Change& change : *response.mutable_changes()) {
    if (!absl::StartsWith(change.what(), "port ") && !absl::StartsWith(change.what(), "no port "))
      continue;
    change.set_done(!waits);
    change.set_why(waits ? std::string(set.message()) : "");
  }
  return absl::OkStatus();
}

absl::Status ContainerSet::SetMounts(const CallContext& context,
                                     const v1::SetContainerRequest& request,
                                     const v1::ContainerConfig& before, LoadedContainer& loaded,
                                     oci::RuntimeSpec& spec, MountChanges& changes) {
  if (request.mounts().empty() && request.remove_mounts().empty()) return absl::OkStatus();
  v1::ContainerConfig& config = loaded.config;
  if (!config.uids().empty()) {
    return FieldError("mounts",
                      "it has ids of its own, by which its mounts are shown: make the container "
                      "anew to change them");
  }
  v1::ContainerConfig added;
  *added.mutable_mounts() = request.mounts();
  NormalizeMounts(added);
  for (v1::Mount& mount : *added.mutable_mounts()) mount.set_no_copy(true);
  GANTRY_ASSIGN_OR_RETURN(changes.volumes, parts_.volumes->Give(context, loaded.id(), {}, added));
  GANTRY_RETURN_IF_ERROR(GuardLimits(config, changes, spec));
  std::vector<oci::MountConfig> mounts;
  GANTRY_RETURN_IF_ERROR(AppendMounts(added, changes.volumes.sources(), mounts));
  GANTRY_ASSIGN_OR_RETURN(const runtime::RuntimeInfo runtime,
                          parts_.runtimes->Resolve(config.runtime()));

  const bool recursive_read_only =
      runtime.is_crun || absl::StrContains(runtime.features_json, "\"rro\"");
  nlohmann::json& listed = spec.document()["mounts"];
  if (!listed.is_array()) listed = nlohmann::json::array();
  const auto take = [&listed](const std::string& target) {
    listed.erase(std::remove_if(listed.begin(), listed.end(),
                                [&](const nlohmann::json& one) {
                                  return one.value("destination", "") == target;
                                }),
                 listed.end());
  };
  std::vector<std::string> removed;
  for (const std::string& target : request.remove_mounts()) {
    removed.push_back(CleanTarget(target));
    take(removed.back());
  }
  for (const std::string& target : removed) {
    for (const nlohmann::json& one : listed) {
      if (!IsBelow(one.value("destination", ""), target)) continue;
      return FieldError("remove_mounts", absl::StrCat(target, ": ", one.value("destination", ""),
                                                      " is mounted below it: remove it too"));
    }
    GANTRY_RETURN_IF_ERROR(changes.Remove(target));
  }
  for (size_t i = 0; i < mounts.size(); ++i) {
    oci::MountConfig& mount = mounts[i];
    const v1::Mount& asked = added.mounts(static_cast<int>(i));
    mount.recursive_read_only = recursive_read_only && MayHaveMountsBelow(mount.source) &&
                                asked.read_only() && asked.type() == v1::Mount::BIND &&
                                !asked.non_recursive() && !asked.read_only_non_recursive();
    take(mount.destination);
    for (const nlohmann::json& one : listed) {
      if (!IsBelow(one.value("destination", ""), mount.destination)) continue;
      return FieldError("mounts",
                        absl::StrCat(mount.destination, ": ", one.value("destination", ""),
                                     " is mounted below it, and would be hidden"));
    }
    listed.push_back(MountDocument(mount));
    if (HasMountAt(before, mount.destination))
      GANTRY_RETURN_IF_ERROR(changes.Remove(mount.destination));
    if (asked.type() == v1::Mount::VOLUME && !UsesVolume(before, asked.volume_name()))
      GANTRY_RETURN_IF_ERROR(changes.Enter(asked));
    GANTRY_RETURN_IF_ERROR(HasPlace(added, asked)
                               ? changes.AddPlaced(mount, asked, static_cast<int>(i))
                               : changes.Add(mount));
    // With the name of its volume.
    (void)TakeMount(config, mount.destination);
    *config.add_mounts() = asked;
  }
  for (const v1::Mount& mount : before.mounts()) {
    if (mount.type() == v1::Mount::VOLUME && !UsesVolume(config, mount.volume_name()))
      changes.LeaveWhenKept(mount);
  }
  // What has a place of its own is found there by the number of its mount.
  for (int i = 0; i < config.mounts_size(); ++i) {
    if (!HasPlace(config, config.mounts(i))) continue;
    for (nlohmann::json& one : listed) {
      if (one.value("destination", "") == config.mounts(i).target())
        one["source"] = parts_.run_volumes->Place(loaded.id(), i);
    }
  }
  return absl::OkStatus();
}

absl::Status ContainerSet::MoveLog(const CallContext& context, const LoadedContainer& loaded) {
  const std::optional<LogTarget> target = LogTargetOf(*parts_.records, loaded);
  if (!target.has_value()) return absl::OkStatus();
  shim::v1::Log unused;
  LogCollector collector;
  GANTRY_RETURN_IF_ERROR(
      ApplyLogOptions(loaded.config, LogOwnerOf(loaded.id(), loaded.ShownName(), loaded.image_id),
                      unused, collector));
  GANTRY_RETURN_IF_ERROR(PlaceCollector(target->path, /*wanted=*/true, collector));
  return parts_.tasks->ReopenLog(context, loaded.id());
}

}  // namespace gantry::core
