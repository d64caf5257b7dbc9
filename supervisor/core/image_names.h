// What the name of an image promises, and when a record may be found by it.
//
// A name is a claim of the one who wrote it: an archive, a registry, a client. What people read as
// a proof (an id, a digest behind '@') is checked when a name is written, and again when an image
// is looked up, because clients of containerd's API write records themselves.
//
// Free functions, safe to call from any thread.
#ifndef GANTRY_SUPERVISOR_CORE_IMAGE_NAMES_H_
#define GANTRY_SUPERVISOR_CORE_IMAGE_NAMES_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "content-store/digest.h"

namespace gantry::core {

// Whether `text` is an image's id in full or with its algorithm: "sha256:4bcf", 64 hexadecimal
// digits.
bool ReadsAsId(absl::string_view text);

// Whether an image of that name may point at `target`. kInvalidArgument: the name reads as an id,
// or ends in "@<digest>" of another target.
absl::Status CheckImageName(absl::string_view name, const content::Digest& target);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_IMAGE_NAMES_H_
