#include "supervisor/oci/user_lookup.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::oci {
namespace {

constexpr size_t kMaxGroups = 65536;  // the kernel's NGROUPS_MAX

int OpenBeneath(int root_fd, const char* path, uint64_t flags) {
  open_how how{};
  how.flags = flags;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(syscall(SYS_openat2, root_fd, path, &how, sizeof(how)));
}

// Opens the regular file of `handle`, which was opened with O_PATH, for reading. By /proc, so that
// a process of the container cannot put a device or a FIFO into its place meanwhile. A step of a
// build has the image's tree as its root directory: there is no /proc but what the image has, and
// no process that could change the tree, so the path is resolved once more.
UniqueFd OpenForReading(int root_fd, const char* path, int handle) {
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  const UniqueFd handles(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct statfs system {};
  if (handles.valid() && fstatfs(handles.get(), &system) == 0 && system.f_type == PROC_SUPER_MAGIC)
    return UniqueFd(openat(handles.get(), absl::StrCat(handle).c_str(), kFlags));
  return UniqueFd(OpenBeneath(root_fd, path, kFlags));
}

// Absent is fine and leaves `out` empty.
absl::Status ReadUserFile(int root_fd, const char* path, std::string& out) {
  // O_PATH first: opening a fifo or a device for reading already does something.
  UniqueFd handle(OpenBeneath(root_fd, path, O_PATH | O_CLOEXEC));
  if (!handle.valid()) {
    if (errno == ENOENT || errno == ENOTDIR) return absl::OkStatus();
    return ErrnoToStatus(errno, absl::StrCat("/", path, " of the image"));
  }
  struct stat st {};
  if (fstat(handle.get(), &st) != 0)
    return ErrnoToStatus(errno, absl::StrCat("/", path, " of the image"));
  if (!S_ISREG(st.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("/", path, " of the image is not a regular file"));
  }
  if (st.st_size > kMaxUserFileBytes) {
    return absl::FailedPreconditionError(absl::StrCat("/", path, " of the image has ", st.st_size,
                                                      " bytes, more than the ", kMaxUserFileBytes,
                                                      " accepted"));
  }
  const UniqueFd fd = OpenForReading(root_fd, path, handle.get());
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open /", path, " of the image"));
  out.resize(static_cast<size_t>(st.st_size));
  size_t have = 0;
  while (have < out.size()) {
    const ssize_t n =
        pread(fd.get(), out.data() + have, out.size() - have, static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      out.clear();
      return ErrnoToStatus(errno, absl::StrCat("read /", path, " of the image"));
    }
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  out.resize(have);
  return absl::OkStatus();
}

bool AllDigits(absl::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Strict: what one reader takes for 0 and another for a name must be neither.
std::optional<uint32_t> ParseId(absl::string_view text) {
  if (!AllDigits(text) || text.size() > 10 || (text.size() > 1 && text[0] == '0'))
    return std::nullopt;
  uint64_t value = 0;
  for (char c : text) value = value * 10 + static_cast<uint64_t>(c - '0');
  if (value > kMaxId) return std::nullopt;
  return static_cast<uint32_t>(value);
}

bool IsName(absl::string_view text) {
  if (text.empty() || text.size() > 256 || AllDigits(text)) return false;
  if (text[0] == '-' || text[0] == '+' || text[0] == '.') return false;
  if (absl::StartsWithIgnoreCase(text, "0x")) return false;
  return std::none_of(text.begin(), text.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return absl::ascii_isspace(u) || absl::ascii_iscntrl(u) || c == ':' || c == ',' || c == '/';
  });
}

struct Passwd {
  absl::string_view name;
  uint32_t uid = 0;
  uint32_t gid = 0;
  absl::string_view home;
};

struct Group {
  absl::string_view name;
  uint32_t gid = 0;
  absl::string_view members;
};

// Fields of the next line; false at the end. Never looks at more than kFields parts.
bool NextLine(absl::string_view& text, std::vector<absl::string_view>& fields) {
  if (text.empty()) return false;
  const size_t end = text.find('\n');
  const absl::string_view line = text.substr(0, end);
  text.remove_prefix(end == absl::string_view::npos ? text.size() : end + 1);
  fields = absl::StrSplit(line, absl::MaxSplits(':', 7));
  return true;
}

// Calls `visit` for each well-formed line until it returns true.
template <typename Visit>
void ForEachPasswd(absl::string_view text, Visit visit) {
  std::vector<absl::string_view> fields;
  while (NextLine(text, fields)) {
    if (fields.size() < 4) continue;
    const std::optional<uint32_t> uid = ParseId(fields[2]);
    const std::optional<uint32_t> gid = ParseId(fields[3]);
    if (!IsName(fields[0]) || !uid.has_value() || !gid.has_value()) continue;
    if (visit(Passwd{fields[0], *uid, *gid, fields.size() > 5 ? fields[5] : absl::string_view()}))
      return;
  }
}

template <typename Visit>
void ForEachGroup(absl::string_view text, Visit visit) {
  std::vector<absl::string_view> fields;
  while (NextLine(text, fields)) {
    if (fields.size() < 3) continue;
    const std::optional<uint32_t> gid = ParseId(fields[2]);
    if (!IsName(fields[0]) || !gid.has_value()) continue;
    if (visit(Group{fields[0], *gid, fields.size() > 3 ? fields[3] : absl::string_view()})) return;
  }
}

bool HasMember(absl::string_view members, absl::string_view name) {
  for (absl::string_view member : absl::StrSplit(members, ',')) {
    if (member == name) return true;
  }
  return false;
}

absl::Status Malformed(absl::string_view kind, absl::string_view text) {
  if (AllDigits(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(kind, " \"", text, "\": numbers are 0 to ", kMaxId, " without leading zeros"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(kind, " \"", text, "\": neither a name nor a number"));
}

absl::StatusOr<uint32_t> ResolveGroup(const UserDatabase& database, absl::string_view text) {
  if (std::optional<uint32_t> gid = ParseId(text); gid.has_value()) return *gid;
  if (!IsName(text)) return Malformed("group", text);
  GANTRY_RETURN_IF_ERROR(database.group_status);
  std::optional<uint32_t> found;
  ForEachGroup(database.group, [&](const Group& g) {
    if (g.name != text) return false;
    found = g.gid;
    return true;
  });
  if (!found.has_value()) {
    return absl::NotFoundError(
        absl::StrCat("group \"", text, "\": no matching entry in /etc/group of the image"));
  }
  return *found;
}

}  // namespace

UserDatabase LoadUserDatabase(int root_fd) {
  UserDatabase database;
  database.passwd_status = ReadUserFile(root_fd, "etc/passwd", database.passwd);
  database.group_status = ReadUserFile(root_fd, "etc/group", database.group);
  return database;
}

absl::StatusOr<UserDatabase> LoadUserDatabase(const std::string& root) {
  UniqueFd fd(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("root file system ", root));
  return LoadUserDatabase(fd.get());
}

absl::StatusOr<User> ResolveUser(const UserDatabase& database, absl::string_view spec,
                                 absl::Span<const std::string> extra_groups) {
  const size_t colon = spec.find(':');
  absl::string_view user_text = spec.substr(0, colon);
  const absl::string_view group_text =
      colon == absl::string_view::npos ? absl::string_view() : spec.substr(colon + 1);
  const bool has_group = !group_text.empty();
  // As docker reads it, an empty half is one that was not given.
  if (user_text.empty()) user_text = "0";

  User user;
  const std::optional<uint32_t> uid = ParseId(user_text);
  if (!uid.has_value() && !IsName(user_text)) return Malformed("user", user_text);
  if (!uid.has_value()) GANTRY_RETURN_IF_ERROR(database.passwd_status);
  bool found = false;
  ForEachPasswd(database.passwd, [&](const Passwd& p) {
    found = uid.has_value() ? p.uid == *uid : p.name == user_text;
    if (!found) return false;
    user.uid = p.uid;
    user.gid = p.gid;
    user.name = std::string(p.name);
    if (absl::StartsWith(p.home, "/")) user.home = std::string(p.home);
    return true;
  });
  if (!found) {
    if (!uid.has_value()) {
      return absl::NotFoundError(
          absl::StrCat("user \"", user_text, "\": no matching entry in /etc/passwd of the image"));
    }
    user.uid = *uid;
  }

  std::set<uint32_t> gids;
  if (has_group) {
    GANTRY_ASSIGN_OR_RETURN(user.gid, ResolveGroup(database, group_text));
  } else if (!user.name.empty()) {
    ForEachGroup(database.group, [&](const Group& g) {
      if (HasMember(g.members, user.name)) gids.insert(g.gid);
      return gids.size() >= kMaxGroups;
    });
  }
  gids.insert(user.gid);
  for (const std::string& extra : extra_groups) {
    GANTRY_ASSIGN_OR_RETURN(const uint32_t gid, ResolveGroup(database, extra));
    gids.insert(gid);
  }
  if (gids.size() > kMaxGroups) {
    return absl::InvalidArgumentError(
        absl::StrCat("user \"", spec, "\": member of more than ", kMaxGroups, " groups"));
  }
  user.additional_gids.assign(gids.begin(), gids.end());
  return user;
}

}  // namespace gantry::oci
