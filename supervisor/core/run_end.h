// How the last run of each container ended, for reports (end_report.h): which call asked for the
// end and who made it, which signal ended the process, what the kernel's log says.
//
// <container's directory>/last-end holds a record::v1::RunEnd, written aside and renamed, not
// synced; it goes with the container. Nothing depends on it, so a write that fails is logged and no
// more. Which call asked for an end is taken from the container's events (kill, stop, restart), and
// known until the daemon ends.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_RUN_END_H_
#define GANTRY_SUPERVISOR_CORE_RUN_END_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "proto/record/v1/run_end.pb.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/task_view.h"

namespace gantry::core {

class RunEnds {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    const TaskView* tasks;
    EventBus* events;
  };
  explicit RunEnds(const Parts& parts);
  ~RunEnds();
  RunEnds(const RunEnds&) = delete;
  RunEnds& operator=(const RunEnds&) = delete;

  // The first process of a container has ended, and its bundle is still there. Reads the kernel's
  // log where the end needs an explanation.
  void NoteEnded(const std::string& ns, const Process& process);

  // The same of a container that removes itself, before it does: nothing is written down.
  record::v1::RunEnd Describe(const LoadedContainer& loaded, const Process& process);

  // kNotFound: nothing is known but what the container's state says.
  absl::StatusOr<record::v1::RunEnd> Read(const LoadedContainer& loaded);

 private:
  using Key = std::pair<std::string, std::string>;  // namespace, id

  void Subscribe() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Events are taken in when an end or a reader makes them matter.
  void TakeEvents() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TakeEvent(const Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What is known of the end, who asked for it, and what the kernel's log says. The log is read
  // without the lock.
  record::v1::RunEnd Explained(const LoadedContainer& loaded, const Process& process)
      ABSL_LOCKS_EXCLUDED(mu_);
  // What is known of the end but for the request.
  record::v1::RunEnd Known(const LoadedContainer& loaded, const Process& process) const;
  std::string PathOf(const Key& key) const;

  const Parts parts_;

  // Held while files of ends are written, so that one end is written by one thread.
  absl::Mutex mu_;
  std::shared_ptr<Subscription> subscription_ ABSL_GUARDED_BY(mu_);
  std::map<Key, record::v1::EndRequest> requests_ ABSL_GUARDED_BY(mu_);  // of runs that go on
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_RUN_END_H_
