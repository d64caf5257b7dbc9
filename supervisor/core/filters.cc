#include "supervisor/core/filters.h"

#include <fnmatch.h>

#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"

namespace gantry::core {
namespace {

constexpr char kLabel[] = "label";
constexpr char kNotLabel[] = "label!";

bool LabelFits(const google::protobuf::Map<std::string, std::string>& labels,
               const std::string& text) {
  const size_t equals = text.find('=');
  const auto it = labels.find(text.substr(0, equals));
  return it != labels.end() &&
         (equals == std::string::npos || it->second == text.substr(equals + 1));
}

}  // namespace

absl::StatusOr<Filters> Filters::Parse(
    const google::protobuf::RepeatedPtrField<v1::Filter>& filters,
    std::initializer_list<absl::string_view> known) {
  std::set<absl::string_view> keys(known);
  keys.insert(kLabel);
  keys.insert(kNotLabel);
  Filters parsed;
  for (const v1::Filter& filter : filters) {
    if (keys.count(filter.key()) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "filter \"", filter.key(), "\" is not known; use ", absl::StrJoin(keys, ", ")));
    }
    if ((filter.key() == kLabel || filter.key() == kNotLabel) &&
        (filter.value().empty() || filter.value()[0] == '=')) {
      return absl::InvalidArgumentError(
          absl::StrCat("filter ", filter.key(), ": \"", filter.value(), "\" names no label"));
    }
    parsed.values_[filter.key()].push_back(filter.value());
  }
  return parsed;
}

const std::vector<std::string>& Filters::Values(absl::string_view key) const {
  static const auto& none = *new std::vector<
      std::string>();  // NOLINT(cppcoreguidelines-owning-memory): lives as long as the program
  const auto it = values_.find(std::string(key));
  return it == values_.end() ? none : it->second;
}

bool Filters::LabelsMatch(const google::protobuf::Map<std::string, std::string>& labels) const {
  const auto fits = [&labels](const std::string& text) { return LabelFits(labels, text); };
  const std::vector<std::string>& wanted = Values(kLabel);
  const std::vector<std::string>& unwanted = Values(kNotLabel);
  return std::all_of(wanted.begin(), wanted.end(), fits) &&
         std::none_of(unwanted.begin(), unwanted.end(), fits);
}

absl::StatusOr<absl::Time> ParseMoment(absl::string_view key, absl::string_view text,
                                       absl::Time now) {
  absl::Duration age;
  double seconds = 0;
  // A bare number is seconds since 1970, though "0" is a duration, too.
  if (absl::SimpleAtod(text, &seconds)) return absl::UnixEpoch() + absl::Seconds(seconds);
  if (absl::ParseDuration(text, &age)) return now - age;
  absl::Time moment;
  std::string error;
  for (const char* format : {"%Y-%m-%dT%H:%M:%E*S%Ez", "%Y-%m-%dT%H:%M:%E*S", "%Y-%m-%dT%H:%M%Ez",
                             "%Y-%m-%dT%H:%M", "%Y-%m-%d%Ez", "%Y-%m-%d"}) {
    if (absl::ParseTime(format, text, &moment, &error)) return moment;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("filter ", key, ": \"", text, "\" is neither a duration nor a time"));
}

absl::StatusOr<CreatedBounds> CreatedBounds::Parse(const Filters& filters, absl::Time now,
                                                   const FindCreated& find) {
  CreatedBounds bounds;
  // Values of one key are alternatives, so of several the one that leaves more counts.
  if (filters.Has("before")) bounds.before_ = absl::InfinitePast();
  for (const std::string& value : filters.Values("before")) {
    GANTRY_ASSIGN_OR_RETURN(const absl::Time created, find(value));
    bounds.before_ = std::max(bounds.before_, created);
  }
  if (filters.Has("since")) bounds.since_ = absl::InfiniteFuture();
  for (const std::string& value : filters.Values("since")) {
    GANTRY_ASSIGN_OR_RETURN(const absl::Time created, find(value));
    bounds.since_ = std::min(bounds.since_, created);
  }
  if (filters.Has("until")) bounds.until_ = absl::InfinitePast();
  for (const std::string& value : filters.Values("until")) {
    GANTRY_ASSIGN_OR_RETURN(const absl::Time moment, ParseMoment("until", value, now));
    bounds.until_ = std::max(bounds.until_, moment);
  }
  bounds.any_ = filters.Has("before") || filters.Has("since") || filters.Has("until");
  return bounds;
}

absl::StatusOr<bool> ParseTruth(absl::string_view key, absl::string_view text) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  return absl::InvalidArgumentError(
      absl::StrCat("filter ", key, ": \"", text, "\" is neither true nor false"));
}

bool FitsReference(const std::string& pattern, const std::string& name) {
  const auto fits = [&pattern](const std::string& text) {
    return fnmatch(pattern.c_str(), text.c_str(), FNM_PATHNAME) == 0;
  };
  // The repository of "host:5000/x" ends nowhere before its end.
  size_t end = name.find('@');
  if (end == std::string::npos) {
    end = name.rfind(':');
    if (end != std::string::npos && name.find('/', end) != std::string::npos) end = name.size();
  }
  return fits(name) || fits(name.substr(0, end));
}

bool IsAncestor(absl::string_view text, absl::string_view image, absl::string_view image_id) {
  if (text.empty()) return false;
  const absl::string_view digits = absl::StripPrefix(text, "sha256:");
  if (absl::StartsWith(absl::StripPrefix(image_id, "sha256:"), digits)) return true;
  // What follows a slash of the name, or all of it; a missing tag is "latest" on either side.
  const auto with_tag = [](absl::string_view name) {
    const size_t colon = name.rfind(':');
    const bool tagged = colon != absl::string_view::npos &&
                        (name.rfind('/') == absl::string_view::npos || name.rfind('/') < colon);
    return tagged || absl::StrContains(name, '@') ? std::string(name)
                                                  : absl::StrCat(name, ":latest");
  };
  const std::string wanted = with_tag(text);
  const std::string whole = with_tag(image);
  return whole == wanted || absl::EndsWith(whole, absl::StrCat("/", wanted));
}

}  // namespace gantry::core
