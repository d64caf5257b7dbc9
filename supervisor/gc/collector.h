// One garbage collection, start to end, in the caller's thread.
//
// Looks whether there is anything to remove. If so: closes the gate, takes the inventory, marks,
// deletes the records of what is unreachable in one write, opens the gate; then removes files:
// snapshots, ingests, and blobs that no namespace has, each after looking again.
// A crash after the write leaves files without records, which the next full sweep removes; never a
// record without its file.
//
// Thread-safe; runs one at a time.
#ifndef GANTRY_SUPERVISOR_GC_COLLECTOR_H_
#define GANTRY_SUPERVISOR_GC_COLLECTOR_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "base/clock.h"
#include "content-store/digest.h"
#include "supervisor/gc/mark.h"
#include "supervisor/metadata/blob_pool.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/snapshotters.h"

namespace gantry::gc {

class MountSource;

struct Collection {
  // Records that are gone: publish /images/delete, /snapshot/remove and /content/delete for theirs.
  // In the order of removal.
  std::vector<Node> removed;
  // Files that are gone, with their bytes.
  std::vector<std::pair<content::Digest, int64_t>> blobs;
  int64_t freed_bytes() const;

  absl::Duration pause;  // how long the gate was closed; zero when there was nothing to remove
  absl::Duration total;
  absl::Duration removing;  // of `total`: unlinking files, with the gate open
  int64_t objects = 0;      // looked at
  absl::Time next_expiry = absl::InfiniteFuture();
  // What could not be removed and why: logged by the caller, tried again next time. The collection
  // as such succeeded.
  std::vector<absl::Status> leftovers;
};

struct CollectOptions {
  // Looks at every file on disk, not only at those whose record went: after a start, and when a
  // person asks.
  bool full_sweep = false;
  // How long to wait for writers in the middle of a write of a few milliseconds; no other
  // can begin one meanwhile.
  absl::Duration gate_timeout = absl::Seconds(5);
  // Ends the run between two files; what is left the next one removes, of this daemon or of its
  // successor. Null: none.
  const CancelToken* cancel = nullptr;
};

class Collector {
 public:
  // All outlive it.
  Collector(metadata::Database& db, metadata::BlobPool& blobs,
            const metadata::Snapshotters& snapshotters, const Clock& clock)
      : db_(db), blobs_(blobs), snapshotters_(snapshotters), clock_(clock) {}

  // `sweep` runs at the end of each collection, in its thread: it removes files of other rooms that
  // were left behind. A failure is one of Collection::leftovers. Before the first Collect().
  void AlsoSweep(std::function<absl::Status()> sweep) { others_.push_back(std::move(sweep)); }

  // Mounts are collected too. Before the first Collect(); `mounts` outlives the collector.
  void CollectMounts(MountSource& mounts) { mounts_ = &mounts; }

  // kUnavailable: a writer inside the gate did not leave in time; nothing was changed, try later.
  // kDataLoss: a record does not parse: nothing is collected rather than the wrong thing.
  absl::StatusOr<Collection> Collect(const CollectOptions& options = {}) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // True: nothing to remove, as far as can be seen with the gate open; `collection` is filled in
  // then.
  absl::StatusOr<bool> LooksClean(Collection& collection) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status SweepRecords(absl::Duration gate_timeout, Collection& collection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  metadata::Database& db_;
  metadata::BlobPool& blobs_;
  const metadata::Snapshotters& snapshotters_;
  const Clock& clock_;
  std::vector<std::function<absl::Status()>> others_;
  MountSource* mounts_ = nullptr;

  absl::Mutex mu_;  // held for a whole collection
};

}  // namespace gantry::gc

#endif  // GANTRY_SUPERVISOR_GC_COLLECTOR_H_
