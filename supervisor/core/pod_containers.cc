// Making, starting, ending and finding containers of pods.
#include "supervisor/core/pod_containers.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "supervisor/core/brief_containers.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_mounts.h"
#include "supervisor/core/image_mounts.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/mount_sharing.h"
#include "supervisor/core/pod_cgroup.h"
#include "supervisor/core/pod_entry.h"
#include "supervisor/core/pod_member.h"
#include "supervisor/core/pod_plugins.h"
#include "supervisor/core/pod_view.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"
#include "supervisor/runtime/apparmor.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kStartsEnd = absl::Seconds(30);

std::string NameOf(const v1::PodConfig& pod, const PodContainer& container) {
  const std::string name = absl::StrJoin(
      {container.name, pod.name(), pod.group(), pod.uid(), absl::StrCat(container.attempt)}, "_");
  // A name that does not fit says less; the pod's uid and the attempt make it unique.
  constexpr size_t kMost = 250;
  if (name.size() <= kMost) return name;
  return absl::StrJoin({container.name.substr(0, 100), pod.name().substr(0, 60), pod.uid(),
                        absl::StrCat(container.attempt)},
                       "_");
}

bool SameRanges(const google::protobuf::RepeatedPtrField<v1::IdRange>& pod,
                const std::vector<oci::IdRange>& container) {
  if (static_cast<size_t>(pod.size()) != container.size()) return false;
  for (int i = 0; i < pod.size(); ++i) {
    const oci::IdRange one = {pod.Get(i).container_id(), pod.Get(i).host_id(), pod.Get(i).length()};
    if (!(one == container[static_cast<size_t>(i)])) return false;
  }
  return true;
}

absl::StatusOr<std::string> RealPath(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return ErrnoToStatus(errno, absl::StrCat("mount source ", path));
    GANTRY_RETURN_IF_ERROR(MakeDirectories(path, 0755));
  }
  char* const real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return ErrnoToStatus(errno, absl::StrCat("mount source ", path));
  std::string result = real;
  free(real);  // NOLINT(cppcoreguidelines-no-malloc): realpath()'s
  return result;
}

}  // namespace

PodContainers::PodContainers(PodService& pods) : pods_(pods), parts_(pods.parts_) {}

PodContainers::~PodContainers() = default;

absl::StatusOr<std::string> PodContainers::Create(const CallContext& context,
                                                  const PodContainer& container) {
  if (container.name.empty()) return FieldError("metadata", "a container needs a name");
  GANTRY_ASSIGN_OR_RETURN(const EntryPtr entry, pods_.Find(context, container.pod));
  const std::string name = NameOf(*entry->config, container);
  return pods_.Together(context, absl::StrCat("container ", name), [&](const CallContext& alone) {
    return CreateAlone(alone, entry, name, container);
  });
}

