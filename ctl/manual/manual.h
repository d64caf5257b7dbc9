// Manual pages of ctl, made from the tree of verbs: what `--help` shows is what they say.
#ifndef GANTRY_CTL_MANUAL_MANUAL_H_
#define GANTRY_CTL_MANUAL_MANUAL_H_

#include <string>
#include <vector>

#include "ctl/verb.h"

namespace gantry::ctl {

struct ManualPage {
  std::string file;  // "ctl-image-ls.1"
  std::string text;  // for man(1)
};

// One page for the root, each group and each verb that is not hidden.
std::vector<ManualPage> ManualPages(const Verb& root);

// Hidden verb `__man DIR`: writes the pages into a directory that exists. For packages.
void AddManualVerb(Verb& root);

}  // namespace gantry::ctl

#endif  // GANTRY_CTL_MANUAL_MANUAL_H_
