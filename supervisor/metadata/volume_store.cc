#include "supervisor/metadata/volume_store.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "supervisor/metadata/key_space.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

constexpr RecordStore kStore(kVolumes);

absl::Status NoSuchVolume(absl::string_view name) {
  return absl::NotFoundError(absl::StrCat("get ", name, ": no such volume"));
}

}  // namespace

absl::StatusOr<StoredVolume> VolumeStore::Find(const Scope& scope, absl::string_view name) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  if (!ValidateName("volume name", name).ok()) return NoSuchVolume(name);
  GANTRY_ASSIGN_OR_RETURN(std::optional<record::v1::Volume> record,
                          kStore.Get(db_, MakeKey(scope.ns, name)));
  if (!record.has_value()) return NoSuchVolume(name);
  return StoredVolume{scope.ns, *std::move(record)};
}

absl::StatusOr<std::vector<StoredVolume>> VolumeStore::List(absl::string_view ns) {
  const ReadView view(db_);
  std::vector<StoredVolume> all;
  GANTRY_RETURN_IF_ERROR(
      kStore.List(view, ns.empty() ? std::string() : MakePrefix(ns),
                  [&all](absl::string_view key, const record::v1::Volume& record) {
                    all.push_back({std::string(key.substr(0, key.find(kSeparator))), record});
                    return absl::OkStatus();
                  }));
  return all;
}

absl::StatusOr<StoredVolume> VolumeStore::Create(const Scope& scope, record::v1::Volume record,
                                                 Durability durability) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("volume name", record.name()));
  GANTRY_RETURN_IF_ERROR(ValidateLabels(LabelMap(record.labels().begin(), record.labels().end())));
  const std::string key = MakeKey(scope.ns, record.name());
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        GANTRY_ASSIGN_OR_RETURN(const std::optional<record::v1::Volume> there,
                                kStore.GetForUpdate(tx, key));
        if (there.has_value()) {
          return absl::AlreadyExistsError(
              absl::StrCat("volume with name ", record.name(), " already exists"));
        }
        return kStore.Put(tx, key, record);
      },
      durability));
  return StoredVolume{scope.ns, std::move(record)};
}

absl::Status VolumeStore::Change(const Scope& scope, absl::string_view name, Durability durability,
                                 const std::function<void(record::v1::Volume&)>& change) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("volume name", name));
  const std::string key = MakeKey(scope.ns, name);
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_ASSIGN_OR_RETURN(std::optional<record::v1::Volume> there,
                                kStore.GetForUpdate(tx, key));
        if (!there.has_value()) return NoSuchVolume(name);
        change(*there);
        tx.NoteEssential();
        return kStore.Put(tx, key, *there);
      },
      durability);
}

absl::Status VolumeStore::SetGoing(const Scope& scope, absl::string_view name, bool going) {
  // Not synced: the write of the container's record, which follows or went before, is what counts.
  return Change(scope, name, Durability::kBuffered,
                [going](record::v1::Volume& volume) { volume.set_going(going); });
}

absl::Status VolumeStore::AddMount(const Scope& scope, absl::string_view name,
                                   const record::v1::VolumeMount& mount) {
  return Change(scope, name, Durability::kSynced, [&mount](record::v1::Volume& volume) {
    // Attempts that failed one after the other leave one note.
    for (const record::v1::VolumeMount& one : volume.mounts()) {
      if (one.id() == mount.id()) return;
    }
    *volume.add_mounts() = mount;
  });
}

absl::Status VolumeStore::RemoveMount(const Scope& scope, absl::string_view name,
                                      absl::string_view id) {
  // What a power cut brings back is unmounted once more.
  return Change(scope, name, Durability::kBuffered, [id](record::v1::Volume& volume) {
    auto& mounts = *volume.mutable_mounts();
    for (int i = mounts.size() - 1; i >= 0; --i) {
      if (mounts.Get(i).id() == id) mounts.DeleteSubrange(i, 1);
    }
  });
}

absl::Status VolumeStore::Rename(const Scope& scope, absl::string_view name,
                                 absl::string_view new_name) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("volume name", name));
  GANTRY_RETURN_IF_ERROR(ValidateName("volume name", new_name));
  const std::string from = MakeKey(scope.ns, name);
  const std::string to = MakeKey(scope.ns, new_name);
  return db_.Run([&](Transaction& tx) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(std::optional<record::v1::Volume> record,
                            kStore.GetForUpdate(tx, from));
    if (!record.has_value()) return NoSuchVolume(name);
    GANTRY_ASSIGN_OR_RETURN(const std::optional<record::v1::Volume> there,
                            kStore.GetForUpdate(tx, to));
    if (there.has_value()) {
      return absl::AlreadyExistsError(
          absl::StrCat("volume with name ", new_name, " already exists"));
    }
    record->set_name(std::string(new_name));
    GANTRY_RETURN_IF_ERROR(kStore.Delete(tx, from));
    return kStore.Put(tx, to, *record);
  });
}

absl::Status VolumeStore::Delete(const Scope& scope, absl::string_view name) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("volume name", name));
  const std::string key = MakeKey(scope.ns, name);
  return db_.Run([&](Transaction& tx) -> absl::Status {
    GANTRY_ASSIGN_OR_RETURN(const std::optional<record::v1::Volume> there,
                            kStore.GetForUpdate(tx, key));
    if (!there.has_value()) return NoSuchVolume(name);
    return kStore.Delete(tx, key);
  });
}

}  // namespace gantry::metadata
