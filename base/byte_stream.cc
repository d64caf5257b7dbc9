#include "base/byte_stream.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace gantry {
namespace {

constexpr size_t kCopyBufferBytes = 128 << 10;

}  // namespace

absl::StatusOr<size_t> StringSource::Read(char* buffer, size_t n) {
  n = std::min(n, bytes_.size() - offset_);
  if (n > 0) std::memcpy(buffer, bytes_.data() + offset_, n);
  offset_ += n;
  return n;
}

absl::Status StringSink::Write(absl::string_view bytes) {
  bytes_.append(bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::StatusOr<size_t> FdSource::Read(char* buffer, size_t n) {
  ssize_t got;
  do {
    got = ::read(fd_, buffer, n);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return ErrnoToStatus(errno, "read");
  return static_cast<size_t>(got);
}

absl::Status FdSink::Write(absl::string_view bytes) { return WriteAll(fd_, bytes); }

absl::Status ReadExactly(ByteSource& source, char* buffer, size_t n) {
  size_t done = 0;
  while (done < n) {
    GANTRY_ASSIGN_OR_RETURN(size_t got, source.Read(buffer + done, n - done));
    if (got == 0) {
      return absl::DataLossError(absl::StrCat("stream ends after ", done, " of ", n, " bytes"));
    }
    done += got;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadAll(ByteSource& source, size_t max_bytes) {
  std::string result;
  const auto buffer = std::make_unique<char[]>(kCopyBufferBytes);
  for (;;) {
    GANTRY_ASSIGN_OR_RETURN(size_t got, source.Read(buffer.get(), kCopyBufferBytes));
    if (got == 0) return result;
    if (got > max_bytes - result.size()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("stream is longer than ", max_bytes, " bytes"));
    }
    result.append(buffer.get(), got);
  }
}

absl::StatusOr<int64_t> CopyStream(ByteSource& source, ByteSink& sink) {
  const auto buffer = std::make_unique<char[]>(kCopyBufferBytes);
  int64_t total = 0;
  for (;;) {
    GANTRY_ASSIGN_OR_RETURN(size_t got, source.Read(buffer.get(), kCopyBufferBytes));
    if (got == 0) return total;
    GANTRY_RETURN_IF_ERROR(sink.Write(absl::string_view(buffer.get(), got)));
    total += static_cast<int64_t>(got);
  }
}

}  // namespace gantry
