// Reports on the end of a container's last run: gathers what the records, the log, the container's
// file system and the health checks say, and explains it (end_causes.h).
//
// Thread-safe. Reads only, and holds no operation lock: it answers while something else is done
// with the container. kNotFound: no such container.
#ifndef GANTRY_SUPERVISOR_CORE_END_REPORT_H_
#define GANTRY_SUPERVISOR_CORE_END_REPORT_H_

#include <string>

#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/run_end.h"
#include "supervisor/core/task_service.h"

namespace gantry::v1 {
class EndReport;
}

namespace gantry::core {

class EndReports {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerStreams* streams;
    ContainerFiles* files;
    TaskService* tasks;
    const HealthBoard* health;
    RunEnds* ends;
  };
  explicit EndReports(const Parts& parts) : parts_(parts) {}

  absl::StatusOr<v1::EndReport> Explain(const CallContext& context, const std::string& container);

 private:
  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_END_REPORT_H_
