// Volumes of containers: held while one is being created, removed with the last one.
//
// A part of VolumeService; both work on the same volumes.
//
// Thread-safe. kNotFound: "get NAME: no such volume".
#ifndef GANTRY_SUPERVISOR_CORE_VOLUME_HOLDS_H_
#define GANTRY_SUPERVISOR_CORE_VOLUME_HOLDS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "proto/gantry/v1/volumes.pb.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/metadata/volume_store.h"

namespace gantry::core {

class VolumeHolds;

// Keeps a volume from being removed while it lives. Move-only.
class VolumeHold {
 public:
  VolumeHold() = default;
  ~VolumeHold();
  VolumeHold(VolumeHold&& other) noexcept;
  VolumeHold& operator=(VolumeHold&& other) noexcept;

 private:
  friend class VolumeHolds;
  VolumeHold(VolumeHolds* holds, std::pair<std::string, std::string> key)
      : holds_(holds), key_(std::move(key)) {}
  VolumeHolds* holds_ = nullptr;
  std::pair<std::string, std::string> key_;  // namespace and name
};

class VolumeHolds {
 public:
  // Made by the service, which outlives it.
  explicit VolumeHolds(VolumeService& service);

  // Makes the volume if it is not there, and holds it for a container that is being created.
  struct Held {
    std::string name;
    std::string driver;
    std::string data_directory;  // "": its driver says where it is once it is mounted
    bool is_mount = false;       // its data is there while it is mounted only
    bool maps_ids = false;       // its files can be shown by other ids
    bool limited = false;        // it has a size
    VolumeHold hold;
  };
  // `kept`: what is made survives a power cut. An anonymous volume that is made goes at the next
  // start of the daemon unless a container uses it then.
  absl::StatusOr<Held> Hold(const CallContext& context, const v1::CreateVolumeRequest& request,
                            bool kept);

  // The same for one that must be there. kNotFound.
  absl::StatusOr<Held> HoldExisting(const CallContext& context, const std::string& name);

  // For the anonymous volumes of a container that is being removed. Before its record is deleted:
  // if the daemon dies, the next one goes on. Those that are not there are passed over.
  absl::Status NoteGoing(const CallContext& context, const std::vector<std::string>& names);
  // Takes it back: a container's record names them now. Failures are logged.
  void NoteOwned(const CallContext& context, const std::vector<std::string>& names);
  // After its record is gone: removes those that no container uses. Others stay, without an error.
  void RemoveUnused(const CallContext& context, const std::vector<std::string>& names);

 private:
  friend class VolumeHold;
  friend class VolumeService;
  using Key = VolumeService::Key;
  using Turn = VolumeService::Turn;

  Held HoldInTurn(const metadata::StoredVolume& volume);
  bool IsHeld(const Key& key);
  void LetGo(const Key& key);

  VolumeService& service_;
  const VolumeService::Parts& parts_;

  absl::Mutex mu_;
  std::map<Key, int> held_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_VOLUME_HOLDS_H_
