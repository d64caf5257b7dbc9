#include "supervisor/core/mount_sharing.h"

#include <errno.h>
#include <stdlib.h>

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::core {

SourceMount SourceMountIn(absl::string_view mountinfo, absl::string_view path) {
  SourceMount found;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    std::string point;
    // Spaces and the like are written as octal escapes.
    if (words.size() < 7 || !absl::CUnescape(words[4], &point)) continue;
    const bool above =
        point == "/" || path == point || absl::StartsWith(path, absl::StrCat(point, "/"));
    // Of mounts on top of each other the last counts.
    if (!above || point.size() < found.point.size()) continue;
    found.point = std::move(point);
    found.sharing = Sharing::kPrivate;
    for (size_t i = 6; i < words.size() && words[i] != "-"; ++i) {
      if (absl::StartsWith(words[i], "shared:")) found.sharing = Sharing::kShared;
      if (absl::StartsWith(words[i], "master:") && found.sharing == Sharing::kPrivate)
        found.sharing = Sharing::kSlave;
    }
  }
  return found;
}

absl::StatusOr<SourceMount> SourceMountOf(const std::string& path) {
  GANTRY_ASSIGN_OR_RETURN(const std::string table,
                          ReadFile("/proc/thread-self/mountinfo", 64 << 20));
  return SourceMountIn(table, path);
}

absl::Status CheckPropagation(const std::string& source, absl::string_view propagation) {
  const bool shared = propagation == "shared" || propagation == "rshared";
  const bool slave = propagation == "slave" || propagation == "rslave";
  if (!shared && !slave) return absl::OkStatus();
  char* const real = realpath(source.c_str(), nullptr);
  if (real == nullptr) return ErrnoToStatus(errno, absl::StrCat("mount source ", source));
  const std::string path = real;
  free(real);  // NOLINT(cppcoreguidelines-no-malloc): realpath()'s
  GANTRY_ASSIGN_OR_RETURN(const SourceMount mount, SourceMountOf(path));
  if (mount.sharing == Sharing::kShared || (slave && mount.sharing == Sharing::kSlave))
    return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "path ", source, " is mounted on ", mount.point, " but it is not a shared ",
      slave ? "or slave mount" : "mount", "; mount --make-shared ", mount.point, " makes it one"));
}

}  // namespace gantry::core
