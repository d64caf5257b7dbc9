#include "supervisor/core/volume_service.h"

#include <sys/random.h>

#include <algorithm>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

#include "base/crash_point.h"
#include "base/field_error.h"
#include "base/status_macros.h"
#include "supervisor/core/brief_containers.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/filters.h"
#include "supervisor/core/proto_time.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/volume_holds.h"
#include "supervisor/core/volume_turn.h"
#include "supervisor/volume/options.h"
#include "supervisor/volume/plugin_driver.h"

namespace gantry::core {
namespace {

using metadata::StoredVolume;
using volume::VolumeKey;

std::string RandomVolumeName() {
  std::string random(32, '\0');
  size_t done = 0;
  while (done < random.size()) {
    const ssize_t got = getrandom(random.data() + done, random.size() - done, 0);
    if (got > 0) done += static_cast<size_t>(got);
  }
  return absl::BytesToHexString(random);
}

VolumeKey KeyOf(const StoredVolume& volume) { return {volume.ns, volume.record.name()}; }

bool IsOfPlugin(const StoredVolume& volume) {
  return volume.record.driver() != volume::kLocalDriver;
}

bool IsAnonymous(const StoredVolume& volume) {
  return volume.record.labels().contains(kAnonymousVolumeLabel);
}

absl::Status InUse(absl::string_view doing, absl::string_view name, absl::string_view by) {
  return absl::FailedPreconditionError(
      absl::StrCat(doing, " ", name, ": volume is in use - [", by, "]"));
}

}  // namespace

VolumeService::VolumeService(const Parts& parts)
    : parts_(parts), holds_(std::make_unique<VolumeHolds>(*this)) {}

VolumeService::~VolumeService() = default;

void VolumeService::NameAnonymous(v1::CreateVolumeRequest& request) {
  request.set_name(RandomVolumeName());
  (*request.mutable_labels())[kAnonymousVolumeLabel] = "";
}

v1::Volume VolumeService::ViewOf(const StoredVolume& volume) const {
  v1::Volume view;
  view.set_name(volume.record.name());
  view.set_driver(volume.record.driver());
  if (!IsOfPlugin(volume)) view.set_mountpoint(parts_.local->DataDirectory(KeyOf(volume)));
  *view.mutable_labels() = volume.record.labels();
  *view.mutable_options() = volume.record.options();
  *view.mutable_created_at() = volume.record.created_at();
  view.set_scope("local");
  view.set_size_bytes(-1);
  return view;
}

absl::StatusOr<VolumeService::Users> VolumeService::UsersOf(const CallContext& context) {
  Users users;
  GANTRY_RETURN_IF_ERROR(
      EachBriefly(*parts_.stores, context.ns, [&users](const LoadedContainer& one) {
        for (const v1::Mount& mount : one.config.mounts()) {
          if (mount.type() != v1::Mount::VOLUME || mount.volume_name().empty()) continue;
          std::vector<std::string>& ids = users[mount.volume_name()];
          // At several places in one container.
          if (ids.empty() || ids.back() != one.id()) ids.push_back(one.id());
        }
      }));
  return users;
}

void VolumeService::Publish(const CallContext& context, absl::string_view action,
                            const std::string& name, Event::Attributes attributes) {
  if (parts_.events == nullptr) return;
  parts_.events->Publish(context.ns,
                         Event(EventKind::kVolume, action, name, std::move(attributes)));
}

absl::StatusOr<StoredVolume> VolumeService::FindOrMake(const CallContext& context,
                                                       const v1::CreateVolumeRequest& request,
                                                       const std::string& name, bool kept,
                                                       bool going) {
  const std::string driver = request.driver().empty() ? volume::kLocalDriver : request.driver();
  absl::StatusOr<StoredVolume> found = parts_.store->Find({context.ns, ""}, name);
  if (found.ok()) {
    if (request.driver().empty() || found->record.driver() == driver) return found;
    return absl::AlreadyExistsError(absl::StrCat("create ", name, ": driver '",
                                                 found->record.driver(), "' already has volume '",
                                                 name, "': volume name must be unique"));
  }
  if (!absl::IsNotFound(found.status())) return found.status();
  if (driver != volume::kLocalDriver && parts_.plugins == nullptr) {
    return absl::NotFoundError(absl::StrCat("error looking up volume plugin ", driver,
                                            ": plugin \"", driver, "\" not found"));
  }
  if (driver != volume::kLocalDriver) return MakeOfPlugin(context, request, name, kept, going);
  return MakeInTurn(context, request, name, kept, going, /*fill=*/nullptr);
}

absl::StatusOr<StoredVolume> VolumeService::MakeInTurn(
    const CallContext& context, const v1::CreateVolumeRequest& request, const std::string& name,
    bool kept, bool going, const std::function<absl::Status(const std::string&)>& fill) {
  GANTRY_RETURN_IF_ERROR(
      volume::CheckOptions(volume::Options(request.options().begin(), request.options().end())));
  StoredVolume fresh;
  fresh.ns = context.ns;
  fresh.record.set_name(name);
  fresh.record.set_driver(volume::kLocalDriver);
  *fresh.record.mutable_options() = request.options();
  *fresh.record.mutable_labels() = request.labels();
  fresh.record.set_anonymous(IsAnonymous(fresh));
  fresh.record.set_going(going);
  SetTimestamp(parts_.clock->Now(), fresh.record.mutable_created_at());
  GANTRY_RETURN_IF_ERROR(parts_.local->Make(
      KeyOf(fresh), kept,
      volume::SizeOf(volume::Options(request.options().begin(), request.options().end()))));
  absl::StatusOr<StoredVolume> made = StoredVolume();
  if (fill) {
    const absl::Status filled = fill(parts_.local->Directory(KeyOf(fresh)));
    if (!filled.ok()) made = filled;
  }
  if (made.ok()) {
    made = parts_.store->Create(
        {context.ns, ""}, fresh.record,
        kept ? metadata::Durability::kSynced : metadata::Durability::kBuffered);
  }
  if (!made.ok()) {
    const absl::Status undone = parts_.local->Remove(KeyOf(fresh));
    LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " volume=" << name << " " << undone;
    return made.status();
  }
  CrashPoint("volume.recorded");
  // A mark that stays is taken away by the next start.
  const absl::Status noted = parts_.local->NoteRecorded(KeyOf(fresh));
  LOG_IF(WARNING, !noted.ok()) << "ns=" << context.ns << " volume=" << name << " " << noted;
  Publish(context, action::kCreate, name, {{"driver", volume::kLocalDriver}});
  return made;
}

absl::StatusOr<v1::CreateVolumeResponse> VolumeService::Create(
    const CallContext& context, const v1::CreateVolumeRequest& asked) {
  v1::CreateVolumeRequest request = asked;
  if (request.name().empty()) NameAnonymous(request);
  GANTRY_RETURN_IF_ERROR(volume::CheckVolumeName(request.name()));
  const Turn turn(*this, {context.ns, request.name()});
  GANTRY_ASSIGN_OR_RETURN(const StoredVolume made, FindOrMake(context, request, request.name(),
                                                              /*kept=*/true, /*going=*/false));
  v1::CreateVolumeResponse response;
  *response.mutable_volume() = ViewOf(made);
  return response;
}

absl::StatusOr<v1::CreateVolumeResponse> VolumeService::CreateFilled(
    const CallContext& context, const v1::CreateVolumeRequest& request,
    const std::function<absl::Status(const std::string&)>& fill) {
  GANTRY_RETURN_IF_ERROR(volume::CheckVolumeName(request.name()));
  const Turn turn(*this, {context.ns, request.name()});
  if (parts_.store->Find({context.ns, ""}, request.name()).ok()) {
    return absl::AlreadyExistsError(
        absl::StrCat("volume with name ", request.name(), " already exists"));
  }
  GANTRY_ASSIGN_OR_RETURN(const StoredVolume made,
                          MakeInTurn(context, request, request.name(), /*kept=*/true,
                                     /*going=*/false, fill));
  v1::CreateVolumeResponse response;
  *response.mutable_volume() = ViewOf(made);
  return response;
}

absl::StatusOr<v1::RenameVolumeResponse> VolumeService::Rename(
    const CallContext& context, const v1::RenameVolumeRequest& request) {
  GANTRY_RETURN_IF_ERROR(volume::CheckVolumeName(request.new_name()));
  if (request.name() == request.new_name())
    return FieldError("new_name", absl::StrCat("\"", request.name(), "\" is its name already"));
  // Always in this order: two renames in opposite directions do not wait for each other.
  const auto& [first, second] = std::minmax(request.name(), request.new_name());
  const Turn turn(*this, {context.ns, first});
  const Turn other(*this, {context.ns, second});
  GANTRY_ASSIGN_OR_RETURN(const StoredVolume found,
                          parts_.store->Find({context.ns, ""}, request.name()));
  GANTRY_RETURN_IF_ERROR(CheckUnused(context, "rename", request.name()));
  if (IsOfPlugin(found)) {
    return FieldError(
        "name", absl::StrCat("volume ", request.name(), " is of the driver ", found.record.driver(),
                             ", whose protocol knows no renaming"));
  }
  if (parts_.store->Find({context.ns, ""}, request.new_name()).ok()) {
    return absl::AlreadyExistsError(
        absl::StrCat("volume with name ", request.new_name(), " already exists"));
  }
  const VolumeKey fresh = {context.ns, request.new_name()};
  GANTRY_RETURN_IF_ERROR(parts_.local->Rename(KeyOf(found), request.new_name()));
  CrashPoint("volume.directory_renamed");
  const absl::Status recorded =
      parts_.store->Rename({context.ns, ""}, request.name(), request.new_name());
  if (!recorded.ok()) {
    const absl::Status undone = parts_.local->UndoRename(fresh);
    LOG_IF(ERROR, !undone.ok()) << "ns=" << context.ns << " volume=" << request.name() << " "
                                << undone;
    return recorded;
  }
  CrashPoint("volume.renamed");
  const absl::Status noted = parts_.local->NoteRenamed(fresh);
  LOG_IF(WARNING, !noted.ok()) << "ns=" << context.ns << " volume=" << request.new_name() << " "
                               << noted;
  Publish(context, "rename", request.new_name(), {{"oldName", request.name()}});
  return v1::RenameVolumeResponse();
}

absl::StatusOr<v1::ListVolumesResponse> VolumeService::List(const CallContext& context,
                                                            const v1::ListVolumesRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const Filters filters,
                          Filters::Parse(request.filters(), {"dangling", "driver", "name"}));
  std::optional<bool> dangling;
  for (const std::string& value : filters.Values("dangling")) {
    GANTRY_ASSIGN_OR_RETURN(dangling, ParseTruth("dangling", value));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredVolume> stored, parts_.store->List(context.ns));
  GANTRY_ASSIGN_OR_RETURN(const Users users, UsersOf(context));
  v1::ListVolumesResponse response;
  const auto fits = [&](const StoredVolume& one) {
    return filters.Any("driver", [&](const std::string& v) { return v == one.record.driver(); }) &&
           filters.Any(
               "name",
               [&](const std::string& v) { return absl::StrContains(one.record.name(), v); }) &&
           (!dangling.has_value() || *dangling == (users.count(one.record.name()) == 0)) &&
           filters.LabelsMatch(one.record.labels());
  };
  for (const StoredVolume& one : stored) {
    const auto used = users.find(one.record.name());
    if (!fits(one)) continue;
    v1::Volume& view = *response.add_volumes() = ViewOf(one);
    if (used != users.end()) {
      for (const std::string& id : used->second) view.add_container_ids(id);
    }
    if (request.size() && !IsOfPlugin(one))
      view.set_size_bytes(parts_.local->SizeBytes(KeyOf(one)).value_or(-1));
  }
  AddOfPlugins(context, stored, response, fits);
  return response;
}

