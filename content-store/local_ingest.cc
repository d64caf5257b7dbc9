#include "content-store/local_ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "content-store/local_files.h"

namespace gantry::content {
namespace {

// Writeback of a growing ingest is started every so often, so that the sync at its end is short.
constexpr int64_t kWritebackBytes = 16 << 20;
// From here on a second thread pays: it writes while this one hashes.
constexpr size_t kWriteBesideBytes = 256 << 10;

// Work that the first caller does, once for all callers.
struct Job {
  void RunOnce() {
    if (taken.exchange(true)) return;
    run();
    done.Notify();
  }
  std::function<void()> run;
  std::atomic<bool> taken = false;
  absl::Notification done;
};

}  // namespace

class LocalIngest final : public Ingest {
 public:
  LocalIngest(LocalStore& store, IngestStatus status, UniqueFd directory, UniqueFd data,
              Hasher hasher, std::string algorithm)
      : store_(store),
        name_(IngestName(status.ref)),
        status_(std::move(status)),
        directory_(std::move(directory)),
        data_(std::move(data)),
        hasher_(std::move(hasher)),
        algorithm_(std::move(algorithm)),
        writeback_from_(status_.offset_bytes) {}

  ~LocalIngest() override {
    if (!ended_) store_.UnlockRef(status_.ref);
  }

  absl::Status AppendPieces(absl::Span<const absl::string_view> pieces) override {
    if (ended_) return Ended();
    GANTRY_RETURN_IF_ERROR(broken_);
    absl::Status written = Write(pieces);
    // The kernel's own clock for files is milliseconds behind: the time would lie before the call
    // that made it. Where it cannot be set, it stays that.
    status_.updated_at = absl::Now();
    const timespec times[2] = {{0, UTIME_OMIT}, absl::ToTimespec(status_.updated_at)};
    (void)futimens(data_.get(), times);
    if (status_.offset_bytes - writeback_from_ >= kWritebackBytes) {
      // Advice; what it cannot do the sync at the end does.
      (void)sync_file_range(data_.get(), writeback_from_, status_.offset_bytes - writeback_from_,
                            SYNC_FILE_RANGE_WRITE);
      writeback_from_ = status_.offset_bytes;
    }
    return written;
  }

  absl::Status Truncate(int64_t offset_bytes) override {
    if (ended_) return Ended();
    if (offset_bytes < 0 || offset_bytes > status_.offset_bytes) {
      return absl::OutOfRangeError(absl::StrCat(What(), ": cannot go back from ",
                                                status_.offset_bytes, " to ", offset_bytes));
    }
    if (offset_bytes == status_.offset_bytes && broken_.ok()) return absl::OkStatus();
    if (ftruncate(data_.get(), offset_bytes) != 0)
      return ErrnoToStatus(errno, absl::StrCat(What(), ": truncate"));
    Hasher hasher(algorithm_);
    GANTRY_RETURN_IF_ERROR(HashPrefix(data_.get(), offset_bytes, hasher, What()));
    hasher_ = std::move(hasher);
    broken_ = absl::OkStatus();
    status_.offset_bytes = offset_bytes;
    status_.updated_at = absl::Now();
    writeback_from_ = std::min(writeback_from_, offset_bytes);
    return absl::OkStatus();
  }

  int64_t offset() const override { return status_.offset_bytes; }
  IngestStatus status() const override { return status_; }
  Digest current_digest() const override { return hasher_.Current(); }

