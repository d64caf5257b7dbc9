#include "supervisor/metadata/scope.h"

#include <optional>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {

absl::Status Scope::Validate() const {
  if (ns.empty()) return absl::FailedPreconditionError("namespace is required");
  GANTRY_RETURN_IF_ERROR(ValidateIdentifier("namespace", ns));
  if (!lease.empty()) GANTRY_RETURN_IF_ERROR(ValidateName("lease id", lease));
  return absl::OkStatus();
}

absl::Status EnterScope(Transaction& tx, const Scope& scope) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  const RecordStore namespaces(kNamespaces);
  GANTRY_ASSIGN_OR_RETURN(auto known, namespaces.Get(tx, scope.ns));
  if (known.has_value()) {
    GANTRY_ASSIGN_OR_RETURN(known, namespaces.GetShared(tx, scope.ns));
    if (!known.has_value()) {
      return absl::AbortedError(absl::StrCat("namespace \"", scope.ns, "\" is being deleted"));
    }
  } else {
    // Exclusive from the start: two first writers that both shared the key could not both make it
    // theirs.
    GANTRY_ASSIGN_OR_RETURN(known, namespaces.GetForUpdate(tx, scope.ns));
    if (!known.has_value()) {
      record::v1::Namespace made;
      made.set_name(scope.ns);
      *made.mutable_created_at() = StampOf(absl::Now());
      GANTRY_RETURN_IF_ERROR(namespaces.Put(tx, scope.ns, made));
    }
  }
  if (!scope.lease.empty()) {
    GANTRY_ASSIGN_OR_RETURN(auto lease,
                            RecordStore(kLeases).GetShared(tx, MakeKey(scope.ns, scope.lease)));
    if (!lease.has_value())
      return absl::NotFoundError(absl::StrCat("lease \"", scope.lease, "\": not found"));
  }
  return absl::OkStatus();
}

}  // namespace gantry::metadata
