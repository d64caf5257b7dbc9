#include "supervisor/api/cri/translate.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "base/field_error.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/core/image_catalog.h"

namespace gantry::api::cri {
namespace {

// A device plugin's key follows; the value names CDI devices.
constexpr char kCdiAnnotation[] = "cdi.k8s.io/";

namespace v1 = gantry::v1;

template <class Ranges>
std::vector<oci::IdRange> RangesOf(const Ranges& in) {
  std::vector<oci::IdRange> out;
  for (const wire::IDMapping& one : in)
    out.push_back({one.container_id(), one.host_id(), one.length()});
  return out;
}

absl::string_view ProtocolName(wire::Protocol protocol) {
  switch (protocol) {
    case wire::UDP:
      return "udp";
    case wire::SCTP:
      return "sctp";
    default:
      return "tcp";
  }
}

// The ranges that a user namespace is to have; none for the host's.
absl::Status ReadUserNamespace(const wire::NamespaceOption& options,
                               std::vector<oci::IdRange>& uids, std::vector<oci::IdRange>& gids) {
  if (!options.has_userns_options()) return absl::OkStatus();
  const wire::UserNamespace& in = options.userns_options();
  uids = RangesOf(in.uids());
  gids = RangesOf(in.gids());
  switch (in.mode()) {
    case wire::NODE:
      if (!uids.empty() || !gids.empty())
        return FieldError("userns_options", "the host's user namespace has no ranges");
      return absl::OkStatus();
    case wire::POD:
      if (uids.size() != 1 || gids.size() != 1)
        return FieldError("userns_options", "a pod has exactly one range of users and of groups");
      return absl::OkStatus();
    default:
      return FieldError("userns_options", "the mode is neither POD nor NODE");
  }
}

void ReadResources(const wire::LinuxContainerResources& in, v1::Resources& out) {
  out.set_cpu_period_micros(in.cpu_period());
  out.set_cpu_quota_micros(in.cpu_quota());
  out.set_cpu_shares(static_cast<uint64_t>(in.cpu_shares()));
  out.set_memory_bytes(in.memory_limit_in_bytes());
}

std::string SignalName(wire::Signal signal) {
  if (signal == wire::SIGNAL_RUNTIME_DEFAULT) return "";
  std::string name(absl::StripPrefix(wire::Signal_Name(signal), "SIGNAL_"));
  return absl::StrReplaceAll(name, {{"MINPLUS", "MIN+"}, {"MAXMINUS", "MAX-"}});
}

// Old kubelets set these, and nothing in their place.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
const std::string& OldSeccomp(const wire::LinuxContainerSecurityContext& in) {
  return in.seccomp_profile_path();
}
const std::string& OldAppArmor(const wire::LinuxContainerSecurityContext& in) {
  return in.apparmor_profile();
}
#pragma GCC diagnostic pop

// docker's spelling of a seccomp profile; "" for the default one.
absl::StatusOr<std::string> SeccompOption(const wire::LinuxContainerSecurityContext& in,
                                          const ReadProfile& read) {
  std::string path;
  if (in.has_seccomp()) {
    switch (in.seccomp().profile_type()) {
      case wire::SecurityProfile::RuntimeDefault:
        return std::string();
      case wire::SecurityProfile::Localhost:
        path = in.seccomp().localhost_ref();
        break;
      default:
        return std::string("seccomp=unconfined");
    }
  } else {
    absl::string_view old = OldSeccomp(in);
    if (old.empty() || old == "unconfined") return std::string("seccomp=unconfined");
    if (old == "runtime/default" || old == "docker/default") return std::string();
    if (!absl::ConsumePrefix(&old, "localhost/"))
      return FieldError("seccomp_profile_path", absl::StrCat("\"", old, "\" is not a profile"));
    path = std::string(old);
  }
  if (path.empty() || path.front() != '/')
    return FieldError("seccomp", absl::StrCat("\"", path, "\" is not an absolute path"));
  absl::StatusOr<std::string> profile = read(path);
  if (!profile.ok())
    return FieldError("seccomp", absl::StrCat("profile ", path, ": ", profile.status().message()));
  return absl::StrCat("seccomp=", *profile);
}

absl::StatusOr<std::string> AppArmorOption(const wire::LinuxContainerSecurityContext& in) {
  if (in.has_apparmor()) {
    switch (in.apparmor().profile_type()) {
      case wire::SecurityProfile::RuntimeDefault:
        return std::string();
      case wire::SecurityProfile::Localhost: {
        const absl::string_view name =
            absl::StripPrefix(in.apparmor().localhost_ref(), "localhost/");
        if (name.empty()) return FieldError("apparmor", "the profile has no name");
        return absl::StrCat("apparmor=", name);
      }
      default:
        return std::string("apparmor=unconfined");
    }
  }
  absl::string_view old = OldAppArmor(in);
  if (old.empty() || old == "runtime/default") return std::string();
  if (old == "unconfined") return std::string("apparmor=unconfined");
  if (!absl::ConsumePrefix(&old, "localhost/"))
    return FieldError("apparmor_profile", absl::StrCat("\"", old, "\" is not a profile"));
  return absl::StrCat("apparmor=", old);
}

std::string SelinuxLabel(const wire::SELinuxOption& in) {
  if (in.type().empty() && in.level().empty() && in.user().empty() && in.role().empty()) return "";
  const auto part = [](const std::string& given, const char* usual) {
    return given.empty() ? std::string(usual) : given;
  };
  return absl::StrCat(part(in.user(), "system_u"), ":", part(in.role(), "system_r"), ":",
                      part(in.type(), "container_t"), ":", part(in.level(), "s0"));
}

absl::Status ReadUser(const wire::LinuxContainerSecurityContext& in, v1::ContainerConfig& out) {
  std::string user = in.run_as_username();
  if (user.empty() && in.has_run_as_user()) user = absl::StrCat(in.run_as_user().value());
  if (in.has_run_as_group()) {
    if (user.empty()) {
      return FieldError("run_as_group", absl::StrCat("user group ", in.run_as_group().value(),
                                                     " is specified without user"));
    }
    absl::StrAppend(&user, ":", in.run_as_group().value());
  }
  out.set_user(user);
  return absl::OkStatus();
}

void AddCapability(const std::string& name, google::protobuf::RepeatedPtrField<std::string>* out) {
  const std::string upper = absl::AsciiStrToUpper(name);
  *out->Add() = std::string(absl::StripPrefix(upper, "CAP_"));
}

absl::Status ReadSecurity(const wire::LinuxContainerSecurityContext& in, const ReadProfile& read,
                          core::PodContainer& out) {
  v1::ContainerConfig& config = out.config;
  config.set_privileged(in.privileged());
  for (const std::string& one : in.capabilities().add_capabilities())
    AddCapability(one, config.mutable_cap_add());
  for (const std::string& one : in.capabilities().drop_capabilities())
    AddCapability(one, config.mutable_cap_drop());
  for (const std::string& one : in.capabilities().add_ambient_capabilities()) {
    const std::string upper = absl::AsciiStrToUpper(one);
    out.ambient_capabilities.push_back(absl::StrCat("CAP_", absl::StripPrefix(upper, "CAP_")));
  }
  GANTRY_RETURN_IF_ERROR(ReadUser(in, config));
  config.set_read_only_rootfs(in.readonly_rootfs());
  if (in.no_new_privs()) config.add_security_options("no-new-privileges");
  config.mutable_masked_paths();
  config.mutable_readonly_paths();
  if (!in.privileged()) {
    *config.mutable_masked_paths()->mutable_values() = in.masked_paths();
    *config.mutable_readonly_paths()->mutable_values() = in.readonly_paths();
    GANTRY_ASSIGN_OR_RETURN(const std::string seccomp, SeccompOption(in, read));
    if (!seccomp.empty()) config.add_security_options(seccomp);
  }
  GANTRY_ASSIGN_OR_RETURN(const std::string apparmor, AppArmorOption(in));
  if (!apparmor.empty()) config.add_security_options(apparmor);
  const std::string label = SelinuxLabel(in.selinux_options());
  if (!label.empty()) config.add_security_options(absl::StrCat("label=", label));
  for (const int64_t group : in.supplemental_groups()) {
    if (group < 0 || group > UINT32_MAX)
      return FieldError("supplemental_groups", absl::StrCat(group, " is not a group"));
    out.groups.push_back(static_cast<uint32_t>(group));
  }
  out.only_these_groups = in.supplemental_groups_policy() == wire::Strict;
  switch (in.namespace_options().pid()) {
    case wire::CONTAINER:
      out.pid = core::PodContainer::Pid::kOwn;
      break;
    case wire::NODE:
      out.pid = core::PodContainer::Pid::kHost;
      break;
    case wire::TARGET:
      out.pid = core::PodContainer::Pid::kOfContainer;
      out.pid_container = in.namespace_options().target_id();
      break;
    default:
      out.pid = core::PodContainer::Pid::kPod;
      break;
  }
  return ReadUserNamespace(in.namespace_options(), out.uids, out.gids);
}

absl::StatusOr<core::PodMount> ToMount(const wire::Mount& in) {
  core::PodMount out;
  out.target = in.container_path();
  out.source = in.host_path();
  out.read_only = in.readonly();
  out.recursive_read_only = in.recursive_read_only();
  switch (in.propagation()) {
    case wire::PROPAGATION_HOST_TO_CONTAINER:
      out.propagation = core::PodMount::Propagation::kFromHost;
      break;
    case wire::PROPAGATION_BIDIRECTIONAL:
      out.propagation = core::PodMount::Propagation::kBoth;
      break;
    default:
      break;
  }
  out.uids = RangesOf(in.uidmappings());
  out.gids = RangesOf(in.gidmappings());
  out.options.assign(in.mount_options().begin(), in.mount_options().end());
  if (in.has_image()) {
    out.image = in.image().image();
    if (out.image.empty()) return FieldError("mounts", "ImageVolumeMountFailed: no image is named");
    out.image_path = in.image_sub_path();
  }
  return out;
}

}  // namespace

absl::StatusOr<v1::PodConfig> ToPod(const wire::PodSandboxConfig& in,
                                    const std::string& runtime_handler) {
  v1::PodConfig out;
  if (!in.has_metadata()) return FieldError("metadata", "is missing");
  out.set_name(in.metadata().name());
  out.set_uid(in.metadata().uid());
  out.set_group(in.metadata().namespace_());
  out.set_attempt(in.metadata().attempt());
  out.set_hostname(in.hostname());
  out.set_log_directory(in.log_directory());
  *out.mutable_labels() = in.labels();
  *out.mutable_annotations() = in.annotations();
  out.set_runtime(runtime_handler);
  const wire::LinuxSandboxSecurityContext& security = in.linux().security_context();
  const wire::NamespaceOption& namespaces = security.namespace_options();
  out.set_host_network(namespaces.network() == wire::NODE);
  out.set_host_ipc(namespaces.ipc() == wire::NODE);
  out.set_host_pid(namespaces.pid() == wire::NODE);
  out.set_shared_pid(namespaces.pid() == wire::POD);
  std::vector<oci::IdRange> uids;
  std::vector<oci::IdRange> gids;
  GANTRY_RETURN_IF_ERROR(ReadUserNamespace(namespaces, uids, gids));
  const auto add = [](const std::vector<oci::IdRange>& ranges, auto* list) {
    for (const oci::IdRange& range : ranges) {
      v1::IdRange& one = *list->Add();
      one.set_container_id(range.container_id);
      one.set_host_id(range.host_id);
      one.set_length(range.length);
    }
  };
  add(uids, out.mutable_uids());
  add(gids, out.mutable_gids());
  if (in.has_dns_config()) {
    *out.mutable_dns()->mutable_servers() = in.dns_config().servers();
    *out.mutable_dns()->mutable_searches() = in.dns_config().searches();
    *out.mutable_dns()->mutable_options() = in.dns_config().options();
  }
  for (const wire::PortMapping& port : in.port_mappings()) {
    if (port.host_port() <= 0) continue;
    v1::PortBinding& binding = *out.add_ports();
    binding.set_container_port(static_cast<uint32_t>(port.container_port()));
    binding.set_host_port(absl::StrCat(port.host_port()));
    binding.set_protocol(std::string(ProtocolName(port.protocol())));
    binding.set_host_ip(port.host_ip());
  }
  *out.mutable_sysctls() = in.linux().sysctls();
  out.set_cgroup_parent(in.linux().cgroup_parent());
  out.set_privileged(security.privileged());
  if (in.linux().has_resources()) ReadResources(in.linux().resources(), *out.mutable_resources());
  if (in.linux().has_overhead()) ReadResources(in.linux().overhead(), *out.mutable_overhead());
  return out;
}

absl::StatusOr<oci::Resources> ToResources(const wire::LinuxContainerResources& in) {
  oci::Resources out;
  if (in.cpu_period() < 0 || in.cpu_shares() < 0 || in.memory_limit_in_bytes() < 0)
    return FieldError("resources", "a limit is negative");
  if (in.cpu_period() > 0) out.cpu_period_micros = static_cast<uint64_t>(in.cpu_period());
  if (in.cpu_quota() != 0) out.cpu_quota_micros = in.cpu_quota();
  if (in.cpu_shares() > 0) out.cpu_shares = static_cast<uint64_t>(in.cpu_shares());
  if (in.memory_limit_in_bytes() > 0) out.memory_limit_bytes = in.memory_limit_in_bytes();
  if (in.memory_swap_limit_in_bytes() != 0) out.memory_swap_bytes = in.memory_swap_limit_in_bytes();
  out.cpuset_cpus = in.cpuset_cpus();
  out.cpuset_mems = in.cpuset_mems();
  for (const wire::HugepageLimit& one : in.hugepage_limits())
    out.hugepage_limits[one.page_size()] = one.limit();
  out.unified.insert(in.unified().begin(), in.unified().end());
  return out;
}

void MergeResources(const wire::LinuxContainerResources& change,
                    wire::LinuxContainerResources& into) {
  wire::LinuxContainerResources merged = into;
  merged.MergeFrom(change);
  // A list that is given is the whole list.
  if (change.hugepage_limits_size() > 0)
    *merged.mutable_hugepage_limits() = change.hugepage_limits();
  into = std::move(merged);
}

absl::StatusOr<core::PodContainer> ToContainer(const std::string& pod,
                                               const wire::ContainerConfig& in,
                                               const ReadProfile& read) {
  if (!in.has_metadata()) return FieldError("metadata", "is missing");
  core::PodContainer out;
  out.pod = pod;
  out.name = in.metadata().name();
  out.attempt = in.metadata().attempt();
  out.log_path = in.log_path();
  v1::ContainerConfig& config = out.config;
  config.set_image(in.image().image());
  if (in.command_size() > 0) *config.mutable_entrypoint()->mutable_values() = in.command();
  *config.mutable_command() = in.args();
  config.set_working_dir(in.working_dir());
  for (const wire::KeyValue& one : in.envs())
    config.add_env(absl::StrCat(one.key(), "=", one.value()));
  // Kubelet gets all of its labels back, from the extension; those that core and containerd's
  // clients act on are not a pod's to set.
  for (const auto& [name, value] : in.labels()) {
    if (!absl::StartsWith(name, "containerd.io/")) (*config.mutable_labels())[name] = value;
  }
  *config.mutable_annotations() = in.annotations();
  config.set_open_stdin(in.stdin());
  config.set_stdin_once(in.stdin_once());
  config.set_tty(in.tty());
  config.set_stop_signal(SignalName(in.stop_signal()));
  for (const wire::Device& device : in.devices()) {
    v1::Device& one = *config.mutable_resources()->add_devices();
    one.set_host_path(device.host_path());
    one.set_container_path(device.container_path());
    one.set_permissions(device.permissions());
  }
  for (const wire::Mount& mount : in.mounts()) {
    GANTRY_ASSIGN_OR_RETURN(core::PodMount one, ToMount(mount));
    out.mounts.push_back(std::move(one));
  }
  for (const wire::CDIDevice& device : in.cdi_devices()) out.cdi_devices.push_back(device.name());
  // The older way of device plugins; what is named in both ways is had once.
  for (const auto& [key, value] : in.annotations()) {
    if (!absl::StartsWith(key, kCdiAnnotation)) continue;
    for (const absl::string_view name : absl::StrSplit(value, ','))
      out.cdi_devices.emplace_back(name);
  }
  GANTRY_RETURN_IF_ERROR(ReadSecurity(in.linux().security_context(), read, out));
  GANTRY_ASSIGN_OR_RETURN(out.resources, ToResources(in.linux().resources()));
  config.set_oom_score_adj(static_cast<int32_t>(in.linux().resources().oom_score_adj()));
  out.extensions[kExtension] = in.SerializeAsString();
  return out;
}

absl::StatusOr<v1::RegistryAuth> ToAuth(const wire::AuthConfig& in, absl::string_view image) {
  v1::RegistryAuth out;
  // Credentials of one registry are not for another.
  absl::string_view server = in.server_address();
  if (const size_t scheme = server.find("://"); scheme != absl::string_view::npos)
    server.remove_prefix(scheme + 3);
  server = server.substr(0, server.find('/'));
  if (!server.empty()) {
    const std::string full = FullName(image);
    const std::string host = full.substr(0, full.find('/'));
    const bool hub = host == "docker.io" && absl::EndsWith(server, "docker.io");
    if (!hub && host != server) return out;
  }
  out.set_username(in.username());
  out.set_password(in.password());
  if (out.username().empty() && !in.auth().empty()) {
    std::string decoded;
    if (!absl::Base64Unescape(in.auth(), &decoded) || !absl::StrContains(decoded, ':'))
      return FieldError("auth", "is not base64 of USER:PASSWORD");
    const size_t colon = decoded.find(':');
    out.set_username(decoded.substr(0, colon));
    std::string password = decoded.substr(colon + 1);
    while (!password.empty() && password.back() == '\0') password.pop_back();
    out.set_password(password);
  }
  out.set_identity_token(in.identity_token());
  out.set_registry_token(in.registry_token());
  return out;
}

std::string FullName(absl::string_view familiar) {
  const size_t slash = familiar.find('/');
  if (slash == absl::string_view::npos) return absl::StrCat("docker.io/library/", familiar);
  const absl::string_view first = familiar.substr(0, slash);
  if (absl::StrContains(first, '.') || absl::StrContains(first, ':') || first == "localhost")
    return std::string(familiar);
  return absl::StrCat("docker.io/", familiar);
}

}  // namespace gantry::api::cri
