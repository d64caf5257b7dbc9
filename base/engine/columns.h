// Text in columns of a terminal.
#ifndef GANTRY_BASE_ENGINE_COLUMNS_H_
#define GANTRY_BASE_ENGINE_COLUMNS_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace gantry::engine {

// `text` in at most `width` characters, the last an ellipsis if it was cut.
std::string Ellipsis(absl::string_view text, size_t width);
// Columns of a terminal that `text` takes, escape sequences not counted.
size_t DisplayWidth(absl::string_view text);

}  // namespace gantry::engine

#endif  // GANTRY_BASE_ENGINE_COLUMNS_H_
