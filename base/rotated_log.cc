#include "base/rotated_log.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "base/file.h"

namespace gantry {
namespace {

UniqueFd OpenDirectory(const std::string& path) {
  return UniqueFd(open(LogDirectory(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

// A lock of an open file description, not of a process: two readers in one daemon are two.
struct flock Range(int16_t type, int64_t first, int64_t count) {
  struct flock range = {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = first;
  range.l_len = count;
  return range;
}

}  // namespace

std::string RotatedLogName(const std::string& path, int64_t number) {
  return absl::StrCat(path, ".", number);
}

std::string LogDirectory(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::vector<int64_t> RotatedLogNumbers(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string prefix =
      absl::StrCat(slash == std::string::npos ? path : path.substr(slash + 1), ".");
  std::vector<int64_t> numbers;
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(LogDirectory(path));
  if (!names.ok()) return numbers;
  for (absl::string_view name : *names) {
    int64_t number = 0;
    if (name.substr(0, prefix.size()) != prefix) continue;
    name.remove_prefix(prefix.size());
    // Only what RotatedLogName() prints: no sign, no leading zero.
    if (absl::SimpleAtoi(name, &number) && number > 0 && absl::StrCat(number) == name)
      numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

LogHold::LogHold(const std::string& path) : directory_(OpenDirectory(path)) {
  struct flock all = Range(F_RDLCK, 0, 0);
  if (directory_.valid() && fcntl(directory_.get(), F_OFD_SETLK, &all) != 0) directory_.reset();
}

void LogHold::ReleaseThrough(int64_t number) {
  if (!directory_.valid()) return;
  struct flock past = Range(F_UNLCK, 0, number + 1);
  // Splitting a range may fail for lack of memory: then more is held than needed.
  while (fcntl(directory_.get(), F_OFD_SETLK, &past) != 0 && errno == EINTR) {
  }
}

bool LogHold::IsHeld(const std::string& path, int64_t number) {
  const UniqueFd directory = OpenDirectory(path);
  struct flock wanted = Range(F_WRLCK, number, 1);
  return directory.valid() && fcntl(directory.get(), F_OFD_GETLK, &wanted) == 0 &&
         wanted.l_type != F_UNLCK;
}

}  // namespace gantry
