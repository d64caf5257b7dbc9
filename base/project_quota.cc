#include "base/project_quota.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "base/errno_status.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry {
namespace {

constexpr int64_t kBlock = 1024;  // of limits
constexpr uint32_t kLowest = uint32_t{1} << 28;
constexpr uint32_t kNumbers = uint32_t{1} << 30;

#ifndef SYS_quotactl_fd
constexpr long SYS_quotactl_fd = 443;
#endif

long Quotactl(int fd, uint32_t command, uint32_t project, void* data) {
  return syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), project, data);
}

absl::StatusOr<UniqueFd> OpenTree(const std::string& directory) {
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return ErrnoToStatus(errno, absl::StrCat("open ", directory));
  return fd;
}

absl::Status NoQuotas(const std::string& directory, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat(
      "no quota support: the file system of ", directory, " ", why,
      "; use ext4 with \"tune2fs -O project,quota\" mounted with prjquota, or xfs mounted with "
      "pquota"));
}

absl::Status CheckQuotas(int fd, const std::string& directory) {
  struct fs_quota_statv state = {};
  state.qs_version = FS_QSTATV_VERSION1;
  if (Quotactl(fd, Q_XGETQSTATV, 0, &state) != 0) {
    return NoQuotas(directory,
                    errno == ENOSYS ? "or this kernel, older than 5.14, has none" : "has none");
  }
  if ((state.qs_flags & FS_QUOTA_PDQ_ENFD) == 0)
    return NoQuotas(directory, "does not keep limits of projects");
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> ProjectOf(int fd, const std::string& directory) {
  struct fsxattr attributes = {};
  if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) {
    if (errno == ENOTTY || errno == EOPNOTSUPP) return uint32_t{0};
    return ErrnoToStatus(errno, absl::StrCat("project of ", directory));
  }
  // What inherits nothing was not made by us.
  return (attributes.fsx_xflags & FS_XFLAG_PROJINHERIT) != 0 ? attributes.fsx_projid : 0;
}

absl::Status SetLimit(int fd, uint32_t project, int64_t bytes, const std::string& directory) {
  struct if_dqblk limit = {};
  limit.dqb_bhardlimit = static_cast<uint64_t>((bytes + kBlock - 1) / kBlock);
  limit.dqb_bsoftlimit = limit.dqb_bhardlimit;
  limit.dqb_valid = QIF_BLIMITS;
  if (Quotactl(fd, Q_SETQUOTA, project, &limit) != 0)
    return ErrnoToStatus(errno, absl::StrCat("limit of ", directory, ", project ", project));
  return absl::OkStatus();
}

// Numbers that were found to be free and are not yet on a directory.
absl::Mutex choosing(absl::kConstInit);
std::set<uint32_t>& Chosen() ABSL_EXCLUSIVE_LOCKS_REQUIRED(choosing) {
  static auto* const chosen = new std::set<uint32_t>;
  return *chosen;
}

absl::StatusOr<uint32_t> ChooseProject(int fd) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    uint32_t number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number) continue;
    const uint32_t project = kLowest + number % kNumbers;
    struct if_dqblk use = {};
    const bool found = Quotactl(fd, Q_GETQUOTA, project, &use) == 0;
    if (found && (use.dqb_curspace != 0 || use.dqb_curinodes != 0 || use.dqb_bhardlimit != 0))
      continue;
    absl::MutexLock lock(&choosing);
    if (Chosen().insert(project).second) return project;
  }
  return absl::ResourceExhaustedError("no free project number found");
}

}  // namespace

absl::Status CheckProjectQuotas(const std::string& directory) {
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd fd, OpenTree(directory));
  return CheckQuotas(fd.get(), directory);
}

absl::Status LimitTree(const std::string& directory, int64_t bytes) {
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd fd, OpenTree(directory));
  GANTRY_RETURN_IF_ERROR(CheckQuotas(fd.get(), directory));
  GANTRY_ASSIGN_OR_RETURN(const uint32_t project, ChooseProject(fd.get()));
  // The limit first: a crash in between leaves one for nothing, not a tree without.
  absl::Status limited = SetLimit(fd.get(), project, bytes, directory);
  struct fsxattr attributes = {};
  if (limited.ok() && ioctl(fd.get(), FS_IOC_FSGETXATTR, &attributes) != 0)
    limited = ErrnoToStatus(errno, absl::StrCat("project of ", directory));
  if (limited.ok()) {
    attributes.fsx_projid = project;
    attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    if (ioctl(fd.get(), FS_IOC_FSSETXATTR, &attributes) != 0)
      limited = ErrnoToStatus(errno, absl::StrCat("project of ", directory));
  }
  absl::MutexLock lock(&choosing);
  Chosen().erase(project);
  return limited;
}

absl::StatusOr<TreeLimit> LimitOfTree(const std::string& directory) {
  TreeLimit out;
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd fd, OpenTree(directory));
  GANTRY_ASSIGN_OR_RETURN(const uint32_t project, ProjectOf(fd.get(), directory));
  struct if_dqblk use = {};
  if (project == 0 || Quotactl(fd.get(), Q_GETQUOTA, project, &use) != 0) return out;
  out.limit_bytes = static_cast<int64_t>(use.dqb_bhardlimit) * kBlock;
  out.used_bytes = static_cast<int64_t>(use.dqb_curspace);
  return out;
}

absl::Status UnlimitTree(const std::string& directory) {
  GANTRY_ASSIGN_OR_RETURN(const UniqueFd fd, OpenTree(directory));
  GANTRY_ASSIGN_OR_RETURN(const uint32_t project, ProjectOf(fd.get(), directory));
  // Those of others are theirs.
  if (project < kLowest || project - kLowest >= kNumbers) return absl::OkStatus();
  return SetLimit(fd.get(), project, 0, directory);
}

absl::StatusOr<int64_t> ParseTreeSize(absl::string_view text) {
  const absl::Status bad =
      absl::InvalidArgumentError(absl::StrCat("invalid size: '", text.substr(0, 64), "'"));
  absl::string_view digits = text;
  if (!digits.empty() && absl::ascii_tolower(digits.back()) == 'b') digits.remove_suffix(1);
  int64_t unit = 1;
  if (!digits.empty() && !absl::ascii_isdigit(digits.back())) {
    const char c = static_cast<char>(absl::ascii_tolower(digits.back()));
    digits.remove_suffix(1);
    const size_t power = absl::string_view("kmgt").find(c);
    if (power == absl::string_view::npos) return bad;
    unit = int64_t{1} << (10 * (power + 1));
  }
  int64_t number = 0;
  if (digits.empty() || !absl::ascii_isdigit(digits.front()) ||
      !absl::SimpleAtoi(digits, &number) || number <= 0 || number > (int64_t{1} << 60) / unit) {
    return bad;
  }
  return number * unit;
}

}  // namespace gantry
