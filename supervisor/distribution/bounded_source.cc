#include "supervisor/distribution/bounded_source.h"

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::distribution {
namespace {

constexpr int64_t kExpansion = 1100;  // the most that deflate can do; only a bomb needs more
constexpr int64_t kExpansionFree = int64_t{1} << 30;

}  // namespace

absl::StatusOr<size_t> CountedSource::Read(char* buffer, size_t n) {
  GANTRY_ASSIGN_OR_RETURN(const size_t got, below_.Read(buffer, n));
  count_ += static_cast<int64_t>(got);
  return got;
}

absl::StatusOr<size_t> BoundedSource::Read(char* buffer, size_t n) {
  GANTRY_ASSIGN_OR_RETURN(const size_t got, below_.Read(buffer, n));
  count_ += static_cast<int64_t>(got);
  if (count_ > limit_) {
    return absl::ResourceExhaustedError(absl::StrCat("archive: more than ", limit_, " bytes"));
  }
  if (count_ > kExpansionFree && count_ / kExpansion > compressed_.count()) {
    return absl::ResourceExhaustedError(absl::StrCat("archive: ", compressed_.count(),
                                                     " bytes became ", count_,
                                                     ", which no real archive does"));
  }
  return got;
}

}  // namespace gantry::distribution
