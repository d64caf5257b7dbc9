// Reads tar archives of every dialect that image layers come in: v7, ustar, PAX (local and global
// headers), GNU long names, GNU and PAX sparse files (0.0, 0.1, 1.0), base-256 numbers, star.
//
// Everything read is outside input: nothing in an archive makes it use more memory than the limits
// say, and every malformed archive is kInvalidArgument or (cut short) kDataLoss with the entry's
// number and name.
//
//   while (true) {
//     ASSIGN(bool more, reader.Next(entry)); if (!more) break;
//     TarData data; while (true) { ASSIGN(bool some, reader.ReadData(data)); if (!some) break; ...
//     }
//   }
//
// Thread-compatible. Spec: POSIX.1-2017 pax, GNU tar manual "Basic Tar Format", "Storing Sparse
// Files".
#ifndef GANTRY_BASE_TAR_READER_H_
#define GANTRY_BASE_TAR_READER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/byte_stream.h"
#include "base/tar/entry.h"

namespace gantry {

// Bytes in pieces that the producer owns; spares a copy where it has them in memory anyway.
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  // Valid until the next call; empty at the end.
  virtual absl::StatusOr<absl::string_view> NextChunk() = 0;
};

struct TarLimits {
  int64_t header_bytes = 1 << 20;  // all extended headers of one entry together
  int64_t path_bytes = 4096;       // of a path or link target
  int64_t xattr_bytes = 1 << 20;   // names and values of one entry together
  int64_t sparse_extents = 1 << 16;
};

// A piece of a file. Between pieces are holes.
struct TarData {
  int64_t offset = 0;       // within the file
  absl::string_view bytes;  // valid until the next call of the reader
};

class TarReader {
 public:
  // `source` outlives the reader.
  explicit TarReader(ChunkSource& source, const TarLimits& limits = {});
  explicit TarReader(ByteSource& source, const TarLimits& limits = {});
  ~TarReader();

  TarReader(const TarReader&) = delete;
  TarReader& operator=(const TarReader&) = delete;

  // The next entry, skipping what was not read of the last one. False at the end of the archive; an
  // archive that stops after a whole entry without end marker ends there too.
  absl::StatusOr<bool> Next(TarEntry& entry);

  // The next piece of the current entry's data. False when there is no more.
  absl::StatusOr<bool> ReadData(TarData& data);

  // Reads all data of the current entry, holes as zeros. kResourceExhausted: more than `max_bytes`.
  absl::StatusOr<std::string> ReadAll(int64_t max_bytes);

  // After the end: reads and drops whatever follows the archive, so that the source has seen every
  // byte.
  absl::Status Drain();

  // Entries returned so far.
  int64_t entry_count() const { return entry_count_; }

 private:
  struct Extent {
    int64_t offset = 0;
    int64_t length = 0;
  };
  struct Pending;  // what extended headers said about the entry to come

  absl::Status Fill();
  absl::StatusOr<bool> ReadBlock(char* block);
  absl::Status ReadExact(int64_t n, std::string& out);
  absl::Status Skip(int64_t n);
  absl::Status SkipRest();
  absl::Status ParsePax(absl::string_view records, bool global, Pending& pending);
  absl::Status ParseHeader(const char* block, Pending& pending, TarEntry& entry);
  absl::Status ReadOldGnuSparse(const char* block);
  absl::Status ReadPax10Map();
  absl::Status CheckExtents(int64_t stored_bytes);
  absl::Status Bad(absl::string_view what) const;
  absl::Status CutShort() const;

  std::unique_ptr<ChunkSource> owned_source_;
  ChunkSource& source_;
  const TarLimits limits_;

  absl::string_view chunk_;  // unread part of the source's current chunk
  bool source_ended_ = false;
  bool ended_ = false;
  int64_t entry_count_ = 0;
  std::string current_path_;

  int64_t stored_left_ = 0;  // bytes of the current entry still in the stream
  int64_t padding_ = 0;      // after them
  bool sparse_ = false;
  std::vector<Extent> extents_;
  size_t extent_ = 0;
  int64_t extent_done_ = 0;  // bytes of extents_[extent_] already returned
};

}  // namespace gantry

#endif  // GANTRY_BASE_TAR_READER_H_
