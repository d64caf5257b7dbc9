// Changes below some files and folders, in batches, by inotify.
//
// Folders are watched with all that is in them, also what is made later; symbolic links are not
// followed. A batch ends when nothing has changed for a moment. When the kernel drops events the
// roots themselves are reported as changed. Thread-compatible.
#ifndef GANTRY_CTL_COMPOSE_FILE_WATCHER_H_
#define GANTRY_CTL_COMPOSE_FILE_WATCHER_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry::compose {

class FileWatcher {
 public:
  // `skip`: folders (absolute) that are not looked into.
  explicit FileWatcher(std::function<bool(const std::string& folder)> skip)
      : skip_(std::move(skip)) {}

  // A file or folder, absolute and clean. kNotFound: it is not there; kResourceExhausted: the
  // system's limit of watches (fs.inotify.max_user_watches) is reached.
  absl::Status Add(const std::string& root);

  // Waits for changes until `timeout`; then empty. Absolute paths of files, and of folders that
  // came or went. A batch is complete once nothing changed for `quiet`.
  absl::StatusOr<std::set<std::string>> Next(absl::Duration timeout, absl::Duration quiet);

 private:
  absl::Status Open();
  absl::Status AddFolder(const std::string& folder, std::set<std::string>* found);
  absl::Status ReadEvents(std::set<std::string>* changed);

  const std::function<bool(const std::string&)> skip_;
  UniqueFd inotify_;
  std::vector<std::string> roots_;
  // Single files are watched through their folder, because editors replace them.
  std::map<std::string, std::set<std::string>> files_;  // names by folder
  std::set<std::string> whole_;                         // folders of which everything counts
  std::map<int, std::string> folders_;                  // by watch
};

}  // namespace gantry::compose

#endif  // GANTRY_CTL_COMPOSE_FILE_WATCHER_H_
