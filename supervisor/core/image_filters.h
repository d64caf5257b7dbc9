// The filters of a list of images: checked once, before any row is looked at, then matched against
// many.
//
// Keys: before, since (an image's created time is compared), dangling, label, label!, reference,
// until. Values of one key are alternatives, but all labels must hold; different keys must all
// hold. Immutable once parsed; thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_

#include <google/protobuf/repeated_ptr_field.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "proto/gantry/v1/images.pb.h"
#include "proto/gantry/v1/types.pb.h"
#include "supervisor/core/filters.h"

namespace gantry::core {

class ImageFilters {
 public:
  // `now` is what durations of `until` count from. kInvalidArgument: an unknown key or a value that
  // it cannot have; also what `created_of` answers.
  static absl::StatusOr<ImageFilters> Parse(
      const google::protobuf::RepeatedPtrField<v1::Filter>& filters, absl::Time now,
      const CreatedBounds::FindCreated& created_of);

  // Whether the image is wanted. With reference filters, names that do not fit are taken from it.
  bool Take(v1::ImageSummary& image) const;

 private:
  ImageFilters() = default;

  Filters filters_;
  CreatedBounds created_;
  std::vector<bool> dangling_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_FILTERS_H_