absl::StatusOr<v1::InspectVolumeResponse> VolumeService::Inspect(
    const CallContext& context, const v1::InspectVolumeRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const StoredVolume found,
                          parts_.store->Find({context.ns, ""}, request.name()));
  v1::InspectVolumeResponse response;
  v1::Volume& view = *response.mutable_volume() = ViewOf(found);
  GANTRY_ASSIGN_OR_RETURN(const Users users, UsersOf(context));
  const auto used = users.find(request.name());
  if (used != users.end()) {
    for (const std::string& id : used->second) view.add_container_ids(id);
  }
  if (IsOfPlugin(found)) {
    if (parts_.plugins == nullptr)
      return absl::NotFoundError(absl::StrCat("plugin \"", view.driver(), "\" not found"));
    GANTRY_ASSIGN_OR_RETURN(const volume::PluginVolume theirs,
                            parts_.plugins->Get(context.cancel, view.driver(), view.name()));
    view.set_mountpoint(theirs.mountpoint);
    view.mutable_status()->insert(theirs.status.begin(), theirs.status.end());
    view.set_scope(parts_.plugins->Scope(context.cancel, view.driver()).value_or("local"));
  } else if (request.size()) {
    view.set_size_bytes(parts_.local->SizeBytes(KeyOf(found)).value_or(-1));
  }
  return response;
}

