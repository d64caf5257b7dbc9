#include "content-store/local_store.h"

#include <dirent.h>
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
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"

#include "base/crash_point.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::content {
namespace {

constexpr const char* kAlgorithms[] = {"sha256", "sha512"};
constexpr int64_t kHashBufferBytes = 1 << 20;
// Writeback of a growing ingest is started every so often, so that the sync at its end is short.
constexpr int64_t kWritebackBytes = 16 << 20;
// From here on a second thread pays: it writes while this one hashes.
constexpr size_t kWriteBesideBytes = 256 << 10;
constexpr size_t kWriters = 4;
// How much earlier than noted a blob may have been published and still be distrusted after a power
// cut: clocks step.
constexpr absl::Duration kClockSlack = absl::Minutes(10);

std::string BlobName(const Digest& digest) {
  return absl::StrCat(digest.algorithm(), "/", digest.hex());
}

std::string IngestName(absl::string_view ref) { return std::string(Digest::Sha256Of(ref).hex()); }

absl::Status NotHere(const Digest& digest) {
  return absl::NotFoundError(absl::StrCat("blob ", digest.str(), ": not found"));
}

absl::Status CheckRef(absl::string_view ref) {
  if (ref.empty() || ref.size() > 4096 || ref.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "ingest: a ref has 1 to 4096 characters and no NUL; this one has ", ref.size()));
  }
  return absl::OkStatus();
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

absl::Time TimeOf(const timespec& time) { return absl::TimeFromTimespec(time); }

Info InfoOf(const Digest& digest, const struct stat& stat) {
  return {.digest = digest,
          .size_bytes = stat.st_size,
          .created_at = TimeOf(stat.st_mtim),
          .updated_at = TimeOf(stat.st_mtim),
          .labels = {}};
}

absl::StatusOr<std::string> ReadSmallFileAt(int directory, const std::string& path) {
  UniqueFd fd(openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("content store: open ", path));
  std::string bytes(16384, '\0');
  const ssize_t n = read(fd.get(), bytes.data(), bytes.size());
  if (n < 0) return ErrnoToStatus(errno, absl::StrCat("content store: read ", path));
  bytes.resize(static_cast<size_t>(n));
  return bytes;
}

// Line by line "name value", the ref last because it may hold anything but NUL.
std::string PrintIngestStatus(const IngestStatus& status) {
  return absl::StrCat("started ", absl::ToUnixNanos(status.started_at), "\ntotal ",
                      status.total_bytes, "\nexpected ", status.expected.str(), "\nref ",
                      status.ref);
}

bool ParseIngestStatus(absl::string_view text, IngestStatus& status) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, absl::MaxSplits('\n', 3));
  if (lines.size() != 4) return false;
  absl::string_view started = lines[0], total = lines[1], expected = lines[2], ref = lines[3];
  int64_t started_nanos = 0;
  if (!absl::ConsumePrefix(&started, "started ") || !absl::SimpleAtoi(started, &started_nanos))
    return false;
  if (!absl::ConsumePrefix(&total, "total ") || !absl::SimpleAtoi(total, &status.total_bytes))
    return false;
  if (!absl::ConsumePrefix(&expected, "expected ")) return false;
  if (!absl::ConsumePrefix(&ref, "ref ") || !CheckRef(ref).ok()) return false;
  if (!expected.empty()) {
    absl::StatusOr<Digest> digest = Digest::Parse(expected);
    if (!digest.ok()) return false;
    status.expected = *std::move(digest);
  }
  status.started_at = absl::FromUnixNanos(started_nanos);
  status.ref = std::string(ref);
  return true;
}

// kNotFound: no such ingest, or one that was never written down completely.
absl::StatusOr<IngestStatus> ReadIngestStatus(int ingest_fd, const std::string& name) {
  const absl::StatusOr<std::string> text = ReadSmallFileAt(ingest_fd, name + "/ref");
  if (!text.ok()) return text.status();
  IngestStatus status;
  if (!ParseIngestStatus(*text, status) || IngestName(status.ref) != name) {
    return absl::NotFoundError(absl::StrCat("ingest ", name, ": its ref file is damaged"));
  }
  struct stat stat;
  if (fstatat(ingest_fd, (name + "/data").c_str(), &stat, AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("ingest ", status.ref, ": stat data"));
  }
  status.offset_bytes = stat.st_size;
  status.updated_at = TimeOf(stat.st_mtim);
  return status;
}

absl::Status WriteIngestStatus(int directory, const IngestStatus& status) {
  const std::string text = PrintIngestStatus(status);
  {
    UniqueFd fd(
        openat(directory, "ref.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid())
      return ErrnoToStatus(errno, absl::StrCat("ingest ", status.ref, ": create ref"));
    const ssize_t n = write(fd.get(), text.data(), text.size());
    if (n != static_cast<ssize_t>(text.size())) {
      return ErrnoToStatus(n < 0 ? errno : ENOSPC,
                           absl::StrCat("ingest ", status.ref, ": write ref"));
    }
  }
  if (renameat(directory, "ref.new", directory, "ref") != 0) {
    return ErrnoToStatus(errno, absl::StrCat("ingest ", status.ref, ": rename ref"));
  }
  return absl::OkStatus();
}

// `ref` goes last: while it is there the ingest can still be listed and aborted.
absl::Status RemoveIngestAt(int ingest_fd, const std::string& name) {
  for (const char* file : {"/data", "/ref.new", "/ref"}) {
    if (unlinkat(ingest_fd, (name + file).c_str(), 0) != 0 && errno != ENOENT && errno != ENOTDIR) {
      return ErrnoToStatus(errno, absl::StrCat("ingest ", name, ": remove"));
    }
  }
  if (unlinkat(ingest_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return ErrnoToStatus(errno, absl::StrCat("ingest ", name, ": remove"));
  }
  return absl::OkStatus();
}

// Hashes the first `bytes` of `fd`.
absl::Status HashPrefix(int fd, int64_t bytes, Hasher& hasher, absl::string_view what) {
  if (bytes == 0) return absl::OkStatus();  // most ingests are new, and a buffer is not free
  const size_t size = static_cast<size_t>(std::min<int64_t>(kHashBufferBytes, bytes));
  const auto buffer = std::make_unique_for_overwrite<char[]>(size);
  int64_t done = 0;
  while (done < bytes) {
    const size_t want = static_cast<size_t>(std::min(static_cast<int64_t>(size), bytes - done));
    const ssize_t n = pread(fd, buffer.get(), want, done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, absl::StrCat(what, ": read"));
    if (n == 0)
      return absl::DataLossError(absl::StrCat(what, ": ends at ", done, " of ", bytes, " bytes"));
    hasher.Update(absl::string_view(buffer.get(), static_cast<size_t>(n)));
    done += n;
  }
  return absl::OkStatus();
}

absl::StatusOr<Digest> HashFile(int fd, absl::string_view algorithm, absl::string_view what) {
  struct stat stat;
  if (fstat(fd, &stat) != 0) return ErrnoToStatus(errno, absl::StrCat(what, ": stat"));
  Hasher hasher(algorithm);
  GANTRY_RETURN_IF_ERROR(HashPrefix(fd, stat.st_size, hasher, what));
  return hasher.Current();
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
  return std::unique_ptr<Ingest>(
      std::make_unique<LocalIngest>(*this, std::move(status), std::move(directory), std::move(data),
                                    std::move(hasher), algorithm));
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
