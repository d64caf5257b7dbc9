// Text in columns: cells are separated by tabs, columns by at least three spaces, and are at least
// ten wide. The last cell of a line belongs to no column.
#ifndef GANTRY_CTL_TABLE_H_
#define GANTRY_CTL_TABLE_H_

#include <string>

#include "absl/strings/string_view.h"

namespace gantry::ctl {

// Replaces the tabs of `text`, whose lines end in a newline each.
std::string AlignColumns(absl::string_view text, size_t min_width = 10, size_t padding = 3);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_TABLE_H_
