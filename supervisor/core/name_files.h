// hostname, hosts and resolv.conf of a container, which are bind-mounted into it.
#ifndef GANTRY_SUPERVISOR_CORE_NAME_FILES_H_
#define GANTRY_SUPERVISOR_CORE_NAME_FILES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace gantry::v1 {
class ContainerConfig;
}

namespace gantry::core {

// Writes the three files into `directory`, over those that are there. With the host's network their
// contents are the host's at this moment; in a network the name servers are, but for those that
// only the host reaches. `addresses` are the container's own. `host_etc` is where the host's files
// are.
// kInvalidArgument: a field of the configuration.
absl::Status WriteNameFiles(const std::string& directory, const v1::ContainerConfig& config,
                            absl::string_view container_id,
                            const std::vector<std::string>& addresses = {},
                            const std::string& host_etc = "/etc");

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_NAME_FILES_H_
