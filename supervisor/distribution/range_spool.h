// Early ranges of one blob: bytes that arrived before their turn.
//
// A sparse file as large as the blob, and beside it how many bytes of each range are there. The
// count is written after the bytes, so what it promises was written; after a power cut it may
// promise too much, which the digest then shows. Files are "HEX.RANGE.data" and "HEX.RANGE.map" in
// the spool directory; they outlive the process, so that an interrupted download keeps them.
//
// Put() and Get() from any thread, of different ranges; the rest under the transfer's lock.
#ifndef GANTRY_SUPERVISOR_DISTRIBUTION_RANGE_SPOOL_H_
#define GANTRY_SUPERVISOR_DISTRIBUTION_RANGE_SPOOL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"
#include "content-store/digest.h"

namespace gantry::distribution {

class RangeSpool {
 public:
  // Of a blob of `size` bytes in ranges of `range_bytes`. In memory where `directory` is "", or
  // where another transfer has the same blob's files.
  static absl::StatusOr<std::unique_ptr<RangeSpool>> Open(const std::string& directory,
                                                          const content::Digest& digest,
                                                          int64_t size, int64_t range_bytes);
  // True when something is left from an earlier run.
  static bool Left(const std::string& directory, const content::Digest& digest,
                   int64_t range_bytes);

  // Bytes of `range` that are there, from its beginning.
  int64_t have(size_t range) const { return have_[range]; }
  // Under the transfer's lock, after Put().
  void Grew(size_t range, int64_t have) { have_[range] = static_cast<uint32_t>(have); }

  // Bytes of one range, behind what it has.
  absl::Status Put(int64_t offset, absl::string_view bytes);
  // Up to `n` bytes that were put there; less at the end of the file.
  absl::StatusOr<size_t> Get(int64_t offset, char* buffer, size_t n) const;
  // The bytes of a range were handed on; their space is given back.
  void Release(size_t range);
  // The blob is complete: removes the files.
  void Remove();

 private:
  UniqueFd data_, map_;
  std::string data_path_, map_path_;
  std::vector<uint32_t> have_;
  int64_t range_bytes_ = 0;
};

}  // namespace gantry::distribution

#endif  // GANTRY_SUPERVISOR_DISTRIBUTION_RANGE_SPOOL_H_
