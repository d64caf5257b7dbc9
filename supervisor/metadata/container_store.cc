#include "supervisor/metadata/container_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "supervisor/metadata/container_rows.h"
#include "supervisor/metadata/name_index.h"
#include "supervisor/metadata/record_fields.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

const RecordStore containers(kContainers);
const RecordStore states(kContainerStates);

absl::Status NotFound(const Scope& scope, absl::string_view id) {
  return absl::NotFoundError(
      absl::StrCat("container \"", id, "\" in namespace \"", scope.ns, "\": not found"));
}

absl::Status Damaged(absl::string_view id) {
  return absl::DataLossError(
      absl::StrCat("container \"", id, "\": the stored record does not parse"));
}

absl::Status Validate(const record::v1::Container& container) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("container id", container.id()));
  const std::string what = absl::StrCat("container \"", container.id(), "\": ");
  GANTRY_RETURN_IF_ERROR(ValidateLabels(LabelsOf(container.labels())));
  for (const auto& [key, value] : container.extensions()) {
    GANTRY_RETURN_IF_ERROR(ValidateName(absl::StrCat(what, "extension key"), key));
  }
  GANTRY_RETURN_IF_ERROR(
      ValidateName(absl::StrCat(what, "runtime name"), container.runtime().name()));
  for (const auto& [noun, name] :
       {std::pair<absl::string_view, absl::string_view>("image name", container.image()),
        {"snapshotter", container.snapshotter()},
        {"snapshot key", container.snapshot_key()}}) {
    if (!name.empty()) GANTRY_RETURN_IF_ERROR(ValidateName(absl::StrCat(what, noun), name));
  }
  if (!container.sandbox().empty()) {
    GANTRY_RETURN_IF_ERROR(
        ValidateIdentifier(absl::StrCat(what, "sandbox id"), container.sandbox()));
  }
  if (!container.has_spec())
    return absl::InvalidArgumentError(absl::StrCat(what, "spec must be given"));
  if (!container.snapshot_key().empty() && container.snapshotter().empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, "snapshotter must be given with a snapshot key"));
  }
  return absl::OkStatus();
}

void DropEmptyLabels(record::v1::Container& container) {
  SetLabels(PresentLabels(LabelsOf(container.labels())), container.mutable_labels());
}

absl::Status Apply(const record::v1::Container& update, absl::string_view field,
                   record::v1::Container& container) {
  if (field == "spec") {
    if (update.has_spec()) {
      *container.mutable_spec() = update.spec();
    } else {
      container.clear_spec();
    }
  } else if (field == "image") {
    container.set_image(update.image());
  } else if (field == "snapshotkey") {
    container.set_snapshot_key(update.snapshot_key());
  } else if (field == "extensions") {
    *container.mutable_extensions() = update.extensions();
  } else if (absl::string_view key = field;
             absl::ConsumePrefix(&key, "extensions.") && !key.empty()) {
    auto it = update.extensions().find(std::string(key));
    if (it == update.extensions().end()) {
      container.mutable_extensions()->erase(std::string(key));
    } else {
      (*container.mutable_extensions())[std::string(key)] = it->second;
    }
  } else {
    LabelMap labels = LabelsOf(container.labels());
    GANTRY_RETURN_IF_ERROR(ApplyLabelUpdate(absl::StrCat("container \"", container.id(), "\""),
                                            LabelsOf(update.labels()), {std::string(field)},
                                            labels));
    SetLabels(labels, container.mutable_labels());
  }
  return absl::OkStatus();
}

}  // namespace

namespace {
// A container is a root by itself: no lease holds it, and none need be there.
Scope Unleased(const Scope& scope) { return Scope{.ns = scope.ns}; }
}  // namespace

absl::StatusOr<record::v1::Container> ContainerStore::Get(const Scope& scope,
                                                          absl::string_view id) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  if (!ValidateIdentifier("container id", id).ok()) return NotFound(scope, id);
  GANTRY_ASSIGN_OR_RETURN(const std::string bytes, GetRaw(scope, id));
  Container container;
  if (!container.ParseFromString(bytes)) return Damaged(id);
  return container;
}

