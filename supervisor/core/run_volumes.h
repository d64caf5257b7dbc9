// What of a container's volumes is there only while it runs: the mounts behind volumes that have
// options (a tmpfs, a share, a directory of the host), the parts of volumes that it is shown, and
// what is shown to it by its own ids.
//
// A volume with options is mounted by the first container that starts with it and unmounted after
// the last has ended. A part of a volume (volume-subpath) is looked up at each start, beneath the
// volume and without following links, because containers may change the volume meanwhile. What is
// found is mounted at a place of the container's own, from where its runtime mounts it: the path is
// not walked again. The place is unmounted once the container's shim has its own copy. Of a
// container with a user namespace, the place of a volume is a mount that shows the volume's files
// by the container's ids: runtimes need not know id-mapped mounts, and older ones ignore them
// silently.
//
// A volume of another driver is mounted by that driver once for each container, by an id of its
// own, and found at the container's place. The driver does not say who has it mounted: the record
// does.
//
// Thread-safe; calls about one container are made with its operation lock held.
#ifndef GANTRY_SUPERVISOR_CORE_RUN_VOLUMES_H_
#define GANTRY_SUPERVISOR_CORE_RUN_VOLUMES_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/id_map.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/container_locks.h"
#include "supervisor/core/container_records.h"
#include "supervisor/metadata/volume_store.h"
#include "supervisor/volume/local_driver.h"

namespace gantry {
class Executor;
}
namespace gantry::volume {
class PluginDrivers;
}

namespace gantry::core {

class VolumeService;

class RunVolumes {
 public:
  // Nothing is owned.
  struct Parts {
    metadata::VolumeStore* store;
    const volume::LocalDriver* local;
    VolumeService* volumes;                    // publishes mount and unmount
    std::string state_directory;               // <state>/mounts/ has the places
    volume::PluginDrivers* plugins = nullptr;  // null: there is the local driver alone
    Executor* workers = nullptr;               // waits for drivers at the start; null: nobody does
  };
  explicit RunVolumes(const Parts& parts) : parts_(parts) {}

  // Where a container's runtime finds the part of a volume that is its mount number `index`.
  std::string Place(const std::string& id, int index) const;

  // Before the container's shim is launched.
  //   kNotFound            a volume is gone, or has no such part
  //   kFailedPrecondition  it cannot be mounted: the kernel's reason
  absl::Status Enter(const CallContext& context, const LoadedContainer& loaded);
  // Its task has been made, or not.
  void Started(const LoadedContainer& loaded);
  // It has ended. Idempotent.
  void Leave(const CallContext& context, const LoadedContainer& loaded);

  // A volume that the container uses, or uses no more, besides what it was started with. `mount`
  // has the volume's name. Errors are those of Enter().
  absl::Status EnterOne(const CallContext& context, const LoadedContainer& loaded,
                        const v1::Mount& mount);
  void LeaveOne(const CallContext& context, const LoadedContainer& loaded, const v1::Mount& mount);

  // A volume, or the part of it that the mount names, is at Place(id, index) until Hide(). The
  // container uses the volume already. Errors are those of Enter().
  absl::Status Show(const CallContext& context, const LoadedContainer& loaded,
                    const v1::Mount& mount, int index) const;
  // Nothing is there, or has to be.
  void Hide(const std::string& id, int index) const;

  // At start: which containers run. Unmounts what none of them uses.
  absl::Status Reconcile(const std::vector<LoadedContainer>& running);

  // Keeps other work on the volume's content, and its mounting, waiting. After Mount().
  absl::StatusOr<OperationLock> TakeTurn(const CallContext& context, const std::string& name) {
    return turns_.Acquire(context.ns, name, context.cancel, Interruptible::kNo);
  }

  // Keeps a volume mounted for work of ours. `user` is unique. Returns where its data is.
  absl::StatusOr<std::string> Mount(const CallContext& context, const std::string& name,
                                    const std::string& user);
  void Unmount(const CallContext& context, const std::string& name, const std::string& user);

 private:
  using Key = std::pair<std::string, std::string>;  // namespace and name

  void PublishMount(const CallContext& context, const LoadedContainer& loaded,
                    const v1::Mount& mount);
  // Mounts a volume of the container once, however many places it is shown at.
  absl::StatusOr<std::string> At(const CallContext& context, const LoadedContainer& loaded,
                                 const v1::Mount& mount,
                                 std::map<std::string, std::string>& mounted);
  // Of a driver that is not ours. What is noted is noted before the driver is asked, so that a
  // crash in between leaves no mount that nobody knows of.
  absl::StatusOr<std::string> MountByPlugin(const CallContext& context,
                                            const metadata::StoredVolume& volume,
                                            const std::string& user);
  absl::Status UnmountByPlugin(CancelToken* cancel, const std::string& ns,
                               const record::v1::Volume& volume, const std::string& id);
  // Mounts the part of the volume ("": all of it) at `place`, shown by the ids.
  static absl::Status MountPart(const std::string& data_directory, const std::string& subpath,
                                const IdMaps& ids, bool recursive, const std::string& place);

  const Parts parts_;
  OperationLocks turns_;  // of volumes

  absl::Mutex mu_;
  std::map<Key, std::set<std::string>> users_ ABSL_GUARDED_BY(mu_);  // of volumes with options
  std::set<Key> entered_ ABSL_GUARDED_BY(mu_);                       // namespace and container
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_RUN_VOLUMES_H_
