#include "supervisor/metadata/lease_store.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/status_macros.h"
#include "content-store/digest.h"
#include "supervisor/metadata/record_fields.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/record_values.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {
namespace {

const RecordStore leases(kLeases);
const RecordStore resources(kLeaseResources);

absl::Status NotFound(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("lease \"", id, "\": not found"));
}

std::string ResourceKey(const Scope& scope, absl::string_view lease,
                        const LeaseResource& resource) {
  return MakeKey(scope.ns, lease, resource.type, resource.id);
}

// The order of ListResources().
int Rank(absl::string_view type) {
  if (type == kContentResource) return 0;
  if (type == kImageResource) return 1;
  if (type == kIngestResource) return 2;
  return 3;
}

absl::Status ValidateResource(const LeaseResource& resource) {
  if (resource.type == kContentResource) {
    if (auto digest = content::Digest::Parse(resource.id); !digest.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("lease resource of type content: ", digest.status().message()));
    }
    return absl::OkStatus();
  }
  if (resource.type == kImageResource || resource.type == kIngestResource) {
    return ValidateName(absl::StrCat("lease resource of type ", resource.type), resource.id);
  }
  absl::string_view snapshotter = resource.type;
  if (absl::ConsumePrefix(&snapshotter, kSnapshotResource)) {
    GANTRY_RETURN_IF_ERROR(ValidateIdentifier("lease resource: snapshotter", snapshotter));
    return ValidateName(absl::StrCat("lease resource of type ", resource.type), resource.id);
  }
  if (snapshotter == absl::StripSuffix(kSnapshotResource, "/")) {
    return absl::InvalidArgumentError(
        "lease resource type \"snapshots\" must name a snapshotter: snapshots/<snapshotter>");
  }
  if (resource.type.empty())
    return absl::InvalidArgumentError("lease resource type must not be empty");
  if (absl::StrContains(resource.type, '/')) {
    return absl::InvalidArgumentError(
        absl::StrCat("lease resource type \"", resource.type, "\" is malformed"));
  }
  return absl::UnimplementedError(
      absl::StrCat("lease resource type \"", resource.type,
                   "\" is not one of content, images, ingests, snapshots/<snapshotter>"));
}

absl::Status PutResource(Transaction& tx, const Scope& scope, absl::string_view lease,
                         const LeaseResource& resource) {
  record::v1::LeaseResource record;
  record.set_id(resource.id);
  record.set_type(resource.type);
  return resources.Put(tx, ResourceKey(scope, lease, resource), record);
}

std::string RandomId(absl::Time now) {
  static constexpr absl::string_view kCharacters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  absl::BitGen random;
  std::string id = absl::StrCat(absl::ToUnixNanos(now), "-");
  for (int i = 0; i < 6; ++i)
    id.push_back(kCharacters[absl::Uniform<size_t>(random, 0, kCharacters.size())]);
  return id;
}

}  // namespace

absl::StatusOr<record::v1::Lease> LeaseStore::Create(const Scope& scope, Lease lease,
                                                     Durability durability) {
  const LabelMap labels = PresentLabels(LabelsOf(lease.labels()));
  GANTRY_RETURN_IF_ERROR(ValidateLabels(labels));
  const absl::Time now = clock_.Now();
  if (lease.id().empty()) lease.set_id(RandomId(now));
  GANTRY_RETURN_IF_ERROR(ValidateName("lease id", lease.id()));
  SetLabels(labels, lease.mutable_labels());
  *lease.mutable_created_at() = StampOf(now);
  const Scope outside{.ns = scope.ns};
  GANTRY_RETURN_IF_ERROR(db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, outside));
        const std::string key = MakeKey(scope.ns, lease.id());
        GANTRY_ASSIGN_OR_RETURN(auto present, leases.GetForUpdate(tx, key));
        if (present.has_value()) {
          return absl::AlreadyExistsError(
              absl::StrCat("lease \"", lease.id(), "\": already exists"));
        }
        return leases.Put(tx, key, lease);
      },
      durability));
  return lease;
}

absl::StatusOr<record::v1::Lease> LeaseStore::Get(const Scope& scope, absl::string_view id) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("lease id", id));
  GANTRY_ASSIGN_OR_RETURN(auto lease, leases.Get(db_, MakeKey(scope.ns, id)));
  if (!lease.has_value()) return NotFound(id);
  return *std::move(lease);
}

