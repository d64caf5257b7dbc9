// Bytes that flow: from a file, a socket, a decompressor; into a file, a hasher, an archive.
//
// Streams are thread-compatible: one reader or writer at a time.

#ifndef GANTRY_BASE_BYTE_STREAM_H_
#define GANTRY_BASE_BYTE_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"

namespace gantry {

class ByteSource {
 public:
  virtual ~ByteSource() = default;

  // Reads up to `n` bytes, at least one unless the stream is at its end; 0 is the end (also when
  // asked again). After an error the stream is of no further use.
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t n) = 0;
};

class ByteSink {
 public:
  virtual ~ByteSink() = default;

  // Takes all of `bytes` or fails; after a failure an unknown part of them was taken.
  virtual absl::Status Write(absl::string_view bytes) = 0;
};

// The bytes of a string, which the source keeps.
class StringSource : public ByteSource {
 public:
  explicit StringSource(std::string bytes) : bytes_(std::move(bytes)) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;

 private:
  const std::string bytes_;
  size_t offset_ = 0;
};

// Collects into a string.
class StringSink : public ByteSink {
 public:
  absl::Status Write(absl::string_view bytes) override;
  const std::string& str() const& { return bytes_; }
  std::string str() && { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads a descriptor at its own position. Blocking reads only.
class FdSource : public ByteSource {
 public:
  // Borrows `fd`, which outlives the source.
  explicit FdSource(int fd) : fd_(fd) {}
  explicit FdSource(UniqueFd fd) : owned_(std::move(fd)), fd_(owned_.get()) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;

 private:
  const UniqueFd owned_;
  const int fd_;
};

class FdSink : public ByteSink {
 public:
  // Borrows `fd`, which outlives the sink.
  explicit FdSink(int fd) : fd_(fd) {}
  explicit FdSink(UniqueFd fd) : owned_(std::move(fd)), fd_(owned_.get()) {}
  absl::Status Write(absl::string_view bytes) override;

 private:
  const UniqueFd owned_;
  const int fd_;
};

// Reads exactly `n` bytes. kDataLoss: the stream ended before.
absl::Status ReadExactly(ByteSource& source, char* buffer, size_t n);

// Everything up to the end. kResourceExhausted: more than `max_bytes`.
absl::StatusOr<std::string> ReadAll(ByteSource& source, size_t max_bytes);

// Moves everything up to the end; returns the number of bytes.
absl::StatusOr<int64_t> CopyStream(ByteSource& source, ByteSink& sink);

}  // namespace gantry

#endif  // GANTRY_BASE_BYTE_STREAM_H_
