// Volumes of drivers that are not ours (volume/plugin_driver.h).
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/status_macros.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/volume_service.h"
#include "supervisor/volume/options.h"
#include "supervisor/volume/plugin_driver.h"

namespace gantry::core {
namespace {

using metadata::StoredVolume;

}  // namespace

absl::StatusOr<StoredVolume> VolumeService::MakeOfPlugin(const CallContext& context,
                                                         const v1::CreateVolumeRequest& request,
                                                         const std::string& name, bool kept,
                                                         bool going) {
  const std::string& driver = request.driver();
  // One that is there, made through another engine perhaps, is taken as it is.
  const absl::Status there = parts_.plugins->Get(context.cancel, driver, name).status();
  if (!there.ok()) {
    if (!absl::IsFailedPrecondition(there) && !absl::IsInternal(there)) return there;
    GANTRY_RETURN_IF_ERROR(parts_.plugins->Create(
        context.cancel, driver, name,
        volume::Options(request.options().begin(), request.options().end())));
  }
  CrashPoint("volume.plugin_made");
  record::v1::Volume fresh;
  fresh.set_name(name);
  fresh.set_driver(driver);
  *fresh.mutable_options() = request.options();
  *fresh.mutable_labels() = request.labels();
  fresh.set_anonymous(request.labels().contains(kAnonymousVolumeLabel));
  fresh.set_going(going);
  SetTimestamp(parts_.clock->Now(), fresh.mutable_created_at());
  absl::StatusOr<StoredVolume> made =
      parts_.store->Create({context.ns, ""}, fresh,
                           kept ? metadata::Durability::kSynced : metadata::Durability::kBuffered);
  if (!made.ok()) {
    if (there.ok()) return made.status();
    const absl::Status undone = parts_.plugins->Remove(nullptr, driver, name);
    LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " volume=" << name << " " << undone;
    return made.status();
  }
  Publish(context, action::kCreate, name, {{"driver", driver}});
  return made;
}

// The driver forgets the volume first: while the record is there the removal can be repeated.
absl::Status VolumeService::RemoveOfPlugin(const CallContext& context, const StoredVolume& volume,
                                           bool force) {
  const std::string& driver = volume.record.driver();
  const std::string& name = volume.record.name();
  absl::Status removed =
      parts_.plugins == nullptr
          ? absl::NotFoundError(absl::StrCat("plugin \"", driver, "\" not found"))
          : parts_.plugins->Remove(context.cancel, driver, name);
  // An earlier removal may have come so far.
  if (absl::IsFailedPrecondition(removed) &&
      absl::IsFailedPrecondition(parts_.plugins->Get(context.cancel, driver, name).status()))
    removed = absl::OkStatus();
  if (!removed.ok() && !force) return removed;
  LOG_IF(WARNING, !removed.ok()) << "ns=" << context.ns << " volume=" << name
                                 << " its record is removed, its driver says: " << removed;
  CrashPoint("volume.plugin_gone");
  GANTRY_RETURN_IF_ERROR(parts_.store->Delete({context.ns, ""}, name));
  Publish(context, action::kDestroy, name, {{"driver", driver}});
  return absl::OkStatus();
}

void VolumeService::AddOfPlugins(const CallContext& context,
                                 const std::vector<StoredVolume>& stored,
                                 v1::ListVolumesResponse& response,
                                 const std::function<bool(const StoredVolume&)>& fits) {
  if (parts_.plugins == nullptr) return;
  std::set<std::string> drivers = parts_.plugins->Known();
  std::set<std::string> names;
  for (const StoredVolume& one : stored) {
    names.insert(one.record.name());
    if (one.record.driver() != volume::kLocalDriver) drivers.insert(one.record.driver());
  }
  for (const std::string& driver : drivers) {
    const absl::StatusOr<std::vector<volume::PluginVolume>> theirs =
        parts_.plugins->List(context.cancel, driver);
    if (!theirs.ok()) {
      response.add_warnings(std::string(theirs.status().message()));
      continue;
    }
    for (const volume::PluginVolume& one : *theirs) {
      StoredVolume view;
      view.ns = context.ns;
      view.record.set_name(one.name);
      view.record.set_driver(driver);
      if (names.count(one.name) > 0) {
        for (v1::Volume& listed : *response.mutable_volumes()) {
          if (listed.name() == one.name && listed.driver() == driver)
            listed.set_mountpoint(one.mountpoint);
        }
      } else if (volume::CheckVolumeName(one.name).ok() && names.insert(one.name).second &&
                 fits(view)) {
        v1::Volume& added = *response.add_volumes() = ViewOf(view);
        added.clear_created_at();
        added.set_mountpoint(one.mountpoint);
      }
    }
  }
  std::sort(response.mutable_volumes()->begin(), response.mutable_volumes()->end(),
            [](const v1::Volume& a, const v1::Volume& b) { return a.name() < b.name(); });
}

std::vector<std::string> VolumeService::Drivers() const {
  std::vector<std::string> names = {volume::kLocalDriver};
  if (parts_.plugins == nullptr) return names;
  for (std::string& one : parts_.plugins->Names()) names.push_back(std::move(one));
  return names;
}

}  // namespace gantry::core
