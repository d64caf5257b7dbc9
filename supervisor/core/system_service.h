// The daemon about itself: what it is, what it holds, what its disk is used for, what happens in
// it.
//
// Values are messages of gantry.v1 (docs/adr/0004). Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_SYSTEM_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_SYSTEM_SERVICE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/event_feed.h"
#include "supervisor/core/event_subjects.h"
#include "supervisor/core/stores.h"
#include "supervisor/oci/cdi/device_files.h"

namespace gantry::v1 {
class DiskUsageRequest;
class DiskUsageResponse;
class EventsRequest;
class GcRequest;
class GcResponse;
class InfoResponse;
class VersionResponse;
}  // namespace gantry::v1
namespace gantry::gc {
class Collector;
class Scheduler;
}  // namespace gantry::gc
namespace gantry::runtime {
class RuntimeProbe;
}

namespace gantry::core {

class TaskView;

// What does not change while the daemon runs.
struct DaemonFacts {
  std::string uuid;
  std::string version;
  std::string root_directory;
  std::string state_directory;
  std::string config_file;
  std::string address;
  std::string docker_address;
  std::string default_runtime;
  std::string userns_remap;  // the setting; "": containers have the host's ids
  absl::Time started_at;
};

class EventJournal;
class VolumeService;

class SystemService {
 public:
  struct Parts {
    Stores* stores;
    EventBus* events;
    EventSubjects* subjects;
    const TaskView* tasks;
    runtime::RuntimeProbe* runtimes;
    gc::Scheduler* gc;
    DaemonFacts facts;
    VolumeService* volumes = nullptr;                // null: there are no volumes
    EventJournal* journal = nullptr;                 // null: only the bus is looked back at
    const oci::cdi::DeviceFiles* devices = nullptr;  // null: no files describe devices
    // NetworkKernel::ForwardDrops(). Empty: there are no networks.
    std::function<std::vector<std::string>()> forward_drops = {};
  };
  explicit SystemService(Parts parts) : parts_(std::move(parts)) {}

  v1::VersionResponse Version();
  absl::StatusOr<v1::InfoResponse> Info(const CallContext& context);
  // Of all namespaces: the disk is one. `verbose` adds the items with their owners.
  absl::StatusOr<v1::DiskUsageResponse> DiskUsage(const CallContext& context,
                                                  const v1::DiskUsageRequest& request);
  // What is garbage is removed now; `dry_run` only says what would be.
  absl::StatusOr<v1::GcResponse> Gc(const CallContext& context, const v1::GcRequest& request);

  // Events in docker's words: container create, start, die, ...; image pull, tag, ... `ready` as in
  // EventBus::Subscribe().
  absl::StatusOr<std::unique_ptr<EventFeed>> Listen(const CallContext& context,
                                                    const v1::EventsRequest& request,
                                                    std::function<void()> ready);

  const DaemonFacts& facts() const { return parts_.facts; }

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_SYSTEM_SERVICE_H_
