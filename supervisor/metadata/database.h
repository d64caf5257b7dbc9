// The embedded database: opening, migration, transactions, consistent reads, and the gate that
// garbage collection closes.
//
// One per root directory, for the life of the daemon; a second daemon on the same root is refused.
// What is in it: key_space.h. A change is one Transaction: it locks the keys it reads for update or
// writes, and becomes visible at once and as a whole. Commits that come together share one fsync.
//
// Lock order: container operation lock -> gate (shared) -> transaction -> map mutex. A transaction
// spans no I/O but its own.
#ifndef GANTRY_SUPERVISOR_METADATA_DATABASE_H_
#define GANTRY_SUPERVISOR_METADATA_DATABASE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "supervisor/metadata/gc_gate.h"
#include "supervisor/metadata/key_locks.h"
#include "supervisor/metadata/key_space.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class Env;
class Snapshot;
class WriteBatchWithIndex;
}  // namespace rocksdb

namespace gantry::metadata {

class Database;

// What an acknowledged change survives.
enum class Durability {
  kSynced,    // a power cut; costs a share of an fsync
  kBuffered,  // death of the daemon, not of the machine. Later synced commits and Database::Sync() make it durable, in order
};

// One atomic change. Reads see its own writes. Dropped without Commit(), nothing happened.
// Thread-compatible. Holds the gate (shared) and its key locks until it ends. Lock keys in the
// order namespace, lease, object: a cycle of waiting transactions ends with kAborted for one of
// them.
class Transaction {
 public:
  Transaction(Transaction&&) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  // The value now, no lock taken: may change before Commit().
  absl::StatusOr<std::optional<std::string>> Get(Family family, absl::string_view key);

  // The value, which no other transaction can change until this one ends.
  // kAborted: another transaction holds the key and does not let go; do the whole transaction
  // again.
  absl::StatusOr<std::optional<std::string>> GetForUpdate(Family family, absl::string_view key);

  // The same beside other sharers: the value stays as it is, and this transaction must not write
  // it.
  absl::StatusOr<std::optional<std::string>> GetShared(Family family, absl::string_view key);

  // Lock (kAborted as above) and write.
  absl::Status Put(Family family, absl::string_view key, absl::string_view value);
  absl::Status Delete(Family family, absl::string_view key);

  // Visits keys that start with `prefix` in order, with this transaction's own writes. No locks
  // taken.
  absl::Status Scan(
      Family family, absl::string_view prefix,
      const std::function<absl::Status(absl::string_view key, absl::string_view value)>& visit);

  // Makes all of it visible at once. kResourceExhausted: disk (almost) full; kDataLoss: the disk
  // failed. Nothing happened then. Ends the transaction, however it goes.
  absl::Status Commit(Durability durability = Durability::kSynced);

  // A change that must be possible on a full disk, because it is on the way to freeing space or
  // tells of what has happened anyway. Changes that only delete are.
  void NoteEssential() { essential_ = true; }

  // Counts this change towards the next collection as one that left garbage.
  void NoteDeletion() { deletion_ = true; }

 private:
  friend class Database;
  Transaction(Database& db, GcGate::Shared gate);
  absl::Status Lock(Family family, absl::string_view key, bool exclusive);

  Database* db_;  // null once ended
  GcGate::Shared gate_;
  KeyLocks::Held locks_;
  std::unique_ptr<rocksdb::WriteBatchWithIndex> batch_;
  bool deletion_ = false;
  bool essential_ = false;
  bool puts_ = false;
};

// Reads of one moment, whatever is written meanwhile. Thread-safe. Must not outlive the Database;
// long-lived ones keep old data on disk.
class ReadView {
 public:
  explicit ReadView(Database& db);
  ~ReadView();
  ReadView(const ReadView&) = delete;
  ReadView& operator=(const ReadView&) = delete;

  absl::StatusOr<std::optional<std::string>> Get(Family family, absl::string_view key) const;

  // Visits keys that start with `prefix` in byte order; a status other than OK ends the scan and is
  // returned.
  absl::Status Scan(Family family, absl::string_view prefix,
                    const std::function<absl::Status(absl::string_view key,
                                                     absl::string_view value)>& visit) const;

  // The same with what `beside` has under the same key: "" for nothing.
  absl::Status ScanBoth(
      Family family, Family beside, absl::string_view prefix,
      const std::function<absl::Status(absl::string_view key, absl::string_view value,
                                       absl::string_view other)>& visit) const;

