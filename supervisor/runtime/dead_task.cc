#include "supervisor/runtime/dead_task.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"

#include "base/cgroup_parents.h"
#include "base/clock.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/subprocess.h"
#include "base/unique_fd.h"
#include "shim/exit_record.h"
#include "shim/runtime_guard.h"
#include "supervisor/runtime/runtime_probe.h"

namespace gantry::runtime {
namespace {

constexpr uint32_t kKilledStatus = 128 + SIGKILL;
constexpr size_t kMaxProcsBytes = 4 << 20;

// A container's cgroup in one hierarchy.
struct Cgroup {
  std::string directory;
  std::string path;  // within the hierarchy, as /proc/<pid>/cgroup shows it
};

bool IsDirectory(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::vector<std::string> Subdirectories(const std::string& path) {
  std::vector<std::string> names;
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) return names;
  while (const dirent* entry = readdir(directory)) {
    const absl::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
  }
  closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

// "a-b.slice" lies in "/a.slice/a-b.slice".
std::string ExpandSlice(absl::string_view slice) {
  const absl::string_view name = absl::StripSuffix(slice, ".slice");
  if (name == "-" || name.empty()) return "";
  std::string path;
  std::string prefix;
  for (const absl::string_view part : absl::StrSplit(name, '-')) {
    if (!prefix.empty()) prefix += "-";
    absl::StrAppend(&prefix, part);
    absl::StrAppend(&path, "/", prefix, ".slice");
  }
  return path;
}

// Where runtimes put a container's cgroup, from the root of a hierarchy. "" when that would be the
// root itself or lie outside.
std::string PathInHierarchy(absl::string_view cgroups_path, absl::string_view container_id) {
  std::string path;
  const std::vector<std::string> parts = absl::StrSplit(cgroups_path, ':');
  if (parts.size() == 3 && !absl::StartsWith(cgroups_path, "/")) {
    const std::string slice = parts[0].empty() ? "system.slice" : parts[0];
    const std::string unit = absl::EndsWith(parts[2], ".slice") ? parts[2]
                             : parts[1].empty()                 ? parts[2] + ".scope"
                                                : parts[1] + "-" + parts[2] + ".scope";
    path = absl::StrCat(ExpandSlice(slice), "/", unit);
  } else {
    path = cgroups_path.empty() ? absl::StrCat("/", container_id) : std::string(cgroups_path);
  }
  std::string clean;
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (part == "." || part == "..") return "";
    absl::StrAppend(&clean, "/", part);
  }
  return clean;
}

// The supervisor's own path in each hierarchy; a relative cgroupsPath begins there for some
// runtimes.
std::set<std::string> OwnPaths() {
  std::set<std::string> paths = {""};
  const absl::StatusOr<std::string> text = ReadFile("/proc/self/cgroup", 1 << 16);
  if (!text.ok()) return paths;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() == 3 && fields[2] != "/") paths.emplace(fields[2]);
  }
  return paths;
}

void FindInHierarchy(const std::string& hierarchy, absl::string_view cgroups_path,
                     absl::string_view container_id, std::vector<Cgroup>& found) {
  const std::string path = PathInHierarchy(cgroups_path, container_id);
  if (path.empty()) return;
  const bool absolute = absl::StartsWith(cgroups_path, "/");
  for (const std::string& own : absolute ? std::set<std::string>{""} : OwnPaths()) {
    const std::string directory = absl::StrCat(hierarchy, own, path);
    if (IsDirectory(directory)) found.push_back(Cgroup{directory, absl::StrCat(own, path)});
  }
}

std::vector<Cgroup> FindAll(absl::string_view cgroups_path, absl::string_view container_id,
                            const std::string& root) {
  std::vector<Cgroup> found;
  if (access((root + "/cgroup.controllers").c_str(), F_OK) == 0) {
    FindInHierarchy(root, cgroups_path, container_id, found);
    return found;
  }
  for (const std::string& name : Subdirectories(root)) {
    FindInHierarchy(absl::StrCat(root, "/", name), cgroups_path, container_id, found);
  }
  return found;
}

