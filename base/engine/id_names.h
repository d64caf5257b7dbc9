// Messages for people: names in place of ids.
//
// Core's errors name objects by their ids, which are 64 hexadecimal digits. A client of people says
// the names instead. Pure but for the lookup.
#ifndef GANTRY_BASE_ENGINE_ID_NAMES_H_
#define GANTRY_BASE_ENGINE_ID_NAMES_H_

#include <functional>
#include <string>

#include "absl/strings/string_view.h"

namespace gantry::engine {

// Whether it holds 64 hexadecimal digits in a row that are no digest's.
bool HoldsId(absl::string_view message);

// `message` with what `name_of` answers for each id; "" leaves the id. Digests ("sha256:...") and
// what is quoted as the caller wrote it, after "No such", stay, and so does the id of a thing whose
// name the message quotes already.
std::string WithNames(absl::string_view message,
                      const std::function<std::string(const std::string& id)>& name_of);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_ID_NAMES_H_
