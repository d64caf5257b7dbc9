#include "supervisor/metadata/database.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"
#include "rocksdb/cache.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"
#include "rocksdb/utilities/write_batch_with_index.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "supervisor/metadata/migrations.h"

namespace gantry::metadata {
namespace {

// Long enough for the slowest disk's fsync of the transaction in front, short enough to break a
// cycle before a client's time is over.
constexpr absl::Duration kLockTimeout = absl::Seconds(5);
constexpr int kMaxRuns = 5;

// A disk that blobs and layers have filled must still take the few bytes that a removal writes.
// Below the reserve only essential changes are taken, and when even their space is gone, that of
// the ballast file is given to them.
constexpr int64_t kReserveBytes = 16 << 20;
constexpr int64_t kBallastBytes = 8 << 20;
constexpr int64_t kTightBytes = 4 << 20;
constexpr int64_t kPlentyBytes = 64 << 20;
constexpr char kSchemaKey[] = "schema";

absl::string_view View(const rocksdb::Slice& slice) {
  return absl::string_view(slice.data(), slice.size());
}
rocksdb::Slice Slice(absl::string_view text) { return rocksdb::Slice(text.data(), text.size()); }

absl::Status ToStatus(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = absl::StrCat("metadata database: ", what, ": ", status.ToString());
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kSpaceLimit)
    return absl::ResourceExhaustedError(text);
  if (status.IsNotFound()) return absl::NotFoundError(text);
  if (status.IsBusy() || status.IsTryAgain() || status.IsAborted()) return absl::AbortedError(text);
  if (status.IsTimedOut() || status.IsShutdownInProgress()) return absl::UnavailableError(text);
  if (status.IsInvalidArgument()) return absl::InternalError(text);
  return absl::DataLossError(text);
}

absl::StatusOr<std::optional<std::string>> ToValue(const rocksdb::Status& status,
                                                   std::string& value) {
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return ToStatus(status, "read");
  return std::optional<std::string>(std::move(value));
}

// Where a family's key is stored.
std::string RowKey(Family family, absl::string_view key) {
  std::string row(1, static_cast<char>('A' + static_cast<int>(family)));
  row.append(key.data(), key.size());
  return row;
}

// The first key behind all that start with `prefix`; "" when there is none.
std::string PrefixEnd(absl::string_view prefix) {
  std::string end(prefix);
  while (!end.empty()) {
    if (static_cast<unsigned char>(end.back()) != 0xff) {
      ++end.back();
      return end;
    }
    end.pop_back();
  }
  return end;
}

absl::Status ScanRows(
    rocksdb::Iterator& it, const std::string& prefix,
    const std::function<absl::Status(absl::string_view, absl::string_view)>& visit) {
  for (it.Seek(prefix); it.Valid() && it.key().starts_with(prefix); it.Next()) {
    GANTRY_RETURN_IF_ERROR(visit(View(it.key()).substr(1), View(it.value())));
  }
  return ToStatus(it.status(), "scan");
}

// RocksDB's own words, from warnings on, in the daemon's log. Its default is a file beside the
// data, whose writer aborts the process when the disk is full.
class Log final : public rocksdb::Logger {
 public:
  Log() : Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}

  using Logger::Logv;
  void Logv(const rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < rocksdb::InfoLogLevel::WARN_LEVEL || level == rocksdb::InfoLogLevel::HEADER_LEVEL)
      return;
    char text[1024];
    std::vsnprintf(text, sizeof(text), format, arguments);
    LOG(WARNING) << "metadata database: " << text;
  }
  void Logv(const char*, va_list) override {}
};

constexpr size_t kScanReadahead = 256 << 10;

// The rows of a scan. Lives as long as what was made from it.
struct RowRange {
  RowRange(Family family, absl::string_view prefix)
      : begin(RowKey(family, prefix)), end(PrefixEnd(begin)), bound(end) {}
  RowRange(const RowRange&) = delete;
  RowRange& operator=(const RowRange&) = delete;
  const std::string begin, end;
  const rocksdb::Slice bound;
};

