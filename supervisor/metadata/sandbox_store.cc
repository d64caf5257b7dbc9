#include "supervisor/metadata/sandbox_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "supervisor/metadata/record_fields.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

const RecordStore sandboxes(kSandboxes);
const RecordStore states(kSandboxStates);

absl::Status NotFound(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("sandbox \"", id, "\": not found"));
}

absl::Status Validate(const record::v1::Sandbox& sandbox) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("sandbox id", sandbox.sandbox_id()));
  GANTRY_RETURN_IF_ERROR(ValidateLabels(LabelsOf(sandbox.labels())));
  for (const auto& [key, value] : sandbox.extensions()) {
    if (key.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("sandbox \"", sandbox.sandbox_id(), "\": extension key must not be empty"));
    }
  }
  return absl::OkStatus();
}

absl::Status Apply(const record::v1::Sandbox& update, absl::string_view field,
                   record::v1::Sandbox& sandbox) {
  if (field == "spec") {
    if (update.has_spec()) {
      *sandbox.mutable_spec() = update.spec();
    } else {
      sandbox.clear_spec();
    }
  } else if (field == "runtime") {
    if (update.runtime().name() != sandbox.runtime().name()) {
      return absl::InvalidArgumentError(
          absl::StrCat("sandbox \"", sandbox.sandbox_id(), "\": runtime name cannot change"));
    }
    *sandbox.mutable_runtime() = update.runtime();
  } else if (field == "extensions") {
    *sandbox.mutable_extensions() = update.extensions();
  } else if (absl::string_view key = field;
             absl::ConsumePrefix(&key, "extensions.") && !key.empty()) {
    auto it = update.extensions().find(std::string(key));
    if (it == update.extensions().end()) {
      sandbox.mutable_extensions()->erase(std::string(key));
    } else {
      (*sandbox.mutable_extensions())[std::string(key)] = it->second;
    }
  } else {
    LabelMap labels = LabelsOf(sandbox.labels());
    GANTRY_RETURN_IF_ERROR(ApplyLabelUpdate(absl::StrCat("sandbox \"", sandbox.sandbox_id(), "\""),
                                            LabelsOf(update.labels()), {std::string(field)},
                                            labels));
    SetLabels(labels, sandbox.mutable_labels());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<record::v1::Sandbox> SandboxStore::Get(const Scope& scope, absl::string_view id) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("sandbox id", id));
  GANTRY_ASSIGN_OR_RETURN(auto sandbox, sandboxes.Get(db_, MakeKey(scope.ns, id)));
  if (!sandbox.has_value()) return NotFound(id);
  return *std::move(sandbox);
}

absl::Status SandboxStore::List(const Scope& scope, const Filter& filter,
                                const std::function<absl::Status(const Sandbox&)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  ReadView view(db_);
  return sandboxes.List(view, MakePrefix(scope.ns), [&](absl::string_view, const Sandbox& sandbox) {
    return filter.Matches(FieldsOf(sandbox)) ? visit(sandbox) : absl::OkStatus();
  });
}

absl::StatusOr<record::v1::Sandbox> SandboxStore::Create(const Scope& scope, Sandbox sandbox,
                                                         Durability durability) {
  SetLabels(PresentLabels(LabelsOf(sandbox.labels())), sandbox.mutable_labels());
  GANTRY_RETURN_IF_ERROR(Validate(sandbox));
  *sandbox.mutable_created_at() = StampOf(clock_.Now());
  *sandbox.mutable_updated_at() = sandbox.created_at();
  const std::string key = MakeKey(scope.ns, sandbox.sandbox_id());
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        GANTRY_ASSIGN_OR_RETURN(auto present, tx.GetForUpdate(Family::kSandboxes, key));
        if (present.has_value()) {
          return absl::AlreadyExistsError(
              absl::StrCat("sandbox \"", sandbox.sandbox_id(), "\": already exists"));
        }
        return sandboxes.Put(tx, key, sandbox);
      },
      durability));
  return sandbox;
}

absl::StatusOr<record::v1::Sandbox> SandboxStore::Update(const Scope& scope, const Sandbox& sandbox,
                                                         const std::vector<std::string>& fields,
                                                         Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("sandbox id", sandbox.sandbox_id()));
  const std::string key = MakeKey(scope.ns, sandbox.sandbox_id());
  Sandbox result;
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        GANTRY_ASSIGN_OR_RETURN(auto present, sandboxes.GetForUpdate(tx, key));
        if (!present.has_value()) return NotFound(sandbox.sandbox_id());
        result = *std::move(present);
        if (fields.empty()) {
          for (absl::string_view field : {"labels", "extensions", "spec", "runtime"}) {
            GANTRY_RETURN_IF_ERROR(Apply(sandbox, field, result));
          }
        }
        for (const std::string& field : fields)
          GANTRY_RETURN_IF_ERROR(Apply(sandbox, field, result));
        GANTRY_RETURN_IF_ERROR(Validate(result));
        *result.mutable_updated_at() = StampOf(clock_.Now());
        return sandboxes.Put(tx, key, result);
      },
      durability));
  return result;
}

absl::Status SandboxStore::Delete(const Scope& scope, absl::string_view id, Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("sandbox id", id));
  const std::string key = MakeKey(scope.ns, id);
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        GANTRY_ASSIGN_OR_RETURN(auto present, tx.GetForUpdate(Family::kSandboxes, key));
        if (!present.has_value()) return NotFound(id);
        tx.NoteDeletion();
        return sandboxes.Delete(tx, key);
      },
      durability);
}

absl::Status SandboxStore::PutState(const Scope& scope, absl::string_view id,
                                    const record::v1::SandboxState& state, Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("sandbox id", id));
  const std::string key = MakeKey(scope.ns, id);
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        return states.Put(tx, key, state);
      },
      durability);
}

absl::Status SandboxStore::DeleteState(const Scope& scope, absl::string_view id,
                                       Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("sandbox id", id));
  const std::string key = MakeKey(scope.ns, id);
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, scope));
        return states.Delete(tx, key);
      },
      durability);
}

absl::Status SandboxStore::ListStates(
    const std::function<absl::Status(absl::string_view, absl::string_view,
                                     const record::v1::SandboxState&)>& visit) {
  ReadView view(db_);
  return states.List(view, "", [&](absl::string_view key, const record::v1::SandboxState& state) {
    const size_t cut = key.find(kSeparator);
    return visit(key.substr(0, cut), key.substr(cut + 1), state);
  });
}

}  // namespace gantry::metadata