  absl::StatusOr<Digest> Commit(const CommitOptions& options) override {
    if (ended_) return Ended();
    GANTRY_RETURN_IF_ERROR(broken_);
    if (options.size_bytes.has_value() && *options.size_bytes != status_.offset_bytes) {
      return absl::FailedPreconditionError(absl::StrCat(What(), ": has ", status_.offset_bytes,
                                                        " bytes, expected ", *options.size_bytes));
    }
    Digest digest = hasher_.Current();
    if (!options.expected.empty() && options.expected.algorithm() != digest.algorithm()) {
      GANTRY_ASSIGN_OR_RETURN(digest, HashFile(data_.get(), options.expected.algorithm(), What()));
    }
    if (!options.expected.empty() && options.expected != digest) {
      return absl::FailedPreconditionError(absl::StrCat(What(), ": bytes hash to ", digest.str(),
                                                        ", expected ", options.expected.str()));
    }

    const std::string blob = BlobName(digest);
    struct stat stat;
    if (fstatat(store_.blobs_fd_.get(), blob.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0)
      return Drop(digest);
    if (fchmod(data_.get(), 0444) != 0)
      return ErrnoToStatus(errno, absl::StrCat(What(), ": chmod"));
    if (options.sync) {
      if (fsync(data_.get()) != 0) return ErrnoToStatus(errno, absl::StrCat(What(), ": sync"));
    } else {
      GANTRY_RETURN_IF_ERROR(store_.BeginUnsynced());
    }
    const bool renamed = renameat2(directory_.get(), "data", store_.blobs_fd_.get(), blob.c_str(),
                                   RENAME_NOREPLACE) == 0;
    const int rename_errno = errno;
    if (!options.sync) store_.EndUnsynced();
    // Another writer committed the same bytes in the meantime.
    if (!renamed && rename_errno == EEXIST) return Drop(digest);
    if (!renamed)
      return ErrnoToStatus(rename_errno, absl::StrCat(What(), ": publish as ", digest.str()));
    CrashPoint("blob.renamed");
    if (options.sync) {
      UniqueFd parent(openat(store_.blobs_fd_.get(), std::string(digest.algorithm()).c_str(),
                             O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!parent.valid() || fsync(parent.get()) != 0) {
        return ErrnoToStatus(errno, absl::StrCat(What(), ": sync directory of blobs"));
      }
    }
    End();
    return digest;
  }

 private:
  // Writes and hashes; what of it is in the file counts, whatever comes after.
  absl::Status Write(absl::Span<const absl::string_view> pieces) {
    size_t bytes = 0;
    for (const absl::string_view piece : pieces) bytes += piece.size();
    if (bytes < kWriteBesideBytes) {
      const int64_t before = status_.offset_bytes;
      absl::Status written = WriteOnly(pieces);
      HashFirst(pieces, status_.offset_bytes - before);
      return written;
    }
    absl::Status written;
    const auto write = std::make_shared<Job>();
    write->run = [&] { written = WriteOnly(pieces); };
    store_.writers_.Schedule([write] { write->RunOnce(); });
    HashFirst(pieces, static_cast<int64_t>(bytes));
    // Here, if no thread has begun with it: then the processors have enough to do.
    write->RunOnce();
    write->done.WaitForNotification();
    if (written.ok()) return written;
    // More was hashed than is in the file.
    Hasher hasher(algorithm_);
    broken_ = HashPrefix(data_.get(), status_.offset_bytes, hasher, What());
    hasher_ = std::move(hasher);
    return written;
  }

  // Hashes the first `bytes` of the pieces.
  void HashFirst(absl::Span<const absl::string_view> pieces, int64_t bytes) {
    for (const absl::string_view piece : pieces) {
      const absl::string_view taken = piece.substr(0, static_cast<size_t>(bytes));
      hasher_.Update(taken);
      bytes -= static_cast<int64_t>(taken.size());
    }
  }

  // Moves offset() to behind what is in the file.
  absl::Status WriteOnly(absl::Span<const absl::string_view> pieces) {
    std::vector<iovec> left;
    left.reserve(pieces.size());
    for (const absl::string_view piece : pieces) {
      if (!piece.empty()) left.push_back({const_cast<char*>(piece.data()), piece.size()});
    }
    for (auto next = left.begin(); next != left.end();) {
      const auto count = std::min<std::ptrdiff_t>(left.end() - next, IOV_MAX);
      const ssize_t n = pwritev(data_.get(), &*next, static_cast<int>(count), status_.offset_bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0)
        return ErrnoToStatus(errno, absl::StrCat(What(), ": write at ", status_.offset_bytes));
      status_.offset_bytes += n;
      for (size_t done = static_cast<size_t>(n); done > 0;) {
        const size_t taken = std::min(done, next->iov_len);
        done -= taken;
        next->iov_base = static_cast<char*>(next->iov_base) + taken;
        next->iov_len -= taken;
        if (next->iov_len == 0) ++next;
      }
    }
    return absl::OkStatus();
  }

  std::string What() const { return absl::StrCat("ingest ", status_.ref); }

  absl::Status Ended() const {
    return absl::FailedPreconditionError(absl::StrCat(What(), ": already committed"));
  }

  absl::Status Drop(const Digest& digest) {
    End();
    return absl::AlreadyExistsError(absl::StrCat("blob ", digest.str(), ": already exists"));
  }

  // What is left of the directory is of no use; should it stay, the sweep at the next start takes
  // it.
  void End() {
    RemoveIngestAt(store_.ingest_fd_.get(), name_).IgnoreError();
    store_.UnlockRef(status_.ref);
    ended_ = true;
  }

  LocalStore& store_;
  const std::string name_;
  IngestStatus status_;
  const UniqueFd directory_;
  const UniqueFd data_;
  Hasher hasher_;
  const std::string algorithm_;
  int64_t writeback_from_;
  absl::Status broken_;  // why hasher_ does not know what is in the file
  bool ended_ = false;
};

std::unique_ptr<Ingest> NewLocalIngest(LocalStore& store, IngestStatus status, UniqueFd directory,
                                       UniqueFd data, Hasher hasher, std::string algorithm) {
  return std::make_unique<LocalIngest>(store, std::move(status), std::move(directory),
                                       std::move(data), std::move(hasher), std::move(algorithm));
}

}  // namespace gantry::content
