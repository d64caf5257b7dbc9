#include "supervisor/core/filters.h"

#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

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
