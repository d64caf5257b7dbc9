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
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

#include "base/cancel_token.h"
#include "base/errno_status.h"
#include "base/rotated_log.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::core {
namespace {

constexpr size_t kChunk = 256 << 10;
constexpr size_t kMaxLine = 4 << 20;

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
  if (const auto attributes = json.find("attrs");
      attributes != json.end() && attributes->is_object()) {
    for (const auto& [name, value] : attributes->items()) {
      if (value.is_string()) entry.attributes.emplace(name, value.get<std::string>());
    }
  }
  return entry;
}

LogEntry GapNotice() {
  LogEntry notice;
  notice.is_stderr = true;
  notice.at = absl::Now();
  notice.text =
      "[gantry] a part of this log was rotated away before it was read: the reader is too slow\n";
  return notice;
}

bool Wanted(const LogEntry& entry, const LogQuery& query) {
  return (entry.is_stderr ? query.want_stderr : query.want_stdout);
}

// The number of the file that has none yet.
constexpr int64_t kLive = 0;
constexpr int64_t kEveryNumber = int64_t{1} << 62;

struct OpenLog {
  UniqueFd fd;
  ino_t inode = 0;
  int64_t number = kLive;
  int64_t offset = 0;
};

absl::StatusOr<OpenLog> Open(const std::string& log_path, int64_t number) {
  const std::string path = number == kLive ? log_path : RotatedLogName(log_path, number);
  OpenLog log;
  log.number = number;
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

bool HasInode(const std::string& path, ino_t inode) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && info.st_ino == inode;
}

// What there is of the log, oldest first. The live file is opened before the others are looked for:
// one that is begun in between is found later as a successor, and none falls between them.
absl::StatusOr<std::vector<OpenLog>> OpenAll(const std::string& path) {
  absl::StatusOr<OpenLog> live = Open(path, kLive);
  if (!live.ok() && !absl::IsNotFound(live.status())) return live.status();
  std::vector<OpenLog> logs;
  bool live_has_number = false;
  for (const int64_t number : RotatedLogNumbers(path)) {
    absl::StatusOr<OpenLog> log = Open(path, number);
    if (!log.ok()) continue;  // removed meanwhile
    if (live.ok() && log->inode == live->inode) live_has_number = true;
    logs.push_back(*std::move(log));
  }
  if (live.ok() && !live_has_number) logs.push_back(*std::move(live));
  return logs;
}

struct NextLog {
  OpenLog log;
  bool gap = false;  // files in between are gone
};

// The file that was begun when `current` was ended, and gives `current` its number. Nothing:
// `current` is still written to, or the next one is just being made. `newest` is the highest number
// seen so far.
std::optional<NextLog> Successor(const std::string& path, OpenLog& current, int64_t newest) {
  bool gap = false;
  // A second look is needed when a rotation comes in between, a third when another one does.
  for (int attempt = 0; attempt < 100; ++attempt) {
    int64_t after = current.number;
    if (current.number == kLive) {
      const std::vector<int64_t> numbers = RotatedLogNumbers(path);
      for (const int64_t number : numbers) {
        if (HasInode(RotatedLogName(path, number), current.inode)) current.number = number;
      }
      if (current.number != kLive) continue;
      if (HasInode(path, current.inode)) return std::nullopt;
      if (attempt == 0) continue;
      // Neither live nor rotated: removed or replaced.
      after = newest;
      gap = std::any_of(numbers.begin(), numbers.end(), [&](int64_t n) { return n > newest; });
    }
    const std::vector<int64_t> numbers = RotatedLogNumbers(path);
    auto later = std::upper_bound(numbers.begin(), numbers.end(), after);
    if (later != numbers.end()) {
      absl::StatusOr<OpenLog> log = Open(path, *later);
      if (!log.ok()) continue;
      return NextLog{*std::move(log), gap || *later != after + 1};
    }
    absl::StatusOr<OpenLog> log = Open(path, kLive);
    if (!log.ok()) return std::nullopt;
    // One that was live a moment ago may have ended meanwhile; then this is not the next.
    if (HasInode(RotatedLogName(path, after + 1), log->inode)) log->number = after + 1;
    if (log->number == kLive && !RotatedLogNumbers(path).empty() &&
        RotatedLogNumbers(path).back() > after) {
      continue;
    }
    return NextLog{*std::move(log), gap};
  }
  return std::nullopt;
}

// Sleeps until something in the log's directory changes, the token is cancelled, or a second has
// passed.
class ChangeWaiter {
 public:
  ChangeWaiter(const std::string& path, CancelToken* cancel)
      : inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
        wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (inotify_.valid()) {
      inotify_add_watch(
          inotify_.get(), LogDirectory(path).c_str(),
          IN_MODIFY | IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_CLOSE_WRITE);
    }
    if (cancel != nullptr) {
      registration_ = cancel->OnCancel([fd = wake_.get()] {
        const uint64_t one = 1;
        if (write(fd, &one, sizeof one) < 0) return;  // full: it was woken already
      });
    }
  }
  void Wait() {
    // When no inotify instance is left, one second is the poll interval.
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

  LogHold hold(path);
  GANTRY_ASSIGN_OR_RETURN(std::vector<OpenLog> logs, OpenAll(path));
  if (logs.empty() && !query.follow)
    return absl::NotFoundError(absl::StrCat("log ", path, ": it does not exist"));
  int64_t newest = 0;
  for (const OpenLog& log : logs) newest = std::max(newest, log.number);
  hold.ReleaseThrough(query.follow ? newest : kEveryNumber);

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
    while (!past_until) {
      NextLog next;
      if (current.fd.valid()) {
        struct stat info;
        if (fstat(current.fd.get(), &info) == 0 && info.st_size < current.offset)
          current.offset = 0;  // truncated
        GANTRY_RETURN_IF_ERROR(EmitLines(current, query, !more, &past_until, emit));
        std::optional<NextLog> successor = Successor(path, current, newest);
        if (!successor.has_value()) break;
        next = *std::move(successor);
        // Written between the last read and the rotation.
        GANTRY_RETURN_IF_ERROR(EmitLines(current, query, true, &past_until, emit));
      } else {
        GANTRY_ASSIGN_OR_RETURN(std::vector<OpenLog> begun, OpenAll(path));
        if (begun.empty()) break;
        next.log = std::move(begun.front());
      }
      if (next.gap && query.want_stderr) GANTRY_RETURN_IF_ERROR(emit(GapNotice()));
      newest = std::max({newest, current.number, next.log.number});
      current = std::move(next.log);
      hold.ReleaseThrough(newest);
    }
    if (past_until || !more) break;
    if (absl::Now() > query.until) break;
    if (query.caught_up != nullptr) GANTRY_RETURN_IF_ERROR(query.caught_up());
    changes->Wait();
    if (query.cancel != nullptr) GANTRY_RETURN_IF_ERROR(query.cancel->Check());
  }
  return absl::OkStatus();
}

}  // namespace gantry::core
