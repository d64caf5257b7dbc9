#include "shim/log_sink.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/rotated_log.h"
#include "base/status_macros.h"
#include "base/utf8.h"

namespace gantry::shim {
namespace {

// docker and containerd both cut there.
constexpr size_t kMaxLineBytes = 16 * 1024;
constexpr mode_t kLogMode = 0640;
constexpr absl::Duration kReplacedCheckInterval = absl::Seconds(1);
constexpr int64_t kMinHeldBytes = 16 << 20;

absl::string_view StreamName(LogStream stream) {
  return stream == LogStream::kStdout ? "stdout" : "stderr";
}

void AppendJsonString(absl::string_view text, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  size_t i = 0;
  while (i < text.size()) {
    // Most text needs no escape: copy it in runs.
    size_t run = i;
    while (run < text.size()) {
      const uint8_t c = static_cast<uint8_t>(text[run]);
      if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&') break;
      ++run;
    }
    out.append(text.data() + i, run - i);
    i = run;
    if (i == text.size()) break;
    const uint8_t c = static_cast<uint8_t>(text[i]);
    if (c >= 0x80) {
      const size_t length = Utf8CharacterBytes(text.substr(i));
      if (length == 0) {
        out += "\\ufffd";
        ++i;
      } else {
        out.append(text.data() + i, length);
        i += length;
      }
      continue;
    }
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        out += "\\u00";
        out += kHex[c >> 4];
        out += kHex[c & 15];
    }
    ++i;
  }
}

std::string AttributesMember(const std::map<std::string, std::string>& attributes) {
  if (attributes.empty()) return "";
  std::string out = ",\"attrs\":";
  char before = '{';
  for (const auto& [name, value] : attributes) {
    absl::StrAppend(&out, absl::string_view(&before, 1), "\"");
    AppendJsonString(name, out);
    out += "\":\"";
    AppendJsonString(value, out);
    out += '"';
    before = ',';
  }
  return out + '}';
}

}  // namespace

std::string FormatLogTime(absl::Time time) {
  std::string text = absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*S", time, absl::UTCTimeZone());
  text += 'Z';
  return text;
}

LogSink::LogSink(LogOptions options, std::function<absl::Time()> now)
    : options_(std::move(options)),
      attributes_(AttributesMember(options_.attributes)),
      now_(std::move(now)),
      next_check_(absl::InfinitePast()) {}

absl::Status LogSink::Open() { return OpenFile(); }

absl::Status LogSink::OpenFile() {
  const size_t slash = options_.path.rfind('/');
  if (slash != std::string::npos && slash > 0) {
    GANTRY_RETURN_IF_ERROR(MakeDirectories(options_.path.substr(0, slash), 0755));
  }
  // The name may have been planted by someone: neither follow a link, nor wait for a FIFO's reader.
  UniqueFd file(open(options_.path.c_str(),
                     O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
                     kLogMode));
  if (!file.valid()) return ErrnoToStatus(errno, absl::StrCat("log ", options_.path));
  struct stat status;
  if (fstat(file.get(), &status) != 0) {
    return ErrnoToStatus(errno, absl::StrCat("log ", options_.path));
  }
  if (!S_ISREG(status.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("log ", options_.path, ": not a regular file"));
  }
  size_bytes_ = status.st_size;
  file_ = std::move(file);
  next_check_ = now_() + kReplacedCheckInterval;
  return absl::OkStatus();
}

absl::Status LogSink::Reopen() {
  file_.reset();
  return OpenFile();
}

bool LogSink::FileWasReplaced() const {
  struct stat named;
  struct stat held;
  if (fstat(file_.get(), &held) != 0) return true;
  if (lstat(options_.path.c_str(), &named) != 0) return errno == ENOENT;
  return named.st_ino != held.st_ino || named.st_dev != held.st_dev;
}