rocksdb::ReadOptions ScanOptions(const rocksdb::Snapshot* snapshot, const RowRange& range) {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  // Records that are read one behind the other are read together, and leave the cache to those that
  // are asked for singly.
  options.readahead_size = kScanReadahead;
  options.fill_cache = false;
  options.iterate_upper_bound = &range.bound;
  return options;
}

// Small memory is a design goal: the daemon holds a few MB of records, and the page cache does the
// rest.
rocksdb::Options SmallOptions(rocksdb::Env* env) {
  rocksdb::Options options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.write_buffer_size = 2 << 20;
  options.db_write_buffer_size = 4 << 20;
  options.arena_block_size = 32 << 10;  // else each column family takes more with its first key
  options.max_write_buffer_number = 4;  // in a burst only; with less, writers stop for each flush
  options.max_total_wal_size = 8 << 20;
  options.max_open_files = 128;
  options.max_background_jobs = 2;
  options.max_file_opening_threads = 1;  // else each column family starts 16 to open its few files
  options.skip_stats_update_on_db_open = true;
  options.target_file_size_base = 8 << 20;
  options.compression = rocksdb::kNoCompression;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.info_log = std::make_shared<Log>();
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  // A start replays a few MB of log instead of writing files first.
  options.avoid_flush_during_recovery = true;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(2 << 20, /*num_shard_bits=*/0);
  table.cache_index_and_filter_blocks = true;
  // Each list that is under way has a buffer of this size, which malloc has at hand.
  table.max_auto_readahead_size = 64 << 10;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// What root may still use; a disk that does not say is taken to be roomy.
int64_t FreeBytes(const std::string& directory) {
  struct statvfs fs;
  if (::statvfs(directory.c_str(), &fs) != 0) return INT64_MAX;
  return static_cast<int64_t>(fs.f_bfree) * static_cast<int64_t>(fs.f_frsize);
}

}  // namespace

absl::StatusOr<UniqueFd> LockRoot(const std::string& root) {
  const std::string path = root + "/lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", path));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoToStatus(errno, absl::StrCat("lock ", path));
    std::string holder = "another process";
    if (auto pid = ReadFile(path, 64); pid.ok() && !pid->empty()) {
      holder = absl::StrCat("pid ", absl::CEscape(absl::StripSuffix(*pid, "\n")));
    }
    return absl::UnavailableError(
        absl::StrCat("root directory ", root, " is in use by another gantryd (", holder,
                     "): stop it, or choose another --root, --state and --address"));
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  // Over the old one, then cut: on a full disk a file that was emptied first would not get its
  // block back.
  GANTRY_RETURN_IF_ERROR(WriteAll(fd.get(), pid));
  if (::ftruncate(fd.get(), static_cast<off_t>(pid.size())) != 0)
    return ErrnoToStatus(errno, absl::StrCat("truncate ", path));
  return fd;
}

Transaction::Transaction(Database& db, GcGate::Shared gate)
    : db_(&db),
      gate_(std::move(gate)),
      locks_(db.key_locks_),
      batch_(std::make_unique<rocksdb::WriteBatchWithIndex>(rocksdb::BytewiseComparator(), 0,
                                                            /*overwrite_key=*/true)) {}

Transaction::Transaction(Transaction&&) noexcept = default;
Transaction::~Transaction() = default;

absl::Status Transaction::Lock(Family family, absl::string_view key, bool exclusive) {
  const std::string name = RowKey(family, key);
  if (exclusive ? locks_.Exclusive(name, kLockTimeout) : locks_.Shared(name, kLockTimeout))
    return absl::OkStatus();
  return absl::AbortedError(absl::StrCat("metadata ", kFamilyNames[static_cast<size_t>(family)],
                                         " \"", absl::CEscape(key),
                                         "\" is being changed by another call"));
}

