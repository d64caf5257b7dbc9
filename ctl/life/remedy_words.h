// Remedies of the daemon's reports in the words of the command line.
//
// A pure function.
#ifndef GANTRY_CTL_LIFE_REMEDY_WORDS_H_
#define GANTRY_CTL_LIFE_REMEDY_WORDS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace gantry::ctl {

// Puts the flag in the place of {field}, and "`ctl verb`" in the place of {!verb}. A field that is
// not known is named as it is.
std::string WithFlags(absl::string_view text);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_LIFE_REMEDY_WORDS_H_
