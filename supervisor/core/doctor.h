// Examines the host and what the daemon holds on it: the host as base/host sees it, the runtimes,
// the shims, and what is left of objects that are gone.
//
// Thread-safe. Reads only, and waits for no shim: a container whose shim does not answer is known
// as such.
#ifndef GANTRY_SUPERVISOR_CORE_DOCTOR_H_
#define GANTRY_SUPERVISOR_CORE_DOCTOR_H_

#include <string>
#include <vector>

#include "base/host/checks.h"
#include "base/host/observation.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_view.h"

namespace gantry::metadata {
class NetworkStore;
class VolumeStore;
}  // namespace gantry::metadata
namespace gantry::runtime {
class RuntimeProbe;
}

namespace gantry::core {

class Doctor {
 public:
  // Nothing is owned.
  struct Parts {
    Stores* stores;
    const TaskView* tasks;
    runtime::RuntimeProbe* runtimes;
    std::string root_directory;
    std::string state_directory;
    std::string address;
    metadata::NetworkStore* networks = nullptr;  // null: there are none
    metadata::VolumeStore* volumes = nullptr;    // null: there are none
    std::string cgroups = "/sys/fs/cgroup";
  };
  explicit Doctor(Parts parts) : parts_(std::move(parts)) {}

  std::vector<host::Finding> Examine();

 private:
  void LookAtRuntimes(host::Observation& seen);
  void LookAtContainers(host::Observation& seen);
  // Whether something that is there needs IPv6 to be forwarded, or project quotas.
  void LookAtNeeds(host::Observation& seen);

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_DOCTOR_H_
