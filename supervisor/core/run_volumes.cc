#include "supervisor/core/run_volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/executor.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "base/user_namespace.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/container_ids.h"
#include "supervisor/core/container_mounts.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/volume/options.h"
#include "supervisor/volume/plugin_driver.h"

namespace gantry::core {
namespace {

constexpr absl::Duration kStartLimit = absl::Seconds(3);

volume::Options OptionsOf(const metadata::StoredVolume& volume) {
  return volume::Options(volume.record.options().begin(), volume.record.options().end());
}

// Below `directory` only, and without following a link of any kind on the way or at the end.
UniqueFd OpenBeneath(int directory, const std::string& path) {
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (int attempt = 0; attempt < 128; ++attempt) {
    const long fd = syscall(SYS_openat2, directory, path.c_str(), &how, sizeof how);
    // EAGAIN: something was renamed meanwhile, so ".." could not be proved to stay below.
    if (fd >= 0 || errno != EAGAIN) return UniqueFd(static_cast<int>(fd));
  }
  return UniqueFd();
}

}  // namespace

std::string RunVolumes::Place(const std::string& id, int index) const {
  return absl::StrCat(parts_.state_directory, "/mounts/", id, ".", index);
}

absl::Status RunVolumes::MountPart(const std::string& data_directory, const std::string& subpath,
                                   const IdMaps& ids, bool recursive, const std::string& place) {
  const std::string shown = absl::StrCat(data_directory, subpath.empty() ? "" : "/", subpath);
  UniqueFd part;
  if (subpath.empty()) {
    part = UniqueFd(open(data_directory.c_str(), O_PATH | O_CLOEXEC));
    if (!part.valid()) return ErrnoToStatus(errno, absl::StrCat("mount source ", shown));
  } else {
    const UniqueFd data(
        open(data_directory.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!data.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", data_directory));
    part = OpenBeneath(data.get(), subpath);
  }
  if (!part.valid()) {
    return absl::NotFoundError(
        absl::StrCat("cannot access path ", shown, ": ",
                     errno == ELOOP ? "it leads over a symbolic link" : strerror(errno)));
  }
  struct stat info;
  if (fstat(part.get(), &info) != 0) return ErrnoToStatus(errno, absl::StrCat("stat ", shown));
  if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode) && !subpath.empty()) {
    return absl::NotFoundError(
        absl::StrCat("cannot access path ", shown, ": neither a directory nor a file"));
  }
  if (S_ISDIR(info.st_mode)) {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(place, 0700));
  } else {
    GANTRY_RETURN_IF_ERROR(WriteFile(place, "", 0600));
  }
  const unsigned int depth = recursive ? AT_RECURSIVE : 0;
  const UniqueFd tree(static_cast<int>(syscall(
      SYS_open_tree, part.get(), "", AT_EMPTY_PATH | depth | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!tree.valid()) return ErrnoToStatus(errno, absl::StrCat("mount ", shown));
  if (!ids.empty()) {
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd user_namespace, NewUserNamespace(ids));
    struct mount_attr attributes = {};
    attributes.attr_set = MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<uint64_t>(user_namespace.get());
    if (syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH | depth, &attributes,
                sizeof attributes) != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "mount ", shown, ": cannot be shown by the container's ids (", strerror(errno),
          "): its file system, or this kernel, does not know id-mapped mounts (Linux 5.12, ext4, "
          "xfs, btrfs); give the container the host's ids (--userns host)"));
    }
  }
  if (syscall(SYS_move_mount, tree.get(), "", AT_FDCWD, place.c_str(), MOVE_MOUNT_F_EMPTY_PATH) !=
      0)
    return ErrnoToStatus(errno, absl::StrCat("mount ", shown, " at ", place));
  return absl::OkStatus();
}