absl::StatusOr<std::string> PodContainers::CreateAlone(const CallContext& context,
                                                       const EntryPtr& entry,
                                                       const std::string& name,
                                                       const PodContainer& container) {
  const v1::PodConfig& pod = *entry->config;
  {
    absl::MutexLock lock(&entry->mu);
    if (entry->phase != Entry::Phase::kReady) {
      return absl::FailedPreconditionError(
          absl::StrCat("pod ", entry->key.second.substr(0, 12), ": is not ready"));
    }
    ++entry->starting;
  }
  const absl::Cleanup over = [&entry] {
    absl::MutexLock lock(&entry->mu);
    --entry->starting;
  };
  if (!SameRanges(pod.uids(), container.uids) || !SameRanges(pod.gids(), container.gids)) {
    return FieldError("userns_options", "a container's user namespace has to be that of its pod");
  }
  if (container.config.privileged() && !pod.privileged())
    return FieldError("privileged", "the pod was not made for privileged containers");

  v1::CreateContainerRequest request;
  request.set_name(name);
  *request.mutable_config() = container.config;
  v1::ContainerConfig& config = *request.mutable_config();
  config.set_runtime(pod.runtime());
  if (!container.cdi_devices.empty()) {
    v1::DeviceRequest& devices = *config.add_device_requests();
    devices.set_driver("cdi");
    for (const std::string& name : container.cdi_devices) devices.add_device_ids(name);
  }
  config.set_network_mode(pod.host_network() ? "host" : "none");
  *config.mutable_uids() = pod.uids();
  *config.mutable_gids() = pod.gids();
  if (container.pid == PodContainer::Pid::kOfContainer) {
    GANTRY_ASSIGN_OR_RETURN(const LoadedContainer other, Load(context, container.pid_container));
    if (other.record.sandbox() != entry->key.second)
      return FieldError("target_id", "the container is not of this pod");
    config.set_pid_mode(absl::StrCat("container:", other.id()));
  }
  if (container.log_path.empty()) config.mutable_log()->set_driver("none");

  PodMember member;
  member.pod_id = entry->key.second;
  member.directory = pods_.Directory(entry->key);
  member.extensions = container.extensions;
  if (!container.log_path.empty()) {
    if (pod.log_directory().empty()) return FieldError("log_path", "the pod has no log_directory");
    member.log_path = absl::StrCat(pod.log_directory(), "/", container.log_path);
  }
  // What is made on the way is kept by the lease until the record refers to it.
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease,
      LeaseScope::Create(parts_.stores->leases, parts_.stores->clock, context.ns, context.lease));
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  member.join = [&](const std::string& id, oci::ContainerConfig& spec, oci::User& user) {
    return Join(leased, *entry, container, id, spec, user, member.labels);
  };
  // From the asking until it is on record, so that a plugin that joins finds it there.
  std::unique_ptr<PluginRound> round;
  std::string asked;  // the id of what plugins were asked about
  member.finish = [&](const std::string& id, oci::RuntimeSpec& spec) -> absl::Status {
    round = pods_.BeginMaking();
    if (round == nullptr || round->round.empty()) return absl::OkStatus();
    asked = id;
    return AskToCreate(*round, *entry, container, id, spec, member.cdi_devices);
  };
  absl::StatusOr<v1::CreateContainerResponse> created =
      parts_.lifecycle->Create(context, request, CreateFor::kLater, &member);
  if (!created.ok() && !asked.empty()) TellNotCreated(*round, *entry, container, asked);
  if (absl::IsAlreadyExists(created.status())) {
    // The answer to the first call was lost: the same request means the same container.
    absl::StatusOr<LoadedContainer> other = parts_.records->Load(context, name);
    if (other.ok() && other->record.sandbox() == entry->key.second &&
        other->state.status() == record::v1::ContainerState::CREATED) {
      const bool same = std::all_of(
          container.extensions.begin(), container.extensions.end(), [&](const auto& one) {
            const auto found = other->record.extensions().find(one.first);
            return found != other->record.extensions().end() && found->second.value() == one.second;
          });
      if (same) return other->id();
    }
  }
  GANTRY_RETURN_IF_ERROR(created.status());
  TellCreated(context, round.get(), *entry, created->id());
  return created->id();
}

