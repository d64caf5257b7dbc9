// One blob on its way into the store.
//
// Invisible to readers until Commit() succeeds, immutable from then on. Survives a restart:
// reopen the same ref and continue from offset().
//
// Thread-compatible; one writer per ref (the store refuses a second with kUnavailable).
// Spec: OCI image-spec v1.1 "Descriptors". Disk layout: local_store.h.
#ifndef GANTRY_CONTENT_STORE_INGEST_H_
#define GANTRY_CONTENT_STORE_INGEST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "content-store/digest.h"

namespace gantry::content {

using Labels = std::map<std::string, std::string>;

struct IngestStatus {
  std::string ref;
  int64_t offset_bytes = 0;
  int64_t total_bytes = 0;  // 0: the writer did not say
  Digest expected;          // may be empty
  absl::Time started_at;
  absl::Time updated_at;
};

struct CommitOptions {
  Digest expected = {};                              // empty: whatever the bytes hash to
  std::optional<int64_t> size_bytes = std::nullopt;  // refuse any other size
  Labels labels = {};  // stored on the blob where the store keeps labels
  bool sync = true;  // false: the caller makes the data durable (syncfs) before it records the blob
};

class Ingest {
 public:
  // Keeps the bytes of an uncommitted ingest; Store::AbortIngest() drops them.
  virtual ~Ingest() = default;

  // Writes at offset(). kResourceExhausted: disk full, bytes so far are kept.
  absl::Status Append(absl::string_view bytes) { return AppendPieces({&bytes, 1}); }

  // The pieces one behind the other, as if they were one.
  virtual absl::Status AppendPieces(absl::Span<const absl::string_view> pieces) = 0;

  // Drops everything behind `offset_bytes` (only 0 is promised to be cheap).
  virtual absl::Status Truncate(int64_t offset_bytes) = 0;

  // Bytes, counting those written before a restart.
  virtual int64_t offset() const = 0;

  // Ref, totals, times, and the digest of the bytes so far.
  virtual IngestStatus status() const = 0;
  virtual Digest current_digest() const = 0;

  // Verifies, syncs, publishes; returns the digest of what was stored. Ends the ingest on success.
  //   kAlreadyExists       blob present already, ingest dropped; usually success to the caller
  //   kFailedPrecondition  digest or size differ; not published, ingest stays until aborted
  virtual absl::StatusOr<Digest> Commit(const CommitOptions& options) = 0;
};

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_INGEST_H_
