#include "supervisor/build/cache_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/build/tree_digest.h"

namespace gantry::build {
namespace {

constexpr int kMaxCopies = 64;
constexpr char kLockSuffix[] = ".lock";

int64_t DiskUse(const std::string& path) {
  char* const paths[] = {const_cast<char*>(path.c_str()), nullptr};
  const std::unique_ptr<FTS, int (*)(FTS*)> tree(
      fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, nullptr), &fts_close);
  int64_t bytes = 0;
  if (tree == nullptr) return 0;
  while (const FTSENT* entry = fts_read(tree.get())) {
    if (entry->fts_info != FTS_DP && entry->fts_statp != nullptr)
      bytes += entry->fts_statp->st_blocks * 512;
  }
  return bytes;
}

}  // namespace

absl::StatusOr<CacheMounts::Lease> CacheMounts::Acquire(const RunMount& mount,
                                                        const std::string& name_space,
                                                        CancelToken* cancel) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(directory_, 0700));
  KeyWriter key;
  key.Add("namespace", name_space);
  key.Add("id", mount.id);
  const std::string digest = key.digest().str();
  const std::string base = absl::StrCat(directory_, "/", digest.substr(digest.find(':') + 1));
  for (int copy = 0; copy < kMaxCopies; ++copy) {
    Lease lease;
    lease.path = copy == 0 ? base : absl::StrCat(base, ".", copy);
    // The lock's file holds the id, for people.
    lease.lock =
        UniqueFd(open((lease.path + kLockSuffix).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lease.lock.valid()) return ErrnoToStatus(errno, lease.path);
    const int kind = mount.sharing == RunMount::Sharing::kShared ? LOCK_SH : LOCK_EX;
    bool taken = false;
    while (!taken) {
      int error = 0;
      {
        absl::MutexLock held(&mu_);
        if (flock(lease.lock.get(), kind | LOCK_NB) != 0) error = errno;
      }
      errno = error;
      if (error == 0) {
        taken = true;
      } else if (errno != EWOULDBLOCK && errno != EINTR) {
        return ErrnoToStatus(errno, absl::StrCat("lock ", lease.path));
      } else if (mount.sharing == RunMount::Sharing::kPrivate) {
        break;
      } else if (cancel != nullptr) {
        GANTRY_RETURN_IF_ERROR(cancel->Sleep(absl::Milliseconds(50)));
      } else {
        usleep(50'000);
      }
    }
    if (!taken) continue;
    if (mkdir(lease.path.c_str(), 0700) == 0) {
      lease.fresh = true;
      if (chown(lease.path.c_str(), mount.uid, mount.gid) != 0 ||
          chmod(lease.path.c_str(), mount.mode.value_or(0755)) != 0)
        return ErrnoToStatus(errno, lease.path);
    } else if (errno != EEXIST) {
      return ErrnoToStatus(errno, lease.path);
    }
    if (ftruncate(lease.lock.get(), 0) != 0 ||
        pwrite(lease.lock.get(), mount.id.data(), mount.id.size(), 0) < 0)
      return ErrnoToStatus(errno, lease.path);
    return lease;
  }
  return absl::UnavailableError(
      absl::StrCat("cache mount ", mount.id, ": all of its ", kMaxCopies, " copies are in use"));
}

absl::StatusOr<std::vector<CacheMounts::Directory>> CacheMounts::Directories() {
  std::vector<Directory> directories;
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory_);
  if (absl::IsNotFound(names.status())) return directories;
  if (!names.ok()) return names.status();
  for (const std::string& file : *names) {
    absl::string_view name = file;
    if (!absl::ConsumeSuffix(&name, kLockSuffix)) continue;
    Directory one;
    one.id = std::string(name);
    one.type = "exec.cachemount";
    const std::string path = absl::StrCat(directory_, "/", name);
    const UniqueFd lock(open((path + kLockSuffix).c_str(), O_RDWR | O_CLOEXEC));
    struct stat info;
    // The lock of one that was removed stays.
    if (!lock.valid() || fstat(lock.get(), &info) != 0 || access(path.c_str(), F_OK) != 0) continue;
    {
      // Acquire() does not take this trial for another step.
      absl::MutexLock held(&mu_);
      one.in_use = flock(lock.get(), LOCK_EX | LOCK_NB) != 0;
      if (!one.in_use) flock(lock.get(), LOCK_UN);
    }
    one.last_used_at = absl::TimeFromTimespec(info.st_mtim);
    one.description = absl::StrCat("cache mount ", ReadFile(path + kLockSuffix, 4096).value_or(""));
    one.size_bytes = SizeOf(one, path);
    directories.push_back(std::move(one));
  }
  return directories;
}

int64_t CacheMounts::SizeOf(const Directory& one, const std::string& path) {
  {
    absl::MutexLock held(&mu_);
    const auto known = measured_.find(one.id);
    if (known != measured_.end() && known->second.last_used_at == one.last_used_at)
      return known->second.size_bytes;
  }
  const int64_t size_bytes = DiskUse(path);
  if (one.in_use) return size_bytes;  // and a step may still write to it
  absl::MutexLock held(&mu_);
  measured_[one.id] = {one.last_used_at, size_bytes};
  return size_bytes;
}

absl::StatusOr<bool> CacheMounts::RemoveDirectory(const std::string& id) {
  const std::string path = absl::StrCat(directory_, "/", id);
  const UniqueFd lock(open((path + kLockSuffix).c_str(), O_RDWR | O_CLOEXEC));
  if (!lock.valid() || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return false;
  GANTRY_RETURN_IF_ERROR(RemoveTree(path));
  // The lock's file stays: another step may be about to lock it.
  if (ftruncate(lock.get(), 0) != 0) return ErrnoToStatus(errno, path);
  return true;
}

}  // namespace gantry::build
