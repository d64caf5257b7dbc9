// Which snapshots there are: key -> id, kind, parent, labels, times, usage, directory. One fact,
// one place: nothing else records a snapshot's parent or kind.
//
// Lives in a RocksDB column family that is handed in; several indexes share one family under
// different prefixes.
//   <prefix>/k/<key>            record
//   <prefix>/c/<parent id>/<id> child of parent
// An id is the snapshot's own; its directory is named by the id of the snapshot that made it.
// Share() adds a record that names the directory of another: the records are the reference count of
// a directory, and Orphans() finds those that no record names. An id is not given out again while a
// record or a directory passed to SkipIds() has it.
//
// Durability: SetLabels() is on disk when it returns, and Commit() if CommitOptions::sync.
// Create(), Share(), Remove() and other commits become so with the next synced write to the
// database (a container or image record, say) or Sync(); until then a power cut undoes them, in
// reverse order.
//
// Thread-safe. Iteration sees one consistent state and holds no lock.
#ifndef GANTRY_SNAPSHOTTER_SNAPSHOT_INDEX_H_
#define GANTRY_SNAPSHOTTER_SNAPSHOT_INDEX_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "snapshotter/snapshotter.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class WriteBatch;
}  // namespace rocksdb

namespace gantry::snapshot {

struct SnapshotRecord {
  uint64_t id = 0;
  uint64_t parent_id = 0;           // 0 for a base
  std::vector<uint64_t> ancestors;  // directories of what it is stacked on, nearest first
  Info info;                        // with the directory of its files; a view with parents has none
  snapshot::Usage usage;            // of a committed snapshot
};

class SnapshotIndex {
 public:
  // `prefix` names this index within the family, "overlay" say; no '/'. `db` and `family` outlive
  // the index.
  static absl::StatusOr<std::unique_ptr<SnapshotIndex>> Open(rocksdb::DB* db,
                                                             rocksdb::ColumnFamilyHandle* family,
                                                             absl::string_view prefix);

  // kNotFound: unknown key. kDataLoss: the record is damaged.
  absl::StatusOr<SnapshotRecord> Get(absl::string_view key);

  // An id for a snapshot about to be created. Until Create() or Forget(), Orphans() does not count
  // it as one.
  uint64_t ReserveId();
  void Forget(uint64_t id);

  // Codes of Snapshotter::Prepare.
  absl::StatusOr<SnapshotRecord> Create(uint64_t id, Kind kind, absl::string_view key,
                                        absl::string_view parent, const Labels& labels);

  // Codes of Snapshotter::Commit.
  absl::StatusOr<SnapshotRecord> Commit(absl::string_view name, absl::string_view key,
                                        const snapshot::Usage& usage, const CommitOptions& options);

  // Codes of Snapshotter::Share. One step with the look at the source: a directory that is shared
  // was not an orphan before and is none afterwards.
  absl::StatusOr<SnapshotRecord> Share(absl::string_view name, const ShareOptions& options);

  absl::StatusOr<SnapshotRecord> SetLabels(absl::string_view key, const Labels& labels,
                                           const std::vector<std::string>& fields);

  // Returns what was removed. kFailedPrecondition: has children.
  absl::StatusOr<SnapshotRecord> Remove(absl::string_view key);

  absl::Status Walk(const std::function<absl::Status(const SnapshotRecord&)>& visit);

  // Those of the directories `ids` (listed before the call) that neither a record nor a reservation
  // names.
  absl::StatusOr<std::vector<uint64_t>> Orphans(const std::vector<uint64_t>& ids);

  // Ids up to `highest` are in use on disk and are not handed out.
  void SkipIds(uint64_t highest);

  // Everything returned so far survives a power cut.
  absl::Status Sync();

 private:
  SnapshotIndex(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family, absl::string_view prefix);

  std::string RecordKey(absl::string_view key) const;
  std::string ChildKey(uint64_t parent_id, uint64_t id) const;
  std::string ChildPrefix(uint64_t parent_id) const;
  // Stacks `record` on `parent`. kNotFound and kInvalidArgument: `parent` cannot be stacked upon.
  absl::Status StackOn(absl::string_view parent, SnapshotRecord& record);
  // kAlreadyExists: there is a record of `key`.
  absl::Status CheckFree(absl::string_view key);
  void Put(rocksdb::WriteBatch& batch, const SnapshotRecord& record) const;
  absl::Status Write(rocksdb::WriteBatch& batch);

  rocksdb::DB* const db_;
  rocksdb::ColumnFamilyHandle* const family_;
  const std::string prefix_;

  absl::Mutex mu_;  // makes check-then-write one step; spans unsynced writes only
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  std::set<uint64_t> reserved_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::snapshot

#endif  // GANTRY_SNAPSHOTTER_SNAPSHOT_INDEX_H_
