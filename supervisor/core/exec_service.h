// Further processes in running containers.
//
// Thread-safe. kNotFound: no such container; kInvalidArgument: ambiguous prefix, bad request;
// kFailedPrecondition: its state forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/task_service.h"
#include "supervisor/oci/host_facts.h"
#include "supervisor/runtime/shim_client.h"

namespace gantry::v1 {
class ExecInput_Open;
}  // namespace gantry::v1

namespace gantry::core {

// Exec ids that this service gives begin so; containerd's clients choose their own.
inline constexpr char kExecPrefix[] = "gantry-exec-";

class ExecService {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerFiles* files;
    TaskService* tasks;
    const oci::HostFacts* host;
  };
  explicit ExecService(const Parts& parts) : parts_(parts) {}

  struct StartedExec {
    std::string exec_id;
    int32_t pid = 0;
    std::unique_ptr<runtime::AttachStream> stream;  // null when detached
  };
  // One more process. With a handler its streams are connected before it starts; without, it runs
  // detached. Its end removes it.
  absl::StatusOr<StartedExec> Exec(const CallContext& context, const v1::ExecInput_Open& open,
                                   runtime::AttachStream::Handler* handler);
  absl::Status SignalExec(const CallContext& context, const std::string& container,
                          const std::string& exec_id, const std::string& signal);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_EXEC_SERVICE_H_