absl::Status PodContainers::Join(const CallContext& context, const Entry& entry,
                                 const PodContainer& container, const std::string& id,
                                 oci::ContainerConfig& spec, oci::User& user,
                                 std::map<std::string, std::string>& labels) const {
  const v1::PodConfig& pod = *entry.config;
  const std::string directory = pods_.Directory(entry.key);
  const auto joined = [&](bool host, const char* file) {
    return host ? oci::NamespaceMode::Host()
                : oci::NamespaceMode::Path(absl::StrCat(directory, "/", file));
  };
  spec.network = joined(pod.host_network(), "net");
  spec.uts = joined(pod.host_network(), "uts");
  spec.ipc = joined(pod.host_ipc(), "ipc");
  if (pod.uids_size() > 0) spec.user_namespace = directory + "/user";
  spec.shm_path = pod.host_ipc() ? "" : directory + "/shm";
  switch (container.pid) {
    case PodContainer::Pid::kPod:
      if (pod.host_pid()) {
        spec.pid = oci::NamespaceMode::Host();
      } else if (pod.shared_pid()) {
        spec.pid = oci::NamespaceMode::Path(directory + "/pid");
      }
      break;
    case PodContainer::Pid::kHost:
      spec.pid = oci::NamespaceMode::Host();
      break;
    case PodContainer::Pid::kOwn:
    case PodContainer::Pid::kOfContainer:  // set by pid_mode
      break;
  }
  if (spec.privileged) spec.cgroup = oci::NamespaceMode::Host();
  spec.mount_label = container.mount_label;
  if (access("/sys/fs/selinux/enforce", F_OK) != 0) {
    // Labels mean something on hosts with SELinux only.
    spec.selinux_label.clear();
    spec.mount_label.clear();
  }
  if (!spec.apparmor_profile.empty() && spec.apparmor_profile != "unconfined") {
    // The kubelet is to see it when the container is made, not when it is started.
    const absl::Status loaded = runtime::CheckAppArmorProfile(spec.apparmor_profile);
    if (!loaded.ok()) return FieldError("apparmor", loaded.message());
  }
  spec.ambient_capabilities = container.ambient_capabilities;
  spec.annotations = {{pod_annotation::kType, "container"},
                      {pod_annotation::kPodId, entry.key.second},
                      {pod_annotation::kPodName, pod.name()},
                      {pod_annotation::kPodNamespace, pod.group()},
                      {pod_annotation::kPodUid, pod.uid()},
                      {pod_annotation::kLogDirectory, pod.log_directory()},
                      {pod_annotation::kContainerName, container.name},
                      {pod_annotation::kImageName, container.config.image()},
                      {pod_annotation::kHandler, pod.runtime()}};

  char host[256] = {};
  std::string hostname = pod.hostname();
  if (pod.host_network() && gethostname(host, sizeof host - 1) == 0) hostname = host;
  spec.hostname.clear();
  if (!hostname.empty()) spec.env.insert(spec.env.begin(), absl::StrCat("HOSTNAME=", hostname));

  GANTRY_ASSIGN_OR_RETURN(const runtime::RuntimeInfo chosen,
                          parts_.runtimes->Resolve(pod.runtime()));
  spec.cgroups_path = PodCgroupsPath(id, pod.cgroup_parent(), chosen.systemd_cgroup);
  spec.resources = container.resources;

  std::vector<uint32_t> groups =
      container.only_these_groups ? std::vector<uint32_t>() : std::move(user.additional_gids);
  groups.push_back(user.gid);
  groups.insert(groups.end(), container.groups.begin(), container.groups.end());
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  user.additional_gids = std::move(groups);

  for (const PodMount& mount : container.mounts) {
    GANTRY_ASSIGN_OR_RETURN(oci::MountConfig one, ToMount(context, mount, labels));
    // What the kubelet mounts there replaces the pod's own file.
    std::erase_if(spec.mounts, [&one](const oci::MountConfig& other) {
      return other.destination == one.destination;
    });
    spec.mounts.push_back(std::move(one));
  }
  // The files of the pod are read-only where the root is.
  for (oci::MountConfig& mount : spec.mounts) {
    if (absl::StartsWith(mount.source, directory + "/")) mount.read_only = spec.read_only_root;
  }
  return absl::OkStatus();
}

absl::StatusOr<oci::MountConfig> PodContainers::ImageMount(
    const CallContext& context, const PodMount& mount,
    std::map<std::string, std::string>& labels) const {
  // The kubelet reads the first word.
  const auto failed = [&mount](absl::string_view why) {
    return absl::FailedPreconditionError(
        absl::StrCat("ImageVolumeMountFailed: ", mount.target, ": ", why));
  };
  if (!mount.source.empty()) return failed("it has a host path as well as an image");
  if (!mount.read_only) return failed("an image can only be mounted read-only");
  const ImageMounts images({parts_.stores, parts_.images, parts_.unpack});
  absl::StatusOr<ImageMounts::Shown> shown =
      images.Show(context, mount.image, mount.image_path, labels);
  if (!shown.ok()) return failed(shown.status().message());
  shown->mount.destination = mount.target;
  shown->mount.options = mount.options;
  return std::move(shown->mount);
}

