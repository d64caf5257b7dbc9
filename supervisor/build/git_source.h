// A git repository as ADD and `ctl build` name it: git@host:path, git://, ssh://, or http(s):// with
// a path that ends in .git; then #REF:DIRECTORY or ?ref=REF&subdir=DIRECTORY.
//
// Free functions, safe to call from any thread. The text is hostile: nothing in it becomes an option
// of git or a command of ssh.
#ifndef GANTRY_SUPERVISOR_BUILD_GIT_SOURCE_H_
#define GANTRY_SUPERVISOR_BUILD_GIT_SOURCE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::build {

struct GitSource {
  std::string repository;  // without fragment and query
  std::string ref;         // a branch, a tag, "refs/...", a commit; "" for the default branch
  std::string directory;   // in the repository, "" for all of it
  std::string checksum;    // what the commit has to begin with; "" for any
  bool keep_git_dir = false;
  bool submodules = true;

  friend bool operator==(const GitSource&, const GitSource&) = default;
};

bool IsUrl(absl::string_view text);
bool IsGitUrl(absl::string_view text);

// kInvalidArgument: not a repository, or one whose name, host or ref git could take for something
// else.
absl::StatusOr<GitSource> ParseGitSource(absl::string_view text);

// The text of an address without the user and password in it.
std::string WithoutPassword(absl::string_view text);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_GIT_SOURCE_H_
