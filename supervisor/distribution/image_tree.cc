#include "supervisor/distribution/image_tree.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "base/status_macros.h"

namespace gantry::distribution {

using content::Descriptor;
using content::Digest;

absl::Status ImageTree::Check(const Descriptor& target, absl::string_view what) {
  WalkBudget budget(&cancel_);
  return Check(target, what, budget, 0);
}

absl::Status ImageTree::Present(const Descriptor& blob, absl::string_view what,
                                absl::string_view role) {
  absl::StatusOr<content::Info> info = store_.Stat(blob.digest);
  if (absl::IsNotFound(info.status())) {
    if (oci::IsForeignLayerType(blob.media_type)) {
      return absl::FailedPreconditionError(
          absl::StrCat(what, ": foreign layer ", blob.digest.str(), " is kept elsewhere (",
                       blob.urls.empty() ? "no URL given" : absl::StrJoin(blob.urls, ", "),
                       ") and not in the archive"));
    }
    return absl::FailedPreconditionError(absl::StrCat(
        what, ": ", role, " ", blob.digest.str(), " is neither in the archive nor in the store"));
  }
  GANTRY_RETURN_IF_ERROR(info.status());
  if (info->size_bytes != blob.size_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": ", role, " ", blob.digest.str(), " has ", info->size_bytes,
                     " bytes, but the image says ", blob.size_bytes));
  }
  return absl::OkStatus();
}

absl::Status ImageTree::Check(const Descriptor& target, absl::string_view what, WalkBudget& budget,
                              int depth) {
  if (auto it = checked_.find(target.digest); it != checked_.end()) return it->second;
  absl::Status status = CheckNew(target, what, budget, depth);
  checked_[target.digest] = status;
  return status;
}

absl::Status ImageTree::CheckNew(const Descriptor& target, absl::string_view what,
                                 WalkBudget& budget, int depth) {
  if (absl::Status charged = budget.Charge(target.size_bytes, depth); !charged.ok())
    return absl::Status(charged.code(), absl::StrCat(what, ": ", charged.message()));
  const bool is_index = oci::IsIndexType(target.media_type);
  GANTRY_RETURN_IF_ERROR(Present(target, what, is_index ? "index" : "manifest"));
  GANTRY_ASSIGN_OR_RETURN(const std::string bytes,
                          content::ReadBlob(store_, target.digest, oci::kMaxManifestBytes));
  GANTRY_ASSIGN_OR_RETURN(
      const oci::Document document,
      oci::ParseDocument(bytes, target.media_type, absl::StrCat(what, ": ", target.digest.str())));
  if (document.manifest.has_value()) {
    GANTRY_RETURN_IF_ERROR(Present(document.manifest->config, what, "config"));
    for (const Descriptor& layer : document.manifest->layers)
      GANTRY_RETURN_IF_ERROR(Present(layer, what, "layer"));
    by_config_.emplace(document.manifest->config.digest, target);
  } else {
    GANTRY_RETURN_IF_ERROR(CheckIndex(*document.index, what, budget, depth));
  }
  if (!label_) return absl::OkStatus();
  const content::Labels labels = oci::ChildLabels(document);
  std::vector<std::string> fields;
  for (const auto& [key, value] : labels) fields.push_back(absl::StrCat("labels.", key));
  if (fields.empty()) return absl::OkStatus();
  absl::Status labelled = store_.Update(target.digest, labels, fields).status();
  return absl::IsUnimplemented(labelled) ? absl::OkStatus() : labelled;  // a store without labels
}

// What was left out may be missing as a whole, as long as there is something to use. A manifest
// that is there and asked for has to be complete.
absl::Status ImageTree::CheckIndex(const oci::Index& index, absl::string_view what,
                                   WalkBudget& budget, int depth) {
  absl::Status missing;
  bool usable = index.manifests.empty();
  for (const Descriptor& child : index.manifests) {
    if (!oci::IsIndexType(child.media_type) && !oci::IsManifestType(child.media_type)) continue;
    const std::string name =
        child.platform.has_value()
            ? absl::StrCat(what, " (", oci::FormatPlatform(*child.platform), ")")
            : std::string(what);
    absl::Status status = Check(child, name, budget, depth + 1);
    if (status.ok()) {
      usable |= !oci::IsAttestation(child);
      continue;
    }
    if (!absl::IsFailedPrecondition(status)) return status;
    const bool wanted = !child.platform.has_value() || platforms_.Matches(*child.platform);
    if (wanted && store_.Stat(child.digest).ok()) return status;
    if (missing.ok() || wanted) missing = status;
  }
  return usable ? absl::OkStatus() : missing;
}

}  // namespace gantry::distribution
