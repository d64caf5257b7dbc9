#include "shim/service_group.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/unique_fd.h"

namespace gantry::shim {
namespace {

constexpr char kUnifiedTree[] = "/sys/fs/cgroup";

}  // namespace

bool InServiceOf(pid_t supervisor, absl::string_view exec_pid, absl::string_view proc_cgroup) {
  pid_t main_process;
  if (!absl::SimpleAtoi(exec_pid, &main_process) || main_process != supervisor) return false;
  // More lines than this one are v1 hierarchies.
  absl::string_view path = absl::StripSuffix(proc_cgroup, "\n");
  return absl::ConsumePrefix(&path, "0::") && !absl::StrContains(path, "\n") &&
         absl::EndsWith(path, ".service");
}

absl::Status LeaveServiceGroup() {
  const char* exec_pid = getenv("SYSTEMD_EXEC_PID");
  if (exec_pid == nullptr) return absl::OkStatus();
  GANTRY_ASSIGN_OR_RETURN(const std::string own, ReadFile("/proc/self/cgroup", 1 << 16));
  if (!InServiceOf(getppid(), exec_pid, own)) return absl::OkStatus();
  const std::string group = absl::StrCat(kUnifiedTree, kShimGroup);
  if (mkdir(group.c_str(), 0755) != 0 && errno != EEXIST) {
    return ErrnoToStatus(errno, absl::StrCat("make cgroup ", group));
  }
  const UniqueFd procs(open(absl::StrCat(group, "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  if (!procs.valid() || write(procs.get(), "0", 1) != 1) {
    return ErrnoToStatus(errno, absl::StrCat("move into cgroup ", group));
  }
  return absl::OkStatus();
}

}  // namespace gantry::shim