absl::StatusOr<std::string> RunVolumes::MountByPlugin(const CallContext& context,
                                                      const metadata::StoredVolume& volume,
                                                      const std::string& user) {
  const record::v1::Volume& record = volume.record;
  if (parts_.plugins == nullptr) {
    return absl::NotFoundError(absl::StrCat("error looking up volume plugin ", record.driver(),
                                            ": plugin \"", record.driver(), "\" not found"));
  }
  record::v1::VolumeMount mount;
  mount.set_id(user);
  mount.set_namespace_(context.ns);
  mount.set_container_id(user);
  GANTRY_RETURN_IF_ERROR(parts_.store->AddMount({context.ns, ""}, record.name(), mount));
  CrashPoint("volume.mount_noted");
  absl::StatusOr<std::string> at =
      parts_.plugins->Mount(context.cancel, record.driver(), record.name(), user);
  struct stat info;
  if (at.ok() && stat(at->c_str(), &info) != 0) {
    at = absl::FailedPreconditionError(absl::StrCat("volume plugin ", record.driver(), ": mounted ",
                                                    record.name(), " at ", *at,
                                                    ", where nothing is: ", strerror(errno)));
  }
  CrashPoint("volume.plugin_mounted");
  if (at.ok()) return at;
  // It may have been mounted although its driver did not say so in time.
  const absl::Status undone = UnmountByPlugin(nullptr, context.ns, record, user);
  LOG_IF(WARNING, !undone.ok()) << "ns=" << context.ns << " volume=" << record.name() << " "
                                << undone;
  return at;
}

absl::Status RunVolumes::UnmountByPlugin(CancelToken* cancel, const std::string& ns,
                                         const record::v1::Volume& volume, const std::string& id) {
  const absl::Status unmounted =
      parts_.plugins->Unmount(cancel, volume.driver(), volume.name(), id);
  // An answer, even that it is not mounted, is the end of it. A driver that is away is told at the
  // next start.
  if (absl::IsUnavailable(unmounted) || absl::IsDeadlineExceeded(unmounted) ||
      absl::IsNotFound(unmounted))
    return unmounted;
  GANTRY_RETURN_IF_ERROR(parts_.store->RemoveMount({ns, ""}, volume.name(), id));
  return unmounted;
}

absl::StatusOr<std::string> RunVolumes::Mount(const CallContext& context, const std::string& name,
                                              const std::string& user) {
  GANTRY_ASSIGN_OR_RETURN(const metadata::StoredVolume volume,
                          parts_.store->Find({context.ns, ""}, name));
  if (volume.record.driver() != volume::kLocalDriver) {
    GANTRY_ASSIGN_OR_RETURN(const OperationLock turn,
                            turns_.Acquire(context.ns, name, context.cancel, Interruptible::kNo));
    GANTRY_ASSIGN_OR_RETURN(std::string at, MountByPlugin(context, volume, user));
    absl::MutexLock lock(&mu_);
    users_[{context.ns, name}].insert(user);
    return at;
  }
  const std::string data = parts_.local->DataDirectory({context.ns, name});
  const volume::Options options = OptionsOf(volume);
  if (!volume::IsMounted(options)) return data;
  GANTRY_ASSIGN_OR_RETURN(const OperationLock turn,
                          turns_.Acquire(context.ns, name, context.cancel, Interruptible::kNo));
  const volume::VolumeKey key = {context.ns, name};
  if (!parts_.local->IsMounted(key)) {
    GANTRY_ASSIGN_OR_RETURN(const snapshot::Mount mount, volume::MountOf(options));
    const absl::Status mounted = snapshot::MountAll({mount}, parts_.local->DataDirectory(key));
    if (!mounted.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", name, ": failed to mount local volume: ", mounted.message()));
    }
    CrashPoint("volume.mounted");
  }
  absl::MutexLock lock(&mu_);
  users_[{context.ns, name}].insert(user);
  return data;
}

void RunVolumes::Unmount(const CallContext& context, const std::string& name,
                         const std::string& user) {
  CallContext whole = context;
  whole.cancel = nullptr;
  const absl::StatusOr<OperationLock> turn =
      turns_.Acquire(context.ns, name, nullptr, Interruptible::kNo);
  bool last = false;
  {
    absl::MutexLock lock(&mu_);
    const auto users = users_.find({context.ns, name});
    if (users == users_.end() || users->second.erase(user) == 0) return;
    last = users->second.empty();
    if (last) users_.erase(users);
  }
  const absl::StatusOr<metadata::StoredVolume> volume = parts_.store->Find({context.ns, ""}, name);
  if (volume.ok() && volume->record.driver() != volume::kLocalDriver) {
    const absl::Status gone = UnmountByPlugin(nullptr, context.ns, volume->record, user);
    LOG_IF(WARNING, !gone.ok()) << "ns=" << context.ns << " volume=" << name << " " << gone;
    return;
  }
  if (!last) return;
  const absl::Status gone =
      snapshot::UnmountAll(parts_.local->DataDirectory({context.ns, name}), /*lazy=*/true);
  LOG_IF(WARNING, !gone.ok()) << "ns=" << context.ns << " volume=" << name << " " << gone;
}

