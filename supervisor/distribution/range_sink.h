// Checks one answer of a registry against the bytes that were asked for, and hands them on.
//
// A registry may answer a range with the range (206) or with the whole blob (200): the bytes before
// the range are then dropped. A length, range or total that contradicts the manifest is kDataLoss,
// before or while its bytes arrive. Subclasses say where the bytes go. Thread-compatible.
// Spec: RFC 9110 section 14.4 "Content-Range"; OCI distribution-spec "Pulling blobs".
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_RANGE_SINK_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_RANGE_SINK_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "supervisor/distribution/registry_client.h"

namespace gantry::distribution {

struct ContentRange {
  int64_t first = 0;
  int64_t last = 0;    // included
  int64_t total = -1;  // -1: "*", not said
};

// "bytes 0-99/1234"; nullopt: no usable range.
std::optional<ContentRange> ParseContentRange(absl::string_view text);

class RangeSink : public ResponseSink {
 public:
  // Bytes from `offset` up to but not including `end` were asked for (-1: all there is), of a blob
  // of `size` bytes. `received` (may be null) counts all that arrives, dropped bytes too.
  RangeSink(int64_t offset, int64_t end, int64_t size, std::atomic<int64_t>* received)
      : offset_(offset), end_(end < 0 ? size : end), size_(size), received_(received) {}

  absl::Status Begin(const RegistryResponse& head) override;
  absl::Status Write(absl::string_view bytes) override;

  // The next byte to come, and one past the last that this answer brings.
  int64_t offset() const { return offset_; }
  int64_t end() const { return end_; }
  // The registry sent a range, not the whole blob.
  bool partial() const { return partial_; }
  // The error came from Take(), not from the registry.
  bool taker_failed() const { return taker_failed_; }
  // How the answer contradicts the manifest; OK if it does not.
  const absl::Status& contradiction() const { return contradiction_; }

 protected:
  virtual absl::Status OnBegin() { return absl::OkStatus(); }
  virtual absl::Status Take(int64_t offset, absl::string_view bytes) = 0;

 private:
  absl::Status Wrong(absl::string_view why);

  int64_t offset_;
  int64_t end_;
  const int64_t size_;
  std::atomic<int64_t>* const received_;
  int64_t skip_ = 0;
  bool partial_ = false;
  bool taker_failed_ = false;
  absl::Status contradiction_;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_RANGE_SINK_H_