absl::Status VolumeService::CheckUnused(const CallContext& context, absl::string_view doing,
                                        const std::string& name) {
  if (holds_->IsHeld({context.ns, name})) {
    return InUse(doing, name, "a container that is being created, or a copy that is being made");
  }
  GANTRY_ASSIGN_OR_RETURN(const Users users, UsersOf(context));
  if (const auto used = users.find(name); used != users.end())
    return InUse(doing, name, absl::StrJoin(used->second, ", "));
  return absl::OkStatus();
}

absl::Status VolumeService::RemoveInTurn(const CallContext& context, const std::string& name,
                                         bool force) {
  GANTRY_ASSIGN_OR_RETURN(const StoredVolume found, parts_.store->Find({context.ns, ""}, name));
  GANTRY_RETURN_IF_ERROR(CheckUnused(context, "remove", name));
  if (IsOfPlugin(found)) return RemoveOfPlugin(context, found, force);
  if (parts_.local->IsMounted(KeyOf(found))) {
    return absl::FailedPreconditionError(
        absl::StrCat("remove ", name, ": volume has active mounts"));
  }
  GANTRY_RETURN_IF_ERROR(parts_.local->NoteGoing(KeyOf(found)));
  CrashPoint("volume.going");
  const absl::Status deleted = parts_.store->Delete({context.ns, ""}, name);
  if (!deleted.ok()) {
    const absl::Status undone = parts_.local->NoteRecorded(KeyOf(found));
    LOG_IF(WARNING, !undone.ok()) << "ns=" << context.ns << " volume=" << name << " " << undone;
    return deleted;
  }
  CrashPoint("volume.forgotten");
  // What stays after a failure has no record: the next start takes it away.
  const absl::Status gone = parts_.local->Remove(KeyOf(found));
  LOG_IF(WARNING, !gone.ok()) << "ns=" << context.ns << " volume=" << name
                              << " directory left until the next start: " << gone;
  Publish(context, action::kDestroy, name, {{"driver", found.record.driver()}});
  return absl::OkStatus();
}

