#include "content-store/store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/status_macros.h"

namespace gantry::content {

absl::StatusOr<std::string> ReadBlob(Store& store, const Digest& digest, int64_t max_bytes) {
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, store.Open(digest));
  const int64_t size = reader->size_bytes();
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("blob ", digest.str(), ": has ", size,
                                                     " bytes, more than the ", max_bytes,
                                                     " allowed here"));
  }
  std::string bytes(static_cast<size_t>(size), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    GANTRY_ASSIGN_OR_RETURN(
        const size_t n,
        reader->ReadAt(static_cast<int64_t>(done), bytes.data() + done, bytes.size() - done));
    if (n == 0)
      return absl::DataLossError(
          absl::StrCat("blob ", digest.str(), ": ends at ", done, " of ", size));
    done += n;
  }
  return bytes;
}

absl::StatusOr<Digest> WriteBlob(Store& store, absl::string_view ref, absl::string_view bytes,
                                 const Digest& expected, const Labels& labels) {
  const Digest digest = expected.empty() ? Digest::Sha256Of(bytes) : expected;
  const auto already_there = [&]() -> absl::StatusOr<Digest> {
    if (!labels.empty()) {
      std::vector<std::string> fields;
      for (const auto& [key, value] : labels) fields.push_back(absl::StrCat("labels.", key));
      const absl::Status updated = store.Update(digest, labels, fields).status();
      if (!updated.ok() && !absl::IsUnimplemented(updated)) return updated;
    }
    return digest;
  };

  absl::StatusOr<std::unique_ptr<Ingest>> ingest =
      store.OpenIngest({.ref = std::string(ref),
                        .total_bytes = static_cast<int64_t>(bytes.size()),
                        .expected = digest});
  if (absl::IsAlreadyExists(ingest.status())) return already_there();
  if (!ingest.ok()) return ingest.status();
  if ((*ingest)->offset() != 0) GANTRY_RETURN_IF_ERROR((*ingest)->Truncate(0));
  GANTRY_RETURN_IF_ERROR((*ingest)->Append(bytes));
  absl::StatusOr<Digest> committed = (*ingest)->Commit(
      {.expected = digest, .size_bytes = static_cast<int64_t>(bytes.size()), .labels = labels});
  if (absl::IsAlreadyExists(committed.status())) return already_there();
  if (absl::IsFailedPrecondition(committed.status())) {
    ingest->reset();  // releases the ref; an ingest that stays is resumed or collected
    store.AbortIngest(ref).IgnoreError();
  }
  return committed;
}

}  // namespace gantry::content
