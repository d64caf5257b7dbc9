// Leases: what is listed in one stays until the lease is deleted or expires.
//
// The scope's own lease field plays no part here, but in Attach() and Detach(). Thread-safe.
// Semantics: containerd "leases" service.
#ifndef GANTRY_SUPERVISOR_METADATA_LEASE_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_LEASE_STORE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/clock.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/filter.h"
#include "supervisor/metadata/scope.h"

namespace gantry::metadata {

inline constexpr absl::string_view kContentResource = "content";
inline constexpr absl::string_view kImageResource = "images";
inline constexpr absl::string_view kIngestResource = "ingests";
inline constexpr absl::string_view kSnapshotResource =
    "snapshots/";  // followed by the snapshotter's name

struct LeaseResource {
  std::string type;
  std::string id;

  friend bool operator==(const LeaseResource&, const LeaseResource&) = default;
};

class LeaseStore {
 public:
  using Lease = record::v1::Lease;

  LeaseStore(Database& db, const Clock& clock) : db_(db), clock_(clock) {}

  // An empty lease.id is filled in: nanoseconds and random characters. kAlreadyExists: the id is
  // taken.
  absl::StatusOr<Lease> Create(const Scope& scope, Lease lease,
                               Durability durability = Durability::kSynced);

  absl::StatusOr<Lease> Get(const Scope& scope, absl::string_view id);

  // In id order, from one consistent view.
  absl::Status List(const Scope& scope, const Filter& filter,
                    const std::function<absl::Status(const Lease&)>& visit);

  // kNotFound: no such lease. What only it kept goes with the next collection.
  absl::Status Delete(const Scope& scope, absl::string_view id,
                      Durability durability = Durability::kSynced);

  // kNotFound: no such lease; kUnimplemented: unknown resource type; kInvalidArgument: malformed
  // type or id.
  absl::Status AddResource(const Scope& scope, absl::string_view lease_id,
                           const LeaseResource& resource,
                           Durability durability = Durability::kSynced);
  absl::Status RemoveResource(const Scope& scope, absl::string_view lease_id,
                              const LeaseResource& resource,
                              Durability durability = Durability::kSynced);
  // Content, images, ingests, snapshots; by id within each.
  absl::StatusOr<std::vector<LeaseResource>> ListResources(const Scope& scope,
                                                           absl::string_view lease_id);

  // Parts of larger transactions, after EnterScope(): add to, or drop from, the scope's lease;
  // nothing without one.
  static absl::Status Attach(Transaction& tx, const Scope& scope, const LeaseResource& resource);
  static absl::Status Detach(Transaction& tx, const Scope& scope, const LeaseResource& resource);

 private:
  Database& db_;
  const Clock& clock_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_LEASE_STORE_H_