absl::StatusOr<std::optional<std::string>> Transaction::Get(Family family, absl::string_view key) {
  std::string value;
  return ToValue(batch_->GetFromBatchAndDB(db_->db_.get(), rocksdb::ReadOptions(), db_->rows(),
                                           RowKey(family, key), &value),
                 value);
}

absl::StatusOr<std::optional<std::string>> Transaction::GetForUpdate(Family family,
                                                                     absl::string_view key) {
  GANTRY_RETURN_IF_ERROR(Lock(family, key, /*exclusive=*/true));
  return Get(family, key);
}

absl::StatusOr<std::optional<std::string>> Transaction::GetShared(Family family,
                                                                  absl::string_view key) {
  GANTRY_RETURN_IF_ERROR(Lock(family, key, /*exclusive=*/false));
  return Get(family, key);
}

absl::Status Transaction::Put(Family family, absl::string_view key, absl::string_view value) {
  GANTRY_RETURN_IF_ERROR(Lock(family, key, /*exclusive=*/true));
  puts_ = true;
  return ToStatus(batch_->Put(db_->rows(), RowKey(family, key), Slice(value)), "put");
}

absl::Status Transaction::Delete(Family family, absl::string_view key) {
  GANTRY_RETURN_IF_ERROR(Lock(family, key, /*exclusive=*/true));
  return ToStatus(batch_->Delete(db_->rows(), RowKey(family, key)), "delete");
}

absl::Status Transaction::Scan(
    Family family, absl::string_view prefix,
    const std::function<absl::Status(absl::string_view, absl::string_view)>& visit) {
  std::unique_ptr<rocksdb::Iterator> it(batch_->NewIteratorWithBase(
      db_->rows(), db_->db_->NewIterator(rocksdb::ReadOptions(), db_->rows())));
  return ScanRows(*it, RowKey(family, prefix), visit);
}

absl::Status Transaction::Commit(Durability durability) {
  Database* db = std::exchange(db_, nullptr);
  const bool empty = batch_->GetWriteBatch()->Count() == 0;
  absl::Status status =
      empty ? absl::OkStatus() : db->Write(*batch_, durability, essential_ || !puts_);
  batch_.reset();
  locks_.ReleaseAll();
  gate_.Release();
  if (status.ok() && !empty) db->NoteChange(deletion_);
  return status;
}

ReadView::ReadView(Database& db) : db_(db), snapshot_(db.db_->GetSnapshot()) {}
ReadView::~ReadView() { db_.db_->ReleaseSnapshot(snapshot_); }

absl::StatusOr<std::optional<std::string>> ReadView::Get(Family family,
                                                         absl::string_view key) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot_;
  std::string value;
  return ToValue(db_.db_->Get(options, db_.rows(), RowKey(family, key), &value), value);
}

absl::Status ReadView::Scan(
    Family family, absl::string_view prefix,
    const std::function<absl::Status(absl::string_view, absl::string_view)>& visit) const {
  const RowRange range(family, prefix);
  std::unique_ptr<rocksdb::Iterator> it(
      db_.db_->NewIterator(ScanOptions(snapshot_, range), db_.rows()));
  return ScanRows(*it, range.begin, visit);
}

