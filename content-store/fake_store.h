// A Store in memory, with labels. For tests.
//
// Ingests survive their writer as they do on disk, so resuming can be tested. Thread-safe.
#ifndef GANTRY_CONTENT_STORE_FAKE_STORE_H_
#define GANTRY_CONTENT_STORE_FAKE_STORE_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "content-store/store.h"

namespace gantry::content {

class FakeStore final : public Store {
 public:
  FakeStore();
  ~FakeStore() override;

  absl::StatusOr<Info> Stat(const Digest& digest) override;
  absl::StatusOr<Info> Update(const Digest& digest, const Labels& labels,
                              const std::vector<std::string>& fields) override;
  absl::Status Walk(const std::function<absl::Status(const Info&)>& visit) override;
  absl::StatusOr<std::unique_ptr<BlobReader>> Open(const Digest& digest) override;
  absl::Status Delete(const Digest& digest) override;
  absl::StatusOr<std::unique_ptr<Ingest>> OpenIngest(const IngestOptions& options) override;
  absl::StatusOr<IngestStatus> StatIngest(absl::string_view ref) override;
  absl::StatusOr<std::vector<IngestStatus>> ListIngests() override;
  absl::Status AbortIngest(absl::string_view ref) override;

  // From now on Append() stops with kResourceExhausted once an ingest holds `bytes`; negative: no
  // limit.
  void SetIngestLimit(int64_t bytes);

 private:
  friend class FakeIngest;
  struct Blob {
    Info info;
    std::shared_ptr<const std::string> bytes;
  };
  struct Partial {
    IngestStatus status;
    std::string bytes;
    bool locked = false;
  };

  absl::Mutex mu_;
  std::map<Digest, Blob> blobs_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Partial, std::less<>> ingests_ ABSL_GUARDED_BY(mu_);
  int64_t ingest_limit_ ABSL_GUARDED_BY(mu_) = -1;
};

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_FAKE_STORE_H_
