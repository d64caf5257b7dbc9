// Blobs as files; the file system is the truth, there is no database. Keeps no labels.
//
// Disk layout below `root`:
//   blobs/<alg>/<hex>        0444; a name here has all its bytes
//   ingest/<id>/ref          the ref given to OpenIngest(); <id> is the sha256 of the ref, so any ref
//                            is a safe name
//   ingest/<id>/data         the bytes so far
//   state                    "clean", or the boot and time since when blobs may be in the page
//                            cache only
// A commit syncs data, renames it into blobs/, syncs the directory. With CommitOptions::sync ==
// false all that waits for Sync(); a power cut in between can leave a torn blob behind, which
// Open() then finds by `state` and removes.
//
// Lifecycle: one LocalStore per root and machine (the owner of the root directory sees to that);
// outlives its readers and ingests. Thread-safe.
#ifndef GANTRY_CONTENT_STORE_LOCAL_STORE_H_
#define GANTRY_CONTENT_STORE_LOCAL_STORE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/executor.h"
#include "base/unique_fd.h"
#include "content-store/store.h"

namespace gantry::content {

class LocalStore final : public Store {
 public:
  // Creates what is missing below `root`, drops ingests that cannot be resumed and blobs torn by a
  // power cut.
  static absl::StatusOr<std::unique_ptr<LocalStore>> Open(const std::string& root);
  // Leaves everything synced.
  ~LocalStore() override;

  absl::StatusOr<Info> Stat(const Digest& digest) override;
  // kUnimplemented: no labels here; content_namespace keeps them.
  absl::StatusOr<Info> Update(const Digest& digest, const Labels& labels,
                              const std::vector<std::string>& fields) override;
  absl::Status Walk(const std::function<absl::Status(const Info&)>& visit) override;
  absl::StatusOr<std::unique_ptr<BlobReader>> Open(const Digest& digest) override;
  absl::Status Delete(const Digest& digest) override;
  absl::StatusOr<std::unique_ptr<Ingest>> OpenIngest(const IngestOptions& options) override;
  absl::StatusOr<IngestStatus> StatIngest(absl::string_view ref) override;
  absl::StatusOr<std::vector<IngestStatus>> ListIngests() override;
  absl::Status AbortIngest(absl::string_view ref) override;

  // Makes every blob committed so far durable: one syncfs, nothing when all were synced already.
  absl::Status Sync();

  // Removes what is left of ingests whose making or removal stopped half-way, because of a shortage
  // of descriptors or of space. Beside writers; also done at Open().
  absl::Status RemoveHalfMade();

  // Re-reads the blob. kDataLoss: its bytes do not hash to its name.
  absl::Status Verify(const Digest& digest);

  const std::string& root() const { return root_; }

 private:
  friend class LocalIngest;

  LocalStore(std::string root, UniqueFd root_fd, UniqueFd blobs_fd, UniqueFd ingest_fd);

  absl::Status RecoverIngests();
  absl::Status RecoverUnsynced();
  // kUnavailable: held by another writer.
  absl::Status LockRef(const std::string& ref);
  void UnlockRef(const std::string& ref);
  // Around the publishing of a blob that waits for Sync(). The first one is noted on disk
  // beforehand.
  absl::Status BeginUnsynced();
  void EndUnsynced();

  const std::string root_;
  const UniqueFd root_fd_;
  const UniqueFd blobs_fd_;
  const UniqueFd ingest_fd_;
  // Write bytes while they are being hashed. An ingest waits for its writes; a writer never waits
  // for an ingest.
  Executor writers_;

  absl::Mutex mu_;
  std::map<std::string, absl::Time> locked_refs_ ABSL_GUARDED_BY(mu_);  // by directory name

  absl::Mutex sync_mu_;  // orders writes of `state`; not held over the sync itself
  bool unsynced_ ABSL_GUARDED_BY(sync_mu_) = false;
  int unsynced_in_flight_ ABSL_GUARDED_BY(sync_mu_) = 0;
  uint64_t unsynced_generation_ ABSL_GUARDED_BY(sync_mu_) = 0;
};

}  // namespace gantry::content

#endif  // GANTRY_CONTENT_STORE_LOCAL_STORE_H_
