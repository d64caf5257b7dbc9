// One snapshotter as one namespace sees it, and as one lease fills it.
//
// Keeps no record of its own: it composes the key "<ns>/<key>" and lets the snapshotter's index be
// the truth. Under a lease, a prepared, viewed, committed or shared key is attached to it, a
// consumed or removed one detached. Prepare() with the label containerd.io/snapshot.ref naming a
// committed snapshot answers kAlreadyExists (and leases that snapshot).
//
// Share() looks for a layer of the same name, on a parent of the same name, in the other
// namespaces, and takes it only if this namespace holds the blob of the layer or the caller has
// unpacked one itself: no namespace sees content that it does not have. Prepare() with
// containerd.io/snapshot.ref tries that first.
//
// Cheap to make, per call or for long. Thread-safe. Passes snapshotter_conformance. Semantics:
// containerd "snapshots" service.
#ifndef GANTRY_SUPERVISOR_METADATA_SNAPSHOT_NAMESPACE_H_
#define GANTRY_SUPERVISOR_METADATA_SNAPSHOT_NAMESPACE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "snapshotter/snapshotter.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/lease_store.h"
#include "supervisor/metadata/scope.h"
#include "supervisor/metadata/snapshotters.h"

namespace gantry::metadata {

class SnapshotNamespace final : public snapshot::Snapshotter {
 public:
  // kInvalidArgument: no such snapshotter. `snapshotters` and `db` outlive it.
  static absl::StatusOr<SnapshotNamespace> Create(const Snapshotters& snapshotters,
                                                  absl::string_view name, Database& db,
                                                  Scope scope);

  // `name` is the one leases and events know `below` by.
  SnapshotNamespace(snapshot::Snapshotter& below, std::string name, Database& db, Scope scope)
      : below_(below), name_(std::move(name)), db_(db), scope_(std::move(scope)) {}

  absl::StatusOr<snapshot::Info> Stat(absl::string_view key) override;
  absl::StatusOr<snapshot::Info> Update(absl::string_view key, const snapshot::Labels& labels,
                                        const std::vector<std::string>& fields) override;
  absl::StatusOr<snapshot::Usage> Usage(absl::string_view key) override;
  absl::StatusOr<std::vector<snapshot::Mount>> Mounts(absl::string_view key) override;
  absl::StatusOr<std::vector<snapshot::Mount>> Prepare(absl::string_view key,
                                                       absl::string_view parent,
                                                       const snapshot::Labels& labels) override;
  absl::StatusOr<std::vector<snapshot::Mount>> View(absl::string_view key, absl::string_view parent,
                                                    const snapshot::Labels& labels) override;
  absl::Status Commit(absl::string_view name, absl::string_view key,
                      const snapshot::CommitOptions& options) override;
  absl::Status Share(absl::string_view name, const snapshot::ShareOptions& options) override;
  absl::Status Remove(absl::string_view key) override;
  absl::Status Walk(const std::function<absl::Status(const snapshot::Info&)>& visit) override;
  absl::Status Cleanup(const CancelToken* cancel) override;
  bool CanRebase() const override { return below_.CanRebase(); }

  const std::string& name() const { return name_; }

 private:
  std::string Below(absl::string_view key) const;   // "" stays ""
  snapshot::Info Above(snapshot::Info info) const;  // takes the namespace off again
  LeaseResource Resource(absl::string_view key) const;
  // Layers named `name` on `parent` in the other namespaces.
  absl::StatusOr<std::vector<snapshot::Info>> LayersElsewhere(absl::string_view name,
                                                              absl::string_view parent);
  // From the scope's lease, after the snapshot itself is gone or has another name.
  absl::Status Detach(absl::string_view key);
  absl::StatusOr<std::vector<snapshot::Mount>> Make(snapshot::Kind kind, absl::string_view key,
                                                    absl::string_view parent,
                                                    const snapshot::Labels& labels);

  snapshot::Snapshotter& below_;
  const std::string name_;
  Database& db_;
  const Scope scope_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_SNAPSHOT_NAMESPACE_H_
