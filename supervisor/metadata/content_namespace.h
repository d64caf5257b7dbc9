// The content store as one namespace sees it, and as one lease fills it.
//
// A blob is visible once this namespace committed it. One that is on disk already because another
// namespace has it need not be sent again: OpenIngest() with its digest gives an ingest that is
// complete from the start, and Commit() makes the record (policy permitting). Labels live here.
// Ingest refs are the namespace's own; an ingest opened without lease is collected after 24 hours.
// Under a lease, what is opened, committed or found present is attached to it; what is deleted is
// detached.
//
// Cheap to make and to copy, per call or for long. Thread-safe. Passes store_conformance.
// Semantics: containerd "content" service.
#ifndef GANTRY_SUPERVISOR_METADATA_CONTENT_NAMESPACE_H_
#define GANTRY_SUPERVISOR_METADATA_CONTENT_NAMESPACE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/clock.h"
#include "content-store/store.h"
#include "supervisor/metadata/blob_pool.h"
#include "supervisor/metadata/database.h"
#include "supervisor/metadata/scope.h"

namespace gantry::metadata {

inline constexpr absl::Duration kIngestExpiry = absl::Hours(24);

// Whose blobs a namespace may take over without sending the bytes.
enum class BlobSharing {
  kShared,    // of any namespace
  kIsolated,  // those of namespaces labelled containerd.io/namespace.shareable=true
};

class ContentNamespace final : public content::Store {
 public:
  // `pool`, `db` and `clock` outlive it and every ingest it opens.
  ContentNamespace(BlobPool& pool, Database& db, const Clock& clock, Scope scope,
                   BlobSharing sharing = BlobSharing::kShared)
      : pool_(pool), db_(db), clock_(clock), scope_(std::move(scope)), sharing_(sharing) {}

  absl::StatusOr<content::Info> Stat(const content::Digest& digest) override;
  absl::StatusOr<content::Info> Update(const content::Digest& digest, const content::Labels& labels,
                                       const std::vector<std::string>& fields) override;
  absl::Status Walk(const std::function<absl::Status(const content::Info&)>& visit) override;
  absl::StatusOr<std::unique_ptr<content::BlobReader>> Open(const content::Digest& digest) override;
  absl::Status Delete(const content::Digest& digest) override;
  absl::StatusOr<std::unique_ptr<content::Ingest>> OpenIngest(
      const content::IngestOptions& options) override;
  absl::StatusOr<content::IngestStatus> StatIngest(absl::string_view ref) override;
  absl::StatusOr<std::vector<content::IngestStatus>> ListIngests() override;
  absl::Status AbortIngest(absl::string_view ref) override;

  const Scope& scope() const { return scope_; }

 private:
  friend class NamespacedIngest;

  // The ref's name in the pool's store.
  std::string PoolRef(absl::string_view ref) const;
  absl::StatusOr<bool> MayAdopt(const content::Digest& digest);
  absl::Status RecordIngest(const content::IngestOptions& options);
  absl::Status Attach(const content::Digest& digest);

  BlobPool& pool_;
  Database& db_;
  const Clock& clock_;
  const Scope scope_;
  const BlobSharing sharing_;
};

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_CONTENT_NAMESPACE_H_
