// What COPY and ADD do to files: from one tree into another, with docker's rules for directories,
// wildcards, links, owners and modes.
//
// Both trees are hostile. Paths are resolved with each tree's directory as the root, what is copied
// is reached through open directories and plain names, and nothing outside the two is touched.
//
// A FileCopy serves one instruction. Thread-compatible.
// kNotFound: a source that is not there; kFailedPrecondition: a directory and a file in each
// other's place.
// Spec: Dockerfile reference, "COPY"; the merging of directories as BuildKit does it.
#ifndef GANTRY_SUPERVISOR_BUILD_FILE_COPY_H_
#define GANTRY_SUPERVISOR_BUILD_FILE_COPY_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

#include "base/engine/ignore_file.h"
#include "base/unique_fd.h"
#include "supervisor/build/file_mode.h"

namespace gantry {
class CancelToken;
}  // namespace gantry

namespace gantry::build {

// A path in the source tree that an argument of COPY stands for.
struct MatchedSource {
  std::string path;  // "/a/b", links followed
  std::string name;  // that it gets in a directory
  bool directory = false;
  std::string below_pivot;  // with --parents: the path to keep, "a/b"
};

// What `argument` stands for in the tree at `root`, in order. An argument with wildcards may stand
// for nothing.
absl::StatusOr<std::vector<MatchedSource>> MatchSources(int root, const std::string& argument,
                                                        bool parents);

struct FileCopyOptions {
  absl::optional<std::pair<uint32_t, uint32_t>> owner;  // of everything that is written
  FileMode mode;
  engine::IgnoreRules excludes;  // relative to each source that is a directory
  CancelToken* cancel = nullptr;
};

class FileCopy {
 public:
  // Directories; both outlive this.
  FileCopy(int source_root, int target_root, FileCopyOptions options);

  // `destination` is absolute; with "/" at its end it is a directory.
  absl::Status Copy(const MatchedSource& source, const std::string& destination, bool parents);
  // A regular file with that content, mode 0644.
  absl::Status Write(absl::string_view content, const std::string& name,
                     const std::string& destination);
  // Opens the directory `path` of the target, making what is missing.
  absl::StatusOr<UniqueFd> MakeDirectory(const std::string& path);

 private:
  absl::Status CopyEntry(int from, const std::string& name, int to, const std::string& as,
                         const std::string& shown, const std::string& relative, int depth);
  absl::Status CopyDirectory(UniqueFd from, int to, const std::string& shown,
                             const std::string& relative, int depth);
  absl::Status CopyRegular(int from, const std::string& name, int to, const std::string& as,
                           const struct stat& info, const std::string& shown, bool in_directory);
  absl::Status Finish(int fd, const struct stat& info, const std::string& shown);
  // Where a file goes: the open directory and the name in it.
  absl::StatusOr<std::pair<UniqueFd, std::string>> Place(const std::string& destination,
                                                         const std::string& name);
  absl::Status MakeRoom(int directory, const std::string& name, const std::string& shown);

  const int source_root_;
  const int target_root_;
  const FileCopyOptions options_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;  // to paths of the target
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_FILE_COPY_H_
