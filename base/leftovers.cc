#include "base/leftovers.h"

#include <errno.h>
#include <sys/stat.h>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"

namespace gantry {

absl::Status Leftovers::Remove(const std::string& path) {
  absl::Status removed = RemoveTree(path);
  if (!removed.ok()) {
    absl::MutexLock lock(&mu_);
    paths_.insert(path);
  }
  return removed;
}

absl::Status Leftovers::Make(const std::string& path, mode_t mode) {
  absl::ReaderMutexLock sweep_lock(&sweep_mu_);
  if (mkdir(path.c_str(), mode) != 0) return ErrnoToStatus(errno, absl::StrCat("mkdir ", path));
  absl::MutexLock lock(&mu_);
  paths_.erase(path);
  return absl::OkStatus();
}

absl::Status Leftovers::Sweep() {
  {
    absl::MutexLock lock(&mu_);
    if (paths_.empty()) return absl::OkStatus();
  }
  absl::MutexLock sweep_lock(&sweep_mu_);
  std::set<std::string> paths;
  {
    absl::MutexLock lock(&mu_);
    paths.swap(paths_);
  }
  absl::Status first;
  for (const std::string& path : paths) first.Update(Remove(path));
  return first;
}

}  // namespace gantry
