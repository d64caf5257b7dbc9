#include "supervisor/core/log_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::core {
namespace {

constexpr size_t kChunk = 256 << 10;
constexpr size_t kMaxLine = 4 << 20;
constexpr int kMaxRotated = 1000;

// One line of a json-file. Nothing: damaged, e.g. cut short by a full disk.
std::optional<LogEntry> ParseLine(absl::string_view line) {
  nlohmann::json json =
      nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  auto log = json.find("log");
  auto time = json.find("time");
  if (log == json.end() || !log->is_string() || time == json.end() || !time->is_string())
    return std::nullopt;
  LogEntry entry;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, time->get_ref<const std::string&>(), &entry.at, &error))
    return std::nullopt;
  auto stream = json.find("stream");
  entry.is_stderr = stream != json.end() && stream->is_string() &&
                    stream->get_ref<const std::string&>() == "stderr";
  entry.text = std::move(log->get_ref<std::string&>());
  return entry;
}

bool Wanted(const LogEntry& entry, const LogQuery& query) {
  return (entry.is_stderr ? query.want_stderr : query.want_stdout);
}

std::string Rotated(const std::string& path, int number) {
  return number == 0 ? path : absl::StrCat(path, ".", number);
}

struct OpenLog {
  UniqueFd fd;
  ino_t inode = 0;
  int64_t offset = 0;
};

absl::StatusOr<OpenLog> Open(const std::string& path) {
  OpenLog log;
  log.fd.reset(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!log.fd.valid()) return ErrnoToStatus(errno, absl::StrCat("log ", path));
  struct stat info;
  if (fstat(log.fd.get(), &info) != 0) return ErrnoToStatus(errno, absl::StrCat("log ", path));
  log.inode = info.st_ino;
  return log;
}

// Where the last `count` wanted lines of `fd` begin; `found` is how many there are.
absl::StatusOr<int64_t> TailOffset(int fd, int64_t count, const LogQuery& query, int64_t* found) {
  const int64_t size = lseek(fd, 0, SEEK_END);
  *found = 0;
  int64_t begin = size;  // of `tail`
  std::string tail;      // bytes from `begin` whose line start was not seen yet
  int64_t answer = size;
  std::vector<char> chunk(kChunk);
  while (begin > 0) {
    const size_t n = std::min<int64_t>(begin, kChunk);
    const ssize_t got = pread(fd, chunk.data(), n, begin - static_cast<int64_t>(n));
    if (got != static_cast<ssize_t>(n))
      return absl::DataLossError("log: the file shrank while it was read");
    begin -= n;
    tail.insert(0, chunk.data(), n);
    // Whole lines from the back. The byte before the last line's end belongs to it.
    while (true) {
      size_t end = tail.size();
      if (end == 0) break;
      const size_t search_from = tail[end - 1] == '\n' ? end - 1 : end;
      const size_t newline =
          search_from == 0 ? std::string::npos : tail.rfind('\n', search_from - 1);
      if (newline == std::string::npos && begin > 0) {
        if (tail.size() > kMaxLine) tail.clear();
        break;
      }
      const size_t start = newline == std::string::npos ? 0 : newline + 1;
      std::optional<LogEntry> entry = ParseLine(absl::string_view(tail).substr(start));
      if (entry.has_value() && Wanted(*entry, query)) {
        if (++*found > count) {
          *found = count;
          return answer;
        }
        answer = begin + static_cast<int64_t>(start);
      }
      tail.resize(start);
    }
  }
  return *found == 0 ? size : answer;
}

// Emits whole lines up to the present end. Keeps the offset of the first byte not emitted.
absl::Status EmitLines(OpenLog& log, const LogQuery& query, bool last_line_may_lack_newline,
                       bool* past_until, const std::function<absl::Status(const LogEntry&)>& emit) {
  std::string pending;
  std::vector<char> chunk(kChunk);
  int64_t read_at = log.offset;
  auto line = [&](absl::string_view text) -> absl::Status {
    std::optional<LogEntry> entry = ParseLine(text);
    if (!entry.has_value() || !Wanted(*entry, query) || entry->at < query.since)
      return absl::OkStatus();
    if (entry->at > query.until) {
      *past_until = true;
      return absl::OkStatus();
    }
    return emit(*entry);
  };
  while (!*past_until) {
    if (query.cancel != nullptr) GANTRY_RETURN_IF_ERROR(query.cancel->Check());
    const ssize_t got = pread(log.fd.get(), chunk.data(), chunk.size(), read_at);
    if (got < 0) return ErrnoToStatus(errno, "log: read");
    if (got == 0) break;
    read_at += got;
    absl::string_view fresh(chunk.data(), got);
    while (!*past_until) {
      const size_t newline = fresh.find('\n');
      if (newline == absl::string_view::npos) break;
      pending.append(fresh.data(), newline);
      log.offset += static_cast<int64_t>(pending.size()) + 1;
      GANTRY_RETURN_IF_ERROR(line(pending));
      pending.clear();
      fresh.remove_prefix(newline + 1);
    }
    pending.append(fresh.data(), fresh.size());
    if (pending.size() > kMaxLine) {
      log.offset += static_cast<int64_t>(pending.size());
      pending.clear();
    }
  }
  if (last_line_may_lack_newline && !pending.empty() && !*past_until) {
    log.offset += static_cast<int64_t>(pending.size());
    return line(pending);
  }
  return absl::OkStatus();
}

