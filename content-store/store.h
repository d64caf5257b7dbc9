// Content-addressed blobs: what is in, what is on its way in. Nine methods.
//
// Implementations: local_store (files), fake_store (memory, tests),
// supervisor/metadata/content_namespace (one namespace's view). All pass store_conformance.
//
// Thread-safe. No method holds a lock over I/O on another blob.
#ifndef GANTRY_CONTENT_STORE_STORE_H_
#define GANTRY_CONTENT_STORE_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "content-store/digest.h"
#include "content-store/ingest.h"

namespace gantry::content {

struct Info {
  Digest digest;
  int64_t size_bytes = 0;
  absl::Time created_at;
  absl::Time updated_at;
  Labels labels;
};

// Random access to one committed blob. Stays readable while the blob is deleted. Thread-safe.
class BlobReader {
 public:
  virtual ~BlobReader() = default;
  virtual int64_t size_bytes() const = 0;
  // Reads up to `n` bytes at `offset`; fewer only at the end; 0 at or past the end.
  virtual absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer, size_t n) = 0;
  // A file with exactly these bytes, for sendfile and mmap; -1 when there is none. Owned by the
  // reader.
  virtual int fd() const { return -1; }
};

struct IngestOptions {
  std::string ref;          // 1..4096 bytes, any characters but NUL
  int64_t total_bytes = 0;  // 0: unknown
  Digest expected = {};     // empty: unknown. Known and present: OpenIngest answers kAlreadyExists
};

class Store {
 public:
  virtual ~Store() = default;

  // kNotFound: not here (in this namespace).
  virtual absl::StatusOr<Info> Stat(const Digest& digest) = 0;

  // Applies `labels`; an empty `fields` replaces all labels, otherwise each entry is "labels" or
  // "labels.<key>".
  // A label with an empty value is removed. kInvalidArgument: another field; kUnimplemented: the
  // store keeps no labels.
  virtual absl::StatusOr<Info> Update(const Digest& digest, const Labels& labels,
                                      const std::vector<std::string>& fields) = 0;

  // Calls `visit` for each blob in digest order; a status other than OK ends the walk and is
  // returned.
  virtual absl::Status Walk(const std::function<absl::Status(const Info&)>& visit) = 0;

  virtual absl::StatusOr<std::unique_ptr<BlobReader>> Open(const Digest& digest) = 0;

  // Forgets the blob. kNotFound when it is not here.
  virtual absl::Status Delete(const Digest& digest) = 0;

  // Opens or resumes. kUnavailable: another writer holds the ref; kAlreadyExists: `expected` is
  // committed already.
  virtual absl::StatusOr<std::unique_ptr<Ingest>> OpenIngest(const IngestOptions& options) = 0;

  virtual absl::StatusOr<IngestStatus> StatIngest(absl::string_view ref) = 0;
  virtual absl::StatusOr<std::vector<IngestStatus>> ListIngests() = 0;

  // Drops the bytes. kNotFound: no such ref; kUnavailable: a writer holds it.
  virtual absl::Status AbortIngest(absl::string_view ref) = 0;
};

// Reads a whole blob of at most `max_bytes` (kResourceExhausted above that).
absl::StatusOr<std::string> ReadBlob(Store& store, const Digest& digest, int64_t max_bytes);

// Writes `bytes` as one blob; a blob that is there already is success. kFailedPrecondition: `bytes`
// do not hash to `expected`.
absl::StatusOr<Digest> WriteBlob(Store& store, absl::string_view ref, absl::string_view bytes,
                                 const Digest& expected = {}, const Labels& labels = {});

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_STORE_H_
