#include "shim/output_backlog.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/status_macros.h"

namespace gantry::shim {
namespace {

constexpr size_t kHeaderBytes = 5;
constexpr int64_t kFreeEvery = 4 << 20;
constexpr int64_t kCheckEvery = 1 << 20;
// Left free on the file system: a twentieth, but no more than this.
constexpr uint64_t kMaxReserveBytes = 1 << 30;

}  // namespace

absl::Status OutputBacklog::OpenFile() {
  file_.reset(open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file_.valid()) return absl::OkStatus();
  // A file system without O_TMPFILE.
  std::string name = absl::StrCat(directory_, "/.attach-XXXXXX");
  file_.reset(mkostemp(name.data(), O_CLOEXEC));
  if (!file_.valid()) return ErrnoToStatus(errno, absl::StrCat("make a file in ", directory_));
  unlink(name.c_str());
  return absl::OkStatus();
}

absl::Status OutputBacklog::LeaveReserve() {
  if (written_ - checked_at_ < kCheckEvery && checked_at_ != 0) return absl::OkStatus();
  checked_at_ = written_;
  struct statvfs info;
  if (fstatvfs(file_.get(), &info) != 0) return absl::OkStatus();
  const uint64_t block = info.f_frsize;
  const uint64_t reserve = std::min(info.f_blocks / 20 * block, kMaxReserveBytes);
  if (info.f_bavail * block >= reserve) return absl::OkStatus();
  return absl::ResourceExhaustedError("the disk is almost full");
}

void OutputBacklog::AppendToMemory(LogStream stream, absl::string_view bytes) {
  memory_bytes_ += bytes.size();
  while (bytes.size() > kMaxPieceBytes) {
    pieces_.push_back({stream, std::string(bytes.substr(0, kMaxPieceBytes))});
    bytes.remove_prefix(kMaxPieceBytes);
  }
  if (!pieces_.empty() && pieces_.back().stream == stream &&
      pieces_.back().bytes.size() + bytes.size() <= kMaxPieceBytes) {
    pieces_.back().bytes.append(bytes.data(), bytes.size());
  } else {
    pieces_.push_back({stream, std::string(bytes)});
  }
}

absl::Status OutputBacklog::AppendToFile(LogStream stream, absl::string_view bytes) {
  if (!file_.valid()) GANTRY_RETURN_IF_ERROR(OpenFile());
  GANTRY_RETURN_IF_ERROR(LeaveReserve());
  while (!bytes.empty()) {
    const absl::string_view part = bytes.substr(0, kMaxPieceBytes);
    const uint32_t length = static_cast<uint32_t>(part.size());
    std::string frame(kHeaderBytes, static_cast<char>(stream));
    std::memcpy(frame.data() + 1, &length, sizeof length);
    frame.append(part.data(), part.size());
    for (size_t done = 0; done < frame.size();) {
      const ssize_t count = pwrite(file_.get(), frame.data() + done, frame.size() - done,
                                   written_ + static_cast<off_t>(done));
      if (count < 0 && errno == EINTR) continue;
      // A frame cut short is not counted, so that it is not read.
      if (count <= 0) return ErrnoToStatus(count == 0 ? ENOSPC : errno, "write");
      done += static_cast<size_t>(count);
    }
    written_ += static_cast<int64_t>(frame.size());
    bytes.remove_prefix(part.size());
  }
  return absl::OkStatus();
}

absl::Status OutputBacklog::Append(LogStream stream, absl::string_view bytes) {
  const bool in_file = written_ > read_;
  if (!in_file && (directory_.empty() || memory_bytes_ + bytes.size() <= kMemoryBytes)) {
    AppendToMemory(stream, bytes);
    return absl::OkStatus();
  }
  const absl::Status kept = AppendToFile(stream, bytes);
  if (kept.ok()) return kept;
  return absl::ResourceExhaustedError(
      absl::StrCat(memory_bytes_ + static_cast<size_t>(file_bytes()),
                   " bytes of output wait for the client and more cannot be kept in ", directory_,
                   ": ", kept.message()));
}

absl::StatusOr<OutputBacklog::Piece> OutputBacklog::ReadFromFile() {
  char header[kHeaderBytes];
  uint32_t length = 0;
  if (pread(file_.get(), header, sizeof header, read_) != static_cast<ssize_t>(sizeof header)) {
    return absl::DataLossError("output kept for an attached client cannot be read");
  }
  std::memcpy(&length, header + 1, sizeof length);
  Piece piece{static_cast<LogStream>(header[0]), std::string(length, '\0')};
  for (size_t done = 0; done < length;) {
    const ssize_t count = pread(file_.get(), piece.bytes.data() + done, length - done,
                                read_ + static_cast<off_t>(kHeaderBytes + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return absl::DataLossError("output kept for an attached client is cut short");
    done += static_cast<size_t>(count);
  }
  read_ += static_cast<int64_t>(kHeaderBytes + length);
  if (read_ == written_) {
    file_.reset();
    written_ = read_ = freed_ = checked_at_ = 0;
  } else if (read_ - freed_ >= kFreeEvery) {
    // Where the file system cannot do this, the space comes back with the file.
    [[maybe_unused]] const int ignored =
        fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, freed_, read_ - freed_);
    freed_ = read_;
  }
  return piece;
}

absl::StatusOr<std::optional<OutputBacklog::Piece>> OutputBacklog::Next() {
  if (!pieces_.empty()) {
    std::optional<Piece> piece = std::move(pieces_.front());
    pieces_.pop_front();
    memory_bytes_ -= piece->bytes.size();
    return piece;
  }
  if (written_ == read_) return std::nullopt;
  GANTRY_ASSIGN_OR_RETURN(Piece piece, ReadFromFile());
  return std::optional<Piece>(std::move(piece));
}

}  // namespace gantry::shim
