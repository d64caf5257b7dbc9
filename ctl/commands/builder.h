// The verb `build`, and the verbs below `builder`.
#ifndef GANTRY_CTL_COMMANDS_BUILDER_H_
#define GANTRY_CTL_COMMANDS_BUILDER_H_

#include <vector>

#include "ctl/verb.h"

namespace gantry::ctl {

Verb BuildVerb();
std::vector<Verb> BuilderVerbs();  // build, du, prune
std::vector<Verb> BuildxVerbs();   // the same under docker buildx's words

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_COMMANDS_BUILDER_H_
