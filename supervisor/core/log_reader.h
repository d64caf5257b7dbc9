// Reads a container's log as the shim writes it, rotated files included: the last lines, from a
// time, and what comes next.
//
// Not bound to a live container: the files are enough. Follows through rotation, and through
// truncation or deletion from outside. Thread-compatible; one reader per listener. Format: docker's
// json-file.
#ifndef GANTRY_SUPERVISOR_CORE_LOG_READER_H_
#define GANTRY_SUPERVISOR_CORE_LOG_READER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace gantry {
class CancelToken;
}

namespace gantry::core {

struct LogEntry {
  bool is_stderr = false;
  absl::Time at;
  std::string text;  // with its newline; a piece of a long line has none
  std::map<std::string, std::string> attributes;  // chosen by the options of the log
};

struct LogQuery {
  bool want_stdout = true;
  bool want_stderr = true;
  absl::Time since = absl::InfinitePast();
  absl::Time until = absl::InfiniteFuture();
  std::optional<int64_t> tail;  // last so many lines
  bool follow = false;
  // With follow: false ends the reading once the file is read to its end. Null: for ever.
  std::function<bool()> more_may_come;
  // With follow: called when everything that is there was emitted, before the wait for more. A
  // status other than OK ends the reading and is returned. Null: not called.
  std::function<absl::Status()> caught_up;
  CancelToken* cancel = nullptr;
};

// Calls `emit` for each entry in order; a status other than OK from it ends the reading and is
// returned. Damaged lines are passed over. kNotFound: there is no log. kCancelled.
absl::Status ReadLog(const std::string& path, const LogQuery& query,
                     const std::function<absl::Status(const LogEntry&)>& emit);

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_LOG_READER_H_
