// Text for a terminal.
#ifndef GANTRY_CTL_TEXT_H_
#define GANTRY_CTL_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"

#include "base/engine/columns.h"

namespace gantry::ctl {

using engine::DisplayWidth;
using engine::Ellipsis;

// `text` with what could steer a terminal shown instead of sent: control characters other than
// newline and tab, also the eight-bit ones, marks that turn the direction of writing, and bytes
// that are not UTF-8 become \x1b, \u202e, ...
std::string Printable(absl::string_view text);

// The same of a JSON text, which stays the same JSON.
std::string PrintableJson(absl::string_view json);

// As part of a URL's query: letters, digits and -_.~ as they are, a space as "+", other bytes as %XX.
std::string QueryEscaped(absl::string_view text);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_TEXT_H_
