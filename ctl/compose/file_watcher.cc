#include "ctl/compose/file_watcher.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::compose {
namespace {

constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                             IN_ATTRIB | IN_DONT_FOLLOW | IN_EXCL_UNLINK;

bool IsFolder(const std::string& path) {
  struct stat status;
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

absl::Status FileWatcher::Open() {
  if (inotify_.valid()) return absl::OkStatus();
  inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  return inotify_.valid() ? absl::OkStatus() : ErrnoToStatus(errno, "inotify_init1");
}

absl::Status FileWatcher::Add(const std::string& root) {
  GANTRY_RETURN_IF_ERROR(Open());
  struct stat status;
  if (::stat(root.c_str(), &status) != 0) return ErrnoToStatus(errno, absl::StrCat("watch ", root));
  roots_.push_back(root);
  if (S_ISDIR(status.st_mode)) return AddFolder(root, nullptr);
  const size_t slash = root.rfind('/');
  const std::string folder = slash == 0 ? "/" : root.substr(0, slash);
  files_[folder].insert(root.substr(slash + 1));
  const int watch = ::inotify_add_watch(inotify_.get(), folder.c_str(), kEvents | IN_ONLYDIR);
  if (watch < 0) return ErrnoToStatus(errno, absl::StrCat("watch ", folder));
  folders_[watch] = folder;
  return absl::OkStatus();
}

// `found` gets what is in the folder already: files that came before its watch.
absl::Status FileWatcher::AddFolder(const std::string& folder, std::set<std::string>* found) {
  if (skip_ && skip_(folder)) return absl::OkStatus();
  const int watch = ::inotify_add_watch(inotify_.get(), folder.c_str(), kEvents | IN_ONLYDIR);
  if (watch < 0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == EACCES) return absl::OkStatus();
    if (errno == ENOSPC) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "watch ", folder,
          ": no more watches; raise fs.inotify.max_user_watches, or ignore large folders"));
    }
    return ErrnoToStatus(errno, absl::StrCat("watch ", folder));
  }
  folders_[watch] = folder;
  whole_.insert(folder);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
  if (entries == nullptr) return absl::OkStatus();
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    const std::string path = absl::StrCat(folder == "/" ? "" : folder, "/", name);
    if (IsFolder(path)) {
      GANTRY_RETURN_IF_ERROR(AddFolder(path, found));
    } else if (found != nullptr) {
      found->insert(path);
    }
  }
  return absl::OkStatus();
}

absl::Status FileWatcher::ReadEvents(std::set<std::string>* changed) {
  alignas(inotify_event) char buffer[64 << 10];
  while (true) {
    const ssize_t n = ::read(inotify_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return absl::OkStatus();
    if (n <= 0) return ErrnoToStatus(errno, "read inotify events");
    for (const char* at = buffer; at < buffer + n;) {
      inotify_event event;
      memcpy(&event, at, sizeof event);
      const std::string name = event.len == 0 ? "" : at + sizeof event;
      at += sizeof event + event.len;
      if ((event.mask & IN_Q_OVERFLOW) != 0) {
        changed->insert(roots_.begin(), roots_.end());
        continue;
      }
      const auto found = folders_.find(event.wd);
      if (found == folders_.end()) continue;
      const std::string folder = found->second;
      if ((event.mask & IN_IGNORED) != 0) {
        folders_.erase(found);
        whole_.erase(folder);
        continue;
      }
      if (name.empty()) continue;
      const std::string path = absl::StrCat(folder == "/" ? "" : folder, "/", name);
      const auto files = files_.find(folder);
      const bool wanted =
          whole_.count(folder) > 0 || (files != files_.end() && files->second.count(name) > 0);
      if (!wanted) continue;
      if ((event.mask & IN_ISDIR) != 0) {
        if ((event.mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
          GANTRY_RETURN_IF_ERROR(AddFolder(path, changed));
        } else if ((event.mask & (IN_DELETE | IN_MOVED_FROM)) != 0) {
          changed->insert(path);
        }
        continue;
      }
      // A new file is complete when it is closed; links and the like are never opened.
      struct stat status;
      if ((event.mask & IN_CREATE) != 0 && ::lstat(path.c_str(), &status) == 0 &&
          S_ISREG(status.st_mode) && status.st_nlink == 1)
        continue;
      changed->insert(path);
    }
  }
}

absl::StatusOr<std::set<std::string>> FileWatcher::Next(absl::Duration timeout,
                                                        absl::Duration quiet) {
  GANTRY_RETURN_IF_ERROR(Open());
  std::set<std::string> changed;
  absl::Duration wait = timeout;
  // A stream of changes without a pause is cut here.
  const absl::Time latest = absl::Now() + timeout + 20 * quiet;
  while (true) {
    pollfd descriptor = {inotify_.get(), POLLIN, 0};
    const int ready = ::poll(
        &descriptor, 1, static_cast<int>(std::max<int64_t>(1, absl::ToInt64Milliseconds(wait))));
    if (ready < 0 && errno != EINTR) return ErrnoToStatus(errno, "poll inotify");
    if (ready <= 0) return changed;
    GANTRY_RETURN_IF_ERROR(ReadEvents(&changed));
    if (absl::Now() > latest) return changed;
    if (!changed.empty()) wait = quiet;
  }
}

}  // namespace gantry::compose
