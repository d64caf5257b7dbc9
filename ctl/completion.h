// Names for completion that only the verbs of one group know: the services of a compose project.
//
// A source serves the verbs and options whose `completes` is its kind. Sources are added while the
// tree of verbs is built, before any thread starts.
#ifndef GANTRY_CTL_COMPLETION_H_
#define GANTRY_CTL_COMPLETION_H_

#include <functional>
#include <string>
#include <vector>

#include "ctl/verb.h"

namespace gantry::ctl {

// Called with the values of the group's options in Context::group_values. Prints nothing.
using CompletionSource = std::function<std::vector<std::string>(Context&)>;

void AddCompletionSource(const std::string& kind, CompletionSource source);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMPLETION_H_
