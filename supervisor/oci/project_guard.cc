#include "supervisor/oci/project_guard.h"

#include <linux/fs.h>

#include <algorithm>
#include <cstdint>

#include <nlohmann/json.hpp>

namespace gantry::oci {

using nlohmann::json;

void ForbidProjectChange(json& seccomp) {
  const auto rules = seccomp.is_object() ? seccomp.find("syscalls") : seccomp.end();
  if (!seccomp.is_object() || rules == seccomp.end() || !rules->is_array()) return;
  bool allowed = false;
  for (json& rule : *rules) {
    if (!rule.is_object() || rule.value("action", "") != "SCMP_ACT_ALLOW" ||
        !rule.contains("names") || (rule.contains("args") && !rule["args"].empty()))
      continue;
    json& names = rule["names"];
    const auto found = std::find(names.begin(), names.end(), "ioctl");
    if (found == names.end()) continue;
    names.erase(found);
    allowed = true;
  }
  // A rule for no call is refused by runtimes.
  rules->erase(std::remove_if(rules->begin(), rules->end(),
                              [](const json& rule) {
                                return rule.is_object() && rule.contains("names") &&
                                       rule["names"].empty();
                              }),
               rules->end());
  if (!allowed) return;
  constexpr uint64_t kForbidden = FS_IOC_FSSETXATTR;
  for (int bit = 0; bit < 32; ++bit) {
    const uint64_t mask = uint64_t{1} << bit;
    rules->push_back({{"names", {"ioctl"}},
                      {"action", "SCMP_ACT_ALLOW"},
                      {"args",
                       {{{"index", 1},
                         {"value", mask},
                         {"valueTwo", ~kForbidden & mask},
                         {"op", "SCMP_CMP_MASKED_EQ"}}}}});
  }
}

}  // namespace gantry::oci
