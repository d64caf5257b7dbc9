// Where the shim writes a container's output, and in which format.
#ifndef GANTRY_SUPERVISOR_CORE_LOG_TARGET_H_
#define GANTRY_SUPERVISOR_CORE_LOG_TARGET_H_

#include <optional>
#include <string>

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/pod_member.h"

namespace gantry::core {

struct LogTarget {
  std::string path;  // the live file; rotated ones are <path>.1, <path>.2, ...
  shim::v1::Log::Format format = shim::v1::Log::JSON_FILE;
};

// Nothing: the container keeps no log, or another client of the containerd API keeps it.
// A container of a pod writes where its pod says, and its client rotates the file.
inline std::optional<LogTarget> LogTargetOf(const ContainerRecords& records,
                                            const LoadedContainer& loaded) {
  if (!loaded.ours || loaded.config.log().driver() == "none") return std::nullopt;
  const auto pod = loaded.record.extensions().find(kPodLogExtension);
  if (pod != loaded.record.extensions().end()) {
    if (pod->second.value().empty()) return std::nullopt;
    return LogTarget{pod->second.value(), shim::v1::Log::CRI};
  }
  return LogTarget{records.Directory(loaded.scope.ns, loaded.id()) + "/container.log"};
}

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LOG_TARGET_H_
