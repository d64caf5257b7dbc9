// What is known of running containers, and what their shims answer about them.
//
// Owned by TaskService, whose tasks it reads. What the calls without a context return is kept in
// memory: they never wait for a shim. Pids() and Stats() ask the shims, with a deadline.
//
// Thread-safe. Status codes: see task_service.h.
#ifndef GANTRY_SUPERVISOR_CORE_TASK_VIEW_H_
#define GANTRY_SUPERVISOR_CORE_TASK_VIEW_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/task_process.h"

namespace gantry::runtime {
class Shim;
}

namespace gantry::core {

struct TaskCore;

class TaskView {
 public:
  explicit TaskView(std::shared_ptr<TaskCore> core);
  TaskView(const TaskView&) = delete;
  TaskView& operator=(const TaskView&) = delete;

  absl::StatusOr<Process> Get(const std::string& ns, const std::string& id,
                              const std::string& exec_id) const;
  // Init processes of a namespace ("" for all), in order of (namespace, id).
  std::vector<std::pair<std::string, Process>> List(const std::string& ns) const;
  bool Exists(const std::string& ns, const std::string& id) const;
  // The execs that the container's shim has, ended ones too until they are deleted; by id.
  std::vector<Process> Execs(const std::string& ns, const std::string& id) const;
  // Those of this id, of any container of the namespace.
  std::vector<Process> FindExecs(const std::string& ns, const std::string& exec_id) const;

  absl::StatusOr<shim::v1::PidsResponse> Pids(const CallContext& context,
                                              const std::string& id) const;
  absl::StatusOr<shim::v1::StatsResponse> Stats(const CallContext& context,
                                                const std::string& id) const;
  // Of many at once, in the order of `ids`. A shim that is slow holds up none of the others: all is
  // over within two seconds.
  std::vector<absl::StatusOr<shim::v1::StatsResponse>> Stats(
      const CallContext& context, const std::vector<std::string>& ids) const;

  // A live task's shim, for streams (attach). kNotFound; kUnavailable: there is no shim (any more).
  absl::StatusOr<std::shared_ptr<runtime::Shim>> Shim(const std::string& ns,
                                                      const std::string& id) const;

  // <state>/tasks/<ns>/<id> of a live task.
  absl::StatusOr<std::string> BundleDirectory(const std::string& ns, const std::string& id) const;

 private:
  std::shared_ptr<TaskCore> core_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_TASK_VIEW_H_