// The file that follows the one with `inode`: where rotation put that one, less one. Nothing: it is still the newest.
std::optional<std::string> Successor(const std::string& path, ino_t inode) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && info.st_ino == inode) return std::nullopt;
  for (int number = 1; number < kMaxRotated; ++number) {
    if (stat(Rotated(path, number).c_str(), &info) != 0) break;
    if (info.st_ino == inode) return Rotated(path, number - 1);
  }
  // Rotated out of sight or deleted: go on with the newest there is.
  if (stat(path.c_str(), &info) == 0) return path;
  return std::nullopt;
}

// Sleeps until something in the log's directory changes, the token is cancelled, or a second has passed.
class ChangeWaiter {
 public:
  ChangeWaiter(const std::string& path, CancelToken* cancel)
      : inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
        wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    const std::string directory = path.substr(0, path.rfind('/'));
    if (inotify_.valid()) {
      inotify_add_watch(
          inotify_.get(), directory.c_str(),
          IN_MODIFY | IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_CLOSE_WRITE);
    }
    if (cancel != nullptr) {
      registration_ = cancel->OnCancel([fd = wake_.get()] {
        const uint64_t one = 1;
        if (write(fd, &one, sizeof one) < 0) return;  // full: somebody has woken it already
      });
    }
  }
  void Wait() {
    // Without an inotify instance to be had the second is the poll interval.
    struct pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {inotify_.get(), POLLIN, 0}};
    poll(fds, inotify_.valid() ? 2 : 1, 1000);
    char drop[4096];
    while (inotify_.valid() && read(inotify_.get(), drop, sizeof drop) > 0) {
    }
  }

 private:
  UniqueFd inotify_;
  UniqueFd wake_;
  CancelToken::Registration registration_;
};

}  // namespace

absl::Status ReadLog(const std::string& path, const LogQuery& query,
                     const std::function<absl::Status(const LogEntry&)>& emit) {
  // Watching begins before reading, so that no change in between is missed.
  std::unique_ptr<ChangeWaiter> changes;
  if (query.follow) changes = std::make_unique<ChangeWaiter>(path, query.cancel);

  // From the oldest rotated file to the live one, each opened once: rotation meanwhile does not move what is open.
  std::vector<OpenLog> logs;
  for (int number = 0; number < kMaxRotated; ++number) {
    absl::StatusOr<OpenLog> log = Open(Rotated(path, number));
    if (!log.ok()) {
      if (number == 0) {
        if (!absl::IsNotFound(log.status())) return log.status();
        continue;  // between rename and creation
      }
      break;
    }
    const bool seen = std::any_of(logs.begin(), logs.end(),
                                  [&](const OpenLog& l) { return l.inode == log->inode; });
    if (!seen) logs.push_back(*std::move(log));
  }
  if (logs.empty() && !query.follow)
    return absl::NotFoundError(absl::StrCat("log ", path, ": there is none"));
  std::reverse(logs.begin(), logs.end());

  if (query.tail.has_value()) {
    int64_t left = std::max<int64_t>(*query.tail, 0);
    size_t first = logs.size();
    while (first > 0) {
      OpenLog& log = logs[first - 1];
      int64_t found = 0;
      GANTRY_ASSIGN_OR_RETURN(log.offset, TailOffset(log.fd.get(), left, query, &found));
      left -= found;
      --first;
      if (left <= 0) break;
    }
    logs.erase(logs.begin(), logs.begin() + static_cast<std::ptrdiff_t>(first));
  }

  bool past_until = false;
  for (OpenLog& log : logs) {
    GANTRY_RETURN_IF_ERROR(EmitLines(log, query, !query.follow, &past_until, emit));
    if (past_until) return absl::OkStatus();
  }
  if (!query.follow) return absl::OkStatus();

  OpenLog current;
  if (!logs.empty()) current = std::move(logs.back());
  logs.clear();
  while (!past_until) {
    // Asked before reading: what was written before the answer "no more" is then read.
    const bool more = query.more_may_come == nullptr || query.more_may_come();
    while (true) {
      if (current.fd.valid()) {
        struct stat info;
        if (fstat(current.fd.get(), &info) == 0 && info.st_size < current.offset)
          current.offset = 0;  // truncated
        GANTRY_RETURN_IF_ERROR(EmitLines(current, query, !more, &past_until, emit));
      }
      std::optional<std::string> next = current.fd.valid() ? Successor(path, current.inode) : path;
      if (!next.has_value()) break;
      absl::StatusOr<OpenLog> log = Open(*next);
      if (!log.ok()) break;
      // Written between the last read and the rotation.
      if (current.fd.valid())
        GANTRY_RETURN_IF_ERROR(EmitLines(current, query, true, &past_until, emit));
      current = *std::move(log);
    }
    if (past_until || !more) break;
    if (absl::Now() > query.until) break;
    changes->Wait();
    if (query.cancel != nullptr) GANTRY_RETURN_IF_ERROR(query.cancel->Check());
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
