// Bounds what comes out of a decompressor: in all, and per byte that went in.
//
//   CountedSource counted(archive);
//   auto plain = OpenDecompressor(counted);
//   BoundedSource bounded(*plain, counted, limit);
//
// Thread-compatible.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_BOUNDED_SOURCE_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_BOUNDED_SOURCE_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"

#include "base/byte_stream.h"

namespace gantry::distribution {

// Counts what passes.
class CountedSource : public ByteSource {
 public:
  explicit CountedSource(ByteSource& below) : below_(below) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;
  int64_t count() const { return count_; }

 private:
  ByteSource& below_;
  int64_t count_ = 0;
};

// kResourceExhausted: more than `limit` bytes came out of `below`, or more than its compressed input
// can honestly become.
class BoundedSource : public ByteSource {
 public:
  BoundedSource(ByteSource& below, const CountedSource& compressed, int64_t limit)
      : below_(below), compressed_(compressed), limit_(limit) {}
  absl::StatusOr<size_t> Read(char* buffer, size_t n) override;

 private:
  ByteSource& below_;
  const CountedSource& compressed_;
  const int64_t limit_;
  int64_t count_ = 0;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_BOUNDED_SOURCE_H_
