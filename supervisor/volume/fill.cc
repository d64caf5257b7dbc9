#include "supervisor/volume/fill.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "snapshotter/tree_copy.h"

namespace gantry::volume {
namespace {

// Where the copy is made, where it waits to be moved in, and where it belongs.
struct Places {
  std::string parent;  // of the first two
  std::string filling;
  std::string filled;
  std::string data;
};

Places BesideData(const std::string& directory) {
  return {directory, directory + "/.filling", directory + "/.filled", directory + "/_data"};
}

Places InsideData(const std::string& data) {
  return {data, data + "/.gantry-filling", data + "/.gantry-filled", data};
}

absl::StatusOr<UniqueFd> OpenDirectory(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  return fd;
}

// Moves the copy into the volume.
absl::Status MoveIn(const Places& places) {
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd from, OpenDirectory(places.filled));
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd to, OpenDirectory(places.data));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(places.filled));
  for (const std::string& name : names) {
    if (renameat2(from.get(), name.c_str(), to.get(), name.c_str(), RENAME_NOREPLACE) != 0 &&
        errno != EEXIST) {
      return ErrnoToStatus(errno, absl::StrCat("move ", name, " into ", places.data));
    }
    CrashPoint("volume.entry_moved");
  }
  GANTRY_RETURN_IF_ERROR(snapshot::CopyDirectoryAttributes(from.get(), to.get()));
  if (fsync(to.get()) != 0) return ErrnoToStatus(errno, absl::StrCat("sync ", places.data));
  return RemoveTree(places.filled);
}

absl::Status EndCutOff(const Places& places) {
  GANTRY_RETURN_IF_ERROR(RemoveTree(places.filling));
  struct stat entry;
  if (lstat(places.filled.c_str(), &entry) != 0) return absl::OkStatus();
  return MoveIn(places);
}

absl::StatusOr<bool> Fill(const Places& places,
                          const std::function<absl::Status(const std::string&)>& make, bool sync) {
  GANTRY_RETURN_IF_ERROR(EndCutOff(places));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> there, ListDirectory(places.data));
  if (!there.empty()) return false;
  if (mkdir(places.filling.c_str(), 0755) != 0)
    return ErrnoToStatus(errno, absl::StrCat("mkdir ", places.filling));
  absl::Status copied = make(places.filling);
  if (copied.ok() && sync) {
    const absl::StatusOr<UniqueFd> fd = OpenDirectory(places.filling);
    copied = fd.status();
    if (copied.ok() && syncfs(fd->get()) != 0)
      copied = ErrnoToStatus(errno, absl::StrCat("sync ", places.filling));
  }
  CrashPoint("volume.copied");
  if (copied.ok() && rename(places.filling.c_str(), places.filled.c_str()) != 0)
    copied = ErrnoToStatus(errno, absl::StrCat("rename ", places.filling));
  if (!copied.ok()) {
    copied.Update(RemoveTree(places.filling));
    return copied;
  }
  if (sync) GANTRY_RETURN_IF_ERROR(SyncDirectory(places.parent));
  CrashPoint("volume.copy_committed");
  GANTRY_RETURN_IF_ERROR(MoveIn(places));
  return true;
}

absl::StatusOr<bool> FillFrom(const Places& places, int source, bool sync) {
  GANTRY_RETURN_IF_ERROR(EndCutOff(places));
  const std::string from = absl::StrCat("/proc/self/fd/", source);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> given, ListDirectory(from));
  if (!given.empty()) {
    return Fill(
        places, [&from](const std::string& into) { return snapshot::CopyTree(from, into); }, sync);
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> there, ListDirectory(places.data));
  if (!there.empty()) return false;
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd data, OpenDirectory(places.data));
  GANTRY_RETURN_IF_ERROR(snapshot::CopyDirectoryAttributes(source, data.get()));
  if (sync && fsync(data.get()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("sync ", places.data));
  return true;
}

}  // namespace

absl::Status EndCutOffFill(const std::string& directory) {
  return EndCutOff(BesideData(directory));
}

absl::StatusOr<bool> FillVolume(const std::string& directory, int source, bool sync) {
  return FillFrom(BesideData(directory), source, sync);
}

absl::StatusOr<bool> FillMounted(const std::string& data_directory, int source) {
  return FillFrom(InsideData(data_directory), source, /*sync=*/true);
}

absl::StatusOr<bool> FillVolumeWith(const std::string& directory,
                                    const std::function<absl::Status(const std::string&)>& make,
                                    bool sync) {
  return Fill(BesideData(directory), make, sync);
}

}  // namespace gantry::volume
