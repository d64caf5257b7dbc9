#include "content-store/local_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "content-store/local_files.h"
#include "content-store/local_ingest.h"

namespace gantry::content {
namespace {

constexpr const char* kAlgorithms[] = {"sha256", "sha512"};
constexpr size_t kWriters = 4;
// How much earlier than noted a blob may have been published and still be distrusted after a power
// cut: clocks step.
constexpr absl::Duration kClockSlack = absl::Minutes(10);

absl::Status NotHere(const Digest& digest) {
  return absl::NotFoundError(absl::StrCat("blob ", digest.str(), ": not found"));
}

absl::StatusOr<UniqueFd> OpenDirectoryAt(int directory, const char* name) {
  if (mkdirat(directory, name, 0700) != 0 && errno != EEXIST) {
    return ErrnoToStatus(errno, absl::StrCat("content store: mkdir ", name));
  }
  UniqueFd fd(openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("content store: open ", name));
  return fd;
}

absl::StatusOr<std::vector<std::string>> Names(int directory) {
  // A descriptor of its own: fdopendir takes it over, and two readers must not share a position.
  UniqueFd fd(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, "content store: open directory");
  std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(fd.get()), &closedir);
  if (stream == nullptr) return ErrnoToStatus(errno, "content store: read directory");
  (void)fd.release();
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(stream.get());
    if (entry == nullptr) {
      if (errno != 0) return ErrnoToStatus(errno, "content store: read directory");
      break;
    }
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Info InfoOf(const Digest& digest, const struct stat& stat) {
  return {.digest = digest,
          .size_bytes = stat.st_size,
          .created_at = TimeOf(stat.st_mtim),
          .updated_at = TimeOf(stat.st_mtim),
          .labels = {}};
}

std::string BootId() {
  absl::StatusOr<std::string> id = ReadSmallFileAt(AT_FDCWD, "/proc/sys/kernel/random/boot_id");
  return id.ok() ? std::string(absl::StripAsciiWhitespace(*id)) : "unknown";
}

class LocalReader final : public BlobReader {
 public:
  LocalReader(UniqueFd fd, int64_t size_bytes, Digest digest)
      : fd_(std::move(fd)), size_bytes_(size_bytes), digest_(std::move(digest)) {}

  int64_t size_bytes() const override { return size_bytes_; }
  int fd() const override { return fd_.get(); }