void CollectProcesses(const std::string& directory, std::set<pid_t>& pids) {
  const absl::StatusOr<std::string> text = ReadFile(directory + "/cgroup.procs", kMaxProcsBytes);
  if (text.ok()) {
    for (const absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
      pid_t pid = 0;
      if (absl::SimpleAtoi(line, &pid) && pid > 1) pids.insert(pid);
    }
  }
  for (const std::string& name : Subdirectories(directory)) {
    CollectProcesses(absl::StrCat(directory, "/", name), pids);
  }
}

bool IsMember(pid_t pid, const std::vector<Cgroup>& cgroups) {
  const absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat("/proc/", pid, "/cgroup"), 1 << 16);
  if (!text.ok()) return false;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    for (const Cgroup& cgroup : cgroups) {
      absl::string_view path = fields[2];
      if (absl::ConsumePrefix(&path, cgroup.path) && (path.empty() || path[0] == '/')) return true;
    }
  }
  return false;
}

void WriteControl(const std::string& path, absl::string_view value) {
  if (access(path.c_str(), W_OK) == 0) (void)WriteFile(path, value);
}

std::string Describe(pid_t pid) {
  const absl::StatusOr<std::string> stat = ReadFile(absl::StrCat("/proc/", pid, "/stat"), 4096);
  if (!stat.ok()) return absl::StrCat(pid);
  const size_t open = stat->find('(');
  const size_t close = stat->rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 2 >= stat->size()) {
    return absl::StrCat(pid);
  }
  return absl::StrCat(pid, " ", stat->substr(open, close + 1 - open), " in state ",
                      stat->substr(close + 2, 1));
}

// Kills until the cgroups are empty. Frozen first where that can be done, so that nothing forks
// away meanwhile.
absl::Status KillAll(const std::vector<Cgroup>& cgroups, absl::Duration deadline) {
  const Clock& clock = Clock::Real();
  while (true) {
    for (const Cgroup& cgroup : cgroups) {
      WriteControl(cgroup.directory + "/cgroup.kill", "1");
      WriteControl(cgroup.directory + "/freezer.state", "FROZEN");
    }
    const absl::Cleanup thaw = [&] {
      for (const Cgroup& cgroup : cgroups) {
        WriteControl(cgroup.directory + "/freezer.state", "THAWED");
        WriteControl(cgroup.directory + "/cgroup.freeze", "0");
      }
    };
    std::set<pid_t> pids;
    for (const Cgroup& cgroup : cgroups) CollectProcesses(cgroup.directory, pids);
    pids.erase(getpid());
    if (pids.empty()) return absl::OkStatus();

    std::vector<UniqueFd> pidfds;
    std::vector<pollfd> waits;
    for (const pid_t pid : pids) {
      UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
      // Looked up after the descriptor was opened: the process with this number now is the one
      // that it refers to, or that one is dead.
      if (!pidfd.valid() || !IsMember(pid, cgroups)) continue;
      (void)syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
      waits.push_back(pollfd{pidfd.get(), POLLIN, 0});
      pidfds.push_back(std::move(pidfd));
    }
    // A signal reaches a v1-frozen process when it is thawed.
    for (const Cgroup& cgroup : cgroups) {
      WriteControl(cgroup.directory + "/freezer.state", "THAWED");
      WriteControl(cgroup.directory + "/cgroup.freeze", "0");
    }
    while (!waits.empty()) {
      const absl::Duration left = deadline - clock.Monotonic();
      if (left <= absl::ZeroDuration()) {
        std::vector<std::string> names;
        for (const pid_t pid : pids) {
          if (names.size() < 8 && IsMember(pid, cgroups)) names.push_back(Describe(pid));
        }
        return absl::FailedPreconditionError(
            absl::StrCat("processes survive SIGKILL: ", absl::StrJoin(names, ", ")));
      }
      poll(waits.data(), waits.size(), static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
      waits.erase(std::remove_if(waits.begin(), waits.end(),
                                 [](const pollfd& wait) { return wait.revents != 0; }),
                  waits.end());
    }
    if (clock.Monotonic() >= deadline) {
      return absl::FailedPreconditionError("new processes appear as fast as they are killed");
    }
  }
}

bool IsFile(const std::string& path, const struct stat& file) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && info.st_dev == file.st_dev && info.st_ino == file.st_ino;
}

