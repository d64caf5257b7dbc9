#include "snapshotter/snapshot_index.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "base/status_macros.h"

namespace gantry::snapshot {
namespace {

// Format 2 has directory, parent id and layer digest at its end; format 1 is written where they say
// nothing new, so that most records stay as they were.
constexpr char kFormat = 1;
constexpr char kFormatShared = 2;
constexpr size_t kKeyBytes = 4096;

std::string What(absl::string_view key) {
  return absl::StrCat("snapshot ", absl::CHexEscape(key.substr(0, 300)));
}

absl::Status FromRocks(const rocksdb::Status& status, absl::string_view what) {
  const std::string text = absl::StrCat(what, ": database: ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(absl::StrCat(what, ": not found"));
  if (status.IsNoSpace()) return absl::ResourceExhaustedError(text);
  if (status.IsCorruption()) return absl::DataLossError(text);
  if (status.IsBusy() || status.IsTimedOut() || status.IsTryAgain())
    return absl::UnavailableError(text);
  return absl::InternalError(text);
}

void PutNumber(std::string& out, uint64_t number) {
  while (number >= 0x80) {
    out.push_back(static_cast<char>(number | 0x80));
    number >>= 7;
  }
  out.push_back(static_cast<char>(number));
}

void PutText(std::string& out, absl::string_view text) {
  PutNumber(out, text.size());
  out.append(text.data(), text.size());
}

// Takes fields off the front; after the first one that is not there all others are empty and ok()
// is false.
class Fields {
 public:
  explicit Fields(absl::string_view bytes) : rest_(bytes) {}

  uint64_t Number() {
    uint64_t number = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) break;
      const uint8_t byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      number |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return number;
    }
    ok_ = false;
    rest_ = {};
    return 0;
  }

  std::string Text() {
    const uint64_t size = Number();
    if (size > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    std::string text(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return text;
  }

  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }

 private:
  absl::string_view rest_;
  bool ok_ = true;
};

bool NeedsSharedFormat(const SnapshotRecord& record) {
  const uint64_t nearest = record.ancestors.empty() ? 0 : record.ancestors.front();
  return record.info.directory != record.id || record.parent_id != nearest ||
         !record.info.layer.empty();
}

std::string Encode(const SnapshotRecord& record) {
  const bool shared = NeedsSharedFormat(record);
  std::string out(1, shared ? kFormatShared : kFormat);
  PutNumber(out, record.id);
  PutNumber(out, static_cast<uint64_t>(record.info.kind));
  PutText(out, record.info.parent);
  PutNumber(out, record.ancestors.size());
  for (const uint64_t id : record.ancestors) PutNumber(out, id);
  PutNumber(out, static_cast<uint64_t>(absl::ToUnixNanos(record.info.created_at)));
  PutNumber(out, static_cast<uint64_t>(absl::ToUnixNanos(record.info.updated_at)));
  PutNumber(out, static_cast<uint64_t>(record.usage.size_bytes));
  PutNumber(out, static_cast<uint64_t>(record.usage.inodes));
  PutNumber(out, record.info.labels.size());
  for (const auto& [key, value] : record.info.labels) {
    PutText(out, key);
    PutText(out, value);
  }
  if (shared) {
    PutNumber(out, record.info.directory);
    PutNumber(out, record.parent_id);
    PutText(out, record.info.layer);
  }
  return out;
}

absl::StatusOr<SnapshotRecord> Decode(absl::string_view key, absl::string_view bytes) {
  const auto damaged = [&] {
    return absl::DataLossError(absl::StrCat(What(key), ": its record is damaged"));
  };
  if (bytes.empty() || (bytes[0] != kFormat && bytes[0] != kFormatShared)) return damaged();
  Fields fields(bytes.substr(1));
  SnapshotRecord record;
  record.id = fields.Number();
  const uint64_t kind = fields.Number();
  if (kind < 1 || kind > 3) return damaged();
  record.info.kind = static_cast<Kind>(kind);
  record.info.name = std::string(key);
  record.info.parent = fields.Text();
  const uint64_t ancestors = fields.Number();
  for (uint64_t i = 0; i < ancestors && fields.ok(); ++i)
    record.ancestors.push_back(fields.Number());
  record.info.created_at = absl::FromUnixNanos(static_cast<int64_t>(fields.Number()));
  record.info.updated_at = absl::FromUnixNanos(static_cast<int64_t>(fields.Number()));
  record.usage.size_bytes = static_cast<int64_t>(fields.Number());
  record.usage.inodes = static_cast<int64_t>(fields.Number());
  const uint64_t labels = fields.Number();
  for (uint64_t i = 0; i < labels && fields.ok(); ++i) {
    std::string label = fields.Text();
    record.info.labels[std::move(label)] = fields.Text();
  }
  record.info.directory = record.id;
  record.parent_id = record.ancestors.empty() ? 0 : record.ancestors.front();
  if (bytes[0] == kFormatShared) {
    record.info.directory = fields.Number();
    record.parent_id = fields.Number();
    record.info.layer = fields.Text();
    if (record.info.directory == 0) return damaged();
  }
  if (!fields.ok() || !fields.at_end() || record.id == 0) return damaged();
  return record;
}

void AppendBigEndian(std::string& out, uint64_t number) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(number >> shift));
}

