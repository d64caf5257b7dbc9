#include "supervisor/volume/local_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/project_quota.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "snapshotter/tree_usage.h"
#include "supervisor/volume/fill.h"

namespace gantry::volume {
namespace {

constexpr char kDefaultNamespace[] = "default";
constexpr char kNamespaces[] = ".namespaces";
constexpr char kData[] = "_data";
constexpr char kMark[] = ".unrecorded";
constexpr char kRenaming[] = "/.renaming";
constexpr char kNew[] = ".new-";
constexpr char kRemoved[] = ".removed-";

std::string RandomName(absl::string_view prefix) {
  std::string random(8, '\0');
  size_t done = 0;
  while (done < random.size()) {
    const ssize_t got = getrandom(random.data() + done, random.size() - done, 0);
    if (got > 0) done += static_cast<size_t>(got);
  }
  return absl::StrCat(prefix, absl::BytesToHexString(random));
}

bool Exists(const std::string& path) {
  struct stat entry;
  return lstat(path.c_str(), &entry) == 0;
}

bool IsDirectory(const std::string& path) {
  struct stat entry;
  return lstat(path.c_str(), &entry) == 0 && S_ISDIR(entry.st_mode);
}

absl::Status MakeDirectory(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) != 0 || chmod(path.c_str(), mode) != 0)  // whatever the umask
    return ErrnoToStatus(errno, absl::StrCat("mkdir ", path));
  return absl::OkStatus();
}

