// The files of a log that is rotated: the live one, `path`, and old ones, path.1, path.2, ... in
// the order in which they were ended. A number is never used again and a file never moves on, so a
// reader cannot lose its place.
//
// The writer removes old files. A reader that follows the log says by a LogHold which ones it has
// still to open; the writer asks before it removes. A hold is a lock on the log's directory: it
// needs no file and ends with the process that has it.
//
// Functions are thread-safe, LogHold is thread-compatible.

#ifndef GANTRY_BASE_ROTATED_LOG_H_
#define GANTRY_BASE_ROTATED_LOG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace gantry {

std::string RotatedLogName(const std::string& path, int64_t number);

// Ascending.
std::vector<int64_t> RotatedLogNumbers(const std::string& path);

// The directory of a log: "." for a bare name.
std::string LogDirectory(const std::string& path);

class LogHold {
 public:
  // Holds every file of the log. Where the file system has no locks nothing is held, and a reader
  // that is too slow misses lines.
  explicit LogHold(const std::string& path);

  // Releases the files up to `number`, which are open or have been read.
  void ReleaseThrough(int64_t number);

  // True if a reader holds the file of this number. For writers, which must keep such a file.
  static bool IsHeld(const std::string& path, int64_t number);

 private:
  UniqueFd directory_;
};

}  // namespace gantry

#endif  // GANTRY_BASE_ROTATED_LOG_H_
