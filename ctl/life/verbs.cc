#include "ctl/life/verbs.h"

namespace gantry::ctl {

void AddLifeVerbs(Verb& root) {
  for (Verb& group : root.verbs) {
    if (group.name == "container") {
      group.verbs.push_back(SetVerb());
      group.verbs.push_back(WhyVerb());
    }
    if (group.name == "system") group.verbs.push_back(DoctorVerb());
  }
  root.verbs.push_back(SetVerb());
  root.verbs.push_back(WhyVerb());
  root.verbs.push_back(DoctorVerb());
}

}  // namespace gantry::ctl
