#include "supervisor/distribution/range_spool.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::distribution {

absl::StatusOr<std::unique_ptr<RangeSpool>> RangeSpool::Open(const std::string& directory,
                                                             const content::Digest& digest,
                                                             int64_t size, int64_t range_bytes) {
  auto spool = std::make_unique<RangeSpool>();
  spool->have_.resize((size + range_bytes - 1) / range_bytes, 0);
  if (!directory.empty()) {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(directory, 0700));
    spool->data_path_ =
        absl::StrCat(directory, "/", std::string(digest.hex()), ".", range_bytes, ".data");
    spool->map_path_ =
        absl::StrCat(directory, "/", std::string(digest.hex()), ".", range_bytes, ".map");
    spool->data_.reset(
        open(spool->data_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    // Another transfer of the same blob has it: this one keeps to memory.
    if (spool->data_.valid() && flock(spool->data_.get(), LOCK_EX | LOCK_NB) == 0) {
      spool->map_.reset(
          open(spool->map_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
      if (spool->map_.valid()) {
        ssize_t bytes = pread(spool->map_.get(), spool->have_.data(),
                              spool->have_.size() * sizeof(uint32_t), 0);
        if (bytes < 0)
          return ErrnoToStatus(errno, absl::StrCat("spool ", spool->map_path_, ": read"));
        for (uint32_t& have : spool->have_) have = std::min<int64_t>(have, range_bytes);
      }
    }
  }
  if (!spool->map_.valid()) {
    spool->data_path_.clear();
    spool->map_path_.clear();
    std::fill(spool->have_.begin(), spool->have_.end(), 0);
    spool->data_.reset(memfd_create("gantry-ranges", MFD_CLOEXEC));
    if (!spool->data_.valid()) return ErrnoToStatus(errno, "spool: memfd_create");
  }
  if (ftruncate(spool->data_.get(), size) != 0) return ErrnoToStatus(errno, "spool: set size");
  spool->range_bytes_ = range_bytes;
  return spool;
}

bool RangeSpool::Left(const std::string& directory, const content::Digest& digest,
                      int64_t range_bytes) {
  if (directory.empty()) return false;
  std::string path =
      absl::StrCat(directory, "/", std::string(digest.hex()), ".", range_bytes, ".map");
  return access(path.c_str(), F_OK) == 0;
}

absl::Status RangeSpool::Put(int64_t offset, absl::string_view bytes) {
  int64_t at = offset;
  absl::string_view rest = bytes;
  while (!rest.empty()) {
    ssize_t n = pwrite(data_.get(), rest.data(), rest.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, "spool of early ranges: write");
    rest.remove_prefix(n);
    at += n;
  }
  size_t range = offset / range_bytes_;
  uint32_t have = static_cast<uint32_t>(at - static_cast<int64_t>(range) * range_bytes_);
  if (map_.valid() && pwrite(map_.get(), &have, sizeof have, range * sizeof have) != sizeof have) {
    return ErrnoToStatus(errno, "spool of early ranges: write map");
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> RangeSpool::Get(int64_t offset, char* buffer, size_t n) const {
  while (true) {
    ssize_t got = pread(data_.get(), buffer, n, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoToStatus(errno, "spool of early ranges: read");
    return static_cast<size_t>(got);
  }
}

void RangeSpool::Release(size_t range) {
  fallocate(data_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            static_cast<int64_t>(range) * range_bytes_, range_bytes_);
  uint32_t none = 0;
  if (map_.valid() && pwrite(map_.get(), &none, sizeof none, range * sizeof none) != sizeof none) {
    // The map then promises bytes of a hole, behind the offset anyone will ask from.
    return;
  }
}

void RangeSpool::Remove() {
  if (!map_path_.empty()) unlink(map_path_.c_str());
  if (!data_path_.empty()) unlink(data_path_.c_str());
}

}  // namespace gantry::distribution
