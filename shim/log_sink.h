// The container's log file: lines with time and stream, in docker's json-file or Kubernetes' CRI
// format, rotated by size.
//
// Bytes go in as they come out of the container; complete lines go out with the time of their
// arrival. A line longer than 16 KiB is cut into pieces (CRI marks them P, json-file leaves out the
// newline). The rest of a line waits for its end or for Flush().
//
// A log that cannot be written (disk full, directory gone, immutable file) never stops the
// container unless `block_when_full`: lines are dropped and counted, each write tries again, and
// the first that succeeds is preceded by one line on stderr that says how much is missing;
// MentionDropped() writes that line when no other comes. A torn line is never left in the file.
// Truncating or removing the file from outside is survived: the file is made anew.
//
// Rotation keeps `max_files` in all: path and the old ones, path.<number>, the highest number the
// newest (base/rotated_log.h). Files that a follower has not read yet are kept longer, up to
// as much again as the log may have, or 16 MiB.
//
// Thread-compatible; lives on the event loop. Spec: docker's jsonfilelog, Kubernetes' "CRI
// logging".
#ifndef GANTRY_SHIM_LOG_SINK_H_
#define GANTRY_SHIM_LOG_SINK_H_

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry::shim {

enum class LogStream { kStdout = 0, kStderr = 1 };

struct LogOptions {
  enum class Format { kJsonFile, kCri };
  std::string path;
  Format format = Format::kJsonFile;
  int64_t max_size_bytes = 0;  // 0: never rotate
  int max_files = 1;
  bool block_when_full = false;
  std::map<std::string, std::string> attributes;  // of every line; kJsonFile only
};

class LogSink {
 public:
  // `now` is the clock of the lines.
  LogSink(LogOptions options, std::function<absl::Time()> now);
  LogSink(const LogSink&) = delete;
  LogSink& operator=(const LogSink&) = delete;

  // Makes file and directory. An error is a warning only: writes try again.
  absl::Status Open();

  // Called with each piece as it goes into the file: a line without its newline, or with `complete`
  // false a part of one. Also of what the file does not take.
  using OnLine =
      std::function<void(LogStream stream, absl::string_view text, bool complete, absl::Time at)>;
  void set_on_line(OnLine on_line) { on_line_ = std::move(on_line); }

  void Write(LogStream stream, absl::string_view bytes);

  // Writes what is left of an unfinished line.
  void Flush(LogStream stream);

  // Writes the line about dropped lines, if some were dropped since the last such line. False: the
  // file did not take it either; try again. The line is short: it often fits where the lines
  // themselves did not, in what is left of the file's last block.
  bool MentionDropped();

  // Only with `block_when_full`: lines wait for room. Write nothing until Retry(), called from time
  // to time, has cleared it.
  bool blocked() const { return !waiting_.empty(); }
  void Retry();

  // Someone else renamed the file: go on in a new one of the old name.
  absl::Status Reopen();

  // Lines that could not be written, for lack of space or rights, since the last line that said so.
  uint64_t dropped_lines() const { return dropped_lines_; }
  uint64_t total_dropped_lines() const { return total_dropped_lines_; }

 private:
  void AppendLine(LogStream stream, absl::string_view text, bool complete, const std::string& time,
                  std::string& out) const;
  // Puts whole lines into the file. On failure nothing of them is in it.
  absl::Status Commit(absl::string_view lines);
  // The lines at the front of `lines` that go into the file before the next rotation.
  absl::string_view NextBatch(absl::string_view lines) const;
  // Commits in batches; drops or keeps waiting what does not go in.
  void Store(absl::string_view lines);
  absl::Status OpenFile();
  bool FileWasReplaced() const;
  absl::Status Rotate();
  // Removes old files beyond `max_files` that no follower holds.
  void Trim();

  const LogOptions options_;
  const std::string attributes_;  // the JSON member for them, "" if there are none
  const std::function<absl::Time()> now_;

  UniqueFd file_;
  int64_t size_bytes_ = 0;  // as we know it; others may have truncated
  struct OldFile {
    int64_t number;
    int64_t size_bytes;
  };
  std::optional<std::deque<OldFile>>
      old_files_;  // oldest first; looked up before the first rotation
  int64_t old_bytes_ = 0;
  int64_t last_number_ = 0;
  absl::Time next_check_;   // of the name still being our file
  std::string partial_[2];  // unfinished line by stream
  uint64_t dropped_lines_ = 0;
  uint64_t total_dropped_lines_ = 0;
  std::string drop_reason_;
  std::string waiting_;  // formatted lines, with block_when_full
  OnLine on_line_;       // may be empty
};

// "2026-11-21T09:24:06.5Z": RFC 3339 in UTC, up to nanoseconds, without trailing zeros.
std::string FormatLogTime(absl::Time time);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_LOG_SINK_H_
