// Writes tar archives: ustar where an entry fits, PAX records where it does not. Same entries, same
// bytes.
//
// Whole seconds of mtime are written unless kExact is asked for, no access or change times, owner
// names only if given.
//
// Thread-compatible. Spec: POSIX.1-2017 pax.
#ifndef GANTRY_BASE_TAR_WRITER_H_
#define GANTRY_BASE_TAR_WRITER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"
#include "base/tar/entry.h"

namespace gantry {

class TarWriter {
 public:
  // kWhole: layers, whose bytes must not depend on what a file system keeps of a time.
  enum class Seconds { kWhole, kExact };

  // `sink` outlives the writer.
  explicit TarWriter(ByteSink& sink, Seconds seconds = Seconds::kWhole);

  TarWriter(const TarWriter&) = delete;
  TarWriter& operator=(const TarWriter&) = delete;

  // Starts an entry; exactly entry.size_bytes of data must follow for a file, none for other types.
  // kInvalidArgument: no path, a NUL in a name, a negative size. kFailedPrecondition: the last
  // entry is not complete.
  absl::Status WriteEntry(const TarEntry& entry);

  // kOutOfRange: more than the entry announced.
  absl::Status WriteData(absl::string_view bytes);

  // WriteEntry and all its data; entry.size_bytes is taken from `bytes`.
  absl::Status WriteFile(TarEntry entry, absl::string_view bytes);

  // The end marker. Nothing may follow.
  absl::Status Finish();

 private:
  absl::Status Pad();

  ByteSink& sink_;
  const Seconds seconds_;
  int64_t data_left_ = 0;
  int64_t padding_ = 0;
};

}  // namespace gantry

#endif  // GANTRY_BASE_TAR_WRITER_H_
