// Creation: from an image and a configuration to a record and a root file system.
#include <sys/random.h>
#include <unistd.h>

#include <map>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

#include "base/crash_point.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/project_quota.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "proto/record/v1/record.pb.h"
#include "snapshotter/mount.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/container_intent.h"
#include "supervisor/core/container_lifecycle.h"
#include "supervisor/core/container_mounts.h"
#include "supervisor/core/container_names.h"
#include "supervisor/core/container_spec.h"
#include "supervisor/core/container_volumes.h"
#include "supervisor/core/device_requests.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/id_choice.h"
#include "supervisor/core/image_mounts.h"
#include "supervisor/core/lease_scope.h"
#include "supervisor/core/manifest_record.h"
#include "supervisor/core/name_files.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/network_names.h"
#include "supervisor/core/pod_member.h"
#include "supervisor/core/record_facts.h"
#include "supervisor/oci/project_guard.h"
#include "supervisor/oci/runtime_spec.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::core {
namespace {

constexpr char kSpecType[] = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
constexpr char kRuntimeName[] = "io.containerd.runc.v2";
// How large the layer of a container may grow, in bytes.
constexpr char kMaxSizeLabel[] = "containerd.io/snapshot/max-size";

std::string RandomBytes(size_t n) {
  std::string bytes(n, '\0');
  size_t done = 0;
  while (done < n) {
    const ssize_t got = getrandom(bytes.data() + done, n - done, 0);
    if (got > 0) done += static_cast<size_t>(got);
  }
  return bytes;
}

// mount_setattr(2) can be told to take the whole tree.
bool KernelHasRecursiveReadOnly(const oci::HostFacts& host) {
  return std::pair(host.kernel_major, host.kernel_minor) >= std::pair(5, 12);
}

uint64_t RandomNumber() {
  uint64_t number = 0;
  const std::string bytes = RandomBytes(sizeof number);
  memcpy(&number, bytes.data(), sizeof number);
  return number;
}

}  // namespace

absl::StatusOr<oci::User> ContainerLifecycle::LookUpUser(const std::string& chain_id,
                                                         const std::vector<snapshot::Mount>& mounts,
                                                         const std::string& user,
                                                         const std::vector<std::string>& groups) {
  constexpr size_t kKept = 64;
  constexpr size_t kKeptBytes = 64 << 10;
  {
    absl::MutexLock lock(&mu_);
    auto it = users_.find(chain_id);
    if (it != users_.end()) return oci::ResolveUser(it->second, user, groups);
  }
  const std::string at =
      absl::StrCat(parts_.state_directory, "/mounts/", absl::BytesToHexString(RandomBytes(8)));
  GANTRY_RETURN_IF_ERROR(MakeDirectories(at, 0700));
  absl::Cleanup remove = [&at] {
    if (rmdir(at.c_str()) != 0) PLOG(WARNING) << "cannot remove " << at;
  };
  oci::UserDatabase database;
  {
    GANTRY_ASSIGN_OR_RETURN(snapshot::ScopedMount mounted,
                            snapshot::ScopedMount::Create(mounts, at));
    GANTRY_ASSIGN_OR_RETURN(database, oci::LoadUserDatabase(at));
    GANTRY_RETURN_IF_ERROR(mounted.Unmount());
  }
  // Files of the usual size are kept; an image with a megabyte of users pays for reading them each
  // time.
  if (database.passwd.size() + database.group.size() > kKeptBytes)
    return oci::ResolveUser(database, user, groups);
  absl::MutexLock lock(&mu_);
  if (users_.size() >= kKept) users_.erase(users_.begin());
  return oci::ResolveUser(users_[chain_id] = std::move(database), user, groups);
}

absl::StatusOr<v1::CreateContainerResponse> ContainerLifecycle::Create(
    const CallContext& context, const v1::CreateContainerRequest& request, CreateFor purpose,
    const PodMember* pod) {
  return CreateOf(context, request, purpose, pod, [&](const v1::ContainerConfig& config) {
    return parts_.images->Resolve(context, config.image(), config.platform());
  });
}

absl::StatusOr<v1::CreateContainerResponse> ContainerLifecycle::CreateFrom(
    const CallContext& context, const v1::CreateContainerRequest& request,
    const ResolvedImage& image) {
  // What a build mounts in its steps, caches above all, is its own and has the host's ids.
  v1::CreateContainerRequest step = request;
  if (step.config().userns_mode().empty()) step.mutable_config()->set_userns_mode("host");
  return CreateOf(
      context, step, CreateFor::kRun, nullptr,
      [&](const v1::ContainerConfig&) -> absl::StatusOr<ResolvedImage> { return image; });
}