absl::Status CheckKey(absl::string_view key) {
  if (key.empty() || key.size() > kKeyBytes) {
    return absl::InvalidArgumentError(absl::StrCat("snapshot: a key has 1 to ", kKeyBytes,
                                                   " characters; this one has ", key.size()));
  }
  return absl::OkStatus();
}

rocksdb::Slice ToSlice(const std::string& text) { return rocksdb::Slice(text); }

// Iterates over the keys that begin with `prefix`, as they are now.
class PrefixIterator {
 public:
  PrefixIterator(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family, std::string prefix)
      : prefix_(std::move(prefix)) {
    rocksdb::ReadOptions options;
    options.total_order_seek = true;
    options.fill_cache = false;
    iterator_.reset(db->NewIterator(options, family));
    iterator_->Seek(ToSlice(prefix_));
  }
  bool Valid() const {
    return iterator_->Valid() && iterator_->key().starts_with(ToSlice(prefix_));
  }
  void Next() { iterator_->Next(); }
  absl::string_view suffix() const {
    return absl::string_view(iterator_->key().data(), iterator_->key().size())
        .substr(prefix_.size());
  }
  absl::string_view value() const {
    return absl::string_view(iterator_->value().data(), iterator_->value().size());
  }
  rocksdb::Status status() const { return iterator_->status(); }

 private:
  const std::string prefix_;
  std::unique_ptr<rocksdb::Iterator> iterator_;
};

}  // namespace

SnapshotIndex::SnapshotIndex(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family,
                             absl::string_view prefix)
    : db_(db), family_(family), prefix_(prefix) {}

absl::StatusOr<std::unique_ptr<SnapshotIndex>> SnapshotIndex::Open(
    rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family, absl::string_view prefix) {
  std::unique_ptr<SnapshotIndex> index(new SnapshotIndex(db, family, prefix));
  uint64_t highest = 0;
  // A damaged record does not keep the others from being used; Get() of it fails.
  PrefixIterator it(db, family, index->RecordKey(""));
  for (; it.Valid(); it.Next()) {
    const absl::StatusOr<SnapshotRecord> record = Decode(it.suffix(), it.value());
    if (record.ok()) highest = std::max({highest, record->id, record->info.directory});
  }
  if (!it.status().ok()) return FromRocks(it.status(), "snapshot index: open");
  index->SkipIds(highest);
  return index;
}

std::string SnapshotIndex::RecordKey(absl::string_view key) const {
  return absl::StrCat(prefix_, "/k/", key);
}

std::string SnapshotIndex::ChildPrefix(uint64_t parent_id) const {
  std::string key = absl::StrCat(prefix_, "/c/");
  AppendBigEndian(key, parent_id);
  return key;
}

std::string SnapshotIndex::ChildKey(uint64_t parent_id, uint64_t id) const {
  std::string key = ChildPrefix(parent_id);
  AppendBigEndian(key, id);
  return key;
}

void SnapshotIndex::Put(rocksdb::WriteBatch& batch, const SnapshotRecord& record) const {
  batch.Put(family_, RecordKey(record.info.name), Encode(record));
}

absl::Status SnapshotIndex::Write(rocksdb::WriteBatch& batch) {
  const rocksdb::Status status = db_->Write(rocksdb::WriteOptions(), &batch);
  return status.ok() ? absl::OkStatus() : FromRocks(status, "snapshot index: write");
}

absl::Status SnapshotIndex::Sync() {
  const rocksdb::Status status = db_->FlushWAL(/*sync=*/true);
  return status.ok() ? absl::OkStatus() : FromRocks(status, "snapshot index: sync");
}

absl::StatusOr<SnapshotRecord> SnapshotIndex::Get(absl::string_view key) {
  GANTRY_RETURN_IF_ERROR(CheckKey(key));
  rocksdb::PinnableSlice value;
  const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), family_, RecordKey(key), &value);
  if (!status.ok()) return FromRocks(status, What(key));
  return Decode(key, absl::string_view(value.data(), value.size()));
}

