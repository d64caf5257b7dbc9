#include "supervisor/core/subordinate_ids.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/file.h"
#include "base/status_macros.h"

namespace gantry::core {
namespace {

constexpr size_t kMostBytes = 16 << 20;

bool IsNumber(absl::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// The other way to write `name`: its number, or the name of a number; "" if the file does not know.
std::string OtherSpelling(const std::string& file, absl::string_view name) {
  const absl::StatusOr<std::string> text = ReadFile(file, kMostBytes);
  if (!text.ok()) return "";
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ':');
    if (words.size() < 3) continue;
    if (words[0] == name) return std::string(words[2]);
    if (IsNumber(name) && words[2] == name) return std::string(words[0]);
  }
  return "";
}

absl::StatusOr<std::vector<IdBlock>> Blocks(const std::string& etc, const char* file,
                                            const char* names, absl::string_view name) {
  const std::string path = absl::StrCat(etc, "/", file);
  const absl::StatusOr<std::string> text = ReadFile(path, kMostBytes);
  if (!text.ok() && !absl::IsNotFound(text.status())) return text.status();
  const std::string other = OtherSpelling(absl::StrCat(etc, "/", names), name);
  std::vector<IdBlock> blocks;
  if (text.ok()) {
    for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
      const std::vector<absl::string_view> words = absl::StrSplit(line, ':');
      IdBlock one;
      if (words.size() != 3 || (words[0] != name && (other.empty() || words[0] != other)) ||
          !IsNumber(words[1]) || !IsNumber(words[2]) || !absl::SimpleAtoi(words[1], &one.first) ||
          !absl::SimpleAtoi(words[2], &one.count) || one.count == 0) {
        continue;
      }
      blocks.push_back(one);
    }
  }
  if (blocks.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("user namespaces: ", path, " gives no ids to ", absl::Utf8SafeCEscape(name),
                     "; add a line such as ", absl::Utf8SafeCEscape(name),
                     ":100000:65536 to /etc/subuid and /etc/subgid"));
  }
  return blocks;
}

// One after the other, from id 0 of the container on.
std::vector<IdRange> Stacked(const std::vector<IdBlock>& blocks) {
  std::vector<IdRange> ranges;
  uint32_t next = 0;
  for (const IdBlock& one : blocks) {
    const uint32_t count = std::min(one.count, UINT32_MAX - next);
    if (count == 0) break;
    ranges.push_back({next, one.first, count});
    next += count;
  }
  return ranges;
}

}  // namespace

absl::StatusOr<std::vector<IdBlock>> SubordinateUids(const std::string& etc,
                                                     absl::string_view name) {
  return Blocks(etc, "subuid", "passwd", name);
}

absl::StatusOr<std::vector<IdBlock>> SubordinateGids(const std::string& etc,
                                                     absl::string_view name) {
  return Blocks(etc, "subgid", "group", name);
}

absl::StatusOr<IdMaps> RemapOf(const std::string& etc, absl::string_view setting) {
  const std::vector<absl::string_view> parts = absl::StrSplit(setting, ':');
  if (parts.size() > 2 || parts[0].empty() || parts.back().empty()) {
    return absl::InvalidArgumentError(absl::StrCat("user namespaces: \"",
                                                   absl::Utf8SafeCEscape(setting.substr(0, 128)),
                                                   "\" is not default, USER or USER:GROUP"));
  }
  std::string user(parts[0]);
  if (user == "default" && parts.size() == 1) user = kDefaultRemapUser;
  std::string group(parts.size() == 2 ? parts[1] : user);
  // A number of a user is not one of a group.
  if (parts.size() == 1 && IsNumber(user)) {
    const std::string name = OtherSpelling(absl::StrCat(etc, "/passwd"), user);
    if (!name.empty()) group = name;
  }
  GANTRY_ASSIGN_OR_RETURN(const std::vector<IdBlock> uids, SubordinateUids(etc, user));
  GANTRY_ASSIGN_OR_RETURN(const std::vector<IdBlock> gids, SubordinateGids(etc, group));
  IdMaps maps = {Stacked(uids), Stacked(gids)};
  GANTRY_RETURN_IF_ERROR(CheckIdRanges(absl::StrCat(etc, "/subuid of ", user), maps.uids));
  GANTRY_RETURN_IF_ERROR(CheckIdRanges(absl::StrCat(etc, "/subgid of ", group), maps.gids));
  return maps;
}

}  // namespace gantry::core
