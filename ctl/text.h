// Text in columns of a terminal.
#ifndef GANTRY_CTL_TEXT_H_
#define GANTRY_CTL_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace gantry::ctl {

// `text` in at most `width` characters, the last an ellipsis if it was cut.
std::string Ellipsis(absl::string_view text, size_t width);
// `text` with what could steer a terminal shown instead of sent: control characters other than
// newline and tab, also the eight-bit ones, marks that turn the direction of writing, and bytes
// that are not UTF-8 become \x1b, \u202e, ...
std::string Printable(absl::string_view text);
// Columns of a terminal that `text` takes, escape sequences not counted.
size_t DisplayWidth(absl::string_view text);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_TEXT_H_