 private:
  Database& db_;
  const rocksdb::Snapshot* const snapshot_;
};

// A step from schema `from` to `from + 1`. It runs before the database is used, and runs again if
// the machine stops in between.
struct Migration {
  int from;
  absl::string_view what;
  std::function<absl::Status(Database&)> apply;
};

struct DatabaseOptions {
  // For tests: a file system that forgets unsynced writes, other migrations. Null / empty: the real
  // ones.
  rocksdb::Env* env = nullptr;
  std::optional<int> schema_version = std::nullopt;
  std::vector<Migration> migrations = {};
  std::function<int64_t()> free_bytes = nullptr;  // on the file system of the database
};

// Takes `<root>/lock`, for as long as the descriptor is open. kUnavailable: another daemon has the
// root; the message names its pid.
absl::StatusOr<UniqueFd> LockRoot(const std::string& root);

class Database {
 public:
  // Opens `<root>/metadata`, creating what is missing, and keeps `lock`, which LockRoot() gave,
  // until destroyed.
  //   kFailedPrecondition  written by a newer Gantry
  //   kDataLoss            damaged; the message names the directory
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& root, UniqueFd lock,
                                                        DatabaseOptions options = {});
  // The same, and takes the lock itself.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& root,
                                                        DatabaseOptions options = {});
  // No Transaction or ReadView may be left.
  ~Database();

  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Waits while a collection is in its short exclusive part.
  Transaction Begin();

  // For the one who closed the gate.
  Transaction Begin(const GcGate::Exclusive&);

  // Runs `body` in a transaction and commits; again, a few times, when either answers kAborted.
  absl::Status Run(const std::function<absl::Status(Transaction&)>& body,
                   Durability durability = Durability::kSynced);

  // The latest committed value.
  absl::StatusOr<std::optional<std::string>> Get(Family family, absl::string_view key);

  // Everything committed so far survives a power cut once this returns OK.
  absl::Status Sync();

  // Makes several calls atomic towards garbage collection without making them one transaction. Take
  // it before a transaction.
  GcGate& gate() { return gate_; }

  // Where the snapshotters keep their indexes (snapshotter/snapshot_index.h). Both live as long as
  // this Database.
  rocksdb::DB* rocks() { return db_.get(); }
  rocksdb::ColumnFamilyHandle* snapshot_family() { return handles_[1]; }

  // Called after every commit, on the committing thread, with whether it left garbage. Must be
  // quick and must not call back. Set once, before the first transaction of another thread.
  void SetCommitObserver(std::function<void(bool deletion)> observer) {
    observer_ = std::move(observer);
  }
  // Called, on a committing thread, when a sync of the log has failed: how much of it the disk has
  // is not known any more, whatever later syncs say, and no change is taken until the database is
  // opened anew. Set once, before the first transaction of another thread.
  void SetLossObserver(std::function<void(const absl::Status& why)> observer) {
    loss_observer_ = std::move(observer);
  }
  // For changes that live in another store (a snapshot index): tells the observer.
  void NoteChange(bool deletion);

  int schema_version() const { return schema_version_; }
  const std::string& directory() const { return directory_; }

 private:
  friend class Transaction;
  friend class ReadView;

  Database() = default;
  absl::Status Write(rocksdb::WriteBatchWithIndex& batch, Durability durability, bool essential);
  // After a failed write: makes RocksDB take writes again, if it may.
  bool Recover(const absl::Status& failure);
  // Keeps the last bytes of the disk for essential changes; they have a ballast file to live on.
  absl::Status CheckSpace(bool essential);
  void MakeBallast();
  void DropBallast();
  absl::Status OpenRocks(const DatabaseOptions& options);
  absl::Status Migrate(const DatabaseOptions& options);
  absl::Status PutSchemaVersion(int version);
  rocksdb::ColumnFamilyHandle* rows() const { return handles_[0]; }

  std::string directory_;
  UniqueFd lock_;
  int schema_version_ = 0;
  // Rows, snapshots, then those of another schema; owned.
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
  std::function<void(bool)> observer_;
  std::function<void(const absl::Status&)> loss_observer_;
  std::function<int64_t()> free_bytes_;
  std::atomic<bool> ballast_ = false;  // the file is there
  std::unique_ptr<rocksdb::DB> db_;

  GcGate gate_;
  KeyLocks key_locks_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_DATABASE_H_
