// Turns `user[:group]` into numbers by the passwd and group files of an image.
//
// Those files are hostile: they are opened beneath the root without leaving it, must be regular
// files of bounded size, and a user that was not requested as root never becomes root. Depends on
// the image alone, so a UserDatabase may be kept per top chain ID and used for every container of
// it.
//
// UserDatabase is an immutable value; free functions are safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_OCI_USER_LOOKUP_H_
#define GANTRY_SUPERVISOR_OCI_USER_LOOKUP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace gantry::oci {

inline constexpr int64_t kMaxUserFileBytes = 1 << 20;
inline constexpr uint32_t kMaxId = (uint32_t{1} << 31) - 1;

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> additional_gids;  // ascending, with gid among them
  std::string name;                       // "" when the files do not know the uid
  std::string home = "/";

  friend bool operator==(const User&, const User&) = default;
};

struct UserDatabase {
  std::string passwd;  // contents; empty when absent
  std::string group;
  // Why a file could not be used (a fifo, too large, ...); told only to who needs that file.
  absl::Status passwd_status;
  absl::Status group_status;
};

// `root_fd` is a directory, the root file system. Never fails: see passwd_status.
UserDatabase LoadUserDatabase(int root_fd);
// kNotFound and other errors of open when `root` itself cannot be opened.
absl::StatusOr<UserDatabase> LoadUserDatabase(const std::string& root);

// `spec` is "", "user", "uid", "user:group", "uid:gid", ...: "" means 0. All digits is always a
// number, never a name; a number has no sign and no leading zero and is at most kMaxId. A named or
// numbered user found in passwd brings its group, its home and, without an explicit group, its
// supplementary groups. `extra_groups` (--group-add) are names or numbers.
//   kInvalidArgument     malformed, or a number out of range
//   kNotFound            no such name in the image
//   kFailedPrecondition  a name is needed but the file cannot be used
absl::StatusOr<User> ResolveUser(const UserDatabase& database, absl::string_view spec,
                                 absl::Span<const std::string> extra_groups = {});

}  // namespace gantry::oci

#endif  // GANTRY_SUPERVISOR_OCI_USER_LOOKUP_H_
