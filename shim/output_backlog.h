// Output on its way to one attached client.
//
// The first kMemoryBytes that the client has not taken are kept in memory. Without a directory it
// is for the owner to read no more from the process then (over_mark()). With one, the rest goes
// into a file there that has no name: the process never waits, and the client gets every byte in
// order when it reads again. Space that was read is given back while more is written. The file is
// part of the disk's free space only until a small reserve is left; Append() fails then.
//
// A file of its own rather than the container's log, because a log holds text (bytes that are not
// UTF-8 are replaced there) and is rotated.
//
// Thread-compatible.
#ifndef GANTRY_SHIM_OUTPUT_BACKLOG_H_
#define GANTRY_SHIM_OUTPUT_BACKLOG_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "base/unique_fd.h"
#include "shim/log_sink.h"

namespace gantry::shim {

class OutputBacklog {
 public:
  static constexpr size_t kMemoryBytes = 256 * 1024;
  // Of one piece at most, so that a stream starts moving early.
  static constexpr size_t kMaxPieceBytes = 64 * 1024;

  struct Piece {
    LogStream stream;
    std::string bytes;
  };

  // From now on what does not fit into memory goes into a file in `directory`. "" as at first:
  // everything stays in memory.
  void set_directory(std::string directory) { directory_ = std::move(directory); }

  // kResourceExhausted: the file could not take it. What came before is still given out; nothing
  // may be appended any more.
  absl::Status Append(LogStream stream, absl::string_view bytes);

  // The oldest piece, taken out; nullopt when there is none. kDataLoss: the file could not be read.
  absl::StatusOr<std::optional<Piece>> Next();

  bool empty() const { return pieces_.empty() && written_ == read_; }
  // There is no directory, and memory holds as much as it should.
  bool over_mark() const { return directory_.empty() && memory_bytes_ > kMemoryBytes; }
  size_t memory_bytes() const { return memory_bytes_; }
  int64_t file_bytes() const { return written_ - read_; }

 private:
  void AppendToMemory(LogStream stream, absl::string_view bytes);
  absl::Status AppendToFile(LogStream stream, absl::string_view bytes);
  absl::Status OpenFile();
  absl::Status LeaveReserve();
  absl::StatusOr<Piece> ReadFromFile();

  std::string directory_;
  std::deque<Piece> pieces_;  // older than what is in the file
  size_t memory_bytes_ = 0;
  UniqueFd file_;  // frames: one byte for the stream, four for the length, the bytes
  int64_t written_ = 0;
  int64_t read_ = 0;
  int64_t freed_ = 0;       // below read_: given back to the file system
  int64_t checked_at_ = 0;  // written_ when free space was looked at last
};

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_OUTPUT_BACKLOG_H_
