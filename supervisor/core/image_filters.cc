#include "supervisor/core/image_filters.h"

#include <algorithm>

#include "base/status_macros.h"

namespace gantry::core {

absl::StatusOr<ImageFilters> ImageFilters::Parse(
    const google::protobuf::RepeatedPtrField<v1::Filter>& filters, absl::Time now,
    const CreatedBounds::FindCreated& created_of) {
  ImageFilters out;
  GANTRY_ASSIGN_OR_RETURN(
      out.filters_, Filters::Parse(filters, {"before", "dangling", "reference", "since", "until"}));
  for (const std::string& value : out.filters_.Values("dangling")) {
    GANTRY_ASSIGN_OR_RETURN(const bool dangling, ParseTruth("dangling", value));
    out.dangling_.push_back(dangling);
  }
  GANTRY_ASSIGN_OR_RETURN(out.created_, CreatedBounds::Parse(out.filters_, now, created_of));
  return out;
}

bool ImageFilters::Take(v1::ImageSummary& image) const {
  if (!dangling_.empty() &&
      std::find(dangling_.begin(), dangling_.end(), image.repo_tags().empty()) == dangling_.end())
    return false;
  if (!filters_.LabelsMatch(image.labels())) return false;
  if (created_.any() && !created_.Hold(absl::FromUnixSeconds(image.created_at().seconds()) +
                                       absl::Nanoseconds(image.created_at().nanos())))
    return false;
  const std::vector<std::string>& references = filters_.Values("reference");
  if (references.empty()) return true;
  const auto fits = [&references](const std::string& name) {
    return std::any_of(references.begin(), references.end(), [&name](const std::string& pattern) {
      return FitsReference(pattern, name);
    });
  };
  const auto keep = [](google::protobuf::RepeatedPtrField<std::string>& names,
                       const std::function<bool(const std::string&)>& fits) {
    names.erase(std::remove_if(names.begin(), names.end(),
                               [&](const std::string& name) { return !fits(name); }),
                names.end());
  };
  keep(*image.mutable_repo_tags(), fits);
  // A digest stays with the tags of its repository; without any tag it is a name by itself.
  keep(*image.mutable_repo_digests(), [&](const std::string& digest) {
    if (image.repo_tags().empty()) return fits(digest);
    const std::string prefix = digest.substr(0, digest.find('@')) + ":";
    return std::any_of(
        image.repo_tags().begin(), image.repo_tags().end(),
        [&](const std::string& tag) { return tag.compare(0, prefix.size(), prefix) == 0; });
  });
  return !image.repo_tags().empty() || !image.repo_digests().empty();
}

}  // namespace gantry::core
