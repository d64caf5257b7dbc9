// What is wrong with a host, from what was seen of it: one table of checks. Pure.
#ifndef GANTRY_BASE_HOST_CHECKS_H_
#define GANTRY_BASE_HOST_CHECKS_H_

#include <string>
#include <vector>

#include "base/host/observation.h"

namespace gantry::host {

enum class Severity {
  kNote,     // worth knowing; nothing is wrong
  kWarning,  // something will not work, or not for long
  kError,    // containers cannot run
};

struct Finding {
  std::string check;  // a stable word for programs: "disk-space"
  Severity severity = Severity::kWarning;
  std::string title;   // what is wrong, in a sentence
  std::string detail;  // what was seen
  std::string remedy;
};

// Errors first, then warnings, then notes. Empty for a clean host.
std::vector<Finding> CheckHost(const Observation& seen);

// "error", "warning", "note".
const char* SeverityWord(Severity severity);

}  // namespace gantry::host

#endif  // GANTRY_BASE_HOST_CHECKS_H_