// Ends what the dead shim's runtime is still doing: it would make processes and cgroups after these
// were looked for.
absl::Status EndRuntime(const Bundle& bundle, absl::Duration deadline) {
  const UniqueFd guard(open(absl::StrCat(bundle.path(), shim::kRuntimeGuardFile).c_str(),
                            O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat file;
  if (!guard.valid() || fstat(guard.get(), &file) != 0) return absl::OkStatus();  // none ever ran
  while (flock(guard.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return ErrnoToStatus(errno, absl::StrCat("lock ", bundle.path(), shim::kRuntimeGuardFile));
    std::vector<std::string> names;
    for (const std::string& name : Subdirectories("/proc")) {
      pid_t pid = 0;
      if (!absl::SimpleAtoi(name, &pid) || pid <= 1 || pid == getpid()) continue;
      const std::string held = absl::StrCat("/proc/", pid, "/fd/", shim::kRuntimeGuardFd);
      if (!IsFile(held, file)) continue;
      const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
      // Looked up again: the process with this number now is the one that the descriptor
      // refers to, or that one is dead.
      if (!pidfd.valid() || !IsFile(held, file)) continue;
      if (names.size() < 8) names.push_back(Describe(pid));
      (void)syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
    }
    if (Clock::Real().Monotonic() >= deadline) {
      return absl::FailedPreconditionError(
          absl::StrCat("the runtime that the dead shim had started does not end: ",
                       names.empty() ? "held by an unknown process" : absl::StrJoin(names, ", ")));
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  return absl::OkStatus();
}

absl::Status RemoveCgroup(const std::string& directory, absl::Duration deadline) {
  for (const std::string& name : Subdirectories(directory)) {
    GANTRY_RETURN_IF_ERROR(RemoveCgroup(absl::StrCat(directory, "/", name), deadline));
  }
  while (rmdir(directory.c_str()) != 0) {
    if (errno == ENOENT) break;
    // A process that has just died holds its cgroup until the kernel has let go of it.
    if (errno != EBUSY || Clock::Real().Monotonic() >= deadline) {
      return ErrnoToStatus(errno, absl::StrCat("remove cgroup ", directory));
    }
    absl::SleepFor(absl::Milliseconds(2));
  }
  return absl::OkStatus();
}

absl::Status DeleteFromRuntime(const Bundle& bundle, absl::Duration timeout) {
  const shim::v1::Runtime& runtime = bundle.launch().create.runtime();
  if (runtime.path().empty() || runtime.state_root().empty()) return absl::OkStatus();
  const std::string id = bundle.key().container_id;
  const std::string state = absl::StrCat(runtime.state_root(), "/", id);
  if (!IsDirectory(state)) return absl::OkStatus();

  Command command;
  command.argv = {runtime.path(), "--root", runtime.state_root()};
  if (runtime.systemd_cgroup()) command.argv.push_back("--systemd-cgroup");
  command.argv.insert(command.argv.end(), {"delete", "--force", id});
  command.cwd = bundle.path();
  command.timeout = timeout;
  const absl::StatusOr<CommandResult> result = RunCommand(command);
  // Whatever it said: its processes are dead and its cgroups are ours to remove, so what it keeps
  // on disk is litter.
  const absl::Status removed = RemoveTree(state);
  if (absl::IsDeadlineExceeded(result.status())) {
    return absl::UnavailableError(absl::StrCat(
        "runtime ", runtime.name(), " delete: no answer within ", absl::FormatDuration(timeout)));
  }
  return removed;
}

}  // namespace

absl::StatusOr<TaskExit> ReadTaskExit(const Bundle& bundle) {
  GANTRY_ASSIGN_OR_RETURN(const shim::ExitRecord record, shim::ReadExitRecord(bundle.path()));
  TaskExit exit;
  exit.pid = record.pid;
  exit.exit_status = record.exit_status;
  exit.exited_at = record.exited_at;
  exit.oom_killed = record.oom_killed;
  exit.synthesised = !record.reason.empty();
  exit.reason = record.reason;
  return exit;
}

pid_t ReadInitPid(const Bundle& bundle) {
  const std::string directory =
      absl::StrCat(bundle.launch().create.runtime().state_root(), "/", bundle.key().container_id);
  // crun and runc keep it under different names.
  for (const auto& [file, field] :
       {std::pair{"/status", "pid"}, std::pair{"/state.json", "init_process_pid"}}) {
    const absl::StatusOr<std::string> text = ReadFile(directory + file, 4 << 20);
    if (!text.ok()) continue;
    const nlohmann::json state = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (!state.is_object()) continue;
    const auto pid = state.find(field);
    if (pid != state.end() && pid->is_number_integer()) return pid->get<pid_t>();
  }
  return 0;
}

std::vector<std::string> FindCgroups(absl::string_view cgroups_path, absl::string_view container_id,
                                     const std::string& cgroup_root) {
  std::vector<std::string> directories;
  for (Cgroup& cgroup : FindAll(cgroups_path, container_id, cgroup_root)) {
    directories.push_back(std::move(cgroup.directory));
  }
  return directories;
}

absl::StatusOr<TaskExit> ReapDeadTask(const Bundle& bundle, absl::string_view reason,
                                      absl::Duration timeout) {
  const absl::Duration deadline = Clock::Real().Monotonic() + timeout;
  const LaunchRecord& launch = bundle.launch();
  const std::string& id = bundle.key().container_id;

  absl::Status first = EndRuntime(bundle, deadline);
  // Controllers that only the shim had mounted. Held to the end, because crun needs them out of the
  // v2 tree.
  std::vector<UniqueFd> detached;
  std::vector<Cgroup> cgroups = FindAll(launch.cgroup_path, id, "/sys/fs/cgroup");
  for (const std::string& controller : launch.create.runtime().mount_v1_controllers()) {
    absl::StatusOr<UniqueFd> mount = MountDetachedController(controller);
    if (!mount.ok()) continue;
    FindInHierarchy(absl::StrCat("/proc/self/fd/", mount->get()), launch.cgroup_path, id, cgroups);
    detached.push_back(*std::move(mount));
  }

  const pid_t init_pid = ReadInitPid(bundle);  // before the runtime forgets it
  first.Update(KillAll(cgroups, deadline));
  first.Update(DeleteFromRuntime(
      bundle, std::max(deadline - Clock::Real().Monotonic(), absl::Duration(absl::Seconds(1)))));
  for (const Cgroup& cgroup : cgroups) {
    first.Update(RemoveCgroup(cgroup.directory, deadline));
    RemoveCgroupParents(cgroup.directory);
  }

  absl::StatusOr<TaskExit> exit = ReadTaskExit(bundle);
  if (!exit.ok()) {
    // A damaged record is as good as none: what counts is that every caller gets the same answer
    // from now on.
    shim::ExitRecord record;
    record.name_space = bundle.key().ns;
    record.id = id;
    record.pid = init_pid;
    record.exit_status = kKilledStatus;
    record.exited_at = absl::Now();
    record.reason = std::string(reason);
    // Best effort: the bundle may be gone, or its file system full, and neither may hold up the
    // removal.
    (void)shim::WriteExitRecord(bundle.path(), record);
    exit = TaskExit{record.pid, record.exit_status, record.exited_at, false, true, record.reason};
  }
  if (!first.ok()) return WithContext(first, absl::StrCat("task ", bundle.key().ToString()));
  return exit;
}

}  // namespace gantry::runtime
