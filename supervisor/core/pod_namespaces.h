// The kernel namespaces of a pod, kept by bind mounts of their files: no process is in them until a
// container of the pod runs.
//
// In a directory of the pod's own: user, net, ipc and uts, as far as the pod has its own, and shm,
// the tmpfs that its containers share. They live until Remove(), whatever becomes of this process,
// and go with the machine.
//
// Free functions, thread-safe. Root only.
#ifndef GANTRY_SUPERVISOR_CORE_POD_NAMESPACES_H_
#define GANTRY_SUPERVISOR_CORE_POD_NAMESPACES_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "base/id_map.h"

namespace gantry::core {

struct PodNamespaces {
  bool network = true;
  bool ipc = true;
  bool uts = true;
  std::string hostname;                        // with uts
  std::map<std::string, std::string> sysctls;  // "net.ipv4.ip_forward" -> "1", checked already
  int64_t shm_size_bytes = 64 << 20;           // with ipc
  // Not empty: a user namespace with these owns the others.
  IdMaps ids;
};

// Makes the parent of pods' directories a mount that is shared with the mount namespaces of shims,
// so that what is unmounted here does not stay mounted there. Idempotent.
absl::Status SharePodMounts(const std::string& directory);
// Takes that mount away if no pod is left below it.
void UnsharePodMounts(const std::string& directory);

// `directory` is there. After a failure Remove() is to be called.
//   kInvalidArgument    a system control does not exist here, or does not take the value
//   kResourceExhausted  no more namespaces
absl::Status MakePodNamespaces(const std::string& directory, const PodNamespaces& wanted);
// Whether the namespaces that are wanted are pinned there. They are gone where the mounts of the
// directory are: after a boot, and when a machine that is itself a container ends.
bool HasPodNamespaces(const std::string& directory, const PodNamespaces& wanted);
// Idempotent; also for what was made in part.
absl::Status RemovePodNamespaces(const std::string& directory);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_POD_NAMESPACES_H_
