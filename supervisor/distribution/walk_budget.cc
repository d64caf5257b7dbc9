#include "supervisor/distribution/walk_budget.h"

#include <string>

#include "absl/strings/str_cat.h"

#include "base/clock.h"
#include "base/status_macros.h"

namespace gantry::distribution {

WalkBudget::WalkBudget(const CancelToken* cancel, const Limits& limits)
    : cancel_(cancel), limits_(limits), end_(Clock::Real().Monotonic() + limits.max_time) {}

absl::Status WalkBudget::Charge(int64_t size_bytes, int depth) {
  if (cancel_ != nullptr) GANTRY_RETURN_IF_ERROR(cancel_->Check());
  if (depth > limits_.max_depth) {
    return absl::InvalidArgumentError(
        absl::StrCat("indexes nested deeper than ", limits_.max_depth));
  }
  if (++documents_ > limits_.max_documents) {
    return absl::ResourceExhaustedError(
        absl::StrCat("more than ", limits_.max_documents, " manifests and indexes"));
  }
  bytes_ += size_bytes;
  if (bytes_ > limits_.max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("manifests and indexes of more than ", limits_.max_bytes, " bytes"));
  }
  if (Clock::Real().Monotonic() > end_) {
    return absl::ResourceExhaustedError(absl::StrCat("its manifests and indexes take more than ",
                                                     absl::FormatDuration(limits_.max_time),
                                                     " to read"));
  }
  return absl::OkStatus();
}

absl::StatusOr<oci::Document> WalkBudget::Read(content::Store& store,
                                               const content::Descriptor& descriptor,
                                               absl::string_view what, int depth) {
  GANTRY_RETURN_IF_ERROR(Charge(0, depth));
  GANTRY_ASSIGN_OR_RETURN(const std::string text,
                          content::ReadBlob(store, descriptor.digest, oci::kMaxManifestBytes));
  bytes_ += static_cast<int64_t>(text.size());
  return oci::ParseDocument(text, descriptor.media_type, what);
}

absl::StatusOr<std::string> WalkBudget::ReadBytes(content::Store& store,
                                                  const content::Digest& digest,
                                                  int64_t max_bytes) {
  GANTRY_RETURN_IF_ERROR(Charge(0, 0));
  GANTRY_ASSIGN_OR_RETURN(std::string text, content::ReadBlob(store, digest, max_bytes));
  bytes_ += static_cast<int64_t>(text.size());
  return text;
}

}  // namespace gantry::distribution