absl::StatusOr<oci::MountConfig> PodContainers::ToMount(
    const CallContext& context, const PodMount& mount,
    std::map<std::string, std::string>& labels) const {
  oci::MountConfig out;
  out.destination = mount.target;
  out.read_only = mount.read_only;
  out.options = mount.options;
  if (!mount.image.empty()) return ImageMount(context, mount, labels);
  if (mount.source.empty() || mount.source.front() != '/') {
    return FieldError("mounts",
                      absl::StrCat("host path \"", mount.source, "\" is not an absolute path"));
  }
  if (mount.recursive_read_only &&
      (!mount.read_only || mount.propagation != PodMount::Propagation::kPrivate)) {
    return FieldError("mounts", absl::StrCat("RROUnsupported: ", mount.target,
                                             ": recursive read-only needs readonly and private "
                                             "propagation"));
  }
  GANTRY_ASSIGN_OR_RETURN(out.source, RealPath(mount.source));
  out.recursive_read_only = mount.recursive_read_only && MayHaveMountsBelow(out.source);
  out.uids = mount.uids;
  out.gids = mount.gids;
  if (mount.propagation == PodMount::Propagation::kPrivate) return out;
  out.propagation = mount.propagation == PodMount::Propagation::kBoth ? "rshared" : "rslave";
  if (const absl::Status spreads = CheckPropagation(out.source, out.propagation); !spreads.ok())
    return FieldError("mounts", spreads.message());
  return out;
}

absl::Status PodContainers::Start(const CallContext& context, const std::string& container) {
  GANTRY_ASSIGN_OR_RETURN(const LoadedContainer loaded, Load(context, container));
  const std::string& id = loaded.id();
  GANTRY_ASSIGN_OR_RETURN(const EntryPtr entry, pods_.Find(context, loaded.record.sandbox()));
  {
    absl::MutexLock lock(&entry->mu);
    if (entry->phase != Entry::Phase::kReady) {
      return absl::FailedPreconditionError(absl::StrCat(
          "container ", id.substr(0, 12), ": its pod is not ready, so it cannot be started"));
    }
    ++entry->starting;
  }
  const absl::Cleanup over = [&entry] {
    absl::MutexLock lock(&entry->mu);
    --entry->starting;
  };
  if (loaded.state.status() != record::v1::ContainerState::CREATED) {
    const absl::StatusOr<Process> task = parts_.tasks->view().Get(context.ns, id, "");
    const bool runs = task.ok() && task->status != ProcessStatus::kStopped;
    // A repeated call.
    if (runs) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("container ", id.substr(0, 12), ": it has run; make another one"));
  }
  const std::unique_ptr<PluginRound> round = pods_.BeginMaking();
  if (const absl::Status refused = AskToStart(context, round.get(), loaded); !refused.ok()) {
    const absl::Status noted = NoteStartRefused(context, id, refused);
    LOG_IF(ERROR, !noted.ok()) << "ns=" << context.ns << " id=" << id << " " << noted;
    return refused;
  }
  v1::StartContainerRequest request;
  request.set_container(id);
  const absl::Status started = parts_.lifecycle->Start(context, request).status();
  if (started.ok()) {
    TellStarted(context, round.get(), id);
  } else {
    TellEnded(context, loaded);
  }
  return started;
}

absl::Status PodContainers::EndAll(const CallContext& context, Entry& entry) {
  // Those whose start was under way when the pod's phase changed come to an end in the second pass.
  for (int pass = 0; pass < 2; ++pass) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<LoadedContainer> containers,
                            List(context, entry.key.second));
    for (const LoadedContainer& one : containers) {
      if (!parts_.tasks->view().Exists(context.ns, one.id())) continue;
      absl::Status killed = parts_.lifecycle->Kill(context, one.id(), "KILL");
      if (killed.ok() || absl::IsFailedPrecondition(killed) || absl::IsNotFound(killed)) continue;
      LOG(WARNING) << "ns=" << context.ns << " id=" << one.id() << " " << killed
                   << "; it is ended from outside";
      GANTRY_RETURN_IF_ERROR(pods_.EndTask(context, one.id()));
    }
    absl::MutexLock lock(&entry.mu);
    const auto none = [&entry]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.mu) { return entry.starting == 0; };
    if (none() && pass == 0) break;
    if (!entry.mu.AwaitWithTimeout(absl::Condition(&none), kStartsEnd))
      return absl::UnavailableError("a container of the pod is being started and does not end");
  }
  const std::unique_ptr<PluginRound> round = pods_.BeginEnding();
  if (round == nullptr || round->round.empty()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const std::vector<LoadedContainer> ended,
                          List(context, entry.key.second));
  for (const LoadedContainer& one : ended) {
    if (one.state.status() != record::v1::ContainerState::CREATED) TellEnded(context, one);
  }
  return absl::OkStatus();
}