absl::Status LeaseStore::List(const Scope& scope, const Filter& filter,
                              const std::function<absl::Status(const Lease&)>& visit) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  ReadView view(db_);
  return leases.List(view, MakePrefix(scope.ns), [&](absl::string_view, const Lease& lease) {
    return filter.Matches(FieldsOf(lease)) ? visit(lease) : absl::OkStatus();
  });
}

absl::Status LeaseStore::Delete(const Scope& scope, absl::string_view id, Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateName("lease id", id));
  const Scope outside{.ns = scope.ns};
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, outside));
        const std::string key = MakeKey(scope.ns, id);
        // Excludes those who attach to it: they share this key.
        GANTRY_ASSIGN_OR_RETURN(auto lease, leases.GetForUpdate(tx, key));
        if (!lease.has_value()) return NotFound(id);
        std::vector<std::string> rows;
        GANTRY_RETURN_IF_ERROR(tx.Scan(Family::kLeaseResources, MakePrefix(scope.ns, id),
                                       [&](absl::string_view row, absl::string_view) {
                                         rows.emplace_back(row);
                                         return absl::OkStatus();
                                       }));
        for (const std::string& row : rows)
          GANTRY_RETURN_IF_ERROR(tx.Delete(Family::kLeaseResources, row));
        tx.NoteDeletion();
        return leases.Delete(tx, key);
      },
      durability);
}

absl::Status LeaseStore::AddResource(const Scope& scope, absl::string_view lease_id,
                                     const LeaseResource& resource, Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateName("lease id", lease_id));
  GANTRY_RETURN_IF_ERROR(ValidateResource(resource));
  const Scope inside{.ns = scope.ns, .lease = std::string(lease_id)};
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, inside));
        return PutResource(tx, inside, lease_id, resource);
      },
      durability);
}

absl::Status LeaseStore::RemoveResource(const Scope& scope, absl::string_view lease_id,
                                        const LeaseResource& resource, Durability durability) {
  GANTRY_RETURN_IF_ERROR(ValidateName("lease id", lease_id));
  GANTRY_RETURN_IF_ERROR(ValidateResource(resource));
  const Scope inside{.ns = scope.ns, .lease = std::string(lease_id)};
  return db_.Run(
      [&](Transaction& tx) -> absl::Status {
        GANTRY_RETURN_IF_ERROR(EnterScope(tx, inside));
        tx.NoteDeletion();
        return resources.Delete(tx, ResourceKey(scope, lease_id, resource));
      },
      durability);
}

absl::StatusOr<std::vector<LeaseResource>> LeaseStore::ListResources(const Scope& scope,
                                                                     absl::string_view lease_id) {
  GANTRY_RETURN_IF_ERROR(scope.Validate());
  GANTRY_RETURN_IF_ERROR(ValidateName("lease id", lease_id));
  ReadView view(db_);
  GANTRY_ASSIGN_OR_RETURN(auto lease, leases.Get(view, MakeKey(scope.ns, lease_id)));
  if (!lease.has_value()) return NotFound(lease_id);
  std::vector<LeaseResource> found;
  GANTRY_RETURN_IF_ERROR(
      resources.List(view, MakePrefix(scope.ns, lease_id),
                     [&](absl::string_view, const record::v1::LeaseResource& resource) {
                       found.push_back({.type = resource.type(), .id = resource.id()});
                       return absl::OkStatus();
                     }));
  // Keys are in order of type and id already.
  std::stable_sort(found.begin(), found.end(), [](const LeaseResource& a, const LeaseResource& b) {
    return Rank(a.type) < Rank(b.type);
  });
  return found;
}

absl::Status LeaseStore::Attach(Transaction& tx, const Scope& scope,
                                const LeaseResource& resource) {
  if (scope.lease.empty()) return absl::OkStatus();
  return PutResource(tx, scope, scope.lease, resource);
}

absl::Status LeaseStore::Detach(Transaction& tx, const Scope& scope,
                                const LeaseResource& resource) {
  if (scope.lease.empty()) return absl::OkStatus();
  return resources.Delete(tx, ResourceKey(scope, scope.lease, resource));
}

}  // namespace gantry::metadata
