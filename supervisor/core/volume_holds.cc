#include "supervisor/core/volume_holds.h"

#include <utility>

#include "glog/logging.h"

#include "base/status_macros.h"
#include "supervisor/core/volume_turn.h"
#include "supervisor/volume/options.h"

namespace gantry::core {
namespace {

using metadata::StoredVolume;

}  // namespace

VolumeHolds::VolumeHolds(VolumeService& service) : service_(service), parts_(service.parts_) {}

VolumeHold::~VolumeHold() {
  if (holds_ != nullptr) holds_->LetGo(key_);
}

VolumeHold::VolumeHold(VolumeHold&& other) noexcept
    : holds_(std::exchange(other.holds_, nullptr)), key_(std::move(other.key_)) {}

VolumeHold& VolumeHold::operator=(VolumeHold&& other) noexcept {
  std::swap(holds_, other.holds_);
  std::swap(key_, other.key_);
  return *this;
}

void VolumeHolds::LetGo(const Key& key) {
  absl::MutexLock lock(&mu_);
  const auto held = held_.find(key);
  if (held != held_.end() && --held->second == 0) held_.erase(held);
}

bool VolumeHolds::IsHeld(const Key& key) {
  absl::MutexLock lock(&mu_);
  return held_.count(key) > 0;
}

absl::StatusOr<VolumeHolds::Held> VolumeHolds::Hold(const CallContext& context,
                                                    const v1::CreateVolumeRequest& asked,
                                                    bool kept) {
  v1::CreateVolumeRequest request = asked;
  const bool anonymous = request.name().empty();
  if (anonymous) VolumeService::NameAnonymous(request);
  GANTRY_RETURN_IF_ERROR(volume::CheckVolumeName(request.name()));
  const Turn turn(service_, {context.ns, request.name()});
  GANTRY_ASSIGN_OR_RETURN(const StoredVolume made,
                          service_.FindOrMake(context, request, request.name(), kept || !anonymous,
                                              /*going=*/anonymous));
  return HoldInTurn(made);
}

VolumeHolds::Held VolumeHolds::HoldInTurn(const StoredVolume& volume) {
  Key key(volume.ns, volume.record.name());
  Held held;
  held.name = volume.record.name();
  held.driver = volume.record.driver();
  const bool plugin = volume.record.driver() != volume::kLocalDriver;
  if (!plugin) held.data_directory = parts_.local->DataDirectory({volume.ns, volume.record.name()});
  const volume::Options options(volume.record.options().begin(), volume.record.options().end());
  held.is_mount = plugin || volume::IsMounted(options);
  held.limited = !plugin && volume::SizeOf(options) > 0;
  held.maps_ids = !plugin && volume::MapsIds(options);
  {
    absl::MutexLock lock(&mu_);
    ++held_[key];
  }
  held.hold = VolumeHold(this, std::move(key));
  return held;
}

absl::StatusOr<VolumeHolds::Held> VolumeHolds::HoldExisting(const CallContext& context,
                                                            const std::string& name) {
  const Turn turn(service_, {context.ns, name});
  GANTRY_ASSIGN_OR_RETURN(const StoredVolume found, parts_.store->Find({context.ns, ""}, name));
  return HoldInTurn(found);
}

absl::Status VolumeHolds::NoteGoing(const CallContext& context,
                                    const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const absl::Status noted = parts_.store->SetGoing({context.ns, ""}, name, true);
    if (!noted.ok() && !absl::IsNotFound(noted)) return noted;
  }
  return absl::OkStatus();
}

void VolumeHolds::NoteOwned(const CallContext& context, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const absl::Status noted = parts_.store->SetGoing({context.ns, ""}, name, false);
    // The next start finds the container that uses it.
    LOG_IF(WARNING, !noted.ok()) << "ns=" << context.ns << " volume=" << name << " " << noted;
  }
}

void VolumeHolds::RemoveUnused(const CallContext& context, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const Turn turn(service_, {context.ns, name});
    absl::Status removed = service_.RemoveInTurn(context, name);
    // Another container's now, which may be removed without its volumes.
    if (absl::IsFailedPrecondition(removed))
      removed = parts_.store->SetGoing({context.ns, ""}, name, false);
    LOG_IF(WARNING, !removed.ok() && !absl::IsNotFound(removed))
        << "ns=" << context.ns << " volume=" << name << " " << removed;
  }
}

}  // namespace gantry::core
