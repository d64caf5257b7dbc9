// Looking at containers: lists, inspection, processes, numbers, changed files. Nothing here waits
// for an operation on a container.
//
// Thread-safe. kNotFound: no such container; kInvalidArgument: ambiguous prefix, bad request;
// kFailedPrecondition: its state forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_VIEW_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_VIEW_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/health_board.h"
#include "supervisor/core/listed_records.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_view.h"

namespace gantry::v1 {
class ContainerDetails;
class ContainerStats;
class ContainerSummary;
class DiffResponse;
class ListContainersRequest;
class ListContainersResponse;
class Mount;
class MountPoint;
class StatsRequest;
class StatsResponse;
class TopRequest;
class TopResponse;
}  // namespace gantry::v1

namespace gantry::runtime {
class RuntimeProbe;
}

namespace gantry::core {

class NetworkPlaces;
class VolumeService;

class ContainerFilter;

class ContainerView {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    Stores* stores;
    const HealthBoard* health;
    const TaskView* tasks;
    runtime::RuntimeProbe* runtimes;         // says which one is the default
    NetworkPlaces* networks = nullptr;       // null: there are no networks
    const VolumeService* volumes = nullptr;  // says where volumes are; null: there are none
  };
  explicit ContainerView(const Parts& parts) : parts_(parts) {}

  // A list of what runs reads no record of what does not; one of ids reads only states, unless a
  // filter asks for more.
  absl::StatusOr<v1::ListContainersResponse> List(const CallContext& context,
                                                  const v1::ListContainersRequest& request);
  // The same one after the other, newest first, for those who need no copy; `ids_only` has no
  // effect. `visit` may take things out of what it is shown, which is used again for the next.
  absl::Status Each(const CallContext& context, const v1::ListContainersRequest& request,
                    const std::function<void(v1::ContainerSummary&)>& visit);
  absl::StatusOr<v1::ContainerDetails> Inspect(const CallContext& context,
                                               const std::string& container, bool size);
  absl::StatusOr<v1::TopResponse> Top(const CallContext& context, const v1::TopRequest& request);
  // One sample; of all running containers when none is named. A container whose shim does not
  // answer in time is left out. `previous` holds the caller's last sample of each and is brought up
  // to date: rates are between the two.
  absl::StatusOr<v1::StatsResponse> Stats(const CallContext& context,
                                          const v1::StatsRequest& request,
                                          std::map<std::string, v1::ContainerStats>& previous);
  absl::StatusOr<v1::DiffResponse> Diff(const CallContext& context, const std::string& container);

 private:
  using Tasks = absl::flat_hash_map<std::string, Process>;
  // One of a list.
  struct Row {
    std::shared_ptr<const ListedRecord> record;
    record::v1::ContainerState state;
    std::string name;
    v1::ContainerState word = {};
    const Process* task = nullptr;
  };

  absl::StatusOr<ContainerFilter> FilterOf(const CallContext& context,
                                           const v1::ListContainersRequest& request);
  Tasks TasksOf(const std::string& ns) const;
  // The ids of all that may be active: those with a task, those that wait for their next run.
  absl::StatusOr<std::vector<std::string>> MayBeActive(const CallContext& context,
                                                       const Tasks& tasks);
  absl::StatusOr<std::vector<LoadedContainer>> LoadActive(const CallContext& context,
                                                          const Tasks& tasks);
  absl::StatusOr<v1::ListContainersResponse> ListIds(const CallContext& context,
                                                     const v1::ListContainersRequest& request,
                                                     const ContainerFilter& filter,
                                                     const Tasks& tasks, bool active_only);
  v1::MountPoint MountPointOf(const LoadedContainer& loaded, const v1::Mount& mount) const;
  // What its record says. Takes image, command, labels and annotations out of what it is given.
  ListedRecord Describe(LoadedContainer& loaded) const;
  // `word` is its state; `task`, which may be null, what runs.
  void SetState(const std::string& ns, const record::v1::ContainerState& state,
                v1::ContainerState word, const Process* task, v1::ContainerSummary& out) const;

  const Parts parts_;
  ListedRecords listed_;  // own lock
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_VIEW_H_
