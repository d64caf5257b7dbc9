#include "supervisor/core/blob_origin.h"

#include "absl/cleanup/cleanup.h"
#include "absl/random/random.h"
#include "absl/strings/str_cat.h"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::core {
namespace {

constexpr size_t kPieceBytes = 256 << 10;

// The bytes of `source` as a blob; present is success.
absl::Status StoreBlob(ByteSource& source, const content::Descriptor& blob, content::Store& store,
                       CancelToken* cancel) {
  absl::BitGen random;
  content::IngestOptions options;
  options.ref =
      absl::StrCat("fetch-", absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
  options.expected = blob.digest;
  absl::StatusOr<std::unique_ptr<content::Ingest>> ingest = store.OpenIngest(options);
  if (absl::IsAlreadyExists(ingest.status())) return absl::OkStatus();
  if (!ingest.ok()) return ingest.status();
  // What cannot be dropped is garbage, which collection takes.
  absl::Cleanup abort = [&] {
    ingest->reset();
    store.AbortIngest(options.ref).IgnoreError();
  };
  const std::unique_ptr<char[]> buffer(new char[kPieceBytes]);
  while (true) {
    if (cancel != nullptr) GANTRY_RETURN_IF_ERROR(cancel->Check());
    GANTRY_ASSIGN_OR_RETURN(const size_t n, source.Read(buffer.get(), kPieceBytes));
    if (n == 0) break;
    if (blob.size_bytes > 0 && (*ingest)->offset() + static_cast<int64_t>(n) > blob.size_bytes)
      return absl::DataLossError(absl::StrCat("blob ", blob.digest.str(), ": longer than the ",
                                              blob.size_bytes, " bytes that it should have"));
    GANTRY_RETURN_IF_ERROR((*ingest)->Append(absl::string_view(buffer.get(), n)));
  }
  content::CommitOptions commit;
  commit.expected = blob.digest;
  if (blob.size_bytes > 0) commit.size_bytes = blob.size_bytes;
  const absl::StatusOr<content::Digest> committed = (*ingest)->Commit(commit);
  if (absl::IsAlreadyExists(committed.status())) return absl::OkStatus();
  if (absl::IsFailedPrecondition(committed.status()))
    return absl::DataLossError(
        absl::StrCat("blob ", blob.digest.str(), ": ", committed.status().message()));
  if (!committed.ok()) return committed.status();
  std::move(abort).Cancel();
  return absl::OkStatus();
}

}  // namespace

absl::Status StreamOrigin::Fetch(const content::Descriptor& blob, content::Store& store,
                                 CancelToken* cancel) {
  if (store.Stat(blob.digest).ok()) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> source, Open(blob, cancel));
  return WithContext(StoreBlob(*source, blob, store, cancel), name());
}

}  // namespace gantry::core