absl::Status PodContainers::RemoveAll(const CallContext& context, const Entry& entry) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<LoadedContainer> containers,
                          List(context, entry.key.second));
  for (const LoadedContainer& one : containers) GANTRY_RETURN_IF_ERROR(RemoveLoaded(context, one));
  return absl::OkStatus();
}

absl::Status PodContainers::RemoveLoaded(const CallContext& context,
                                         const LoadedContainer& loaded) {
  const std::unique_ptr<PluginRound> round = pods_.BeginEnding();
  if (round != nullptr && !round->round.empty()) {
    // They see the end before the removal.
    GANTRY_RETURN_IF_ERROR(Stop(context, loaded.id(), absl::ZeroDuration()));
    TellEnded(context, loaded);
  }
  v1::RemoveContainerRequest request;
  request.set_container(loaded.id());
  request.set_force(true);
  const absl::Status removed = parts_.lifecycle->Remove(context, request).status();
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  TellRemoved(context, round.get(), loaded);
  return absl::OkStatus();
}

absl::Status PodContainers::Stop(const CallContext& context, const std::string& container,
                                 absl::Duration patience) {
  const absl::StatusOr<LoadedContainer> loaded = Load(context, container);
  if (absl::IsNotFound(loaded.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(loaded.status());
  if (!parts_.tasks->view().Exists(context.ns, loaded->id())) return absl::OkStatus();
  absl::Status stopped;
  if (patience <= absl::ZeroDuration()) {
    stopped = parts_.lifecycle->Kill(context, loaded->id(), "KILL");
    if (absl::IsFailedPrecondition(stopped)) stopped = absl::OkStatus();  // it is over
  } else {
    v1::StopContainerRequest request;
    request.set_container(loaded->id());
    request.set_timeout_seconds(
        static_cast<int32_t>(std::min(absl::ToInt64Seconds(patience), int64_t{INT32_MAX})));
    stopped = parts_.lifecycle->Stop(context, request).status();
  }
  if (absl::IsNotFound(stopped)) return absl::OkStatus();
  if (stopped.ok()) TellEnded(context, *loaded);
  return stopped;
}

absl::Status PodContainers::Remove(const CallContext& context, const std::string& container) {
  const absl::StatusOr<LoadedContainer> loaded = Load(context, container);
  if (absl::IsNotFound(loaded.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(loaded.status());
  return RemoveLoaded(context, *loaded);
}

absl::StatusOr<LoadedContainer> PodContainers::Load(const CallContext& context,
                                                    const std::string& container) const {
  if (container.empty()) return absl::InvalidArgumentError("container_id: is empty");
  GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, container));
  if (loaded.record.sandbox().empty())
    return absl::NotFoundError(absl::StrCat("container ", container, ": not of a pod"));
  return loaded;
}

absl::Status PodContainers::Each(const CallContext& context,
                                 absl::FunctionRef<void(LoadedContainer&)> visit) const {
  return EachRecord(*parts_.stores, context.ns, [visit](LoadedContainer& one) {
    if (!one.record.sandbox().empty()) visit(one);
  });
}

absl::StatusOr<std::vector<LoadedContainer>> PodContainers::List(const CallContext& context,
                                                                 absl::string_view pod) const {
  std::vector<LoadedContainer> found;
  GANTRY_RETURN_IF_ERROR(
      EachBriefly(*parts_.stores, context.ns, [&found, pod](LoadedContainer& one) {
        const std::string& its = one.record.sandbox();
        if (pod.empty() ? !its.empty() : its == pod) found.push_back(std::move(one));
      }));
  return found;
}

absl::StatusOr<std::vector<LoadedContainer>> PodContainers::ListWhole(const CallContext& context,
                                                                      absl::string_view pod) const {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<LoadedContainer> found, List(context, pod));
  std::vector<LoadedContainer> whole;
  for (const LoadedContainer& one : found) {
    absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, one.id());
    if (absl::IsNotFound(loaded.status())) continue;
    GANTRY_RETURN_IF_ERROR(loaded.status());
    whole.push_back(*std::move(loaded));
  }
  return whole;
}

}  // namespace gantry::core
