// Volumes: made, listed, removed. How containers get theirs is container_volumes.h's.
//
// Which containers use a volume is read from their records each time; there is no second count. A
// volume that a container is being created with is held (volume_holds.h) until the container's
// record names it. A volume's directory is made before its record, and its record goes before its
// directory does (volume/local_driver.h).
//
// Thread-safe. kNotFound: "get NAME: no such volume".
#ifndef GANTRY_SUPERVISOR_CORE_VOLUME_SERVICE_H_
#define GANTRY_SUPERVISOR_CORE_VOLUME_SERVICE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "base/clock.h"
#include "proto/gantry/v1/volumes.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/event.h"
#include "supervisor/metadata/volume_store.h"
#include "supervisor/volume/local_driver.h"

namespace gantry::volume {
class PluginDrivers;
}

namespace gantry::core {

class EventBus;
class VolumeHolds;
struct Stores;

// Label of a volume whose name was made up, as docker has it.
inline constexpr char kAnonymousVolumeLabel[] = "com.docker.volume.anonymous";

class VolumeService {
 public:
  // Nothing is owned.
  struct Parts {
    metadata::VolumeStore* store;
    volume::LocalDriver* local;
    Stores* stores;
    const Clock* clock;
    EventBus* events = nullptr;                // null: nothing is published
    volume::PluginDrivers* plugins = nullptr;  // null: there is the local driver alone
  };
  explicit VolumeService(const Parts& parts);
  ~VolumeService();
  VolumeService(const VolumeService&) = delete;
  VolumeService& operator=(const VolumeService&) = delete;

  // A volume of that name and driver that is there is returned as it is.
  //   kInvalidArgument  name, label or option
  //   kNotFound         no such driver
  //   kAlreadyExists    another driver has a volume of that name
  absl::StatusOr<v1::CreateVolumeResponse> Create(const CallContext& context,
                                                  const v1::CreateVolumeRequest& request);
  // With the containers that use each; sizes only if asked for.
  absl::StatusOr<v1::ListVolumesResponse> List(const CallContext& context,
                                               const v1::ListVolumesRequest& request);
  absl::StatusOr<v1::InspectVolumeResponse> Inspect(const CallContext& context,
                                                    const v1::InspectVolumeRequest& request);
  // kFailedPrecondition: containers use it, or one is being created with it. With `force` a volume
  // that is not there is no error.
  absl::StatusOr<v1::RemoveVolumeResponse> Remove(const CallContext& context,
                                                  const v1::RemoveVolumeRequest& request);
  // Those of the local driver, without options, that no container uses: anonymous ones, or all.
  absl::StatusOr<v1::PruneVolumesResponse> Prune(const CallContext& context,
                                                 const v1::PruneVolumesRequest& request);

  // Makes a volume and, before its record is written, lets `fill` put something into its directory.
  // A failure leaves nothing. kAlreadyExists: the name.
  absl::StatusOr<v1::CreateVolumeResponse> CreateFilled(
      const CallContext& context, const v1::CreateVolumeRequest& request,
      const std::function<absl::Status(const std::string& directory)>& fill);

  // kAlreadyExists: the new name; kFailedPrecondition: it is held or used.
  absl::StatusOr<v1::RenameVolumeResponse> Rename(const CallContext& context,
                                                  const v1::RenameVolumeRequest& request);

  // At start, before any other call: removes what an earlier daemon left half-made or was about to
  // remove.
  absl::Status Reconcile();

  // Where the host has what containers see of a volume.
  std::string DataDirectory(const std::string& ns, const std::string& name) const {
    return parts_.local->DataDirectory({ns, name});
  }

  // "local", and the drivers that can be found.
  std::vector<std::string> Drivers() const;

  // Publishes one of docker's volume events.
  void Publish(const CallContext& context, absl::string_view action, const std::string& name,
               Event::Attributes attributes);

  // Volumes of containers that are being created and removed; lives and ends with this.
  VolumeHolds& holds() const { return *holds_; }

 private:
  friend class VolumeHolds;
  using Key = std::pair<std::string, std::string>;
  using Users = std::map<std::string, std::vector<std::string>>;  // volume -> container ids

  // Records and directories of one volume change by one call at a time. Waits for its turn.
  class Turn;

  // Gives a request without a name one, and the label that says so.
  static void NameAnonymous(v1::CreateVolumeRequest& request);
  // The containers that use each volume, from their records.
  absl::StatusOr<Users> UsersOf(const CallContext& context);
  // In the volume's turn: the one that is there, or a new one.
  absl::StatusOr<metadata::StoredVolume> FindOrMake(const CallContext& context,
                                                    const v1::CreateVolumeRequest& request,
                                                    const std::string& name, bool kept, bool going);
  // In its turn. `fill` may be empty.
  absl::StatusOr<metadata::StoredVolume> MakeInTurn(
      const CallContext& context, const v1::CreateVolumeRequest& request, const std::string& name,
      bool kept, bool going, const std::function<absl::Status(const std::string& directory)>& fill);
  // In its turn. kFailedPrecondition: it is held or used; `doing` leads the message.
  absl::Status CheckUnused(const CallContext& context, absl::string_view doing,
                           const std::string& name);
  // In its turn. kFailedPrecondition: it is held or used. `force`: also if its driver is gone.
  absl::Status RemoveInTurn(const CallContext& context, const std::string& name,
                            bool force = false);
  absl::Status RemoveOfPlugin(const CallContext& context, const metadata::StoredVolume& volume,
                              bool force);
  absl::StatusOr<metadata::StoredVolume> MakeOfPlugin(const CallContext& context,
                                                      const v1::CreateVolumeRequest& request,
                                                      const std::string& name, bool kept,
                                                      bool going);
  // What drivers know of their volumes, those included that were made for others. What does not
  // answer is a warning.
  void AddOfPlugins(const CallContext& context, const std::vector<metadata::StoredVolume>& stored,
                    v1::ListVolumesResponse& response,
                    const std::function<bool(const metadata::StoredVolume&)>& fits);
  v1::Volume ViewOf(const metadata::StoredVolume& volume) const;

  const Parts parts_;

  absl::Mutex mu_;
  std::set<Key> busy_ ABSL_GUARDED_BY(mu_);

  const std::unique_ptr<VolumeHolds> holds_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_VOLUME_SERVICE_H_
