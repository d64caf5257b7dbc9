// Text in columns of a terminal.
#ifndef GANTRY_CTL_TEXT_H_
#define GANTRY_CTL_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace gantry::ctl {

// `text` in at most `width` characters, the last an ellipsis if it was cut.
std::string Ellipsis(absl::string_view text, size_t width);
// Columns of a terminal that `text` takes, escape sequences not counted.
size_t DisplayWidth(absl::string_view text);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_TEXT_H_
