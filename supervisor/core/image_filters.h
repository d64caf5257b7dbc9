// The filters of a list of images: checked once, before any row is looked at, then matched against
// many.
//
// Keys: before, since (an image's created time is compared), dangling, label, reference, until.
// Values of one key are alternatives, but all labels must hold; different keys must all hold.
// Immutable once parsed; thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_

#include <google/protobuf/repeated_ptr_field.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"

namespace gantry::core {

class ImageFilters {
 public:
  // When the image that a person calls `image` was created.
  using CreatedOf = std::function<absl::StatusOr<absl::Time>(const std::string& image)>;

  // `now` is what durations of `until` count from. kInvalidArgument: an unknown key or a value that
  // it cannot have; also what
  // `created_of` answers.
  static absl::StatusOr<ImageFilters> Parse(
      const google::protobuf::RepeatedPtrField<v1::Filter>& filters, absl::Time now,
      const CreatedOf& created_of);

  // Whether the image is wanted. With reference filters, names that do not fit are taken from it.
  bool Take(v1::ImageSummary& image) const;

  // Whether anything is asked that the names of an image do not answer.
  bool need_config() const { return !labels_.empty() || !times_.empty(); }

 private:
  enum class When { kBefore, kSince };
  struct Bound {
    std::string key;
    When when;
    absl::Time time;
  };

  ImageFilters() = default;
  bool FitsReference(const std::string& name) const;

  std::vector<bool> dangling_;
  std::vector<std::pair<std::string, std::string>> labels_;  // key and value
  std::vector<std::string> keys_;                            // of labels of any value
  std::vector<std::string> references_;
  std::vector<Bound> times_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_