absl::StatusOr<v1::RemoveVolumeResponse> VolumeService::Remove(
    const CallContext& context, const v1::RemoveVolumeRequest& request) {
  const Turn turn(*this, {context.ns, request.name()});
  const absl::Status removed = RemoveInTurn(context, request.name(), request.force());
  if (!removed.ok() && !(request.force() && absl::IsNotFound(removed))) return removed;
  return v1::RemoveVolumeResponse();
}

absl::StatusOr<v1::PruneVolumesResponse> VolumeService::Prune(
    const CallContext& context, const v1::PruneVolumesRequest& request) {
  GANTRY_ASSIGN_OR_RETURN(const Filters filters, Filters::Parse(request.filters(), {"all"}));
  bool all = request.all();
  if (filters.Values("all").size() > 1)
    return FieldError("filters", "invalid filter 'all': only one value is expected");
  for (const std::string& value : filters.Values("all")) {
    GANTRY_ASSIGN_OR_RETURN(all, ParseTruth("all", value));
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredVolume> stored, parts_.store->List(context.ns));
  GANTRY_ASSIGN_OR_RETURN(const Users users, UsersOf(context));
  v1::PruneVolumesResponse response;
  for (const StoredVolume& one : stored) {
    const std::string& name = one.record.name();
    if (one.record.driver() != volume::kLocalDriver || !one.record.options().empty()) continue;
    if (!all && !IsAnonymous(one)) continue;
    if (!filters.LabelsMatch(one.record.labels()) || users.count(name) > 0) continue;
    const Turn turn(*this, {context.ns, name});
    const int64_t bytes = parts_.local->SizeBytes(KeyOf(one)).value_or(0);
    const absl::Status removed = RemoveInTurn(context, name);
    // Removed or taken into use meanwhile.
    if (absl::IsNotFound(removed) || absl::IsFailedPrecondition(removed)) continue;
    GANTRY_RETURN_IF_ERROR(removed);
    response.add_names(name);
    response.set_space_reclaimed_bytes(response.space_reclaimed_bytes() + bytes);
  }
  Publish(context, "prune", "", {{"reclaimed", absl::StrCat(response.space_reclaimed_bytes())}});
  return response;
}

absl::Status VolumeService::Reconcile() {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<StoredVolume> stored, parts_.store->List(""));
  std::set<Key> recorded;
  std::map<std::string, std::vector<std::string>> going;  // namespace -> names
  for (const StoredVolume& one : stored) {
    recorded.insert({one.ns, one.record.name()});
    if (one.record.going()) going[one.ns].push_back(one.record.name());
  }
  const absl::Status swept = parts_.local->Sweep([&recorded](const VolumeKey& volume) {
    return recorded.count({volume.ns, volume.name}) > 0;
  });
  for (const auto& [ns, names] : going) {
    CallContext context;
    context.ns = ns;
    holds_->RemoveUnused(context, names);
  }
  return swept;
}

}  // namespace gantry::core
