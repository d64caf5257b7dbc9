// What may stand after a flag: completion's tables of words, and of the kinds of objects that flags
// name.
//
// Pure; names of objects are asked for by completion.cc.
#ifndef GANTRY_CTL_COMPLETION_VALUES_H_
#define GANTRY_CTL_COMPLETION_VALUES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "ctl/flags.h"

namespace gantry::ctl {

struct CompletionOffer {
  std::vector<std::string> words = {};
  std::string kind = {};    // of objects whose names are offered: "containers", "images", ...
  std::string before = {};  // stands in front of each such name: "network="
  std::string after = {};   // stands behind it: ":"
  bool files = false;       // names of files too
};

// For the value of `flag` of `ctl GROUP VERB`, of which `typed` is there already. `group` is "ctl"
// for a verb that is in none.
CompletionOffer OfferForFlag(absl::string_view group, absl::string_view verb,
                             const FlagSet::Flag& flag, absl::string_view typed,
                             const std::map<std::string, std::string>& environment);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMPLETION_VALUES_H_
