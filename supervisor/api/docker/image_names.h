// Names of images in docker's requests, and docker's words for one that is not there.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_IMAGE_NAMES_H_
#define GANTRY_SUPERVISOR_API_DOCKER_IMAGE_NAMES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace gantry::api::docker {

// A name and what the parameter "tag" has: a tag or a digest. Nothing is added where it is empty.
std::string NameWithTag(absl::string_view name, absl::string_view tag);

// A platform as parameters have it: {"os":"linux","architecture":"arm64"} since 1.48, or
// "linux/arm64". kInvalidArgument: neither.
absl::StatusOr<std::string> PlatformOf(absl::string_view text);

// kNotFound in the words that clients look for: "No such image: NAME".
absl::Status ImageError(const absl::Status& status, absl::string_view name);
// Of a pull: "pull access denied for NAME, repository does not exist or may require 'docker
// login'", "manifest for NAME not found".
absl::Status PullError(const absl::Status& status, absl::string_view name);

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_IMAGE_NAMES_H_
