// Text for protobuf `string` fields and JSON, which must be valid UTF-8, made of bytes that come
// from processes, files and images.
//
// Pure functions, thread-safe. Valid means: no overlong form, no surrogate, nothing above U+10FFFF,
// as protobuf checks it.
#ifndef GANTRY_BASE_UTF8_H_
#define GANTRY_BASE_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace gantry {

bool IsValidUtf8(absl::string_view bytes);

// Bytes of the character that `bytes` begins with, 0 if it begins with none.
size_t Utf8CharacterBytes(absl::string_view bytes);

// `bytes` with U+FFFD in place of each run of bytes that is the beginning of no character (the
// Unicode Standard's "substitution of maximal subparts", as browsers do it).
// Valid text is returned unchanged.
std::string ToValidUtf8(absl::string_view bytes);

// The longest prefix of `text` of at most `max_bytes` bytes that cuts no character. Bytes that are
// no UTF-8 count as characters.
absl::string_view Utf8Prefix(absl::string_view text, size_t max_bytes);

// The same for the end of `text`.
absl::string_view Utf8Suffix(absl::string_view text, size_t max_bytes);

}  // namespace gantry

#endif  // GANTRY_BASE_UTF8_H_
