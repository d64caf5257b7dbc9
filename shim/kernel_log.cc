#include "shim/kernel_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/unique_fd.h"

namespace gantry::shim {

bool RecordTellsOomKill(absl::string_view record, pid_t pid, absl::Duration since) {
  // priority,sequence,microseconds,flags;text
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(record, absl::MaxSplits(';', 1));
  const std::vector<absl::string_view> fields = absl::StrSplit(parts.first, ',');
  int64_t at_micros;
  if (fields.size() < 4 || !absl::SimpleAtoi(fields[2], &at_micros)) return false;
  // "Memory cgroup out of memory: Killed process 12 (sh) ...", or "Out of memory: ..." when it was
  // the machine's.
  return absl::Microseconds(at_micros) >= since &&
         absl::StrContains(parts.second, absl::StrCat("ut of memory: Killed process ", pid, " ("));
}

bool KernelLogTellsOomKill(pid_t pid, absl::Duration since) {
  const UniqueFd log(open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!log.valid()) return false;
  std::array<char, 8192> record;
  // Each read is one record. EPIPE: it was overwritten while we read; the next one is there.
  for (;;) {
    const ssize_t size = read(log.get(), record.data(), record.size());
    if (size < 0 && (errno == EPIPE || errno == EINTR)) continue;
    if (size <= 0) return false;
    if (RecordTellsOomKill({record.data(), static_cast<size_t>(size)}, pid, since)) return true;
  }
}

}  // namespace gantry::shim