absl::Status ReadView::ScanBoth(
    Family family, Family beside, absl::string_view prefix,
    const std::function<absl::Status(absl::string_view, absl::string_view, absl::string_view)>&
        visit) const {
  const RowRange others(beside, prefix);
  std::unique_ptr<rocksdb::Iterator> other(
      db_.db_->NewIterator(ScanOptions(snapshot_, others), db_.rows()));
  other->Seek(others.begin);
  GANTRY_RETURN_IF_ERROR(Scan(family, prefix, [&](absl::string_view key, absl::string_view value) {
    while (other->Valid() && View(other->key()).substr(1) < key) other->Next();
    const bool same = other->Valid() && View(other->key()).substr(1) == key;
    return visit(key, value, same ? View(other->value()) : absl::string_view());
  }));
  return ToStatus(other->status(), "scan");
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& root,
                                                         DatabaseOptions options) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(root, 0700));
  GANTRY_ASSIGN_OR_RETURN(UniqueFd lock, LockRoot(root));
  return Open(root, std::move(lock), std::move(options));
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& root, UniqueFd lock,
                                                         DatabaseOptions options) {
  std::unique_ptr<Database> db(new Database());
  db->directory_ = root + "/metadata";
  db->lock_ = std::move(lock);
  GANTRY_RETURN_IF_ERROR(MakeDirectories(db->directory_, 0700));
  db->free_bytes_ = options.free_bytes ? options.free_bytes : [directory = db->directory_] {
    return FreeBytes(directory);
  };
  db->ballast_ = ::access((db->directory_ + "/ballast").c_str(), F_OK) == 0;
  // RocksDB writes when it opens. What was started on a full disk must be able to say what is
  // there, and to remove it.
  if (db->free_bytes_() < kTightBytes) db->DropBallast();
  GANTRY_RETURN_IF_ERROR(db->OpenRocks(options));
  GANTRY_RETURN_IF_ERROR(db->Migrate(options));
  return db;
}

absl::Status Database::OpenRocks(const DatabaseOptions& options) {
  const rocksdb::Options rocks = SmallOptions(options.env);
  std::vector<std::string> names = {rocksdb::kDefaultColumnFamilyName, "snapshots"};
  // RocksDB opens all families or none, so those of another schema are opened too, to be able to
  // say whose they are.
  std::vector<std::string> present;
  if (rocksdb::DB::ListColumnFamilies(rocks, directory_, &present).ok()) {
    for (std::string& name : present) {
      if (std::find(names.begin(), names.end(), name) == names.end())
        names.push_back(std::move(name));
    }
  }
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const std::string& name : names) families.emplace_back(name, rocks);
  rocksdb::DB* db = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(rocks, directory_, families, &handles_, &db);
  if (!status.ok()) {
    absl::Status failed = ToStatus(status, absl::StrCat("open ", directory_));
    if (!absl::IsResourceExhausted(failed)) return failed;
    return absl::ResourceExhaustedError(
        absl::StrCat(failed.message(), ": free ", kTightBytes >> 20, " MiB there and start again"));
  }
  db_.reset(db);
  return absl::OkStatus();
}

absl::Status Database::PutSchemaVersion(int version) {
  rocksdb::WriteOptions write;
  write.sync = true;
  return ToStatus(db_->Put(write, rows(), RowKey(Family::kMeta, kSchemaKey), absl::StrCat(version)),
                  "write schema version");
}

absl::Status Database::Migrate(const DatabaseOptions& options) {
  const int wanted = options.schema_version.value_or(kSchemaVersion);
  const std::vector<Migration> migrations =
      options.migrations.empty() ? RealMigrations() : options.migrations;
  GANTRY_ASSIGN_OR_RETURN(std::optional<std::string> stored, Get(Family::kMeta, kSchemaKey));
  if (!stored.has_value()) {
    schema_version_ = wanted;
    return PutSchemaVersion(wanted);
  }
  if (!absl::SimpleAtoi(*stored, &schema_version_)) {
    return absl::DataLossError(absl::StrCat("metadata database ", directory_, ": schema version \"",
                                            absl::CEscape(*stored), "\" is not a number"));
  }
  if (schema_version_ > wanted) {
    return absl::FailedPreconditionError(
        absl::StrCat("metadata database ", directory_, " was written by a newer Gantry (schema ",
                     schema_version_, ", this one knows ", wanted,
                     "): install that version again, or choose another --root"));
  }
  while (schema_version_ < wanted) {
    auto step = std::find_if(migrations.begin(), migrations.end(),
                             [this](const Migration& m) { return m.from == schema_version_; });
    if (step == migrations.end()) {
      return absl::FailedPreconditionError(absl::StrCat("metadata database ", directory_,
                                                        ": no way from schema ", schema_version_,
                                                        " to ", wanted));
    }
    if (absl::Status status = step->apply(*this); !status.ok()) {
      return WithContext(status,
                         absl::StrCat("metadata database ", directory_, ": migration from schema ",
                                      schema_version_, " (", step->what, ")"));
    }
    GANTRY_RETURN_IF_ERROR(PutSchemaVersion(schema_version_ + 1));
    ++schema_version_;
  }
  return absl::OkStatus();
}

