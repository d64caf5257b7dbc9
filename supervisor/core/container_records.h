// Containers as they are stored: finding them by what a person typed, loading them, taking turns on
// them.
//
// A container is found by id, by name, or by an unambiguous prefix of its id. Those that
// containerd's clients made are found as well, with what is known of them. What was asked for is
// stored with the record (extension "gantry", a gantry.v1.ContainerConfig); the state of the last
// run in a record of its own, so both survive a reboot.
//
// Thread-safe. Common status codes: kNotFound no such container; kInvalidArgument the prefix fits
// several.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_RECORDS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_RECORDS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "proto/gantry/v1/container_config.pb.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/caller.h"
#include "supervisor/core/container_directories.h"
#include "supervisor/core/container_locks.h"
#include "supervisor/core/stores.h"

namespace gantry::core {

class EventBus;

// One container as a call found it.
struct LoadedContainer {
  metadata::Scope scope;
  record::v1::Container record;
  record::v1::ContainerState state;
  std::string name;
  bool ours = false;  // made by gantry.v1, so `config` says what was asked for
  v1::ContainerConfig config;
  std::string image_id;
  // The stored record cannot be read: only its id and name are known, and the container can only be
  // removed.
  bool damaged = false;
  Caller caller = {};  // of the call that loaded it
  const std::string& id() const { return record.id(); }
  std::string ShownName() const { return name.empty() ? id().substr(0, 12) : name; }
};

class ContainerRecords {
 public:
  // Nothing is owned.
  struct Parts {
    Stores* stores;
    EventBus* events;
    // <root>/containers/<ns>/<id>/ holds a container's log, and its generated files if it outlives
    // a reboot.
    std::string root_directory;
    // <state>/containers/<ns>/<id>/ holds the generated files of a container that removes itself.
    std::string state_directory;
  };
  explicit ContainerRecords(const Parts& parts)
      : parts_(parts),
        directories_(parts.stores->containers, {parts.root_directory + "/containers",
                                                parts.state_directory + "/containers"}) {}

  // A container whose record is damaged is loaded, too. CheckReadable() refuses it.
  absl::StatusOr<LoadedContainer> Load(const CallContext& context, absl::string_view container);
  // Loads under the container's operation lock, which `lock` then holds. The wait for it ends with
  // the context's deadline or cancellation. What is done then takes its context from lock.Within().
  absl::StatusOr<LoadedContainer> LoadLocked(const CallContext& context,
                                             absl::string_view container, OperationLock& lock,
                                             Interruptible interruptible = Interruptible::kYes);
  // kDataLoss: the record is damaged.
  static absl::Status CheckReadable(const LoadedContainer& loaded);

  // Changes the stored state in one transaction, whatever others change meanwhile, and takes the
  // result over into `loaded`. `change` may run more than once. kNotFound: the container is gone.
  absl::Status UpdateState(LoadedContainer& loaded,
                           const std::function<void(record::v1::ContainerState&)>& change,
                           metadata::Durability durability = metadata::Durability::kSynced);

  // The ids of those that wait for their next run, as their states say. Costs no reading of what
  // does not wait.
  absl::StatusOr<std::vector<std::string>> WaitingToRestart(const std::string& ns);
  // Tells of a state that an earlier daemon wrote. Those of UpdateState() are known.
  void NoteState(const std::string& ns, const std::string& id,
                 const record::v1::ContainerState& state);
  // The id behind what a person typed.
  absl::StatusOr<std::string> ResolveId(const CallContext& context, absl::string_view container);

  // What is made and swept of the containers' directories.
  ContainerDirectories& directories() { return directories_; }

  // The operation locks, for those that need no record or cut others short.
  OperationLocks& locks() { return locks_; }

  // Publishes an event of the container; "update" means that its record was written. One that asks
  // for its end ("kill", "stop", "restart") names the caller who loaded the container.
  void Publish(const LoadedContainer& loaded, absl::string_view action,
               const std::map<std::string, std::string>& attributes = {});

  std::string Directory(const std::string& ns, const std::string& id) const;
  // Where its hostname, hosts and resolv.conf are.
  std::string GeneratedDirectory(const std::string& ns, const std::string& id,
                                 const v1::ContainerConfig& config) const;

 private:
  static void ReadIntent(LoadedContainer& loaded);

  const Parts parts_;
  OperationLocks locks_;
  ContainerDirectories directories_;

  // Namespace and id of all whose state may name a time of restart, with the number of the last
  // notice. More may be here than wait: WaitingToRestart() looks at each and drops the others.
  absl::Mutex waiting_mu_;
  absl::flat_hash_map<std::pair<std::string, std::string>, uint64_t> waiting_
      ABSL_GUARDED_BY(waiting_mu_);
  uint64_t notices_ ABSL_GUARDED_BY(waiting_mu_) = 0;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_RECORDS_H_