absl::Status MakeMark(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kMark);
  const UniqueFd mark(open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!mark.valid()) return ErrnoToStatus(errno, absl::StrCat("create ", path));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckVolumeName(absl::string_view name) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-';
  };
  if (name.size() == 1) {
    return absl::InvalidArgumentError(
        "volume name is too short, names should be at least two alphanumeric characters");
  }
  if (name.empty() || !absl::ascii_isalnum(static_cast<unsigned char>(name.front())) ||
      !std::all_of(name.begin(), name.end(), allowed)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", absl::Utf8SafeCEscape(name.substr(0, 256)),
                     "\" includes invalid characters for a local volume name, only "
                     "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" "
                     "are allowed. If you intended to pass a host directory, use absolute path"));
  }
  if (name.size() > 255) {
    return absl::InvalidArgumentError(absl::StrCat("volume name \"", name.substr(0, 32),
                                                   "...\" is ", name.size(),
                                                   " characters long, at most 255 are allowed"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<LocalDriver>> LocalDriver::Open(const std::string& root) {
  const std::string directory = absl::StrCat(root, "/volumes");
  // Closed to the users of the host: a set-id program that a container's root leaves in a volume is
  // its owner's wherever it is started. Runtimes open what they mount with the host's rights.
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
  if (chmod(directory.c_str(), 0700) != 0)
    return ErrnoToStatus(errno, absl::StrCat("chmod ", directory));
  return std::unique_ptr<LocalDriver>(new LocalDriver(directory));
}

std::string LocalDriver::Parent(absl::string_view ns) const {
  return ns == kDefaultNamespace ? directory_ : absl::StrCat(directory_, "/", kNamespaces, "/", ns);
}

std::string LocalDriver::Directory(const VolumeKey& volume) const {
  return absl::StrCat(Parent(volume.ns), "/", volume.name);
}

std::string LocalDriver::DataDirectory(const VolumeKey& volume) const {
  return absl::StrCat(Directory(volume), "/", kData);
}

absl::Status LocalDriver::Make(const VolumeKey& volume, bool sync, int64_t max_bytes) const {
  const std::string directory = Directory(volume);
  if (Exists(directory)) {
    if (IsDirectory(DataDirectory(volume)) && !Exists(absl::StrCat(directory, "/", kMark)))
      return absl::OkStatus();
    GANTRY_RETURN_IF_ERROR(Remove(volume));
  }
  const std::string parent = Parent(volume.ns);
  GANTRY_RETURN_IF_ERROR(MakeDirectories(parent, 0701));
  const std::string fresh = absl::StrCat(parent, "/", RandomName(kNew));
  GANTRY_RETURN_IF_ERROR(MakeDirectory(fresh, 0701));
  absl::Status made;
  // On the directory that no container sees, so that none can change it.
  if (max_bytes > 0) {
    made = LimitTree(fresh, max_bytes);
    if (!made.ok())
      made = absl::Status(made.code(), absl::StrCat("quota size requested but ", made.message()));
  }
  if (made.ok()) made = MakeDirectory(absl::StrCat(fresh, "/", kData), 0755);
  if (made.ok()) made = MakeMark(fresh);
  if (made.ok() && sync) made = SyncDirectory(absl::StrCat(fresh, "/", kData));
  if (made.ok() && sync) made = SyncDirectory(fresh);
  CrashPoint("volume.prepared");
  if (made.ok() && rename(fresh.c_str(), directory.c_str()) != 0)
    made = ErrnoToStatus(errno, absl::StrCat("rename to ", directory));
  if (!made.ok()) {
    made.Update(RemoveTree(fresh));
    return made;
  }
  CrashPoint("volume.made");
  return sync ? SyncDirectory(parent) : absl::OkStatus();
}

absl::Status LocalDriver::NoteRecorded(const VolumeKey& volume) const {
  // Not synced: a mark that comes back finds the record, and the next start takes it away again.
  const std::string mark = absl::StrCat(Directory(volume), "/", kMark);
  if (unlink(mark.c_str()) != 0 && errno != ENOENT)
    return ErrnoToStatus(errno, absl::StrCat("unlink ", mark));
  return absl::OkStatus();
}

absl::Status LocalDriver::NoteGoing(const VolumeKey& volume) const {
  const std::string directory = Directory(volume);
  if (!Exists(directory)) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(MakeMark(directory));
  return SyncDirectory(directory);
}

absl::Status LocalDriver::Remove(const VolumeKey& volume) const {
  const std::string directory = Directory(volume);
  const std::string away = absl::StrCat(Parent(volume.ns), "/", RandomName(kRemoved));
  if (rename(directory.c_str(), away.c_str()) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return ErrnoToStatus(errno, absl::StrCat("rename ", directory));
  }
  CrashPoint("volume.moved_away");
  // A limit that stays is one of nothing.
  (void)UnlimitTree(away);
  return RemoveTree(away);
}

absl::Status LocalDriver::Sweep(const std::function<bool(const VolumeKey&)>& is_recorded) const {
  absl::Status first = SweepNamespace(kDefaultNamespace, is_recorded);
  const absl::StatusOr<std::vector<std::string>> others =
      ListDirectory(absl::StrCat(directory_, "/", kNamespaces));
  if (absl::IsNotFound(others.status())) return first;
  first.Update(others.status());
  if (!others.ok()) return first;
  for (const std::string& ns : *others) first.Update(SweepNamespace(ns, is_recorded));
  return first;
}

absl::Status LocalDriver::SweepNamespace(
    const std::string& ns, const std::function<bool(const VolumeKey&)>& is_recorded) const {
  const std::string parent = Parent(ns);
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(parent));
  absl::Status first;
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(parent, "/", name);
    if (absl::StartsWith(name, kNew) || absl::StartsWith(name, kRemoved)) {
      first.Update(RemoveTree(path));
      continue;
    }
    const VolumeKey volume = {ns, name};
    // Renamed back a moment ago.
    if (!Exists(path)) continue;
    if (!CheckVolumeName(name).ok() || !IsDirectory(path)) continue;
    if (is_recorded(volume)) {
      first.Update(NoteRecorded(volume));
      first.Update(NoteRenamed(volume));
    } else if (Exists(absl::StrCat(path, "/", kMark))) {
      first.Update(Remove(volume));
      continue;
    } else if (Exists(path + kRenaming)) {
      first.Update(UndoRename(volume));
      continue;
    } else {
      LOG(WARNING) << "ns=" << ns << " volume=" << name << " " << path
                   << " has no record; it is kept, and a volume made with this name takes it up";
    }
    first.Update(EndCutOffFill(path));
  }
  return first;
}

bool LocalDriver::IsMounted(const VolumeKey& volume) const {
  struct statx info;
  return statx(AT_FDCWD, DataDirectory(volume).c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
               STATX_TYPE, &info) == 0 &&
         (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

absl::Status LocalDriver::Rename(const VolumeKey& volume, const std::string& new_name) const {
  const std::string from = Directory(volume);
  const std::string to = Directory({volume.ns, new_name});
  GANTRY_RETURN_IF_ERROR(WriteFileAtomic(from + kRenaming, volume.name, 0600));
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    const absl::Status failed = ErrnoToStatus(errno, absl::StrCat("rename ", from, " to ", to));
    unlink((from + kRenaming).c_str());
    return failed;
  }
  return SyncDirectory(Parent(volume.ns));
}

absl::Status LocalDriver::NoteRenamed(const VolumeKey& volume) const {
  const std::string note = Directory(volume) + kRenaming;
  if (unlink(note.c_str()) != 0 && errno != ENOENT)
    return ErrnoToStatus(errno, absl::StrCat("unlink ", note));
  return absl::OkStatus();
}

absl::Status LocalDriver::UndoRename(const VolumeKey& volume) const {
  const std::string directory = Directory(volume);
  const absl::StatusOr<std::string> old = ReadFile(directory + kRenaming, 256);
  if (absl::IsNotFound(old.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(old.status());
  GANTRY_RETURN_IF_ERROR(CheckVolumeName(*old));
  const std::string back = Directory({volume.ns, *old});
  if (renameat2(AT_FDCWD, directory.c_str(), AT_FDCWD, back.c_str(), RENAME_NOREPLACE) != 0)
    return ErrnoToStatus(errno, absl::StrCat("rename ", directory, " to ", back));
  return NoteRenamed({volume.ns, *old});
}

absl::StatusOr<int64_t> LocalDriver::SizeBytes(const VolumeKey& volume) const {
  GANTRY_ASSIGN_OR_RETURN(const snapshot::Usage usage,
                          snapshot::UsageOfTree(DataDirectory(volume)));
  return usage.size_bytes;
}

}  // namespace gantry::volume
