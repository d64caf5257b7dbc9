// Verbs about what happens to containers and their host, and how they come into the tree.
#ifndef GANTRY_CTL_LIFE_VERBS_H_
#define GANTRY_CTL_LIFE_VERBS_H_

#include "ctl/verb.h"

namespace gantry::ctl {

Verb DoctorVerb();
Verb SetVerb();
Verb WhyVerb();

// `why` and `set` at the root and in group "container", `doctor` at the root and in group "system".
void AddLifeVerbs(Verb& root);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_LIFE_VERBS_H_