absl::StatusOr<std::string> RunVolumes::At(const CallContext& context,
                                           const LoadedContainer& loaded, const v1::Mount& mount,
                                           std::map<std::string, std::string>& mounted) {
  const auto found = mounted.find(mount.volume_name());
  if (found != mounted.end()) return found->second;
  GANTRY_ASSIGN_OR_RETURN(std::string at, Mount(context, mount.volume_name(), loaded.id()));
  mounted[mount.volume_name()] = at;
  return at;
}

void RunVolumes::PublishMount(const CallContext& context, const LoadedContainer& loaded,
                              const v1::Mount& mount) {
  if (parts_.volumes == nullptr) return;
  parts_.volumes->Publish(
      context, "mount", mount.volume_name(),
      {{"driver", mount.volume_driver().empty() ? "local" : mount.volume_driver()},
       {"container", loaded.id()},
       {"destination", mount.target()},
       {"read/write", mount.read_only() ? "false" : "true"},
       {"propagation", mount.propagation()}});
}

absl::Status RunVolumes::EnterOne(const CallContext& context, const LoadedContainer& loaded,
                                  const v1::Mount& mount) {
  GANTRY_RETURN_IF_ERROR(Mount(context, mount.volume_name(), loaded.id()).status());
  {
    absl::MutexLock lock(&mu_);
    entered_.insert({context.ns, loaded.id()});
  }
  PublishMount(context, loaded, mount);
  return absl::OkStatus();
}

void RunVolumes::LeaveOne(const CallContext& context, const LoadedContainer& loaded,
                          const v1::Mount& mount) {
  Unmount(context, mount.volume_name(), loaded.id());
  if (parts_.volumes == nullptr) return;
  parts_.volumes->Publish(
      context, "unmount", mount.volume_name(),
      {{"driver", mount.volume_driver().empty() ? "local" : mount.volume_driver()},
       {"container", loaded.id()}});
}

absl::Status RunVolumes::Enter(const CallContext& context, const LoadedContainer& loaded) {
  bool any = false;
  std::map<std::string, std::string> mounted;  // by volume
  absl::Cleanup undo = [&] {
    Started(loaded);
    Leave(context, loaded);
  };
  for (int i = 0; i < loaded.config.mounts_size(); ++i) {
    const v1::Mount& mount = loaded.config.mounts(i);
    const bool placed = HasPlace(loaded.config, mount);
    const IdMaps ids = MapsIds(mount) ? IdsOf(loaded.config) : IdMaps();
    if (mount.type() == v1::Mount::BIND && placed) {
      GANTRY_RETURN_IF_ERROR(
          MountPart(mount.source(), "", ids, !mount.non_recursive(), Place(loaded.id(), i)));
    }
    if (mount.type() != v1::Mount::VOLUME) continue;
    if (!any) {
      any = true;
      absl::MutexLock lock(&mu_);
      entered_.insert({context.ns, loaded.id()});
    }
    GANTRY_ASSIGN_OR_RETURN(const std::string data, At(context, loaded, mount, mounted));
    if (placed) {
      GANTRY_RETURN_IF_ERROR(
          MountPart(data, mount.subpath(), ids, /*recursive=*/true, Place(loaded.id(), i)));
    }
    PublishMount(context, loaded, mount);
  }
  std::move(undo).Cancel();
  return absl::OkStatus();
}

void RunVolumes::Started(const LoadedContainer& loaded) {
  for (int i = 0; i < loaded.config.mounts_size(); ++i) {
    if (HasPlace(loaded.config, loaded.config.mounts(i))) Hide(loaded.id(), i);
  }
}

