// The filters of a request: checked once, before anything is looked at, then matched against many.
//
// Values of one key are alternatives; labels must all match. Immutable after Parse().
#ifndef GANTRY_SUPERVISOR_CORE_FILTERS_H_
#define GANTRY_SUPERVISOR_CORE_FILTERS_H_

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/map.h"
#include "google/protobuf/repeated_field.h"

#include "proto/gantry/v1/types.pb.h"

namespace gantry::core {

class Filters {
 public:
  // `known` are the keys that the noun has, beside "label" and "label!", which every noun has.
  // kInvalidArgument: another key, a label without a name.
  static absl::StatusOr<Filters> Parse(
      const google::protobuf::RepeatedPtrField<v1::Filter>& filters,
      std::initializer_list<absl::string_view> known);

  bool Has(absl::string_view key) const { return values_.count(std::string(key)) > 0; }
  // In the order given; empty when the key was not.
  const std::vector<std::string>& Values(absl::string_view key) const;

  // Whether all of "label" (NAME or NAME=VALUE) and none of "label!" fit.
  bool LabelsMatch(const google::protobuf::Map<std::string, std::string>& labels) const;

  // Whether one of the key's values is it. Also true when the key was not given.
  template <class Predicate>
  bool Any(absl::string_view key, Predicate is_it) const {
    const std::vector<std::string>& values = Values(key);
    return values.empty() || std::any_of(values.begin(), values.end(), is_it);
  }

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

// A moment as docker writes it: an age before `now` ("10m", "1h30m"), a date with or without time
// and zone (UTC without), or seconds since 1970. kInvalidArgument names `key`.
absl::StatusOr<absl::Time> ParseMoment(absl::string_view key, absl::string_view text,
                                       absl::Time now);

// The bounds that "before", "since" (objects: what was created earlier or later than those) and
// "until" (a moment) set to the time of creation. Immutable.
class CreatedBounds {
 public:
  // When the object that a person names was created.
  using FindCreated = std::function<absl::StatusOr<absl::Time>(const std::string& object)>;

  // kInvalidArgument: an "until" that is no moment; also what `find` answers.
  static absl::StatusOr<CreatedBounds> Parse(const Filters& filters, absl::Time now,
                                             const FindCreated& find);

  bool Hold(absl::Time created) const {
    return created < before_ && created > since_ && created <= until_;
  }
  bool any() const { return any_; }

 private:
  absl::Time before_ = absl::InfiniteFuture();
  absl::Time since_ = absl::InfinitePast();
  absl::Time until_ = absl::InfiniteFuture();
  bool any_ = false;
};

// docker's truth values: true, false, 1, 0. kInvalidArgument names `key`.
absl::StatusOr<bool> ParseTruth(absl::string_view key, absl::string_view text);

// Whether an image's name ("repo:tag", "repo@digest") fits the pattern of a "reference" filter: a
// shell pattern for the whole name or for its repository; "*" does not match a slash.
bool FitsReference(const std::string& pattern, const std::string& name);

// Whether a container of that image descends from what "ancestor" names: a name with or without
// registry, repository and tag, or the beginning of an id.
bool IsAncestor(absl::string_view text, absl::string_view image, absl::string_view image_id);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_FILTERS_H_
