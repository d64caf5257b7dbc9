// The volumes of a container that is being created: those that are named are made if they are not
// there, anonymous ones are made, and what is empty gets the image's content.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_VOLUMES_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_VOLUMES_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "snapshotter/mount.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/id_choice.h"
#include "supervisor/core/volume_holds.h"
#include "supervisor/core/volume_service.h"

namespace gantry::v1 {
class ContainerConfig;
}  // namespace gantry::v1

namespace gantry::core {

struct NetworkChoice;
class RunVolumes;

class ContainerVolumes {
 public:
  // Nothing is owned.
  struct Parts {
    VolumeService* volumes;
    ContainerRecords* records;
    RunVolumes* runs;             // mounts volumes with options
    std::string state_directory;  // <state>/mounts/ holds mounts for the length of a call
    IdChoice* ids = nullptr;      // null: all have the host's ids
  };
  explicit ContainerVolumes(const Parts& parts) : parts_(parts) {}

  // What one container was given. Unless it is kept, the anonymous volumes go again with it.
  // Move-only.
  class Given {
   public:
    Given() = default;
    ~Given();
    Given(Given&& other) noexcept { Swap(other); }
    Given& operator=(Given&& other) noexcept {
      Swap(other);
      return *this;
    }
    // Directories of the host, by the place where the container sees them.
    const std::map<std::string, std::string>& sources() const { return sources_; }
    // A volume among them has a size.
    bool limited() const { return limited_; }
    // The container's record is written.
    void Keep();

   private:
    friend class ContainerVolumes;
    void Swap(Given& other) noexcept;

    VolumeService* service_ = nullptr;
    CallContext context_;
    bool goes_with_container_ = false;  // the container removes itself
    bool limited_ = false;
    std::map<std::string, std::string> sources_;
    std::vector<std::string> anonymous_;
    std::vector<VolumeHold> holds_;
  };

  // Fills in the ids of the container's user namespace, by which its root file system and its
  // volumes are shown.
  //   kInvalidArgument     the mode, or what cannot be had with ids of one's own
  //   otherwise those of IdChoice::Choose()
  absl::StatusOr<IdChoice::Chosen> ChooseIds(const CallContext& context,
                                             const NetworkChoice& network,
                                             v1::ContainerConfig& config);

  // Adds to the configuration what is not asked for by itself: the mounts of volumes_from, and the
  // image's volumes.
  //   kNotFound         no such container
  //   kInvalidArgument  a path of the image's
  absl::Status AddMounts(const CallContext& context, const std::set<std::string>& image_volumes,
                         v1::ContainerConfig& config);

  // Makes and fills the volumes, and notes their names in the configuration. `rootfs` shows the
  // container's root file system.
  absl::StatusOr<Given> Give(const CallContext& context, const std::string& id,
                             absl::Span<const snapshot::Mount> rootfs, v1::ContainerConfig& config);

 private:
  struct Empty {
    std::string name;
    std::string target;
    std::string data_directory;  // the volume's, or the part of it that is shown
    bool anonymous;
    bool mounted;  // not a plain directory of ours
  };
  // `going`: the container removes itself, and its anonymous volumes with it. They need not survive
  // a power cut.
  absl::Status Fill(const CallContext& context, const std::vector<Empty>& volumes,
                    absl::Span<const snapshot::Mount> rootfs, bool going);

  const Parts parts_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_VOLUMES_H_