absl::Status LogSink::Rotate() {
  if (!old_files_.has_value()) {
    old_files_.emplace();
    for (const int64_t number : RotatedLogNumbers(options_.path)) {
      struct stat status;
      const bool known = lstat(RotatedLogName(options_.path, number).c_str(), &status) == 0;
      old_files_->push_back({number, known ? status.st_size : 0});
      old_bytes_ += old_files_->back().size_bytes;
      last_number_ = number;
    }
  }
  const std::string name = RotatedLogName(options_.path, last_number_ + 1);
  if (rename(options_.path.c_str(), name.c_str()) == 0) {
    old_files_->push_back({++last_number_, size_bytes_});
    old_bytes_ += size_bytes_;
  } else if (errno != ENOENT) {
    return ErrnoToStatus(errno, absl::StrCat("log ", options_.path, ": rotate"));
  }
  Trim();
  return Reopen();
}

void LogSink::Trim() {
  if (!old_files_.has_value()) return;
  const size_t keep = static_cast<size_t>(std::max(options_.max_files, 1) - 1);
  const int64_t cap = options_.max_size_bytes * std::max(options_.max_files, 1);
  const int64_t most_held = cap + std::max(cap, kMinHeldBytes);
  while (old_files_->size() > keep) {
    const OldFile& oldest = old_files_->front();
    if (old_bytes_ <= most_held && LogHold::IsHeld(options_.path, oldest.number)) return;
    const std::string name = RotatedLogName(options_.path, oldest.number);
    // One that cannot be removed is looked at again at the next rotation.
    if (unlink(name.c_str()) != 0 && errno != ENOENT) return;
    old_bytes_ -= oldest.size_bytes;
    old_files_->pop_front();
  }
}

void LogSink::AppendLine(LogStream stream, absl::string_view text, bool complete,
                         const std::string& time, std::string& out) const {
  switch (options_.format) {
    case LogOptions::Format::kJsonFile:
      out += "{\"log\":\"";
      AppendJsonString(text, out);
      if (complete) out += "\\n";
      absl::StrAppend(&out, "\",\"stream\":\"", StreamName(stream), "\"", attributes_,
                      ",\"time\":\"", time, "\"}\n");
      return;
    case LogOptions::Format::kCri:
      absl::StrAppend(&out, time, " ", StreamName(stream), complete ? " F " : " P ", text, "\n");
      return;
  }
}

absl::Status LogSink::Commit(absl::string_view lines) {
  if (file_.valid() && now_() >= next_check_) {
    next_check_ = now_() + kReplacedCheckInterval;
    if (FileWasReplaced()) file_.reset();
  }
  if (!file_.valid()) GANTRY_RETURN_IF_ERROR(OpenFile());

  if (options_.max_size_bytes > 0 && size_bytes_ > 0 &&
      size_bytes_ + static_cast<int64_t>(lines.size()) > options_.max_size_bytes) {
    struct stat status;
    if (fstat(file_.get(), &status) == 0) size_bytes_ = status.st_size;
    if (size_bytes_ > 0 &&
        size_bytes_ + static_cast<int64_t>(lines.size()) > options_.max_size_bytes) {
      GANTRY_RETURN_IF_ERROR(Rotate());
    }
  }

  Trim();

  size_t written = 0;
  while (written < lines.size()) {
    const ssize_t count = write(file_.get(), lines.data() + written, lines.size() - written);
    if (count >= 0) {
      written += static_cast<size_t>(count);
      continue;
    }
    if (errno == EINTR) continue;
    const int error = errno;
    if (written > 0) {
      // Take the torn part back: a reader must never see half a line.
      struct stat status;
      if (fstat(file_.get(), &status) == 0 && status.st_size >= static_cast<off_t>(written)) {
        [[maybe_unused]] const int ignored =
            ftruncate(file_.get(), status.st_size - static_cast<off_t>(written));
      }
    }
    file_.reset();
    return ErrnoToStatus(error, absl::StrCat("log ", options_.path));
  }
  size_bytes_ += static_cast<int64_t>(lines.size());
  return absl::OkStatus();
}

