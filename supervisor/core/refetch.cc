#include "supervisor/core/refetch.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "supervisor/distribution/reference.h"
#include "supervisor/distribution/walk_budget.h"
#include "supervisor/oci/manifest.h"

namespace gantry::core {

Refetch::~Refetch() {
  if (!discard_) return;
  // What stays is garbage for the next collection.
  for (const content::Digest& digest : fetched_) store_.Delete(digest).IgnoreError();
}

absl::Status Refetch::Fetch(const content::Descriptor& blob, const content::Labels& labels,
                            const ContextOf& context_of) {
  constexpr absl::string_view kSource = "containerd.io/distribution.source.";
  absl::Status failure = absl::NotFoundError("where it came from is not known");
  for (const auto& [key, repositories] : labels) {
    if (!absl::StartsWith(key, kSource)) continue;
    const std::string domain = key.substr(kSource.size());
    for (absl::string_view repository : absl::StrSplit(repositories, ',', absl::SkipEmpty())) {
      absl::StatusOr<distribution::Reference> source =
          distribution::Reference::ParseName(absl::StrCat(domain, "/", repository));
      if (!source.ok()) continue;
      failure = puller_.FetchOne(*source, blob, store_, distribution::PullOptions(),
                                 context_of(source->domain()));
      if (failure.ok()) {
        absl::MutexLock lock(&mu_);
        fetched_.push_back(blob.digest);
      }
      if (failure.ok() || absl::IsCancelled(failure) || absl::IsDeadlineExceeded(failure))
        return failure;
    }
  }
  return failure;
}

absl::Status Refetch::FetchBelow(const content::Descriptor& target, const ContextOf& context_of,
                                 const CancelToken* cancel) {
  distribution::WalkBudget budget(cancel);
  std::set<content::Digest> seen;
  return FetchBelow(target, context_of, budget, 0, seen);
}

absl::Status Refetch::FetchBelow(const content::Descriptor& target, const ContextOf& context_of,
                                 distribution::WalkBudget& budget, int depth,
                                 std::set<content::Digest>& seen) {
  if (!seen.insert(target.digest).second) return absl::OkStatus();
  absl::StatusOr<content::Info> info = store_.Stat(target.digest);
  if (absl::IsNotFound(info.status())) return absl::OkStatus();
  GANTRY_RETURN_IF_ERROR(info.status());
  GANTRY_ASSIGN_OR_RETURN(const oci::Document document,
                          budget.Read(store_, target, target.digest.str(), depth));
  for (const content::Descriptor& child : oci::Children(document)) {
    if (oci::IsIndexType(child.media_type) || oci::IsManifestType(child.media_type)) {
      GANTRY_RETURN_IF_ERROR(FetchBelow(child, context_of, budget, depth + 1, seen));
    } else if (oci::IsLayerType(child.media_type) && !oci::IsForeignLayerType(child.media_type) &&
               absl::IsNotFound(store_.Stat(child.digest).status())) {
      absl::Status fetched = Fetch(child, info->labels, context_of);
      if (!fetched.ok()) {
        return absl::Status(
            fetched.code(),
            absl::StrCat(
                "layer ", child.digest.str(),
                " was discarded after unpacking and cannot be fetched again: ", fetched.message()));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