uint64_t SnapshotIndex::ReserveId() {
  absl::MutexLock lock(&mu_);
  const uint64_t id = next_id_++;
  reserved_.insert(id);
  return id;
}

void SnapshotIndex::Forget(uint64_t id) {
  absl::MutexLock lock(&mu_);
  reserved_.erase(id);
}

void SnapshotIndex::SkipIds(uint64_t highest) {
  absl::MutexLock lock(&mu_);
  next_id_ = std::max(next_id_, highest + 1);
}

absl::Status SnapshotIndex::StackOn(absl::string_view parent, SnapshotRecord& record) {
  if (parent.empty()) return absl::OkStatus();
  const absl::StatusOr<SnapshotRecord> below = Get(parent);
  if (absl::IsNotFound(below.status())) {
    return absl::NotFoundError(absl::StrCat("parent ", What(parent), ": not found"));
  }
  if (!below.ok()) return below.status();
  if (below->info.kind != Kind::kCommitted) {
    return absl::InvalidArgumentError(absl::StrCat("parent ", What(parent), ": is not committed"));
  }
  record.info.parent = std::string(parent);
  record.parent_id = below->id;
  record.ancestors = {below->info.directory};
  record.ancestors.insert(record.ancestors.end(), below->ancestors.begin(), below->ancestors.end());
  return absl::OkStatus();
}

absl::Status SnapshotIndex::CheckFree(absl::string_view key) {
  const absl::Status taken = Get(key).status();
  if (taken.ok()) return absl::AlreadyExistsError(absl::StrCat(What(key), ": already exists"));
  return absl::IsNotFound(taken) ? absl::OkStatus() : taken;
}

absl::StatusOr<SnapshotRecord> SnapshotIndex::Create(uint64_t id, Kind kind, absl::string_view key,
                                                     absl::string_view parent,
                                                     const Labels& labels) {
  GANTRY_RETURN_IF_ERROR(CheckKey(key));
  SnapshotRecord record;
  record.id = id;
  record.info = {.kind = kind,
                 .name = std::string(key),
                 .parent = {},
                 .labels = labels,
                 .created_at = absl::Now(),
                 .updated_at = {}};
  record.info.updated_at = record.info.created_at;
  record.info.directory = id;

  absl::MutexLock lock(&mu_);
  GANTRY_RETURN_IF_ERROR(CheckFree(key));
  GANTRY_RETURN_IF_ERROR(StackOn(parent, record));
  rocksdb::WriteBatch batch;
  Put(batch, record);
  if (record.parent_id != 0) batch.Put(family_, ChildKey(record.parent_id, id), rocksdb::Slice());
  GANTRY_RETURN_IF_ERROR(Write(batch));
  reserved_.erase(id);
  return record;
}

absl::StatusOr<SnapshotRecord> SnapshotIndex::Commit(absl::string_view name, absl::string_view key,
                                                     const snapshot::Usage& usage,
                                                     const CommitOptions& options) {
  GANTRY_RETURN_IF_ERROR(CheckKey(name));
  SnapshotRecord record;
  {
    absl::MutexLock lock(&mu_);
    GANTRY_ASSIGN_OR_RETURN(record, Get(key));
    if (record.info.kind != Kind::kActive) {
      return absl::FailedPreconditionError(absl::StrCat(What(key), ": is not active"));
    }
    GANTRY_RETURN_IF_ERROR(CheckFree(name));

    rocksdb::WriteBatch batch;
    if (!options.parent.empty() && options.parent != record.info.parent) {
      if (!record.info.parent.empty()) {
        return absl::FailedPreconditionError(
            absl::StrCat(What(key), ": is stacked on ", What(record.info.parent),
                         " and cannot be moved onto ", What(options.parent)));
      }
      GANTRY_RETURN_IF_ERROR(StackOn(options.parent, record));
      batch.Put(family_, ChildKey(record.parent_id, record.id), rocksdb::Slice());
    }
    batch.Delete(family_, RecordKey(key));
    record.info.kind = Kind::kCommitted;
    record.info.name = std::string(name);
    record.info.labels = options.labels;
    record.info.layer = options.layer;
    record.info.created_at = record.info.updated_at = absl::Now();
    record.usage = usage;
    Put(batch, record);
    GANTRY_RETURN_IF_ERROR(Write(batch));
  }
  // Outside the lock: concurrent commits share a sync.
  if (options.sync) GANTRY_RETURN_IF_ERROR(Sync());
  return record;
}