absl::string_view LogSink::NextBatch(absl::string_view lines) const {
  const size_t max = static_cast<size_t>(options_.max_size_bytes);
  const size_t size = static_cast<size_t>(size_bytes_);
  if (max == 0 || size + lines.size() <= max) return lines;
  const size_t first = lines.find('\n') + 1;
  // Room in this file, or in the one that Commit() rotates to.
  const size_t room = size + first <= max ? max - size : max;
  if (lines.size() <= room) return lines;
  const size_t last = lines.rfind('\n', room - 1);
  return lines.substr(0, last == absl::string_view::npos ? first : std::max(first, last + 1));
}

void LogSink::Store(absl::string_view lines) {
  if (!waiting_.empty()) {
    absl::StrAppend(&waiting_, lines);
    return;
  }
  while (!lines.empty()) {
    const bool told = MentionDropped();
    const absl::string_view batch = NextBatch(lines);
    // While lines are missing and the file has no word of it, later lines would hide the gap.
    const absl::Status status = told ? Commit(batch) : absl::ResourceExhaustedError(drop_reason_);
    if (status.ok()) {
      lines.remove_prefix(batch.size());
      continue;
    }
    if (options_.block_when_full) {
      waiting_ = std::string(lines);
      return;
    }
    const uint64_t count = static_cast<uint64_t>(std::count(lines.begin(), lines.end(), '\n'));
    dropped_lines_ += count;
    total_dropped_lines_ += count;
    drop_reason_ = std::string(status.message());
    return;
  }
}

bool LogSink::MentionDropped() {
  if (dropped_lines_ == 0) return true;
  std::string notice;
  AppendLine(LogStream::kStderr,
             absl::StrCat("[gantry] ", dropped_lines_, dropped_lines_ == 1 ? " line" : " lines",
                          " of this log could not be written: ", drop_reason_),
             /*complete=*/true, FormatLogTime(now_()), notice);
  if (!Commit(notice).ok()) return false;
  dropped_lines_ = 0;
  return true;
}

void LogSink::Retry() {
  const std::string lines = std::move(waiting_);
  waiting_.clear();
  Store(lines);
}

void LogSink::Write(LogStream stream, absl::string_view bytes) {
  std::string& partial = partial_[static_cast<int>(stream)];
  const absl::Time at = now_();
  const std::string time = FormatLogTime(at);
  std::string lines;
  const auto append = [&](absl::string_view text, bool whole) {
    AppendLine(stream, text, whole, time, lines);
    if (on_line_) on_line_(stream, text, whole, at);
  };
  while (!bytes.empty()) {
    const size_t newline = bytes.find('\n');
    const bool complete = newline != absl::string_view::npos;
    const size_t length = complete ? newline : bytes.size();
    if (partial.size() + length > kMaxLineBytes) {
      const size_t take = kMaxLineBytes - partial.size();
      partial.append(bytes.data(), take);
      append(partial, /*whole=*/false);
      partial.clear();
      bytes.remove_prefix(take);
    } else if (!complete) {
      partial.append(bytes.data(), length);
      bytes = {};
    } else if (partial.empty()) {
      append(bytes.substr(0, length), /*whole=*/true);
      bytes.remove_prefix(length + 1);
    } else {
      partial.append(bytes.data(), length);
      append(partial, /*whole=*/true);
      partial.clear();
      bytes.remove_prefix(length + 1);
    }
  }
  Store(lines);
}

void LogSink::Flush(LogStream stream) {
  std::string& partial = partial_[static_cast<int>(stream)];
  if (partial.empty()) return;
  std::string line;
  const absl::Time at = now_();
  // json-file: no newline came, none is added. CRI: the last line of a stream counts as full.
  AppendLine(stream, partial, options_.format == LogOptions::Format::kCri, FormatLogTime(at), line);
  if (on_line_) on_line_(stream, partial, /*complete=*/true, at);
  partial.clear();
  Store(line);
}

}  // namespace gantry::shim
