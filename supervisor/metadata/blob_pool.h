// The blobs below all namespaces: the one content store on disk, and who is just looking at which
// blob.
//
// A blob's file is shared by the namespaces that have a record of it and goes when the last record
// went. Between a namespace's "is it there?" and its record, a pin keeps the file; between the
// sweeper's check for records and the unlink, the blob's lock keeps records away. Thread-safe.
#ifndef GANTRY_SUPERVISOR_METADATA_BLOB_POOL_H_
#define GANTRY_SUPERVISOR_METADATA_BLOB_POOL_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "base/cancel_token.h"
#include "content-store/store.h"
#include "supervisor/metadata/database.h"

namespace gantry::metadata {

class BlobPool {
 public:
  // `files` knows nothing of namespaces: its ingest refs are made by IngestRef().
  BlobPool(content::Store& files, Database& db) : files_(files), db_(db) {}

  // Keeps a file from being swept while it lives. Move-only.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), digest_(std::move(other.digest_)) {}
    Pin& operator=(Pin&& other) noexcept;
    ~Pin() { Release(); }
    void Release();

   private:
    friend class BlobPool;
    Pin(BlobPool* pool, content::Digest digest) : pool_(pool), digest_(std::move(digest)) {}
    BlobPool* pool_ = nullptr;
    content::Digest digest_;
  };

  content::Store& files() { return files_; }

  Pin PinBlob(const content::Digest& digest) ABSL_LOCKS_EXCLUDED(mu_);

  // While this is held, no other thread gives the blob a record or removes its file. May be held
  // over I/O on that blob.
  KeyLocks::Held LockBlob(const content::Digest& digest);

  // The name in files() of a namespace's ingest: "<ns>/<ref>", with the end of a very long ref
  // replaced by a hash.
  static std::string IngestRef(absl::string_view ns, absl::string_view ref);

  // While this is held, no other thread opens, aborts or sweeps that ingest.
  KeyLocks::Held LockIngest(const std::string& ingest_ref);

  // Does any namespace have a record of it?
  absl::StatusOr<bool> HasRecord(const content::Digest& digest);

  // The digest lost a record: worth a look at the next sweep.
  void NoteRemoved(const content::Digest& digest) ABSL_LOCKS_EXCLUDED(mu_);

  // Removes the files of those noted digests that no namespace has and no pin holds. `everything`
  // looks at all files instead (start-up, `prune`). Returns the bytes freed per digest. Slow;
  // nothing is locked but one blob at a time. Once `cancel`, which may be null, is cancelled, the
  // rest stays noted.
  absl::StatusOr<std::vector<std::pair<content::Digest, int64_t>>> Sweep(
      bool everything, const CancelToken* cancel = nullptr) ABSL_LOCKS_EXCLUDED(mu_);

  // Drops the bytes of ingests that no namespace has a record of; returns how many.
  absl::StatusOr<int> SweepIngests();

  // Before the doors open: forgets blobs whose file a power cut took (written without sync, machine
  // gone before the sync), so that they are fetched again. Returns them as "<ns>/<digest>" for the
  // log.
  absl::StatusOr<std::vector<std::string>> DropRecordsWithoutFile();

 private:
  absl::StatusOr<bool> HasIngestRecord(absl::string_view ingest_ref);

  content::Store& files_;
  Database& db_;
  KeyLocks locks_;  // by digest, and by ingest ref, which holds a '/'

  absl::Mutex mu_;
  absl::flat_hash_map<std::string, int> pins_ ABSL_GUARDED_BY(mu_);
  std::set<content::Digest> removed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_BLOB_POOL_H_