absl::StatusOr<v1::CreateContainerResponse> ContainerLifecycle::CreateOf(
    const CallContext& context, const v1::CreateContainerRequest& request, CreateFor purpose,
    const PodMember* pod,
    const std::function<absl::StatusOr<ResolvedImage>(const v1::ContainerConfig&)>& find_image) {
  Stores& stores = *parts_.stores;
  v1::ContainerConfig config = request.config();
  if (config.network_mode().empty() || config.network_mode() == "default") {
    // Recorded as it is now: a change of the setting is about new containers. What publishes ports
    // needs a network that has some.
    GANTRY_ASSIGN_OR_RETURN(const NetworkChoice chosen, NetworkOf(config));
    config.set_network_mode(chosen.kind == NetworkChoice::Kind::kNetwork ? chosen.network
                                                                         : parts_.default_network);
    for (v1::NetworkAttachment& one : *config.mutable_networks()) {
      if (one.network().empty() || one.network() == "default")
        one.set_network(config.network_mode());
    }
  }
  if (pod == nullptr) SetIds({}, config);
  const std::string name(absl::StripPrefix(request.name(), "/"));
  if (!request.name().empty()) GANTRY_RETURN_IF_ERROR(CheckContainerName(name));
  GANTRY_RETURN_IF_ERROR(CheckContainerConfig(config));
  if (parts_.devices != nullptr) GANTRY_RETURN_IF_ERROR(CheckDevices(config, *parts_.devices));
  NormalizeMounts(config);
  if (!config.runtime().empty())
    GANTRY_RETURN_IF_ERROR(parts_.runtimes->Resolve(config.runtime()).status());
  GANTRY_ASSIGN_OR_RETURN(ResolvedImage image, find_image(config));
  GANTRY_RETURN_IF_ERROR(MergeImageConfig(image.config, config));
  GANTRY_RETURN_IF_ERROR(parts_.volumes->AddMounts(context, image.config.volumes, config));
  // Says who makes the cgroup. The task keeps to it if the settings change before it starts.
  GANTRY_ASSIGN_OR_RETURN(const runtime::RuntimeInfo oci_runtime,
                          parts_.runtimes->Resolve(config.runtime()));
  // Whose namespaces are shared is decided now: names may move on to others.
  GANTRY_ASSIGN_OR_RETURN(NetworkChoice network, ParseNetworkMode(config.network_mode()));
  if (network.kind == NetworkChoice::Kind::kContainer) {
    GANTRY_ASSIGN_OR_RETURN(network.container,
                            parts_.records->ResolveId(context, network.container));
    config.set_network_mode(network.Print());
  }
  for (const std::string& link : config.links()) {
    const std::string target = LinkTarget(link);
    if (const absl::Status found = parts_.records->ResolveId(context, target).status();
        !found.ok()) {
      return FieldError(
          "links", absl::StrCat("could not get container for ", target, ": ", found.message()));
    }
  }
  for (std::string* mode : {config.mutable_pid_mode(), config.mutable_ipc_mode(),
                            config.mutable_uts_mode(), config.mutable_cgroupns_mode()}) {
    absl::string_view other = *mode;
    if (!absl::ConsumePrefix(&other, "container:")) continue;
    GANTRY_ASSIGN_OR_RETURN(std::string other_id, parts_.records->ResolveId(context, other));
    *mode = absl::StrCat("container:", other_id);
  }

  IdChoice::Chosen ids;
  if (pod == nullptr) {
    GANTRY_ASSIGN_OR_RETURN(ids, parts_.volumes->ChooseIds(context, network, config));
  }
  GANTRY_RETURN_IF_ERROR(CheckMappedMounts(config));

  // It is on the host's network by the host's name.
  if (network.kind == NetworkChoice::Kind::kHost && config.hostname().empty() && pod == nullptr &&
      (config.uts_mode().empty() || config.uts_mode() == "private")) {
    char name[256] = {};
    if (gethostname(name, sizeof name - 1) == 0) config.set_hostname(name);
  }

  // What is made from here on is kept by the lease until the record refers to it.
  GANTRY_ASSIGN_OR_RETURN(
      LeaseScope lease, LeaseScope::Create(stores.leases, stores.clock, context.ns, context.lease));
  CallContext leased = context;
  leased.lease = lease.scope().lease;
  GANTRY_ASSIGN_OR_RETURN(std::string chain_id,
                          parts_.unpack->EnsureUnpacked(leased, image, stores.default_snapshotter));

  const std::string id = absl::BytesToHexString(RandomBytes(32));
  const std::string directories[] = {parts_.records->Directory(context.ns, id),
                                     parts_.records->GeneratedDirectory(context.ns, id, config)};
  const ContainerDirectories::Making making =
      parts_.records->directories().Announce(context.ns, id);
  absl::Cleanup remove_directories = [&directories] {
    for (const std::string& directory : directories) {
      // What stays goes with the next collection.
      if (absl::Status removed = RemoveTree(directory); !removed.ok())
        LOG(ERROR) << "undoing a failed create: " << removed;
    }
  };
  for (const std::string& directory : directories)
    GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0710));
  // A run writes them itself, in a moment.
  if (purpose == CreateFor::kLater && pod == nullptr)
    GANTRY_RETURN_IF_ERROR(WriteNameFiles(directories[1], config, id));

  GANTRY_ASSIGN_OR_RETURN(metadata::SnapshotNamespace snapshots,
                          stores.Snapshots("", lease.scope()));
  snapshot::Labels labels;
  const auto size = config.storage_options().find("size");
  const bool limited = size != config.storage_options().end();
  if (limited) {
    if (stores.default_snapshotter != "overlayfs") {
      return FieldError("storage_options",
                        absl::StrCat("the snapshotter ", stores.default_snapshotter, " has none"));
    }
    GANTRY_ASSIGN_OR_RETURN(const int64_t bytes, ParseTreeSize(size->second));
    labels[kMaxSizeLabel] = absl::StrCat(bytes);
  }
  absl::StatusOr<std::vector<snapshot::Mount>> prepared = snapshots.Prepare(id, chain_id, labels);
  if (limited && absl::IsFailedPrecondition(prepared.status()))
    return FieldError("storage_options", prepared.status().message());
  GANTRY_RETURN_IF_ERROR(prepared.status());
  const std::vector<snapshot::Mount> mounts = *std::move(prepared);
  CrashPoint("snapshot.prepared");
  absl::Cleanup remove_snapshot = [&snapshots, &id] {
    if (absl::Status removed = snapshots.Remove(id); !removed.ok())
      LOG(ERROR) << "undoing a failed create: " << removed;
  };

  GANTRY_ASSIGN_OR_RETURN(oci::User user,
                          LookUpUser(chain_id, mounts, config.user(),
                                     {config.group_add().begin(), config.group_add().end()}));
  GANTRY_ASSIGN_OR_RETURN(ContainerVolumes::Given volumes,
                          parts_.volumes->Give(context, id, mounts, config));
  SpecPlace place;
  place.mount_sources = volumes.sources();
  place.id = id;
  place.directory = directories[1];
  place.init_path = parts_.init_path;
  place.cgroups_path = CgroupsPath(id, config.cgroup_parent(), oci_runtime.systemd_cgroup);
  place.pid_of = [this, &context](absl::string_view other) {
    return parts_.runs->InitPid(context, other);
  };
  if (pod != nullptr) place.directory = pod->directory;
  GANTRY_ASSIGN_OR_RETURN(oci::ContainerConfig spec_config, ToSpecConfig(config, place));
  // In its own list of the mount options that it knows. crun knew them before it had such a list.
  const bool recursive_read_only =
      KernelHasRecursiveReadOnly(*parts_.host) &&
      (oci_runtime.is_crun || absl::StrContains(oci_runtime.features_json, "\"rro\""));
  for (const v1::Mount& mount : config.mounts()) {
    if (mount.type() != v1::Mount::BIND || !recursive_read_only || !mount.read_only() ||
        mount.non_recursive() || mount.read_only_non_recursive())
      continue;
    for (oci::MountConfig& one : spec_config.mounts) {
      if (one.destination == mount.target())
        one.recursive_read_only = MayHaveMountsBelow(mount.source());
    }
  }
  std::map<std::string, std::string> image_labels;
  GANTRY_RETURN_IF_ERROR(ImageMounts({&stores, parts_.images, parts_.unpack})
                             .AddTo(leased, config, spec_config.mounts, image_labels));
  if (config.resources().pids_limit() == 0 && parts_.default_pids_limit > 0 && pod == nullptr)
    spec_config.resources.pids_limit = parts_.default_pids_limit;
  if (pod != nullptr) GANTRY_RETURN_IF_ERROR(pod->join(id, spec_config, user));
  GANTRY_ASSIGN_OR_RETURN(oci::RuntimeSpec spec, oci::BuildSpec(spec_config, user, *parts_.host));
  // A profile of the person's own stays as it is.
  if ((limited || volumes.limited()) && spec_config.uids.empty() &&
      spec_config.seccomp_profile.empty())
    oci::ForbidProjectChange(spec.document()["linux"]["seccomp"]);
  if (pod != nullptr && pod->finish != nullptr) {
    GANTRY_RETURN_IF_ERROR(pod->finish(id, spec));
    if (!pod->cdi_devices.empty()) {
      // Put into the configuration at each start, as the files say then.
      v1::DeviceRequest& more = *config.add_device_requests();
      more.set_driver("cdi");
      for (const std::string& name : pod->cdi_devices) more.add_device_ids(name);
      if (parts_.devices != nullptr) GANTRY_RETURN_IF_ERROR(CheckDevices(config, *parts_.devices));
    }
  }

  metadata::NewContainer fresh;
  record::v1::Container& record = fresh.record;
  record.set_id(id);
  for (const auto& [name, value] : config.labels()) {
    if (RecordHolds(name, value)) record.mutable_labels()->insert({name, value});
  }
  record.mutable_labels()->insert(image_labels.begin(), image_labels.end());
  record.set_image(image.names.empty() ? image.target.digest.str() : image.names.front());
  for (const std::string& name : image.names) {
    if (name == config.image() || absl::EndsWith(name, "/" + config.image()))
      record.set_image(name);
  }
  record.mutable_runtime()->set_name(kRuntimeName);
  record.mutable_spec()->set_type_url(kSpecType);
  record.mutable_spec()->set_value(spec.Print());
  record.set_snapshotter(stores.default_snapshotter);
  record.set_snapshot_key(id);
  WriteIntent(config, record);
  record::v1::Descriptor target;
  target.set_media_type(image.target.media_type);
  target.set_digest(image.target.digest.str());
  target.set_size(image.target.size_bytes);
  google::protobuf::Any& image_extension = (*record.mutable_extensions())[kImageExtension];
  image_extension.set_type_url("gantry.record.v1.Descriptor");
  image_extension.set_value(target.SerializeAsString());
  WriteManifest(image.manifest, image.config.platform, record);
  if (pod != nullptr) {
    record.set_sandbox(pod->pod_id);
    record.mutable_labels()->insert(pod->labels.begin(), pod->labels.end());
    google::protobuf::Any& log = (*record.mutable_extensions())[kPodLogExtension];
    log.set_type_url(kPodLogExtension);
    log.set_value(pod->log_path);
    for (const auto& [key, value] : pod->extensions) {
      google::protobuf::Any& extension = (*record.mutable_extensions())[key];
      extension.set_type_url(key);
      extension.set_value(value);
    }
  }
  fresh.state.emplace();
  fresh.state->set_starting(purpose == CreateFor::kRun);

  record::v1::Container stored;
  for (int attempt = 0;; ++attempt) {
    fresh.name = name.empty() ? MakeUpName(RandomNumber()) : name;
    if (name.empty() && attempt > 5) absl::StrAppend(&fresh.name, RandomNumber() % 1000);
    // What removes itself at its end does not outlive a power cut, so neither need its record.
    absl::StatusOr<record::v1::Container> created = stores.containers.Create(
        lease.scope(), fresh,
        config.auto_remove() ? metadata::Durability::kBuffered : metadata::Durability::kSynced);
    if (created.ok()) {
      stored = *std::move(created);
      break;
    }
    if (!name.empty() || !absl::IsAlreadyExists(created.status()) || attempt > 20)
      return created.status();
  }
  CrashPoint("container.recorded");
  volumes.Keep();
  std::move(remove_snapshot).Cancel();
  std::move(remove_directories).Cancel();

  Event event(EventKind::kContainer, action::kCreate, id);
  event.facts = FactsOfRecord(stored);
  parts_.events->Publish(context.ns, std::move(event));

  v1::CreateContainerResponse response;
  response.set_id(id);
  response.set_name(fresh.name);
  // docker's words, which its clients print.
  if (network.host() && config.port_bindings_size() > 0)
    response.add_warnings("Published ports are discarded when using host network mode");
  return response;
}

}  // namespace gantry::core