  absl::StatusOr<size_t> ReadAt(int64_t offset, char* buffer, size_t n) override {
    if (offset < 0)
      return absl::OutOfRangeError(
          absl::StrCat("blob ", digest_.str(), ": negative offset ", offset));
    if (offset >= size_bytes_) return size_t{0};
    n = static_cast<size_t>(std::min<int64_t>(
        size_bytes_ - offset, static_cast<int64_t>(std::min<size_t>(n, SSIZE_MAX))));
    size_t done = 0;
    while (done < n) {
      const ssize_t got =
          pread(fd_.get(), buffer + done, n - done, offset + static_cast<int64_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoToStatus(errno, absl::StrCat("blob ", digest_.str(), ": read"));
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

 private:
  const UniqueFd fd_;
  const int64_t size_bytes_;
  const Digest digest_;
};

}  // namespace

LocalStore::LocalStore(std::string root, UniqueFd root_fd, UniqueFd blobs_fd, UniqueFd ingest_fd)
    : root_(std::move(root)),
      root_fd_(std::move(root_fd)),
      blobs_fd_(std::move(blobs_fd)),
      ingest_fd_(std::move(ingest_fd)),
      writers_("blob-write", kWriters) {}

// A caller that relies on a blob has called Sync() and seen its status. This last Sync() only
// spares the next start the check of blobs that were never synced; if it fails, their note on disk
// stays and the next start checks them.
LocalStore::~LocalStore() { Sync().IgnoreError(); }

absl::StatusOr<std::unique_ptr<LocalStore>> LocalStore::Open(const std::string& root) {
  GANTRY_RETURN_IF_ERROR(MakeDirectories(root, 0700));
  UniqueFd root_fd(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root_fd.valid()) return ErrnoToStatus(errno, absl::StrCat("content store: open ", root));
  GANTRY_ASSIGN_OR_RETURN(UniqueFd blobs_fd, OpenDirectoryAt(root_fd.get(), "blobs"));
  GANTRY_ASSIGN_OR_RETURN(UniqueFd ingest_fd, OpenDirectoryAt(root_fd.get(), "ingest"));
  for (const char* algorithm : kAlgorithms) {
    GANTRY_RETURN_IF_ERROR(OpenDirectoryAt(blobs_fd.get(), algorithm).status());
  }
  // The directories themselves: syncing a blob's directory helps only if its own entry is on disk.
  if (fsync(blobs_fd.get()) != 0 || fsync(root_fd.get()) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("content store: sync ", root));
  }
  std::unique_ptr<LocalStore> store(
      new LocalStore(root, std::move(root_fd), std::move(blobs_fd), std::move(ingest_fd)));
  GANTRY_RETURN_IF_ERROR(store->RecoverIngests());
  GANTRY_RETURN_IF_ERROR(store->RecoverUnsynced());
  return store;
}

absl::Status LocalStore::RecoverIngests() {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(ingest_fd_.get()));
  for (const std::string& name : names) {
    if (ReadIngestStatus(ingest_fd_.get(), name).ok()) continue;
    struct stat stat;
    if (fstatat(ingest_fd_.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISDIR(stat.st_mode)) {
      if (unlinkat(ingest_fd_.get(), name.c_str(), 0) != 0) {
        return ErrnoToStatus(errno, absl::StrCat("content store: remove ingest/", name));
      }
      continue;
    }
    GANTRY_RETURN_IF_ERROR(RemoveIngestAt(ingest_fd_.get(), name));
  }
  return absl::OkStatus();
}

absl::Status LocalStore::RemoveHalfMade() {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(ingest_fd_.get()));
  absl::Status failure;
  for (const std::string& name : names) {
    if (!absl::IsNotFound(ReadIngestStatus(ingest_fd_.get(), name).status())) continue;
    {
      absl::MutexLock lock(&mu_);
      if (!locked_refs_.emplace(name, absl::Now()).second) continue;  // a writer is at it
    }
    // Looked at again: it may have been finished before the lock was taken.
    if (absl::IsNotFound(ReadIngestStatus(ingest_fd_.get(), name).status()))
      failure.Update(RemoveIngestAt(ingest_fd_.get(), name));
    absl::MutexLock lock(&mu_);
    locked_refs_.erase(name);
  }
  return failure;
}

absl::Status LocalStore::RecoverUnsynced() {
  GANTRY_RETURN_IF_ERROR(RemoveAbandonedTemporaries(root_ + "/state"));
  const absl::StatusOr<std::string> text = ReadSmallFileAt(root_fd_.get(), "state");
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  if (!text.ok()) return text.status();
  if (*text == "clean\n") return absl::OkStatus();

  const std::vector<absl::string_view> words =
      absl::StrSplit(absl::StripAsciiWhitespace(*text), ' ');
  int64_t since_nanos = 0;
  absl::Time since = absl::InfinitePast();  // an unreadable note distrusts everything
  std::string boot;
  if (words.size() == 3 && words[0] == "unsynced" && absl::SimpleAtoi(words[2], &since_nanos)) {
    boot = std::string(words[1]);
    since = absl::FromUnixNanos(since_nanos) - kClockSlack;
    if (since > absl::Now()) since = absl::InfinitePast();
  }
  if (boot != BootId()) {
    for (const char* algorithm : kAlgorithms) {
      GANTRY_ASSIGN_OR_RETURN(const UniqueFd directory,
                              OpenDirectoryAt(blobs_fd_.get(), algorithm));
      GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(directory.get()));
      for (const std::string& name : names) {
        const absl::StatusOr<Digest> digest = Digest::Parse(absl::StrCat(algorithm, ":", name));
        struct stat stat;
        if (!digest.ok() || fstatat(directory.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
          continue;
        // The rename that published the blob set its change time.
        if (TimeOf(stat.st_ctim) < since) continue;
        const absl::Status verified = Verify(*digest);
        if (verified.ok()) continue;
        if (!absl::IsDataLoss(verified)) return verified;
        if (unlinkat(directory.get(), name.c_str(), 0) != 0) {
          return ErrnoToStatus(errno, absl::StrCat("blob ", digest->str(), ": remove torn blob"));
        }
      }
    }
  }
  if (syncfs(root_fd_.get()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("content store: sync ", root_));
  return WriteFileAtomic(root_ + "/state", "clean\n", 0600);
}

absl::Status LocalStore::LockRef(const std::string& ref) {
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mu_);
  const auto [it, inserted] = locked_refs_.emplace(IngestName(ref), now);
  if (inserted) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("ref ", ref, " locked for ", absl::FormatDuration(now - it->second), " (since ",
                   absl::FormatTime(it->second, absl::UTCTimeZone()), ")"));
}

void LocalStore::UnlockRef(const std::string& ref) {
  absl::MutexLock lock(&mu_);
  locked_refs_.erase(IngestName(ref));
}

absl::Status LocalStore::BeginUnsynced() {
  absl::MutexLock lock(&sync_mu_);
  if (!unsynced_) {
    GANTRY_RETURN_IF_ERROR(WriteFileAtomic(
        root_ + "/state",
        absl::StrCat("unsynced ", BootId(), " ", absl::ToUnixNanos(absl::Now()), "\n"), 0600));
    unsynced_ = true;
  }
  ++unsynced_in_flight_;
  ++unsynced_generation_;
  return absl::OkStatus();
}

void LocalStore::EndUnsynced() {
  absl::MutexLock lock(&sync_mu_);
  --unsynced_in_flight_;
  ++unsynced_generation_;
}

absl::Status LocalStore::Sync() {
  uint64_t generation = 0;
  {
    absl::MutexLock lock(&sync_mu_);
    if (!unsynced_) return absl::OkStatus();
    generation = unsynced_generation_;
  }
  if (syncfs(root_fd_.get()) != 0)
    return ErrnoToStatus(errno, absl::StrCat("content store: sync ", root_));
  absl::MutexLock lock(&sync_mu_);
  // A commit that ran beside the sync may not be part of it; the next sync will clear the note.
  if (unsynced_ && unsynced_in_flight_ == 0 && unsynced_generation_ == generation) {
    GANTRY_RETURN_IF_ERROR(WriteFileAtomic(root_ + "/state", "clean\n", 0600));
    unsynced_ = false;
  }
  return absl::OkStatus();
}

absl::Status LocalStore::Verify(const Digest& digest) {
  GANTRY_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, Open(digest));
  GANTRY_ASSIGN_OR_RETURN(const Digest found, HashFile(reader->fd(), digest.algorithm(),
                                                       absl::StrCat("blob ", digest.str())));
  if (found != digest) {
    return absl::DataLossError(
        absl::StrCat("blob ", digest.str(), ": damaged on disk, its bytes hash to ", found.str()));
  }
  return absl::OkStatus();
}

absl::StatusOr<Info> LocalStore::Stat(const Digest& digest) {
  if (digest.empty()) return absl::InvalidArgumentError("blob: no digest given");
  struct stat stat;
  if (fstatat(blobs_fd_.get(), BlobName(digest).c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return NotHere(digest);
    return ErrnoToStatus(errno, absl::StrCat("blob ", digest.str(), ": stat"));
  }
  return InfoOf(digest, stat);
}

absl::StatusOr<Info> LocalStore::Update(const Digest& digest, const Labels&,
                                        const std::vector<std::string>&) {
  GANTRY_RETURN_IF_ERROR(Stat(digest).status());
  return absl::UnimplementedError(
      absl::StrCat("blob ", digest.str(), ": the file store keeps no labels"));
}

absl::Status LocalStore::Walk(const std::function<absl::Status(const Info&)>& visit) {
  for (const char* algorithm : kAlgorithms) {
    GANTRY_ASSIGN_OR_RETURN(const UniqueFd directory, OpenDirectoryAt(blobs_fd_.get(), algorithm));
    GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(directory.get()));
    for (const std::string& name : names) {
      const absl::StatusOr<Digest> digest = Digest::Parse(absl::StrCat(algorithm, ":", name));
      struct stat stat;
      // Deleted meanwhile, or not ours.
      if (!digest.ok() || fstatat(directory.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0)
        continue;
      GANTRY_RETURN_IF_ERROR(visit(InfoOf(*digest, stat)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<BlobReader>> LocalStore::Open(const Digest& digest) {
  if (digest.empty()) return absl::InvalidArgumentError("blob: no digest given");
  UniqueFd fd(openat(blobs_fd_.get(), BlobName(digest).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) {
    if (errno == ENOENT) return NotHere(digest);
    return ErrnoToStatus(errno, absl::StrCat("blob ", digest.str(), ": open"));
  }
  struct stat stat;
  if (fstat(fd.get(), &stat) != 0)
    return ErrnoToStatus(errno, absl::StrCat("blob ", digest.str(), ": stat"));
  return std::unique_ptr<BlobReader>(
      std::make_unique<LocalReader>(std::move(fd), stat.st_size, digest));
}

absl::Status LocalStore::Delete(const Digest& digest) {
  if (digest.empty()) return absl::InvalidArgumentError("blob: no digest given");
  if (unlinkat(blobs_fd_.get(), BlobName(digest).c_str(), 0) != 0) {
    if (errno == ENOENT) return NotHere(digest);
    return ErrnoToStatus(errno, absl::StrCat("blob ", digest.str(), ": delete"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Ingest>> LocalStore::OpenIngest(const IngestOptions& options) {
  GANTRY_RETURN_IF_ERROR(CheckRef(options.ref));
  if (!options.expected.empty() && Stat(options.expected).ok()) {
    return absl::AlreadyExistsError(
        absl::StrCat("blob ", options.expected.str(), ": already exists"));
  }
  GANTRY_RETURN_IF_ERROR(LockRef(options.ref));
  absl::Cleanup unlock = [&] { UnlockRef(options.ref); };

  const std::string what = absl::StrCat("ingest ", options.ref);
  const std::string name = IngestName(options.ref);
  const bool fresh = mkdirat(ingest_fd_.get(), name.c_str(), 0700) == 0;
  if (!fresh && errno != EEXIST) return ErrnoToStatus(errno, absl::StrCat(what, ": mkdir"));
  UniqueFd directory(
      openat(ingest_fd_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!directory.valid()) return ErrnoToStatus(errno, absl::StrCat(what, ": open"));

  IngestStatus status;
  bool resumed = false;
  if (!fresh) {
    absl::StatusOr<IngestStatus> before = ReadIngestStatus(ingest_fd_.get(), name);
    if (before.ok()) {
      status = *std::move(before);
      resumed = true;
    } else if (!absl::IsNotFound(before.status())) {
      return before.status();
    }
  }
  if (resumed && options.total_bytes > 0 && status.total_bytes > 0 &&
      options.total_bytes != status.total_bytes) {
    return absl::FailedPreconditionError(absl::StrCat(what, ": was begun with a total of ",
                                                      status.total_bytes, " bytes, not ",
                                                      options.total_bytes));
  }
  UniqueFd data(openat(directory.get(), "data",
                       O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (resumed ? 0 : O_TRUNC), 0600));
  if (!data.valid()) return ErrnoToStatus(errno, absl::StrCat(what, ": open data"));

  const IngestStatus written = status;
  if (!resumed) {
    status.ref = options.ref;
    status.started_at = status.updated_at = absl::Now();
  }
  if (options.total_bytes > 0) status.total_bytes = options.total_bytes;
  if (!options.expected.empty()) status.expected = options.expected;
  if (!resumed || status.total_bytes != written.total_bytes ||
      status.expected != written.expected) {
    GANTRY_RETURN_IF_ERROR(WriteIngestStatus(directory.get(), status));
  }

  const std::string algorithm(options.expected.empty() ? "sha256" : options.expected.algorithm());
  Hasher hasher(algorithm);
  GANTRY_RETURN_IF_ERROR(HashPrefix(data.get(), status.offset_bytes, hasher, what));
  std::move(unlock).Cancel();
  return NewLocalIngest(*this, std::move(status), std::move(directory), std::move(data),
                        std::move(hasher), algorithm);
}

absl::StatusOr<IngestStatus> LocalStore::StatIngest(absl::string_view ref) {
  absl::StatusOr<IngestStatus> status = ReadIngestStatus(ingest_fd_.get(), IngestName(ref));
  if (absl::IsNotFound(status.status()))
    return absl::NotFoundError(absl::StrCat("ingest ", ref, ": not found"));
  return status;
}

absl::StatusOr<std::vector<IngestStatus>> LocalStore::ListIngests() {
  GANTRY_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(ingest_fd_.get()));
  std::vector<IngestStatus> all;
  for (const std::string& name : names) {
    absl::StatusOr<IngestStatus> status = ReadIngestStatus(ingest_fd_.get(), name);
    // Committed or aborted meanwhile, or about to be written down.
    if (status.ok()) all.push_back(*std::move(status));
  }
  std::sort(all.begin(), all.end(),
            [](const IngestStatus& a, const IngestStatus& b) { return a.ref < b.ref; });
  return all;
}

absl::Status LocalStore::AbortIngest(absl::string_view ref) {
  const std::string owned(ref);
  GANTRY_RETURN_IF_ERROR(LockRef(owned));
  const absl::Cleanup unlock = [&] { UnlockRef(owned); };
  const std::string name = IngestName(ref);
  struct stat stat;
  if (fstatat(ingest_fd_.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
    return absl::NotFoundError(absl::StrCat("ingest ", ref, ": not found"));
  }
  return RemoveIngestAt(ingest_fd_.get(), name);
}

}  // namespace gantry::content
