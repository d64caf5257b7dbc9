// How large a tree of files may grow, kept by the file system: project quotas of ext4 (feature
// "project,quota", mounted with prjquota) and xfs (mounted with pquota).
//
// The project of a tree is written on its directories alone, where what is made below inherits it:
// there is no list elsewhere. Numbers are random, and free when no file has them. Linux 5.14.
//
// Free functions, thread-safe. Root only.

#ifndef GANTRY_BASE_PROJECT_QUOTA_H_
#define GANTRY_BASE_PROJECT_QUOTA_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry {

// Whether the file system of `directory` keeps limits.
// kFailedPrecondition: it does not; says how it would.
absl::Status CheckProjectQuotas(const std::string& directory);

// An empty directory becomes a tree of at most that many bytes on disk, rounded up to KiB. Writes
// above fail with EDQUOT or ENOSPC; statfs(2) in it shows the limit as the size.
//   kFailedPrecondition  as above
absl::Status LimitTree(const std::string& directory, int64_t bytes);

struct TreeLimit {
  int64_t limit_bytes = 0;  // 0: none
  int64_t used_bytes = 0;
};
absl::StatusOr<TreeLimit> LimitOfTree(const std::string& directory);

// Takes the limit back; before the tree is removed. OK where there is none.
absl::Status UnlimitTree(const std::string& directory);

// "10G", "512m", "1048576": as docker reads sizes. kInvalidArgument.
absl::StatusOr<int64_t> ParseTreeSize(absl::string_view text);

}  // namespace gantry

#endif  // GANTRY_BASE_PROJECT_QUOTA_H_