absl::StatusOr<std::string> ContainerStore::GetRaw(const Scope& scope, absl::string_view id) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("container id", id));
  const std::string key = MakeKey(scope.ns, id);
  const ReadView view(db_);  // both rows of one moment
  GANTRY_ASSIGN_OR_RETURN(auto bytes, view.Get(Family::kContainers, key));
  if (!bytes.has_value()) return NotFound(scope, id);
  GANTRY_ASSIGN_OR_RETURN(const auto spec, view.Get(Family::kContainerSpecs, key));
  if (spec.has_value()) bytes->append(*spec);
  return *std::move(bytes);
}

absl::StatusOr<std::string> ContainerStore::GetWithoutSpec(const Scope& scope,
                                                           absl::string_view id) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("container id", id));
  GANTRY_ASSIGN_OR_RETURN(auto bytes, db_.Get(Family::kContainers, MakeKey(scope.ns, id)));
  if (!bytes.has_value()) return NotFound(scope, id);
  return *std::move(bytes);
}

absl::Status ContainerStore::List(const Scope& scope, const Filter& filter,
                                  const std::function<absl::Status(const Container&)>& visit) {
  Container container;
  return ListRaw(scope, [&](absl::string_view id, absl::string_view bytes) -> absl::Status {
    if (!container.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return Damaged(id);
    return filter.Matches(FieldsOf(container)) ? visit(container) : absl::OkStatus();
  });
}

absl::Status ContainerStore::ListRaw(
    const Scope& scope,
    const std::function<absl::Status(absl::string_view id, absl::string_view bytes)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  const ReadView view(db_);
  const std::string prefix = MakePrefix(scope.ns);
  std::string whole;
  return view.ScanBoth(
      Family::kContainers, Family::kContainerSpecs, prefix,
      [&](absl::string_view key, absl::string_view record, absl::string_view spec) {
        whole.assign(record.data(), record.size());
        whole.append(spec.data(), spec.size());
        return visit(key.substr(prefix.size()), whole);
      });
}

absl::Status ContainerStore::ListWithoutSpecs(
    const Scope& scope,
    const std::function<absl::Status(absl::string_view id, absl::string_view bytes)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  const ReadView view(db_);
  const std::string prefix = MakePrefix(scope.ns);
  return view.Scan(Family::kContainers, prefix,
                   [&](absl::string_view key, absl::string_view value) {
                     return visit(key.substr(prefix.size()), value);
                   });
}

absl::StatusOr<record::v1::Container> ContainerStore::Create(const Scope& scope,
                                                             NewContainer container,
                                                             Durability durability) {
  Container& record = container.record;
  DropEmptyLabels(record);
  GANTRY_RETURN_IF_ERROR(Validate(record));
  *record.mutable_created_at() = StampOf(clock_.Now());
  *record.mutable_updated_at() = record.created_at();
  const std::string key = MakeKey(scope.ns, record.id());
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, Unleased(scope)));
        GANTRY_ASSIGN_OR_RETURN(auto present, tx.GetForUpdate(Family::kContainers, key));
        if (present.has_value()) {
          return absl::AlreadyExistsError(
              absl::StrCat("container \"", record.id(), "\": already exists"));
        }
        if (!container.name.empty()) {
          GANTRY_RETURN_IF_ERROR(
              NameIndex::Claim(tx, scope, {.id = record.id(), .name = container.name}));
        }
        State state = container.state.value_or(State());
        *state.mutable_created_at() = record.created_at();
        GANTRY_RETURN_IF_ERROR(states.Put(tx, key, state));
        return PutContainer(tx, key, record);
      },
      durability));
  return std::move(record);
}

