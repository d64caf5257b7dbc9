#include "supervisor/core/image_filters.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"

namespace gantry::core {
namespace {

absl::Time CreatedAt(const v1::ImageSummary& image) {
  return absl::FromUnixSeconds(image.created_at().seconds()) +
         absl::Nanoseconds(image.created_at().nanos());
}

// "24h": so long ago; or a moment, RFC 3339.
absl::StatusOr<absl::Time> ParseUntil(const std::string& value, absl::Time now) {
  absl::Duration age;
  absl::Time moment;
  std::string error;
  if (absl::ParseDuration(value, &age)) return now - age;
  if (absl::ParseTime(absl::RFC3339_full, value, &moment, &error)) return moment;
  return absl::InvalidArgumentError(
      absl::StrCat("filter until: \"", value, "\" is neither a duration nor a time"));
}

// Names of the pattern's case: "repo:tag", or the repository alone.
bool Matches(const std::string& pattern, const std::string& text) {
  return fnmatch(pattern.c_str(), text.c_str(), FNM_PATHNAME) == 0;
}

}  // namespace

absl::StatusOr<ImageFilters> ImageFilters::Parse(
    const google::protobuf::RepeatedPtrField<v1::Filter>& filters, absl::Time now,
    const CreatedOf& created_of) {
  ImageFilters out;
  for (const v1::Filter& filter : filters) {
    const std::string& key = filter.key();
    const std::string& value = filter.value();
    if (key == "dangling") {
      if (value != "true" && value != "false" && value != "1" && value != "0") {
        return absl::InvalidArgumentError(
            absl::StrCat("filter dangling: \"", value, "\" is neither true nor false"));
      }
      out.dangling_.push_back(value == "true" || value == "1");
    } else if (key == "label") {
      const size_t equals = value.find('=');
      if (equals == std::string::npos) {
        out.keys_.push_back(value);
      } else {
        out.labels_.emplace_back(value.substr(0, equals), value.substr(equals + 1));
      }
    } else if (key == "reference") {
      out.references_.push_back(value);
    } else if (key == "before" || key == "since") {
      GANTRY_ASSIGN_OR_RETURN(const absl::Time created, created_of(value));
      out.times_.push_back({key, key == "before" ? When::kBefore : When::kSince, created});
    } else if (key == "until") {
      GANTRY_ASSIGN_OR_RETURN(const absl::Time until, ParseUntil(value, now));
      out.times_.push_back({key, When::kBefore, until});
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("filter \"", key,
                       "\" is not known; use before, dangling, label, reference, since or until"));
    }
  }
  return out;
}

bool ImageFilters::FitsReference(const std::string& name) const {
  // The repository of "host:5000/x" ends nowhere before its end.
  size_t end = name.find('@');
  if (end == std::string::npos) {
    end = name.rfind(':');
    if (end != std::string::npos && name.find('/', end) != std::string::npos) end = name.size();
  }
  const std::string repository = name.substr(0, end);
  return std::any_of(references_.begin(), references_.end(), [&](const std::string& pattern) {
    return Matches(pattern, name) || Matches(pattern, repository);
  });
}

bool ImageFilters::Take(v1::ImageSummary& image) const {
  if (!dangling_.empty() &&
      std::find(dangling_.begin(), dangling_.end(), image.repo_tags().empty()) == dangling_.end())
    return false;
  for (const std::string& key : keys_) {
    if (!image.labels().contains(key)) return false;
  }
  for (const auto& [key, value] : labels_) {
    auto label = image.labels().find(key);
    if (label == image.labels().end() || label->second != value) return false;
  }
  std::map<std::string, bool> holds;
  for (const Bound& bound : times_) {
    const absl::Time created = CreatedAt(image);
    holds[bound.key] = holds[bound.key] ||
                       (bound.when == When::kBefore ? created < bound.time : created > bound.time);
  }
  for (const auto& [key, held] : holds) {
    if (!held) return false;
  }
  if (references_.empty()) return true;
  const auto keep = [](google::protobuf::RepeatedPtrField<std::string>& names,
                       const std::function<bool(const std::string&)>& fits) {
    names.erase(std::remove_if(names.begin(), names.end(),
                               [&](const std::string& name) { return !fits(name); }),
                names.end());
  };
  keep(*image.mutable_repo_tags(), [this](const std::string& tag) { return FitsReference(tag); });
  // A digest stays with the tags of its repository; without any tag it is a name by itself.
  keep(*image.mutable_repo_digests(), [&](const std::string& digest) {
    if (image.repo_tags().empty()) return FitsReference(digest);
    const std::string prefix = digest.substr(0, digest.find('@')) + ":";
    return std::any_of(
        image.repo_tags().begin(), image.repo_tags().end(),
        [&](const std::string& tag) { return tag.compare(0, prefix.size(), prefix) == 0; });
  });
  return !image.repo_tags().empty() || !image.repo_digests().empty();
}

}  // namespace gantry::core
