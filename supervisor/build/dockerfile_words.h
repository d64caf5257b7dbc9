// Words of a Dockerfile as the builder understands them: variables with all their operators, quotes
// and escape characters.
//
// Free functions, safe to call from any thread. Errors are kInvalidArgument and begin with
// "failed to process "TEXT": ". Spec: Dockerfile reference, "Environment replacement".
#ifndef GANTRY_SUPERVISOR_BUILD_DOCKERFILE_WORDS_H_
#define GANTRY_SUPERVISOR_BUILD_DOCKERFILE_WORDS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace gantry::build {

// The value of a variable; nullopt if it is not set.
using Lookup = std::function<absl::optional<std::string>(absl::string_view name)>;

// One value: variables replaced, quotes and escape characters removed.
absl::StatusOr<std::string> ExpandWord(absl::string_view text, char escape, const Lookup& lookup);

// The same, split at blanks outside quotes: also blanks that a variable brought. For EXPOSE.
absl::StatusOr<std::vector<std::string>> ExpandWords(absl::string_view text, char escape,
                                                     const Lookup& lookup);

// The body of a here-document: quotes are text, and the escape character is a backslash.
absl::StatusOr<std::string> ExpandHeredoc(absl::string_view text, const Lookup& lookup);

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_DOCKERFILE_WORDS_H_
