// From records to the graph: which objects there are, which are roots, what keeps what.
//
// Labels that count (on whatever object they stand; no reference leaves its namespace):
//   containerd.io/gc.root                               root (content, snapshots)
//   containerd.io/gc.expire                             RFC 3339; leases and images end then, content and snapshots are roots until then;
//                                                       unparsable: never
//   containerd.io/gc.flat                               lease: keeps the listed objects and no further
//   containerd.io/gc.ref.{content,image,mount}[./...]   keeps that digest, that image, that activation of mounts
//   containerd.io/gc.ref.snapshot.<snapshotter>[/...]   keeps that snapshot
//   containerd.io/gc.bref.{container,content,image}[./...], gc.bref.snapshot.<snapshotter>[/...]
//                                                       is kept by that object
//   containerd.io/gc.cond.snapshot.<snapshotter>[/...]  "usedat<24h|key": keeps that snapshot while the condition holds; on content, images
//   containerd.io/gc.cond.value-usedat                  on a snapshot: the time the condition looks at
#ifndef GANTRY_SUPERVISOR_GC_EDGES_H_
#define GANTRY_SUPERVISOR_GC_EDGES_H_

#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "supervisor/gc/mark.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/snapshotters.h"

namespace gantry::gc {

// Mounts that are activated: no records of the database, but kept and collected like them.
class MountSource {
 public:
  struct Activation {
    std::string ns;
    std::string name;
    std::string lease;  // "" for none
    std::map<std::string, std::string> labels;
  };

  virtual ~MountSource() = default;
  // Those that were complete before the gate was closed, and perhaps others.
  virtual std::vector<Activation> Activations() = 0;
  // Unmounts. Called with the gate open. kNotFound: it is gone already.
  virtual absl::Status Remove(const std::string& ns, const std::string& name) = 0;
};

struct Inventory {
  Graph graph;
  // Rows of lease_resources that belong to an expired lease or to none.
  std::vector<std::string> dead_lease_rows;
  // How many snapshots lie below each, by node: what is removed goes deepest first.
  absl::flat_hash_map<Graph::Id, int> snapshot_depth;
  // The next moment at which something expires; InfiniteFuture: none.
  absl::Time next_expiry = absl::InfiniteFuture();
};

// Reads everything as of `view` and the snapshotters' indexes. Changes nothing. `mounts` may be
// null.
absl::StatusOr<Inventory> TakeInventory(const metadata::ReadView& view,
                                        const metadata::Snapshotters& snapshotters, absl::Time now,
                                        MountSource* mounts = nullptr);

}  // namespace gantry::gc

#endif  // GANTRY_SUPERVISOR_GC_EDGES_H_
