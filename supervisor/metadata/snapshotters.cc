#include "supervisor/metadata/snapshotters.h"

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace gantry::metadata {

absl::StatusOr<snapshot::Snapshotter*> Snapshotters::Find(absl::string_view name) const {
  auto it = by_name_.find(std::string(name));
  if (it != by_name_.end()) return it->second;
  std::string known;
  for (const auto& [each, snapshotter] : by_name_)
    absl::StrAppend(&known, known.empty() ? "" : ", ", each);
  if (name.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a snapshotter must be named: there are ", known));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("snapshotter \"", absl::CEscape(name), "\" is not loaded: there are ", known));
}

}  // namespace gantry::metadata
