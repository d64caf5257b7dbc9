#include "supervisor/core/container_volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

#include "base/errno_status.h"
#include "base/field_error.h"
#include "base/file.h"
#include "base/in_root.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/container_mounts.h"
#include "supervisor/core/network_choice.h"
#include "supervisor/core/run_volumes.h"
#include "supervisor/core/volume_holds.h"
#include "supervisor/volume/fill.h"

namespace gantry::core {
namespace {

// Ids of the containers whose namespaces it shares.
std::vector<std::string> SharedContainers(const v1::ContainerConfig& config,
                                          const NetworkChoice& network) {
  std::vector<std::string> ids;
  if (network.kind == NetworkChoice::Kind::kContainer) ids.push_back(network.container);
  for (const std::string* mode : {&config.pid_mode(), &config.ipc_mode()}) {
    absl::string_view other = *mode;
    if (absl::ConsumePrefix(&other, "container:")) ids.emplace_back(other);
  }
  return ids;
}

}  // namespace

ContainerVolumes::Given::~Given() {
  holds_.clear();
  if (service_ != nullptr && !anonymous_.empty())
    service_->holds().RemoveUnused(context_, anonymous_);
}

void ContainerVolumes::Given::Swap(Given& other) noexcept {
  std::swap(service_, other.service_);
  std::swap(context_, other.context_);
  std::swap(goes_with_container_, other.goes_with_container_);
  std::swap(limited_, other.limited_);
  std::swap(sources_, other.sources_);
  std::swap(anonymous_, other.anonymous_);
  std::swap(holds_, other.holds_);
}

void ContainerVolumes::Given::Keep() {
  // Those of a container that removes itself stay noted as going: they do, with it.
  if (service_ != nullptr && !goes_with_container_)
    service_->holds().NoteOwned(context_, anonymous_);
  anonymous_.clear();
  holds_.clear();
}

absl::Status ContainerVolumes::AddMounts(const CallContext& context,
                                         const std::set<std::string>& image_volumes,
                                         v1::ContainerConfig& config) {
  for (const std::string& text : config.volumes_from()) {
    GANTRY_ASSIGN_OR_RETURN(const VolumesFrom from, ParseVolumesFrom(text));
    GANTRY_ASSIGN_OR_RETURN(const LoadedContainer other,
                            parts_.records->Load(context, from.container));
    GANTRY_RETURN_IF_ERROR(ContainerRecords::CheckReadable(other));
    InheritMounts(other.config, other.id(), from.read_only, config);
  }
  return AddImageVolumes(image_volumes, config);
}

absl::StatusOr<IdChoice::Chosen> ContainerVolumes::ChooseIds(const CallContext& context,
                                                             const NetworkChoice& network,
                                                             v1::ContainerConfig& config) {
  GANTRY_ASSIGN_OR_RETURN(const UsernsMode mode, ParseUsernsMode(config.userns_mode()));
  std::vector<LoadedContainer> shared;
  for (const std::string& other : SharedContainers(config, network)) {
    GANTRY_ASSIGN_OR_RETURN(LoadedContainer loaded, parts_.records->Load(context, other));
    shared.push_back(std::move(loaded));
  }
  IdChoice::Chosen chosen;
  if (!shared.empty() && mode.kind == UsernsMode::Kind::kDefault) {
    SetIds(IdsOf(shared.front().config), config);
  } else if (parts_.ids != nullptr) {
    GANTRY_ASSIGN_OR_RETURN(chosen, parts_.ids->Choose(mode));
    SetIds(chosen.ids(), config);
  }
  for (const LoadedContainer& other : shared) {
    if (IdsOf(config) == IdsOf(other.config)) continue;
    // A namespace is of use only to who has the user namespace that owns it.
    return FieldError("userns_mode",
                      absl::StrCat("container ", other.ShownName(),
                                   ", whose namespaces are to be shared, has other ids; with no "
                                   "mode of its own a container gets the same"));
  }
  if (config.uids().empty()) return chosen;
  GANTRY_RETURN_IF_ERROR(CheckWithIds(config));
  return chosen;
}

absl::StatusOr<ContainerVolumes::Given> ContainerVolumes::Give(
    const CallContext& context, const std::string& id, absl::Span<const snapshot::Mount> rootfs,
    v1::ContainerConfig& config) {
  Given given;
  given.service_ = parts_.volumes;
  given.context_ = context;
  given.context_.cancel = nullptr;
  given.goes_with_container_ = config.auto_remove();
  std::vector<Empty> fillable;
  // Those with options are mounted for as long as they are filled.
  std::vector<std::string> mounted;
  const std::string user = absl::StrCat("creation of ", id);
  const absl::Cleanup unmount = [&] {
    for (const std::string& name : mounted) parts_.runs->Unmount(context, name, user);
  };
  for (int i = 0; i < config.mounts_size(); ++i) {
    v1::Mount& mount = *config.mutable_mounts(i);
    if (mount.type() == v1::Mount::BIND && HasPlace(config, mount))
      given.sources_[mount.target()] = parts_.runs->Place(id, i);
    if (mount.type() != v1::Mount::VOLUME) continue;
    v1::CreateVolumeRequest request;
    // One of volumes_from has its name already.
    request.set_name(mount.source().empty() ? mount.volume_name() : mount.source());
    request.set_driver(mount.volume_driver());
    *request.mutable_options() = mount.volume_options();
    *request.mutable_labels() = mount.volume_labels();
    const bool anonymous = request.name().empty();
    GANTRY_ASSIGN_OR_RETURN(
        VolumeHolds::Held held,
        parts_.volumes->holds().Hold(context, request, /*kept=*/!config.auto_remove()));
    if (anonymous) given.anonymous_.push_back(held.name);
    mount.set_volume_name(held.name);
    given.limited_ |= held.limited;
    if (held.driver != "local") mount.set_volume_driver(held.driver);
    // One of volumes_from may come from a container with other ids.
    if (held.maps_ids && !config.uids().empty() && !MapsIds(mount)) mount.add_options(kMapIds);
    given.sources_[mount.target()] =
        HasPlace(config, mount) ? parts_.runs->Place(id, i) : held.data_directory;
    // A part of a volume must be there before, so the volume is not empty.
    if (!mount.no_copy() && mount.subpath().empty()) {
      if (held.is_mount) {
        GANTRY_ASSIGN_OR_RETURN(held.data_directory, parts_.runs->Mount(context, held.name, user));
        mounted.push_back(held.name);
      }
      fillable.push_back(
          {held.name, mount.target(), held.data_directory, anonymous, held.is_mount});
    }
    given.holds_.push_back(std::move(held.hold));
  }
  std::vector<Empty> empty;
  for (Empty& one : fillable) {
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                            ListDirectory(one.data_directory));
    if (names.empty()) empty.push_back(std::move(one));
  }
  if (!empty.empty()) GANTRY_RETURN_IF_ERROR(Fill(context, empty, rootfs, config.auto_remove()));
  return given;
}

