#include "supervisor/gc/disk_usage.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"
#include "supervisor/gc/edges.h"

namespace gantry::gc {
namespace {

// Whose bytes these are, in a person's eyes: a blob belongs to images and containers, not to the
// manifest that refers to it.
bool IsOwner(Type type) {
  switch (type) {
    case Type::kImage:
    case Type::kContainer:
    case Type::kSandbox:
    case Type::kLease:
      return true;
    case Type::kContent:
    case Type::kSnapshot:
    case Type::kIngest:
    case Type::kMount:
      break;
  }
  return false;
}

void CountSharedFilesOnce(std::vector<SnapshotUsage>& snapshots) {
  std::map<std::pair<std::string, uint64_t>, std::vector<SnapshotUsage*>> sharers;
  for (SnapshotUsage& each : snapshots)
    sharers[{each.snapshot.snapshotter, each.directory}].push_back(&each);
  for (auto& [directory, all] : sharers) {
    if (all.size() < 2) continue;
    const auto kept = std::find_if(all.begin(), all.end(),
                                   [](const SnapshotUsage* each) { return !each->collectable; });
    SnapshotUsage& holder = kept == all.end() ? *all.front() : **kept;
    for (SnapshotUsage* each : all) {
      if (each == &holder) continue;
      holder.owners.insert(holder.owners.end(), each->owners.begin(), each->owners.end());
      each->owners.clear();
      each->size_bytes = each->inodes = 0;
    }
  }
}

}  // namespace

absl::StatusOr<DiskUsage> MeasureDiskUsage(metadata::Database& db, metadata::BlobPool& blobs,
                                           const metadata::Snapshotters& snapshotters,
                                           const Clock& clock) {
  metadata::ReadView view(db);
  GANTRY_ASSIGN_OR_RETURN(Inventory inventory, TakeInventory(view, snapshotters, clock.Now()));
  const Graph& graph = inventory.graph;
  const std::vector<bool> kept = graph.Mark();

  std::vector<std::vector<Node>> owners(graph.size());
  for (Graph::Id id = 0; id < graph.size(); ++id) {
    if (!graph.exists(id) || !kept[id] || !IsOwner(graph.node(id).type)) continue;
    for (Graph::Id owned : graph.ReachableFrom(id)) {
      // What an image keeps for a container's or lease's sake is the image's.
      if (!IsOwner(graph.node(owned).type)) owners[owned].push_back(graph.node(id));
    }
  }

  DiskUsage usage;
  std::map<std::string, BlobUsage> by_digest;
  GANTRY_RETURN_IF_ERROR(blobs.files().Walk([&](const content::Info& info) {
    by_digest[info.digest.str()] = {
        .digest = info.digest, .size_bytes = info.size_bytes, .owners = {}, .collectable = true};
    return absl::OkStatus();
  }));
  for (Graph::Id id = 0; id < graph.size(); ++id) {
    if (!graph.exists(id)) continue;
    const Node& node = graph.node(id);
    if (node.type == Type::kContent) {
      auto blob = by_digest.find(node.name);
      if (blob == by_digest.end()) continue;
      if (kept[id]) blob->second.collectable = false;
      blob->second.owners.insert(blob->second.owners.end(), owners[id].begin(), owners[id].end());
    } else if (node.type == Type::kSnapshot) {
      GANTRY_ASSIGN_OR_RETURN(snapshot::Snapshotter * snapshotter,
                              snapshotters.Find(node.snapshotter));
      const std::string key = absl::StrCat(node.ns, "/", node.name);
      auto info = snapshotter->Stat(key);
      auto size = snapshotter->Usage(key);
      // Gone since the inventory.
      if (absl::IsNotFound(info.status()) || absl::IsNotFound(size.status())) continue;
      GANTRY_RETURN_IF_ERROR(info.status());
      GANTRY_RETURN_IF_ERROR(size.status());
      usage.snapshots.push_back({.snapshot = node,
                                 .directory = info->directory,
                                 .size_bytes = size->size_bytes,
                                 .inodes = size->inodes,
                                 .active = info->kind == snapshot::Kind::kActive,
                                 .owners = owners[id],
                                 .collectable = !kept[id]});
    } else if (node.type == Type::kIngest) {
      auto status = blobs.files().StatIngest(metadata::BlobPool::IngestRef(node.ns, node.name));
      if (absl::IsNotFound(status.status())) continue;
      GANTRY_RETURN_IF_ERROR(status.status());
      usage.ingests.push_back({.ingest = node,
                               .size_bytes = status->offset_bytes,
                               .owners = owners[id],
                               .collectable = !kept[id]});
    }
  }
  for (auto& [digest, blob] : by_digest) usage.blobs.push_back(std::move(blob));
  std::sort(usage.snapshots.begin(), usage.snapshots.end(),
            [](const SnapshotUsage& a, const SnapshotUsage& b) {
              return std::tie(a.snapshot.snapshotter, a.snapshot.ns, a.snapshot.name) <
                     std::tie(b.snapshot.snapshotter, b.snapshot.ns, b.snapshot.name);
            });
  CountSharedFilesOnce(usage.snapshots);
  return usage;
}

}  // namespace gantry::gc
