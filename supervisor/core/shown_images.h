// The images that a container's record refers to for mounts (image_mounts.h). Pure.
#ifndef GANTRY_SUPERVISOR_CORE_SHOWN_IMAGES_H_
#define GANTRY_SUPERVISOR_CORE_SHOWN_IMAGES_H_

#include <string>
#include <vector>

#include "absl/strings/match.h"

#include "proto/record/v1/record.pb.h"

namespace gantry::core {

// What a container's label begins with that keeps an image which it is shown; what follows only
// makes it unique, and its value is the image's id.
inline constexpr char kShownImageLabel[] = "containerd.io/gc.ref.content.image-volume.";

// Their ids.
inline std::vector<std::string> ShownImages(const record::v1::Container& container) {
  std::vector<std::string> ids;
  for (const auto& [key, value] : container.labels()) {
    if (absl::StartsWith(key, kShownImageLabel)) ids.push_back(value);
  }
  return ids;
}

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_SHOWN_IMAGES_H_
