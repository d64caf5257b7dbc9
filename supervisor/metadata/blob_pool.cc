#include "supervisor/metadata/blob_pool.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/metadata/record_store.h"
#include "supervisor/metadata/validate.h"

namespace gantry::metadata {

BlobPool::Pin& BlobPool::Pin::operator=(Pin&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::exchange(other.pool_, nullptr);
    digest_ = std::move(other.digest_);
  }
  return *this;
}

void BlobPool::Pin::Release() {
  BlobPool* pool = std::exchange(pool_, nullptr);
  if (pool == nullptr) return;
  absl::MutexLock lock(&pool->mu_);
  auto it = pool->pins_.find(digest_.str());
  if (--it->second > 0) return;
  pool->pins_.erase(it);
  // The last record may have gone while it was pinned.
  pool->removed_.insert(digest_);
}

BlobPool::Pin BlobPool::PinBlob(const content::Digest& digest) {
  absl::MutexLock lock(&mu_);
  ++pins_[digest.str()];
  return Pin(this, digest);
}

KeyLocks::Held BlobPool::LockBlob(const content::Digest& digest) {
  KeyLocks::Held held(locks_);
  held.Exclusive(digest.str(), absl::InfiniteDuration());
  return held;
}

KeyLocks::Held BlobPool::LockIngest(const std::string& ingest_ref) {
  KeyLocks::Held held(locks_);
  held.Exclusive(ingest_ref, absl::InfiniteDuration());
  return held;
}

std::string BlobPool::IngestRef(absl::string_view ns, absl::string_view ref) {
  std::string name = absl::StrCat(ns, "/", ref);
  if (name.size() <= kMaxNameBytes) return name;
  const content::Digest digest = content::Digest::Sha256Of(ref);
  name.resize(kMaxNameBytes - digest.hex().size() - 1);
  absl::StrAppend(&name, "~", digest.hex());
  return name;
}

absl::StatusOr<bool> BlobPool::HasIngestRecord(absl::string_view ingest_ref) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(ingest_ref, absl::MaxSplits('/', 1));
  GANTRY_ASSIGN_OR_RETURN(auto record,
                          db_.Get(Family::kIngests, MakeKey(parts.first, parts.second)));
  if (record.has_value()) return true;
  if (ingest_ref.size() < kMaxNameBytes) return false;
  // Perhaps a shortened one, which does not tell its ref.
  bool found = false;
  ReadView view(db_);
  GANTRY_RETURN_IF_ERROR(RecordStore(kIngests).List(
      view, MakePrefix(parts.first), [&](absl::string_view, const record::v1::Ingest& ingest) {
        found = found || IngestRef(parts.first, ingest.ref()) == ingest_ref;
        return absl::OkStatus();
      }));
  return found;
}

absl::StatusOr<bool> BlobPool::HasRecord(const content::Digest& digest) {
  ReadView view(db_);
  bool found = false;
  GANTRY_RETURN_IF_ERROR(view.Scan(
      Family::kNamespaces, "", [&](absl::string_view ns, absl::string_view) -> absl::Status {
        if (found) return absl::OkStatus();
        GANTRY_ASSIGN_OR_RETURN(auto record, view.Get(Family::kContent, MakeKey(ns, digest.str())));
        found = record.has_value();
        return absl::OkStatus();
      }));
  return found;
}

void BlobPool::NoteRemoved(const content::Digest& digest) {
  absl::MutexLock lock(&mu_);
  removed_.insert(digest);
}

absl::StatusOr<std::vector<std::pair<content::Digest, int64_t>>> BlobPool::Sweep(
    bool everything, const CancelToken* cancel) {
  std::set<content::Digest> candidates;
  {
    absl::MutexLock lock(&mu_);
    candidates.swap(removed_);
  }
  if (everything) {
    GANTRY_RETURN_IF_ERROR(files_.Walk([&candidates](const content::Info& info) {
      candidates.insert(info.digest);
      return absl::OkStatus();
    }));
  }
  std::vector<std::pair<content::Digest, int64_t>> swept;
  absl::Status first_error;
  for (const content::Digest& digest : candidates) {
    if (cancel != nullptr && cancel->cancelled()) {
      NoteRemoved(digest);
      continue;
    }
    KeyLocks::Held lock = LockBlob(digest);
    {
      absl::MutexLock map_lock(&mu_);
      // Unpinning notes it again.
      if (pins_.contains(digest.str())) continue;
    }
    auto has_record = HasRecord(digest);
    if (has_record.ok() && *has_record) continue;
    absl::Status removed = has_record.status();
    int64_t size_bytes = 0;
    if (removed.ok()) {
      auto info = files_.Stat(digest);
      if (absl::IsNotFound(info.status())) continue;
      if (info.ok()) size_bytes = info->size_bytes;
      removed = files_.Delete(digest);
    }
    if (removed.ok()) {
      swept.emplace_back(digest, size_bytes);
    } else if (!absl::IsNotFound(removed)) {
      NoteRemoved(digest);
      first_error.Update(removed);
    }
  }
  if (swept.empty() && !first_error.ok()) return first_error;
  return swept;
}

absl::StatusOr<int> BlobPool::SweepIngests() {
  GANTRY_ASSIGN_OR_RETURN(std::vector<content::IngestStatus> ingests, files_.ListIngests());
  int swept = 0;
  // One that cannot be removed does not keep the others.
  absl::Status failure;
  for (const content::IngestStatus& ingest : ingests) {
    KeyLocks::Held lock = LockIngest(ingest.ref);
    GANTRY_ASSIGN_OR_RETURN(bool has_record, HasIngestRecord(ingest.ref));
    if (has_record) continue;
    // kUnavailable: it has a writer, which will make a blob of it or leave it for next time.
    absl::Status aborted = files_.AbortIngest(ingest.ref);
    if (aborted.ok()) {
      ++swept;
    } else if (!absl::IsUnavailable(aborted) && !absl::IsNotFound(aborted)) {
      failure.Update(aborted);
    }
  }
  if (!failure.ok()) return failure;
  return swept;
}

absl::StatusOr<std::vector<std::string>> BlobPool::DropRecordsWithoutFile() {
  std::set<std::string> files;
  GANTRY_RETURN_IF_ERROR(files_.Walk([&files](const content::Info& info) {
    files.insert(info.digest.str());
    return absl::OkStatus();
  }));
  std::vector<std::string> dropped;
  GANTRY_RETURN_IF_ERROR(db_.Run([&](Transaction& tx) -> absl::Status {
    std::vector<std::string> keys;
    dropped.clear();
    GANTRY_RETURN_IF_ERROR(
        tx.Scan(Family::kContent, "", [&](absl::string_view key, absl::string_view) {
          const absl::string_view digest = key.substr(key.find(kSeparator) + 1);
          if (!files.contains(std::string(digest))) {
            keys.emplace_back(key);
            dropped.push_back(absl::StrCat(key.substr(0, key.find(kSeparator)), "/", digest));
          }
          return absl::OkStatus();
        }));
    for (const std::string& key : keys) GANTRY_RETURN_IF_ERROR(tx.Delete(Family::kContent, key));
    return absl::OkStatus();
  }));
  return dropped;
}

}  // namespace gantry::metadata