Database::~Database() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* handle : handles_) db_->DestroyColumnFamilyHandle(handle);
  db_->Close();
}

Transaction Database::Begin() { return Transaction(*this, gate_.EnterShared()); }

Transaction Database::Begin(const GcGate::Exclusive&) {
  return Transaction(*this, GcGate::Shared());
}

absl::Status Database::Run(const std::function<absl::Status(Transaction&)>& body,
                           Durability durability) {
  absl::Status status;
  for (int run = 0; run < kMaxRuns; ++run) {
    Transaction tx = Begin();
    status = body(tx);
    if (status.ok()) status = tx.Commit(durability);
    if (!absl::IsAborted(status)) break;
  }
  return status;
}

absl::StatusOr<std::optional<std::string>> Database::Get(Family family, absl::string_view key) {
  std::string value;
  return ToValue(db_->Get(rocksdb::ReadOptions(), rows(), RowKey(family, key), &value), value);
}

absl::Status Database::CheckSpace(bool essential) {
  const int64_t free_bytes = free_bytes_();
  if (free_bytes >= kReserveBytes) {
    if (!ballast_ && free_bytes >= kPlentyBytes) MakeBallast();
    return absl::OkStatus();
  }
  if (!essential) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the disk under ", directory_, " is full (", free_bytes >> 10,
                     " KiB free): nothing can be created until space is freed; removing works"));
  }
  if (free_bytes < kTightBytes) DropBallast();
  return absl::OkStatus();
}

void Database::MakeBallast() {
  if (ballast_.exchange(true)) return;
  const std::string path = directory_ + "/ballast";
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.valid() && ::posix_fallocate(fd.get(), 0, kBallastBytes) == 0) return;
  DropBallast();
}

void Database::DropBallast() {
  if (ballast_.exchange(false)) ::unlink((directory_ + "/ballast").c_str());
}

absl::Status Database::Write(rocksdb::WriteBatchWithIndex& batch, Durability durability,
                             bool essential) {
  GANTRY_RETURN_IF_ERROR(CheckSpace(essential));
  rocksdb::WriteOptions options;
  options.sync = durability == Durability::kSynced;
  rocksdb::Status status = db_->Write(options, batch.GetWriteBatch());
  // After a failed write (disk full, say) RocksDB refuses all others until told that things may be
  // better now. The batch is in no memtable then, so it may be tried again.
  const bool hard = status.severity() >= rocksdb::Status::kHardError;
  if ((hard || status.IsIOError()) && Recover(ToStatus(status, "write")) && hard) {
    status = db_->Write(options, batch.GetWriteBatch());
  }
  // It comes to itself within seconds once there is room.
  if (status.IsNoSpace()) DropBallast();
  return ToStatus(status, "write");
}

bool Database::Recover(const absl::Status& failure) {
  const rocksdb::Status resumed = db_->Resume();
  if (resumed.severity() >= rocksdb::Status::kFatalError && loss_observer_) {
    loss_observer_(failure);
  }
  return resumed.ok();
}

absl::Status Database::Sync() {
  const rocksdb::Status status = db_->FlushWAL(/*sync=*/true);
  if (status.IsIOError()) Recover(ToStatus(status, "sync"));
  return ToStatus(status, "sync");
}

void Database::NoteChange(bool deletion) {
  if (observer_) observer_(deletion);
}

}  // namespace gantry::metadata
