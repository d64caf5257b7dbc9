#include "shim/shim_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

constexpr off_t kMaxLogBytes = 256 * 1024;

struct LogFile {
  std::string path;
  std::string fields;
  LogLevel level = LogLevel::kInfo;
};

LogFile& File() {
  static LogFile file;
  return file;
}

char LevelLetter(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return 'D';
    case LogLevel::kInfo:
      return 'I';
    case LogLevel::kWarning:
      return 'W';
    case LogLevel::kError:
      return 'E';
  }
  return '?';
}

}  // namespace

void OpenShimLog(const std::string& path, LogLevel level, const std::string& fields) {
  File() = {path, fields, level};
}

void ShimLog(LogLevel level, absl::string_view message) {
  const LogFile& file = File();
  if (level < file.level || file.path.empty()) return;
  UniqueFd fd(
      open(file.path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat status;
  if (!fd.valid() || fstat(fd.get(), &status) != 0 || status.st_size > kMaxLogBytes) return;
  std::string line =
      absl::StrCat(absl::FormatTime("%Y-%m-%d%ET%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone()),
                   " ", std::string(1, LevelLetter(level)), " ", file.fields, " ", message);
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  line += '\n';
  // A short or failed write loses the line, as said in the header.
  [[maybe_unused]] const ssize_t written = write(fd.get(), line.data(), line.size());
}

}  // namespace gantry::shim
