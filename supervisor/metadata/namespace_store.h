// The namespaces there are, and their labels. One comes into being with its first object or by
// Create().
//
// Thread-safe. Semantics: containerd "namespaces" service.
#ifndef GANTRY_SUPERVISOR_METADATA_NAMESPACE_STORE_H_
#define GANTRY_SUPERVISOR_METADATA_NAMESPACE_STORE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/clock.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/snapshotters.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {

class NamespaceStore {
 public:
  using Namespace = record::v1::Namespace;

  NamespaceStore(Database& db, const Snapshotters& snapshotters, const Clock& clock)
      : db_(db), snapshotters_(snapshotters), clock_(clock) {}

  // An unknown name is not an error: it comes back with no labels.
  absl::StatusOr<Namespace> Get(absl::string_view name);

  // In name order.
  absl::Status List(const std::function<absl::Status(const Namespace&)>& visit);

  // kAlreadyExists: there is one; kInvalidArgument: name or labels.
  absl::StatusOr<Namespace> Create(Namespace ns);

  // Empty `fields` replaces all labels, else each is "labels.<k>". One that is unknown is made.
  absl::StatusOr<Namespace> Update(const Namespace& ns, const std::vector<std::string>& fields);

  // kNotFound: unknown; kFailedPrecondition: images, blobs, containers, snapshots or sandboxes
  // remain, the message says which.
  absl::Status Delete(absl::string_view name);

 private:
  Database& db_;
  const Snapshotters& snapshotters_;
  const Clock& clock_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_NAMESPACE_STORE_H_
