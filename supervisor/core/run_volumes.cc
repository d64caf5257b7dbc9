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
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "proto/gantry/v1/container_config.pb.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/volume/options.h"

namespace gantry::core {
namespace {

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
                                   const std::string& place) {
  const std::string shown = absl::StrCat(data_directory, "/", subpath);
  const UniqueFd data(open(data_directory.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!data.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", data_directory));
  const UniqueFd part = OpenBeneath(data.get(), subpath);
  if (!part.valid()) {
    return absl::NotFoundError(
        absl::StrCat("cannot access path ", shown, ": ",
                     errno == ELOOP ? "it leads over a symbolic link" : strerror(errno)));
  }
  struct stat info;
  if (fstat(part.get(), &info) != 0) return ErrnoToStatus(errno, absl::StrCat("stat ", shown));
  if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode)) {
    return absl::NotFoundError(
        absl::StrCat("cannot access path ", shown, ": neither a directory nor a file"));
  }
  if (S_ISDIR(info.st_mode)) {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(place, 0700));
  } else {
    GANTRY_RETURN_IF_ERROR(WriteFile(place, "", 0600));
  }
  const UniqueFd tree(static_cast<int>(
      syscall(SYS_open_tree, part.get(), "",
              AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!tree.valid()) return ErrnoToStatus(errno, absl::StrCat("mount ", shown));
  if (syscall(SYS_move_mount, tree.get(), "", AT_FDCWD, place.c_str(), MOVE_MOUNT_F_EMPTY_PATH) !=
      0)
    return ErrnoToStatus(errno, absl::StrCat("mount ", shown, " at ", place));
  return absl::OkStatus();
}

absl::Status RunVolumes::Mount(const CallContext& context, const std::string& name,
                               const std::string& user) {
  GANTRY_ASSIGN_OR_RETURN(const metadata::StoredVolume volume,
                          parts_.store->Find({context.ns, ""}, name));
  const volume::Options options = OptionsOf(volume);
  if (!volume::IsMounted(options)) return absl::OkStatus();
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
  return absl::OkStatus();
}

void RunVolumes::Unmount(const CallContext& context, const std::string& name,
                         const std::string& user) {
  CallContext whole = context;
  whole.cancel = nullptr;
  const absl::StatusOr<OperationLock> turn =
      turns_.Acquire(context.ns, name, nullptr, Interruptible::kNo);
  {
    absl::MutexLock lock(&mu_);
    const auto users = users_.find({context.ns, name});
    if (users == users_.end() || users->second.erase(user) == 0) return;
    if (!users->second.empty()) return;
    users_.erase(users);
  }
  const absl::Status gone =
      snapshot::UnmountAll(parts_.local->DataDirectory({context.ns, name}), /*lazy=*/true);
  LOG_IF(WARNING, !gone.ok()) << "ns=" << context.ns << " volume=" << name << " " << gone;
}

absl::Status RunVolumes::Enter(const CallContext& context, const LoadedContainer& loaded) {
  bool any = false;
  absl::Cleanup undo = [&] {
    Started(loaded);
    Leave(context, loaded);
  };
  for (int i = 0; i < loaded.config.mounts_size(); ++i) {
    const v1::Mount& mount = loaded.config.mounts(i);
    if (mount.type() != v1::Mount::VOLUME) continue;
    if (!any) {
      any = true;
      absl::MutexLock lock(&mu_);
      entered_.insert({context.ns, loaded.id()});
    }
    const std::string data = parts_.local->DataDirectory({context.ns, mount.volume_name()});
    GANTRY_RETURN_IF_ERROR(Mount(context, mount.volume_name(), loaded.id()));
    if (!mount.subpath().empty())
      GANTRY_RETURN_IF_ERROR(MountPart(data, mount.subpath(), Place(loaded.id(), i)));
    if (parts_.volumes == nullptr) continue;
    parts_.volumes->Publish(
        context, "mount", mount.volume_name(),
        {{"driver", mount.volume_driver().empty() ? "local" : mount.volume_driver()},
         {"container", loaded.id()},
         {"destination", mount.target()},
         {"read/write", mount.read_only() ? "false" : "true"},
         {"propagation", mount.propagation()}});
  }
  std::move(undo).Cancel();
  return absl::OkStatus();
}

void RunVolumes::Started(const LoadedContainer& loaded) {
  for (int i = 0; i < loaded.config.mounts_size(); ++i) {
    if (loaded.config.mounts(i).subpath().empty()) continue;
    const std::string place = Place(loaded.id(), i);
    struct stat info;
    if (lstat(place.c_str(), &info) != 0) continue;
    absl::Status gone = snapshot::UnmountAll(place, /*lazy=*/true);
    if (gone.ok() && remove(place.c_str()) != 0) gone = ErrnoToStatus(errno, "remove " + place);
    // The next start of the daemon takes it away.
    LOG_IF(WARNING, !gone.ok()) << "id=" << loaded.id() << " " << gone;
  }
}

void RunVolumes::Leave(const CallContext& context, const LoadedContainer& loaded) {
  {
    absl::MutexLock lock(&mu_);
    if (entered_.erase({context.ns, loaded.id()}) == 0) return;
  }
  std::set<std::string> left;
  for (const v1::Mount& mount : loaded.config.mounts()) {
    if (mount.type() != v1::Mount::VOLUME || !left.insert(mount.volume_name()).second) continue;
    Unmount(context, mount.volume_name(), loaded.id());
    if (parts_.volumes == nullptr) continue;
    parts_.volumes->Publish(
        context, "unmount", mount.volume_name(),
        {{"driver", mount.volume_driver().empty() ? "local" : mount.volume_driver()},
         {"container", loaded.id()}});
  }
}

absl::Status RunVolumes::Reconcile(const std::vector<LoadedContainer>& running) {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<metadata::StoredVolume> stored, parts_.store->List(""));
  std::set<Key> mountable;
  for (const metadata::StoredVolume& one : stored) {
    if (volume::IsMounted(OptionsOf(one))) mountable.insert({one.ns, one.record.name()});
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
