#include "supervisor/core/kernel_messages.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/unique_fd.h"

namespace gantry::core {
namespace {

constexpr size_t kMaxLines = 16;
constexpr size_t kMaxLineBytes = 300;
constexpr int kMaxProcesses = 5;
constexpr uint64_t kPageBytes = 4096;
// A child's fault is looked for so long before the end of the run.
constexpr absl::Duration kNearEnd = absl::Seconds(2);

struct Record {
  absl::Duration at;
  absl::string_view text;
};

std::optional<Record> Parse(absl::string_view record) {
  // priority,sequence,microseconds,flags;text, then lines of details that begin with a space.
  const size_t semicolon = record.find(';');
  if (semicolon == absl::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> fields = absl::StrSplit(record.substr(0, semicolon), ',');
  int64_t micros;
  if (fields.size() < 4 || !absl::SimpleAtoi(fields[2], &micros)) return std::nullopt;
  absl::string_view text = record.substr(semicolon + 1);
  text = text.substr(0, text.find('\n'));
  return Record{absl::Microseconds(micros), text};
}

// The value of NAME=value in a line that separates such words with ',' or ' '.
absl::string_view ValueOf(absl::string_view text, absl::string_view name) {
  for (absl::string_view word : absl::StrSplit(text, absl::ByAnyChar(", "))) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(word, absl::MaxSplits('=', 1));
    if (parts.first == name) return parts.second;
  }
  return "";
}

// The table of processes that comes before the line "oom-kill:".
class TaskTable {
 public:
  // False: the line belongs to no table.
  bool Add(absl::string_view text) {
    if (!absl::StartsWith(text, "[")) return false;
    const size_t close = text.find(']');
    if (close == absl::string_view::npos) return false;
    const std::vector<absl::string_view> words =
        absl::StrSplit(text.substr(close + 1), ' ', absl::SkipWhitespace());
    if (absl::StripAsciiWhitespace(text.substr(1, close - 1)) == "pid") {
      const auto column = std::find(words.begin(), words.end(), "rss");
      if (column != words.end()) column_ = static_cast<size_t>(column - words.begin());
      rows_.clear();
      return true;
    }
    uint64_t pages;
    if (words.size() <= column_ || column_ == 0 || !absl::SimpleAtoi(words[column_], &pages))
      return false;
    rows_.emplace(pages * kPageBytes, std::string(words.back()));
    return true;
  }
  void Clear() { rows_.clear(); }
  void Fill(record::v1::OomKill& oom) const {
    for (const auto& [bytes, name] : rows_) {
      if (oom.largest_size() == kMaxProcesses) return;
      record::v1::OomKill::Process* const process = oom.add_largest();
      process->set_name(name);
      process->set_resident_bytes(bytes);
    }
  }

 private:
  size_t column_ = 0;  // of "rss", counted from the first word behind the pid; 0: not known
  std::multimap<uint64_t, std::string, std::greater<>> rows_;
};

bool NamesPid(absl::string_view text, int32_t pid) {
  return pid != 0 && (absl::StrContains(text, absl::StrCat("[", pid, "]")) ||
                      absl::StrContains(absl::StrCat(text, " "), absl::StrCat(" pid=", pid, " ")) ||
                      absl::StrContains(text, absl::StrCat("Killed process ", pid, " (")));
}

// A process was ended by what it did itself.
bool IsFault(absl::string_view text) {
  return absl::StrContains(text, "]: segfault at") || absl::StrContains(text, "] trap ") ||
         absl::StrContains(text, "] general protection") || absl::StrContains(text, "type=1326 ");
}

}  // namespace

KernelMessages SelectKernelMessages(const std::vector<std::string>& records,
                                    const KernelSubject& subject) {
  KernelMessages found;
  TaskTable table;
  bool ours = false;  // the last "oom-kill:" was the container's
  for (const std::string& text : records) {
    const std::optional<Record> record = Parse(text);
    if (!record.has_value() || record->at < subject.from || record->at > subject.until) continue;
    if (table.Add(record->text)) continue;
    bool take =
        NamesPid(record->text, subject.pid) || (subject.child_was_ended && IsFault(record->text) &&
                                                record->at >= subject.until - kNearEnd);
    if (absl::StartsWith(record->text, "oom-kill:")) {
      const absl::string_view group = ValueOf(record->text, "task_memcg");
      const absl::string_view limited = ValueOf(record->text, "oom_memcg");
      ours = absl::StrContains(group, subject.container_id) ||
             absl::StrContains(limited, subject.container_id);
      if (ours) {
        record::v1::OomKill oom;
        oom.set_group(std::string(limited));
        oom.set_victim(std::string(ValueOf(record->text, "task")));
        table.Fill(oom);
        found.oom = std::move(oom);
      }
      table.Clear();
      take = false;  // the line that follows says the same for people
    } else if (absl::StrContains(record->text, "ut of memory: Killed process ")) {
      take = take || ours;
      ours = false;
    }
    if (take && found.lines.size() < kMaxLines)
      found.lines.emplace_back(record->text.substr(0, kMaxLineBytes));
  }
  return found;
}

KernelMessages ReadKernelMessages(const KernelSubject& subject) {
  const UniqueFd log(open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!log.valid()) return {};
  std::vector<std::string> records;
  std::array<char, 8192> buffer;
  for (;;) {
    const ssize_t size = read(log.get(), buffer.data(), buffer.size());
    // EPIPE: the record was overwritten during the read; the next one is there.
    if (size < 0 && (errno == EPIPE || errno == EINTR)) continue;
    if (size <= 0) break;
    const absl::string_view record(buffer.data(), static_cast<size_t>(size));
    const std::optional<Record> parsed = Parse(record);
    if (parsed.has_value() && parsed->at >= subject.from) records.emplace_back(record);
  }
  return SelectKernelMessages(records, subject);
}

std::optional<int> SeccompCall(absl::string_view line) {
  int number;
  if (!absl::StrContains(line, "type=1326 ") ||
      !absl::SimpleAtoi(ValueOf(line, "syscall"), &number))
    return std::nullopt;
  return number;
}

}  // namespace gantry::core
