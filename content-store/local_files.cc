#include "content-store/local_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::content {
namespace {

constexpr int64_t kHashBufferBytes = 1 << 20;

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

}  // namespace

std::string BlobName(const Digest& digest) {
  return absl::StrCat(digest.algorithm(), "/", digest.hex());
}

std::string IngestName(absl::string_view ref) { return std::string(Digest::Sha256Of(ref).hex()); }

absl::Status CheckRef(absl::string_view ref) {
  if (ref.empty() || ref.size() > 4096 || ref.find('\0') != absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "ingest: a ref has 1 to 4096 characters and no NUL; this one has ", ref.size()));
  }
  return absl::OkStatus();
}

absl::Time TimeOf(const timespec& time) { return absl::TimeFromTimespec(time); }

absl::StatusOr<std::string> ReadSmallFileAt(int directory, const std::string& path) {
  UniqueFd fd(openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("content store: open ", path));
  std::string bytes(16384, '\0');
  const ssize_t n = read(fd.get(), bytes.data(), bytes.size());
  if (n < 0) return ErrnoToStatus(errno, absl::StrCat("content store: read ", path));
  bytes.resize(static_cast<size_t>(n));
  return bytes;
}

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

}  // namespace gantry::content
