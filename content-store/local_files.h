// The files of a LocalStore by name and content: what an ingest writes down about itself, and the
// hashing of what is in a file. The layout is in local_store.h. Used by LocalStore and its ingests
// only.
//
// Free functions without state, safe to call from any thread. Descriptors stay the caller's;
// `ingest_fd` is that of the directory ingest/, `name` the directory of one ingest below it.
#ifndef GANTRY_CONTENT_STORE_LOCAL_FILES_H_
#define GANTRY_CONTENT_STORE_LOCAL_FILES_H_

#include <time.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "content-store/digest.h"
#include "content-store/ingest.h"

namespace gantry::content {

// Below blobs/: "sha256/<hex>".
std::string BlobName(const Digest& digest);

// Below ingest/.
std::string IngestName(absl::string_view ref);

// kInvalidArgument: no ref, or one too long to be kept.
absl::Status CheckRef(absl::string_view ref);

absl::Time TimeOf(const timespec& time);

// The first 16 KiB; of files that are known to be smaller.
absl::StatusOr<std::string> ReadSmallFileAt(int directory, const std::string& path);

// kNotFound: no such ingest, or one that was never written down completely.
absl::StatusOr<IngestStatus> ReadIngestStatus(int ingest_fd, const std::string& name);

// Into the directory of the ingest, in place of what was there.
absl::Status WriteIngestStatus(int directory, const IngestStatus& status);

// What is not there counts as removed.
absl::Status RemoveIngestAt(int ingest_fd, const std::string& name);

// Hashes the first `bytes` of `fd`. kDataLoss: it has fewer. Messages begin with `what`.
absl::Status HashPrefix(int fd, int64_t bytes, Hasher& hasher, absl::string_view what);

// Hashes all that is in `fd`.
absl::StatusOr<Digest> HashFile(int fd, absl::string_view algorithm, absl::string_view what);

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_LOCAL_FILES_H_
