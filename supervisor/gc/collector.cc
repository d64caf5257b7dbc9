#include "supervisor/gc/collector.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "supervisor/gc/edges.h"
#include "supervisor/metadata/key_space.h"

namespace gantry::gc {
namespace {

// Where the record of a node lies. Containers and sandboxes are never removed, snapshots are the
// snapshotter's, mounts have no record here.
std::optional<metadata::Family> FamilyOf(Type type) {
  switch (type) {
    case Type::kContent:
      return metadata::Family::kContent;
    case Type::kImage:
      return metadata::Family::kImages;
    case Type::kLease:
      return metadata::Family::kLeases;
    case Type::kIngest:
      return metadata::Family::kIngests;
    case Type::kSnapshot:
    case Type::kContainer:
    case Type::kSandbox:
    case Type::kMount:
      break;
  }
  return std::nullopt;
}

}  // namespace

int64_t Collection::freed_bytes() const {
  int64_t sum = 0;
  for (const auto& [digest, bytes] : blobs) sum += bytes;
  return sum;
}

absl::StatusOr<bool> Collector::LooksClean(Collection& collection) {
  metadata::ReadView view(db_);
  absl::StatusOr<Inventory> inventory = TakeInventory(view, snapshotters_, clock_.Now(), mounts_);
  GANTRY_RETURN_IF_ERROR(WithContext(inventory.status(), "garbage collection"));
  if (!inventory->dead_lease_rows.empty()) return false;
  const Graph& graph = inventory->graph;
  const std::vector<bool> kept = graph.Mark();
  int64_t objects = 0;
  for (Graph::Id id = 0; id < graph.size(); ++id) {
    if (!graph.exists(id)) continue;
    if (!kept[id]) return false;
    ++objects;
  }
  collection.objects = objects;
  collection.next_expiry = inventory->next_expiry;
  return true;
}

absl::Status Collector::SweepRecords(absl::Duration gate_timeout, Collection& collection) {
  std::optional<metadata::GcGate::Exclusive> gate = db_.gate().EnterExclusive(gate_timeout);
  if (!gate.has_value()) {
    return absl::UnavailableError(
        absl::StrCat("garbage collection: a metadata change has not ended within ",
                     absl::FormatDuration(gate_timeout), "; it will be tried again"));
  }
  const absl::Duration closed_at = clock_.Monotonic();
  absl::StatusOr<Inventory> inventory = [&] {
    metadata::ReadView view(db_);
    return TakeInventory(view, snapshotters_, clock_.Now(), mounts_);
  }();
  GANTRY_RETURN_IF_ERROR(WithContext(inventory.status(), "garbage collection"));
  const Graph& graph = inventory->graph;
  const std::vector<bool> kept = graph.Mark();

  std::vector<Graph::Id> snapshots;
  metadata::Transaction tx = db_.Begin(*gate);
  for (Graph::Id id = 0; id < graph.size(); ++id) {
    if (!graph.exists(id)) continue;
    ++collection.objects;
    if (kept[id]) continue;
    const Node& node = graph.node(id);
    if (node.type == Type::kSnapshot) snapshots.push_back(id);
    if (node.type == Type::kMount) collection.removed.push_back(node);
    const std::optional<metadata::Family> family = FamilyOf(node.type);
    if (!family.has_value()) continue;
    GANTRY_RETURN_IF_ERROR(tx.Delete(*family, metadata::MakeKey(node.ns, node.name)));
    collection.removed.push_back(node);
  }
  for (const std::string& row : inventory->dead_lease_rows) {
    GANTRY_RETURN_IF_ERROR(tx.Delete(metadata::Family::kLeaseResources, row));
  }

  // Children before parents. Removing a snapshot is not synced by itself: the commit below does
  // that for all of them.
  std::sort(snapshots.begin(), snapshots.end(), [&](Graph::Id a, Graph::Id b) {
    return inventory->snapshot_depth[a] > inventory->snapshot_depth[b];
  });
  std::vector<Node> removed_snapshots;
  for (Graph::Id id : snapshots) {
    const Node& node = graph.node(id);
    GANTRY_ASSIGN_OR_RETURN(snapshot::Snapshotter * snapshotter,
                            snapshotters_.Find(node.snapshotter));
    const absl::Status removed = snapshotter->Remove(absl::StrCat(node.ns, "/", node.name));
    if (removed.ok()) {
      removed_snapshots.push_back(node);
    } else if (!absl::IsNotFound(removed) && !absl::IsFailedPrecondition(removed)) {
      // Not there: committed or removed since. Has children: one was put on it since; it is theirs
      // now.
      collection.leftovers.push_back(removed);
    }
  }
  absl::Status committed = tx.Commit(metadata::Durability::kSynced);
  collection.removed.insert(collection.removed.begin(), removed_snapshots.begin(),
                            removed_snapshots.end());
  GANTRY_RETURN_IF_ERROR(WithContext(committed, "garbage collection"));
  if (!removed_snapshots.empty() && collection.removed.size() == removed_snapshots.size()) {
    GANTRY_RETURN_IF_ERROR(db_.Sync());
  }
  collection.next_expiry = inventory->next_expiry;
  collection.pause = clock_.Monotonic() - closed_at;
  return absl::OkStatus();
}

absl::StatusOr<Collection> Collector::Collect(const CollectOptions& options) {
  absl::MutexLock lock(&mu_);
  const absl::Duration begun_at = clock_.Monotonic();
  Collection collection;
  // Most runs find nothing, and need not stop anybody to find that out. What this look wrongly
  // takes for garbage (snapshots are read a moment after the records) the second one, with the gate
  // closed, does not.
  GANTRY_ASSIGN_OR_RETURN(bool clean, LooksClean(collection));
  if (!clean) GANTRY_RETURN_IF_ERROR(SweepRecords(options.gate_timeout, collection));

  // From here on everybody works; each file is looked at again under its own lock.
  const absl::Duration removing_since = clock_.Monotonic();
  for (const Node& node : collection.removed) {
    if (node.type != Type::kContent) continue;
    if (auto digest = content::Digest::Parse(node.name); digest.ok()) blobs_.NoteRemoved(*digest);
  }
  if (auto swept = blobs_.Sweep(options.full_sweep, options.cancel); swept.ok()) {
    collection.blobs = *std::move(swept);
  } else {
    collection.leftovers.push_back(swept.status());
  }
  if (auto swept = blobs_.SweepIngests(); !swept.ok())
    collection.leftovers.push_back(swept.status());
  for (const auto& [name, snapshotter] : snapshotters_.all()) {
    if (absl::Status cleaned = snapshotter->Cleanup(options.cancel); !cleaned.ok())
      collection.leftovers.push_back(cleaned);
  }
  for (const Node& node : collection.removed) {
    if (node.type != Type::kMount) continue;
    const absl::Status removed = mounts_->Remove(node.ns, node.name);
    if (!removed.ok() && !absl::IsNotFound(removed)) collection.leftovers.push_back(removed);
  }
  for (const std::function<absl::Status()>& sweep : others_) {
    if (absl::Status swept = sweep(); !swept.ok()) collection.leftovers.push_back(swept);
  }
  collection.removing = clock_.Monotonic() - removing_since;
  collection.total = clock_.Monotonic() - begun_at;
  return collection;
}

}  // namespace gantry::gc