absl::Status RunVolumes::Show(const CallContext& context, const LoadedContainer& loaded,
                              const v1::Mount& mount, int index) const {
  GANTRY_ASSIGN_OR_RETURN(const metadata::StoredVolume volume,
                          parts_.store->Find({context.ns, ""}, mount.volume_name()));
  const std::string& driver = volume.record.driver();
  std::string data = parts_.local->DataDirectory({context.ns, mount.volume_name()});
  if (driver != volume::kLocalDriver) {
    if (parts_.plugins == nullptr) {
      return absl::NotFoundError(absl::StrCat("error looking up volume plugin ", driver,
                                              ": plugin \"", driver, "\" not found"));
    }
    GANTRY_ASSIGN_OR_RETURN(data,
                            parts_.plugins->Path(context.cancel, driver, mount.volume_name()));
  }
  return MountPart(data, mount.subpath(), IdMaps(), /*recursive=*/true, Place(loaded.id(), index));
}

void RunVolumes::Hide(const std::string& id, int index) const {
  const std::string place = Place(id, index);
  struct stat info;
  if (lstat(place.c_str(), &info) != 0) return;
  absl::Status gone = snapshot::UnmountAll(place, /*lazy=*/true);
  if (gone.ok() && remove(place.c_str()) != 0) gone = ErrnoToStatus(errno, "remove " + place);
  // The next start of the daemon takes it away.
  LOG_IF(WARNING, !gone.ok()) << "id=" << id << " " << gone;
}

void RunVolumes::Leave(const CallContext& context, const LoadedContainer& loaded) {
  {
    absl::MutexLock lock(&mu_);
    if (entered_.erase({context.ns, loaded.id()}) == 0) return;
  }
  std::set<std::string> left;
  for (const v1::Mount& mount : loaded.config.mounts()) {
    if (mount.type() != v1::Mount::VOLUME || !left.insert(mount.volume_name()).second) continue;
    LeaveOne(context, loaded, mount);
  }
}

absl::Status RunVolumes::Reconcile(const std::vector<LoadedContainer>& running) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<metadata::StoredVolume> stored, parts_.store->List(""));
  std::set<Key> mountable;
  for (const metadata::StoredVolume& one : stored) {
    if (one.record.driver() == volume::kLocalDriver && volume::IsMounted(OptionsOf(one)))
      mountable.insert({one.ns, one.record.name()});
  }
  std::set<Key> runs;
  for (const LoadedContainer& one : running) runs.insert({one.scope.ns, one.id()});
  for (const metadata::StoredVolume& one : stored) {
    for (const record::v1::VolumeMount& mount : one.record.mounts()) {
      if (runs.count({one.ns, mount.container_id()}) > 0) {
        absl::MutexLock lock(&mu_);
        users_[{one.ns, one.record.name()}].insert(mount.id());
      } else if (parts_.workers != nullptr && parts_.plugins != nullptr) {
        // Nobody waits for a driver that may not be there yet.
        parts_.workers->Schedule([this, ns = one.ns, volume = one.record, id = mount.id()] {
          // The daemon's end waits for this. What is left is tried again by the next start.
          CancelToken limit(kStartLimit);
          const absl::Status gone = UnmountByPlugin(&limit, ns, volume, id);
          LOG_IF(WARNING, !gone.ok()) << "ns=" << ns << " volume=" << volume.name() << " " << gone;
        });
      }
    }
  }
  std::vector<volume::VolumeKey> unused;
  {
    absl::MutexLock lock(&mu_);
    for (const LoadedContainer& loaded : running) {
      for (const v1::Mount& mount : loaded.config.mounts()) {
        if (mount.type() != v1::Mount::VOLUME) continue;
        entered_.insert({loaded.scope.ns, loaded.id()});
        const Key key(loaded.scope.ns, mount.volume_name());
        if (mountable.count(key) > 0) users_[key].insert(loaded.id());
      }
    }
    for (const Key& key : mountable) {
      if (users_.count(key) == 0) unused.push_back({key.first, key.second});
    }
  }
  absl::Status first;
  for (const volume::VolumeKey& volume : unused) {
    if (parts_.local->IsMounted(volume))
      first.Update(snapshot::UnmountAll(parts_.local->DataDirectory(volume), /*lazy=*/true));
  }
  return first;
}

}  // namespace gantry::core