absl::StatusOr<SnapshotRecord> SnapshotIndex::Share(absl::string_view name,
                                                    const ShareOptions& options) {
  GANTRY_RETURN_IF_ERROR(CheckKey(name));
  absl::MutexLock lock(&mu_);
  GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord source, Get(options.source));
  if (source.info.kind != Kind::kCommitted || source.info.layer.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(What(options.source), ": is not a layer whose files can be shared"));
  }
  GANTRY_RETURN_IF_ERROR(CheckFree(name));
  SnapshotRecord record;
  record.id = next_id_++;
  record.usage = source.usage;
  record.info = {.kind = Kind::kCommitted,
                 .name = std::string(name),
                 .parent = {},
                 .labels = options.labels,
                 .created_at = absl::Now(),
                 .updated_at = {},
                 .layer = options.layer.empty() ? source.info.layer : options.layer,
                 .directory = source.info.directory};
  record.info.updated_at = record.info.created_at;
  GANTRY_RETURN_IF_ERROR(StackOn(options.parent, record));
  rocksdb::WriteBatch batch;
  Put(batch, record);
  if (record.parent_id != 0)
    batch.Put(family_, ChildKey(record.parent_id, record.id), rocksdb::Slice());
  GANTRY_RETURN_IF_ERROR(Write(batch));
  return record;
}

absl::StatusOr<SnapshotRecord> SnapshotIndex::SetLabels(absl::string_view key, const Labels& labels,
                                                        const std::vector<std::string>& fields) {
  SnapshotRecord record;
  {
    absl::MutexLock lock(&mu_);
    GANTRY_ASSIGN_OR_RETURN(record, Get(key));
    Labels& updated = record.info.labels;
    if (fields.empty()) updated = labels;
    for (const absl::string_view field : fields) {
      if (field == "labels") {
        updated = labels;
      } else if (absl::StartsWith(field, "labels.") && field.size() > 7) {
        const std::string label(field.substr(7));
        const auto found = labels.find(label);
        if (found == labels.end()) {
          updated.erase(label);
        } else {
          updated[label] = found->second;
        }
      } else {
        return absl::InvalidArgumentError(
            absl::StrCat(What(key), ": cannot update field \"", field, "\", only labels"));
      }
    }
    std::erase_if(updated, [](const auto& label) { return label.second.empty(); });
    record.info.updated_at = absl::Now();
    rocksdb::WriteBatch batch;
    Put(batch, record);
    GANTRY_RETURN_IF_ERROR(Write(batch));
  }
  GANTRY_RETURN_IF_ERROR(Sync());
  return record;
}

absl::StatusOr<SnapshotRecord> SnapshotIndex::Remove(absl::string_view key) {
  absl::MutexLock lock(&mu_);
  GANTRY_ASSIGN_OR_RETURN(SnapshotRecord record, Get(key));
  const PrefixIterator children(db_, family_, ChildPrefix(record.id));
  if (children.Valid()) {
    return absl::FailedPreconditionError(
        absl::StrCat(What(key), ": cannot remove it, other snapshots are stacked on it"));
  }
  if (!children.status().ok()) return FromRocks(children.status(), What(key));
  rocksdb::WriteBatch batch;
  batch.Delete(family_, RecordKey(key));
  if (record.parent_id != 0) batch.Delete(family_, ChildKey(record.parent_id, record.id));
  GANTRY_RETURN_IF_ERROR(Write(batch));
  return record;
}

absl::Status SnapshotIndex::Walk(const std::function<absl::Status(const SnapshotRecord&)>& visit) {
  PrefixIterator it(db_, family_, RecordKey(""));
  for (; it.Valid(); it.Next()) {
    GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record, Decode(it.suffix(), it.value()));
    GANTRY_RETURN_IF_ERROR(visit(record));
  }
  return it.status().ok() ? absl::OkStatus() : FromRocks(it.status(), "snapshot index: walk");
}

absl::StatusOr<std::vector<uint64_t>> SnapshotIndex::Orphans(const std::vector<uint64_t>& ids) {
  std::unordered_set<uint64_t> named;
  std::unique_ptr<PrefixIterator> it;
  {
    // Both looks at one moment: no id moves from reserved to recorded in between.
    absl::MutexLock lock(&mu_);
    named.insert(reserved_.begin(), reserved_.end());
    it = std::make_unique<PrefixIterator>(db_, family_, RecordKey(""));
  }
  for (; it->Valid(); it->Next()) {
    // A record that cannot be read may name any of them: then nothing is an orphan.
    GANTRY_ASSIGN_OR_RETURN(const SnapshotRecord record, Decode(it->suffix(), it->value()));
    named.insert(record.info.directory);
  }
  if (!it->status().ok()) return FromRocks(it->status(), "snapshot index: orphans");
  std::vector<uint64_t> orphans;
  for (const uint64_t id : ids) {
    if (named.count(id) == 0) orphans.push_back(id);
  }
  return orphans;
}

}  // namespace gantry::snapshot