absl::Status ContainerVolumes::Fill(const CallContext& context, const std::vector<Empty>& volumes,
                                    absl::Span<const snapshot::Mount> rootfs, bool going) {
  std::string at = parts_.state_directory + "/mounts";
  GANTRY_RETURN_IF_ERROR(MakeDirectories(at, 0700));
  at += "/copy-XXXXXX";
  if (mkdtemp(at.data()) == nullptr) return ErrnoToStatus(errno, absl::StrCat("mkdir ", at));
  absl::Cleanup remove = [&at] {
    if (rmdir(at.c_str()) != 0) PLOG(WARNING) << "cannot remove " << at;
  };
  GANTRY_ASSIGN_OR_RETURN(snapshot::ScopedMount mounted, snapshot::ScopedMount::Create(rootfs, at));
  {
    const UniqueFd root(open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", at));
    for (const Empty& one : volumes) {
      // What the image has there; its links lead to places in the image.
      const UniqueFd source =
          OpenInRoot(root.get(), one.target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (!source.valid()) {
        if (errno == ENOTDIR && one.anonymous &&
            OpenInRoot(root.get(), one.target, O_PATH | O_CLOEXEC).valid()) {
          return absl::FailedPreconditionError(
              absl::StrCat("cannot mount volume over existing file, file exists ", one.target));
        }
        if (errno == ENOENT || errno == ENOTDIR) continue;
        return ErrnoToStatus(errno, absl::StrCat("open ", one.target, " of the image"));
      }
      // Another container may be created with it at the same time.
      GANTRY_ASSIGN_OR_RETURN(const OperationLock turn, parts_.runs->TakeTurn(context, one.name));
      const std::string directory(absl::StripSuffix(one.data_directory, "/_data"));
      GANTRY_RETURN_IF_ERROR(
          (one.mounted ? volume::FillMounted(one.data_directory, source.get())
                       : volume::FillVolume(directory, source.get(), !(going && one.anonymous)))
              .status());
    }
  }
  return mounted.Unmount();
}

}  // namespace gantry::core
