// Who owns which bytes: every blob and snapshot with the objects that keep it. For `system df`.
//
// Thread-safe; takes no lock and blocks no other call. Walking the trees of active snapshots is
// slow.
#ifndef GANTRY_SUPERVISOR_GC_DISK_USAGE_H_
#define GANTRY_SUPERVISOR_GC_DISK_USAGE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "base/clock.h"
#include "content-store/digest.h"
#include "supervisor/gc/mark.h"
#include "supervisor/metadata/blob_pool.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/snapshotters.h"

namespace gantry::gc {

struct BlobUsage {
  content::Digest digest;
  int64_t size_bytes = 0;
  std::vector<Node>
      owners;  // images, containers, leases, sandboxes of every namespace; empty: garbage or gc.root'ed
  bool collectable = false;  // the next collection removes it
};

// Snapshots may share their files (Snapshotter::Share). One of them, which the next collection
// keeps if it keeps any, has the bytes and the owners of all; the others have none.
struct SnapshotUsage {
  Node snapshot;
  uint64_t directory = 0;  // snapshot::Info::directory
  int64_t size_bytes = 0;
  int64_t inodes = 0;
  bool active = false;  // written to by a container
  std::vector<Node> owners;
  bool collectable = false;
};

struct IngestUsage {
  Node ingest;
  int64_t size_bytes = 0;
  std::vector<Node> owners;
  bool collectable = false;
};

struct DiskUsage {
  std::vector<BlobUsage> blobs;          // all files, by digest
  std::vector<SnapshotUsage> snapshots;  // by snapshotter, namespace, key
  std::vector<IngestUsage> ingests;
};

absl::StatusOr<DiskUsage> MeasureDiskUsage(metadata::Database& db, metadata::BlobPool& blobs,
                                           const metadata::Snapshotters& snapshotters,
                                           const Clock& clock);

}  // namespace gantry::gc

#endif  // GANTRY_SUPERVISOR_GC_DISK_USAGE_H_
