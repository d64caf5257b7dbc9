// Reports on the end of a container's last run: gathers what the records, the log, the container's
// file system and the health checks say, and explains it (end_causes.h).
//
// Of containers that removed themselves (--rm) the reports of the last kKept that did are known for
// kKeptFor, until the daemon ends: they are made before the removal, and found by the id or the
// name that the container had. A container that is there goes before one that is gone.
//
// Thread-safe. Reads only, and holds no operation lock: it answers while something else is done
// with the container. kNotFound: no such container.
#ifndef GANTRY_SUPERVISOR_CORE_END_REPORT_H_
#define GANTRY_SUPERVISOR_CORE_END_REPORT_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "proto/gantry/v1/life.pb.h"
#include "proto/record/v1/run_end.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/container_files.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_streams.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/run_end.h"
#include "supervisor/core/task_view.h"

namespace gantry::core {

class EndReports {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    ContainerStreams* streams;
    ContainerFiles* files;
    const TaskView* tasks;
    const HealthBoard* health;
    RunEnds* ends;
  };
  static constexpr size_t kKept = 256;
  static constexpr absl::Duration kKeptFor = absl::Hours(1);

  explicit EndReports(const Parts& parts) : parts_(parts) {}

  absl::StatusOr<v1::EndReport> Explain(const CallContext& context, const std::string& container);

  // A container that removes itself is about to: its run has ended, or could not be started (null).
  // Called with its operation lock held, while its log and files are still there.
  void NoteRemoval(const LoadedContainer& loaded, const Process* ended);

 private:
  struct Kept {
    std::string ns;
    absl::Duration at;  // monotonic
    v1::EndReport report;
  };

  // `end` is known of the last run; nullopt: none has ended.
  v1::EndReport Report(const CallContext& context, const LoadedContainer& loaded,
                       const Process* task, std::optional<record::v1::RunEnd> end);
  absl::StatusOr<v1::EndReport> OfRemoved(const CallContext& context, const std::string& container);

  const Parts parts_;

  absl::Mutex mu_;
  std::deque<Kept> removed_ ABSL_GUARDED_BY(mu_);  // oldest first
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_END_REPORT_H_