absl::StatusOr<record::v1::Container> ContainerStore::Update(const Scope& scope,
                                                             const Container& container,
                                                             const std::vector<std::string>& fields,
                                                             Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("container id", container.id()));
  const std::string key = MakeKey(scope.ns, container.id());
  Container result;
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, Unleased(scope)));
        GANTRY_ASSIGN_OR_RETURN(auto present, containers.GetForUpdate(tx, key));
        if (!present.has_value()) return NotFound(scope, container.id());
        result = *std::move(present);
        GANTRY_ASSIGN_OR_RETURN(const auto spec, tx.Get(Family::kContainerSpecs, key));
        if (spec.has_value() && !result.MergeFromString(*spec)) return Damaged(container.id());
        const std::string former_snapshot = result.snapshot_key();
        if (fields.empty()) {
          if (container.snapshotter() != result.snapshotter()) {
            return absl::InvalidArgumentError(
                absl::StrCat("container \"", container.id(), "\": snapshotter cannot change"));
          }
          if (container.runtime().name() != result.runtime().name()) {
            return absl::InvalidArgumentError(
                absl::StrCat("container \"", container.id(), "\": runtime name cannot change"));
          }
          for (absl::string_view field : {"labels", "spec", "extensions", "image", "snapshotkey"}) {
            GANTRY_RETURN_IF_ERROR(Apply(container, field, result));
          }
        }
        for (const std::string& field : fields)
          GANTRY_RETURN_IF_ERROR(Apply(container, field, result));
        GANTRY_RETURN_IF_ERROR(Validate(result));
        if (result.snapshot_key() != former_snapshot) tx.NoteDeletion();
        *result.mutable_updated_at() = StampOf(clock_.Now());
        return PutContainer(tx, key, result);
      },
      durability));
  return result;
}

absl::Status ContainerStore::NoteLogUri(const Scope& scope, absl::string_view id,
                                        const std::string& uri, Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("container id", id));
  const std::string key = MakeKey(scope.ns, id);
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        GANTRY_ASSIGN_OR_RETURN(auto present, containers.GetForUpdate(tx, key));
        if (!present.has_value()) return NotFound(scope, id);
        present->set_client_log_uri(uri);
        return containers.Put(tx, key, *present);
      },
      durability);
}

absl::Status ContainerStore::Delete(const Scope& scope, absl::string_view id,
                                    Durability durability) {
  if (!ValidateIdentifier("container id", id).ok()) return NotFound(scope, id);
  const std::string key = MakeKey(scope.ns, id);
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, Unleased(scope)));
        GANTRY_ASSIGN_OR_RETURN(auto present, tx.GetForUpdate(Family::kContainers, key));
        if (!present.has_value()) return NotFound(scope, id);
        GANTRY_RETURN_IF_ERROR(NameIndex::Release(tx, scope, id));
        GANTRY_RETURN_IF_ERROR(states.Delete(tx, key));
        GANTRY_RETURN_IF_ERROR(tx.Delete(Family::kContainerSpecs, key));
        tx.NoteDeletion();
        return containers.Delete(tx, key);
      },
      durability);
}

absl::StatusOr<std::optional<record::v1::ContainerState>> ContainerStore::GetState(
    const Scope& scope, absl::string_view id) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("container id", id));
  return states.Get(db_, MakeKey(scope.ns, id));
}

absl::StatusOr<record::v1::ContainerState> ContainerStore::UpdateState(
    const Scope& scope, absl::string_view id, const std::function<absl::Status(State&)>& change,
    Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("container id", id));
  const std::string key = MakeKey(scope.ns, id);
  State stored;
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        tx.NoteEssential();  // it has happened, whether the disk has room or not
        GANTRY_ASSIGN_OR_RETURN(auto container, tx.GetShared(Family::kContainers, key));
        if (!container.has_value()) return NotFound(scope, id);
        auto present = states.GetForUpdate(tx, key);
        // What a damaged state said is lost; the change is what is known from now on.
        if (!present.ok() && !absl::IsDataLoss(present.status())) return present.status();
        stored = present.ok() && present->has_value() ? *std::move(*present) : State();
        GANTRY_RETURN_IF_ERROR(change(stored));
        // Of a state that was damaged, or that `change` wrote anew.
        if (Container record; !stored.has_created_at() && record.ParseFromString(*container))
          *stored.mutable_created_at() = record.created_at();
        return states.Put(tx, key, stored);
      },
      durability));
  return stored;
}

absl::Status ContainerStore::ListStates(
    const Scope& scope, const std::function<absl::Status(absl::string_view, const State*)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  ReadView view(db_);
  const std::string prefix = MakePrefix(scope.ns);
  State state;
  return view.Scan(
      Family::kContainerStates, prefix, [&](absl::string_view key, absl::string_view value) {
        const bool good = state.ParseFromArray(value.data(), static_cast<int>(value.size()));
        return visit(key.substr(prefix.size()), good ? &state : nullptr);
      });
}

}  // namespace gantry::metadata
