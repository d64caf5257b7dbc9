#include "shim/cgroup.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "base/cgroup_parents.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "shim/proto_time.h"

namespace gantry::shim {
namespace {

constexpr size_t kMaxFileBytes = 4 << 20;
constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
// v1 writes "no limit" as the largest multiple of the page size.
constexpr uint64_t kV1Unlimited = 0x7ffffffffffff000ull;
constexpr uint64_t kNanosPerMicro = 1000;

std::string ReadText(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, kMaxFileBytes);
  return text.ok() ? *std::move(text) : std::string();
}

std::optional<uint64_t> ReadNumber(const std::string& path) {
  const std::string text = ReadText(path);
  uint64_t value;
  if (absl::StripAsciiWhitespace(text) == "max") return kUnlimited;
  if (!absl::SimpleAtoi(text, &value)) return std::nullopt;
  return value;
}

uint64_t ReadLimitV1(const std::string& path) {
  const uint64_t value = ReadNumber(path).value_or(kUnlimited);
  return value >= kV1Unlimited ? kUnlimited : value;
}

// "key value" lines.
std::map<std::string, uint64_t> ReadCounters(const std::string& path) {
  std::map<std::string, uint64_t> counters;
  const std::string text = ReadText(path);
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> field = absl::StrSplit(line, ' ');
    uint64_t value;
    if (absl::SimpleAtoi(field.second, &value)) counters[std::string(field.first)] = value;
  }
  return counters;
}

uint64_t CounterOr0(const std::map<std::string, uint64_t>& counters, const std::string& name) {
  auto it = counters.find(name);
  return it == counters.end() ? 0 : it->second;
}

// Octal escapes of mountinfo.
std::string Unescape(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 |
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct CgroupMount {
  bool v2 = false;
  std::string root;  // the part of the hierarchy that is mounted
  std::string point;
  std::set<std::string> controllers;
};

std::vector<CgroupMount> ParseMounts(absl::string_view mountinfo) {
  std::vector<CgroupMount> mounts;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n', absl::SkipEmpty())) {
    const size_t separator = line.find(" - ");
    if (separator == absl::string_view::npos) continue;
    const std::vector<absl::string_view> front = absl::StrSplit(line.substr(0, separator), ' ');
    const std::vector<absl::string_view> back = absl::StrSplit(line.substr(separator + 3), ' ');
    if (front.size() < 6 || back.size() < 3) continue;
    if (back[0] != "cgroup" && back[0] != "cgroup2") continue;
    CgroupMount mount;
    mount.v2 = back[0] == "cgroup2";
    mount.root = Unescape(front[3]);
    mount.point = Unescape(front[4]);
    for (absl::string_view option : absl::StrSplit(back[2], ',')) {
      mount.controllers.insert(std::string(option));
    }
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

// Where `path` of a hierarchy is seen through `mount`; "" if it lies outside.
std::string DirectoryIn(const CgroupMount& mount, absl::string_view path) {
  absl::string_view inner = path;
  if (mount.root != "/") {
    if (!absl::ConsumePrefix(&inner, mount.root)) return "";
    if (!inner.empty() && inner[0] != '/') return "";
  }
  if (inner == "/" || inner.empty()) return mount.point;
  return absl::StrCat(mount.point, inner);
}

template <typename Visit>
void ForEachSubdirectory(const std::string& directory, Visit visit) {
  DIR* stream = opendir(directory.c_str());
  if (stream == nullptr) return;
  absl::Cleanup close_stream = [&] { closedir(stream); };
  while (const dirent* entry = readdir(stream)) {
    if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
    visit(absl::StrCat(directory, "/", entry->d_name));
  }
}

// A container may nest groups as it likes; deeper ones than this are left to the runtime.
constexpr int kMaxDepth = 32;

void CollectProcesses(const std::string& directory, int depth, std::vector<pid_t>& pids) {
  const std::string text = ReadText(absl::StrCat(directory, "/cgroup.procs"));
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    pid_t pid;
    if (absl::SimpleAtoi(line, &pid) && pid > 0) pids.push_back(pid);
  }
  if (depth >= kMaxDepth) return;
  ForEachSubdirectory(directory,
                      [&](const std::string& inner) { CollectProcesses(inner, depth + 1, pids); });
}

// rmdir is refused with EBUSY for a moment after the last process has gone.
absl::Status RemoveDirectory(const std::string& directory, absl::Time deadline) {
  for (;;) {
    if (rmdir(directory.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
    if (errno != EBUSY || absl::Now() > deadline) {
      return ErrnoToStatus(errno, absl::StrCat("remove cgroup ", directory));
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
}

absl::Status RemoveTreeOfGroups(const std::string& directory, int depth, absl::Time deadline) {
  // Nearly always there is nothing inside.
  if (rmdir(directory.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  if (depth < kMaxDepth) {
    absl::Status status;
    ForEachSubdirectory(directory, [&](const std::string& inner) {
      status.Update(RemoveTreeOfGroups(inner, depth + 1, deadline));
    });
    GANTRY_RETURN_IF_ERROR(status);
  }
  return RemoveDirectory(directory, deadline);
}

void ReadBlockIoV2(const std::string& path, v1::StatsResponse& stats) {
  const std::string text = ReadText(path);
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    const std::pair<absl::string_view, absl::string_view> device = absl::StrSplit(words[0], ':');
    uint64_t major;
    uint64_t minor;
    if (!absl::SimpleAtoi(device.first, &major) || !absl::SimpleAtoi(device.second, &minor))
      continue;
    v1::StatsResponse::BlockIo* io = stats.add_block_io();
    io->set_major(major);
    io->set_minor(minor);
    for (size_t i = 1; i < words.size(); ++i) {
      const std::pair<absl::string_view, absl::string_view> field = absl::StrSplit(words[i], '=');
      uint64_t value;
      if (!absl::SimpleAtoi(field.second, &value)) continue;
      if (field.first == "rbytes") io->set_read_bytes(value);
      if (field.first == "wbytes") io->set_write_bytes(value);
      if (field.first == "rios") io->set_read_ops(value);
      if (field.first == "wios") io->set_write_ops(value);
    }
  }
}

// "8:0 Read 4096" lines; bytes and operations come from two files.
void ReadBlockIoV1(const std::string& directory, v1::StatsResponse& stats) {
  std::map<std::pair<uint64_t, uint64_t>, v1::StatsResponse::BlockIo> devices;
  const auto read_file = [&](absl::string_view name, bool bytes) {
    std::string text = ReadText(absl::StrCat(directory, "/", name, "_recursive"));
    if (text.empty()) text = ReadText(absl::StrCat(directory, "/", name));
    for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
      uint64_t major;
      uint64_t minor;
      uint64_t value;
      if (words.size() != 3 || !absl::SimpleAtoi(words[2], &value)) continue;
      const std::pair<absl::string_view, absl::string_view> device = absl::StrSplit(words[0], ':');
      if (!absl::SimpleAtoi(device.first, &major) || !absl::SimpleAtoi(device.second, &minor))
        continue;
      v1::StatsResponse::BlockIo& io = devices[{major, minor}];
      io.set_major(major);
      io.set_minor(minor);
      if (words[1] == "Read") bytes ? io.set_read_bytes(value) : io.set_read_ops(value);
      if (words[1] == "Write") bytes ? io.set_write_bytes(value) : io.set_write_ops(value);
    }
  };
  read_file("blkio.throttle.io_service_bytes", true);
  read_file("blkio.throttle.io_serviced", false);
  for (const auto& [device, io] : devices) *stats.add_block_io() = io;
}

void ReadHugetlb(const std::string& directory, bool v2, v1::StatsResponse& stats) {
  if (directory.empty()) return;
  DIR* sizes = opendir("/sys/kernel/mm/hugepages");
  if (sizes == nullptr) return;
  absl::Cleanup close_sizes = [&] { closedir(sizes); };
  while (const dirent* entry = readdir(sizes)) {
    absl::string_view name = entry->d_name;
    uint64_t kilobytes;
    if (!absl::ConsumePrefix(&name, "hugepages-") || !absl::ConsumeSuffix(&name, "kB") ||
        !absl::SimpleAtoi(name, &kilobytes)) {
      continue;
    }
    const std::string page_size = kilobytes >= 1 << 20   ? absl::StrCat(kilobytes >> 20, "GB")
                                  : kilobytes >= 1 << 10 ? absl::StrCat(kilobytes >> 10, "MB")
                                                         : absl::StrCat(kilobytes, "KB");
    const std::string prefix = absl::StrCat(directory, "/hugetlb.", page_size, ".");
    const std::optional<uint64_t> usage =
        ReadNumber(absl::StrCat(prefix, v2 ? "current" : "usage_in_bytes"));
    if (!usage.has_value()) continue;
    v1::StatsResponse::Hugetlb* hugetlb = stats.add_hugetlb();
    hugetlb->set_page_size(page_size);
    hugetlb->set_usage_bytes(*usage);
    if (v2) {
      hugetlb->set_max_bytes(ReadNumber(absl::StrCat(prefix, "max")).value_or(kUnlimited));
      hugetlb->set_failcnt(CounterOr0(ReadCounters(absl::StrCat(prefix, "events")), "max"));
    } else {
      hugetlb->set_max_bytes(ReadNumber(absl::StrCat(prefix, "max_usage_in_bytes")).value_or(0));
      hugetlb->set_failcnt(ReadNumber(absl::StrCat(prefix, "failcnt")).value_or(0));
    }
  }
}

}  // namespace

Cgroup Cgroup::Parse(absl::string_view proc_cgroup, absl::string_view mountinfo) {
  Cgroup cgroup;
  const std::vector<CgroupMount> mounts = ParseMounts(mountinfo);
  bool any_v1 = false;
  for (absl::string_view line : absl::StrSplit(proc_cgroup, '\n', absl::SkipEmpty())) {
    // "N:controllers:/path"; the path may contain colons.
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    // A zombie in a group that is being removed.
    absl::string_view path = absl::StripSuffix(fields[2], " (deleted)");
    if (fields[1].empty()) {
      for (const CgroupMount& mount : mounts) {
        if (!mount.v2) continue;
        const std::string directory = DirectoryIn(mount, path);
        if (directory.empty()) continue;
        cgroup.unified_ = {directory, std::string(path)};
        break;
      }
      continue;
    }
    for (absl::string_view controller : absl::StrSplit(fields[1], ',')) {
      for (const CgroupMount& mount : mounts) {
        if (mount.v2 || mount.controllers.count(std::string(controller)) == 0) continue;
        const std::string directory = DirectoryIn(mount, path);
        if (directory.empty()) continue;
        cgroup.controllers_[std::string(absl::StripPrefix(controller, "name="))] = {
            directory, std::string(path)};
        any_v1 = any_v1 || !absl::StartsWith(controller, "name=");
        break;
      }
    }
  }
  cgroup.v2_ = !any_v1 && !cgroup.unified_.directory.empty();
  return cgroup;
}

absl::StatusOr<Cgroup> Cgroup::Find(pid_t pid) {
  GANTRY_ASSIGN_OR_RETURN(const std::string proc_cgroup,
                          ReadFile(absl::StrCat("/proc/", pid, "/cgroup"), kMaxFileBytes));
  GANTRY_ASSIGN_OR_RETURN(const std::string mountinfo,
                          ReadFile("/proc/self/mountinfo", kMaxFileBytes));
  return Parse(proc_cgroup, mountinfo);
}

Cgroup Cgroup::AtPath(const std::string& path) {
  Cgroup cgroup;
  const absl::StatusOr<std::string> mountinfo = ReadFile("/proc/self/mountinfo", kMaxFileBytes);
  if (!mountinfo.ok() || path.size() < 2 || path[0] != '/' || absl::StrContains(path, "/..")) {
    return cgroup;
  }
  bool any_v1 = false;
  for (const CgroupMount& mount : ParseMounts(*mountinfo)) {
    any_v1 = any_v1 || !mount.v2;
    const Hierarchy hierarchy = {mount.point + path, path};
    if (access(hierarchy.directory.c_str(), F_OK) != 0) continue;
    if (mount.v2) {
      if (cgroup.unified_.directory.empty()) cgroup.unified_ = hierarchy;
      continue;
    }
    // The options also hold "rw" and the like: names no controller has.
    for (const std::string& option : mount.controllers) {
      cgroup.controllers_.emplace(absl::StripPrefix(option, "name="), hierarchy);
    }
  }
  cgroup.v2_ = !any_v1 && !cgroup.unified_.directory.empty();
  return cgroup;
}

std::string Cgroup::DirectoryOf(absl::string_view controller) const {
  if (v2_) return unified_.directory;
  auto it = controllers_.find(std::string(controller));
  return it == controllers_.end() ? "" : it->second.directory;
}

const Cgroup::Hierarchy* Cgroup::ProcessHierarchy() const {
  if (v2_) return unified_.path == "/" ? nullptr : &unified_;
  for (const char* name : {"pids", "memory", "devices", "freezer", "cpu", "cpuset", "blkio"}) {
    auto it = controllers_.find(name);
    if (it != controllers_.end() && it->second.path != "/") return &it->second;
  }
  return nullptr;
}

uint64_t Cgroup::ReadOomKills() const {
  const std::string directory = DirectoryOf("memory");
  if (directory.empty()) return 0;
  return CounterOr0(
      ReadCounters(absl::StrCat(directory, v2_ ? "/memory.events" : "/memory.oom_control")),
      "oom_kill");
}

bool Cgroup::Gone() const {
  const Hierarchy* hierarchy = ProcessHierarchy();
  return hierarchy != nullptr && access(hierarchy->directory.c_str(), F_OK) != 0;
}

std::vector<pid_t> Cgroup::Processes() const {
  std::vector<pid_t> pids;
  const Hierarchy* hierarchy = ProcessHierarchy();
  if (hierarchy == nullptr) return pids;
  CollectProcesses(hierarchy->directory, 0, pids);
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

std::optional<bool> Cgroup::Frozen() const {
  constexpr size_t kMaxText = 4096;
  const std::string directory = DirectoryOf("freezer");
  if (directory.empty()) return std::nullopt;
  const absl::StatusOr<std::string> text =
      ReadFile(absl::StrCat(directory, v2_ ? "/cgroup.events" : "/freezer.state"), kMaxText);
  if (!text.ok()) return std::nullopt;
  const absl::string_view frozen = v2_ ? "frozen 1\n" : "FROZEN\n";
  const absl::string_view thawed = v2_ ? "frozen 0\n" : "THAWED\n";
  if (absl::StrContains(*text, frozen)) return true;
  if (absl::StrContains(*text, thawed)) return false;
  return std::nullopt;
}

void Cgroup::Thaw() const {
  if (v2_) {
    [[maybe_unused]] const absl::Status ignored =
        WriteFile(absl::StrCat(unified_.directory, "/cgroup.freeze"), "0");
    return;
  }
  const std::string freezer = DirectoryOf("freezer");
  if (freezer.empty()) return;
  [[maybe_unused]] const absl::Status ignored =
      WriteFile(absl::StrCat(freezer, "/freezer.state"), "THAWED");
}

absl::Status Cgroup::KillAll() const {
  const Hierarchy* hierarchy = ProcessHierarchy();
  if (hierarchy == nullptr) return absl::OkStatus();
  if (v2_) {
    // Atomic where the kernel has it (5.14); the loop below then only waits.
    const std::string kill_file = absl::StrCat(unified_.directory, "/cgroup.kill");
    if (access(kill_file.c_str(), W_OK) == 0) {
      [[maybe_unused]] const absl::Status ignored = WriteFile(kill_file, "1");
    }
  }
  const pid_t self = getpid();
  const absl::Time deadline = absl::Now() + absl::Seconds(2);
  for (;;) {
    bool alive = false;
    for (const pid_t pid : Processes()) {
      if (pid == self) continue;
      if (kill(pid, SIGKILL) == 0) alive = true;
    }
    if (!alive) return absl::OkStatus();
    Thaw();
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("cgroup ", hierarchy->path, ": processes survive SIGKILL"));
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
}

void Cgroup::MakeParents(absl::string_view path) {
  const absl::StatusOr<std::string> mountinfo = ReadFile("/proc/self/mountinfo", kMaxFileBytes);
  if (!mountinfo.ok() || path.empty() || path[0] != '/' || absl::StrContains(path, "/..")) return;
  for (const CgroupMount& mount : ParseMounts(*mountinfo)) MakeCgroupParents(mount.point, path);
}

void Cgroup::RemoveParents(absl::string_view path) {
  const absl::StatusOr<std::string> mountinfo = ReadFile("/proc/self/mountinfo", kMaxFileBytes);
  if (!mountinfo.ok() || path.empty() || path[0] != '/' || absl::StrContains(path, "/..")) return;
  for (const CgroupMount& mount : ParseMounts(*mountinfo))
    RemoveCgroupParents(absl::StrCat(mount.point, path));
}

absl::Status Cgroup::Remove(absl::string_view path) const {
  std::set<std::string> directories;
  const auto add = [&](const Hierarchy& hierarchy) {
    if (hierarchy.directory.empty()) return true;
    if (hierarchy.path == "/") {
      // cgroup v1 shows a process that has ended at the root, whatever group it was in. The path is
      // the spec's own: what lies there in this hierarchy, if anything, is the container's.
      directories.insert(absl::StrCat(absl::StripSuffix(hierarchy.directory, "/"), path));
      return true;
    }
    if (hierarchy.path != path && !absl::EndsWith(hierarchy.path, path)) return false;
    directories.insert(hierarchy.directory);
    return true;
  };
  if (path.size() < 2 || path[0] != '/' || absl::StrContains(path, "/..")) {
    return absl::FailedPreconditionError("cgroup: not at a path of its own");
  }
  bool known = add(unified_);
  for (const auto& [name, hierarchy] : controllers_) known = add(hierarchy) && known;
  if (!known) {
    return absl::FailedPreconditionError(absl::StrCat("cgroup: not everywhere at ", path));
  }
  const absl::Time deadline = absl::Now() + absl::Milliseconds(200);
  absl::Status status;
  for (const std::string& directory : directories) {
    status.Update(RemoveTreeOfGroups(directory, 0, deadline));
  }
  return status;
}

v1::StatsResponse Cgroup::ReadStats() const {
  v1::StatsResponse stats;
  stats.set_cgroup_v2(v2_);
  SetTimestamp(absl::Now(), stats.mutable_read_at());
  stats.set_memory_limit_bytes(kUnlimited);
  stats.set_swap_limit_bytes(kUnlimited);
  stats.set_pids_limit(kUnlimited);

  const auto file = [&](absl::string_view controller, absl::string_view name) {
    return absl::StrCat(DirectoryOf(controller), "/", name);
  };
  const auto number = [&](absl::string_view controller, absl::string_view name) {
    return ReadNumber(file(controller, name)).value_or(0);
  };

  if (!DirectoryOf("pids").empty()) {
    stats.set_pids_current(number("pids", "pids.current"));
    stats.set_pids_limit(ReadNumber(file("pids", "pids.max")).value_or(kUnlimited));
  }
  if (!DirectoryOf("memory").empty()) {
    for (const auto& [name, value] : ReadCounters(file("memory", "memory.stat"))) {
      (*stats.mutable_memory_stat())[name] = value;
    }
  }
  stats.set_oom_kills(ReadOomKills());
  ReadHugetlb(DirectoryOf("hugetlb"), v2_, stats);

  if (v2_) {
    const std::map<std::string, uint64_t> cpu = ReadCounters(file("cpu", "cpu.stat"));
    stats.set_cpu_usage_nanos(CounterOr0(cpu, "usage_usec") * kNanosPerMicro);
    stats.set_cpu_user_nanos(CounterOr0(cpu, "user_usec") * kNanosPerMicro);
    stats.set_cpu_system_nanos(CounterOr0(cpu, "system_usec") * kNanosPerMicro);
    stats.set_cpu_periods(CounterOr0(cpu, "nr_periods"));
    stats.set_cpu_throttled_periods(CounterOr0(cpu, "nr_throttled"));
    stats.set_cpu_throttled_nanos(CounterOr0(cpu, "throttled_usec") * kNanosPerMicro);
    stats.set_memory_usage_bytes(number("memory", "memory.current"));
    stats.set_memory_max_usage_bytes(number("memory", "memory.peak"));
    stats.set_memory_limit_bytes(ReadNumber(file("memory", "memory.max")).value_or(kUnlimited));
    stats.set_swap_usage_bytes(number("memory", "memory.swap.current"));
    stats.set_swap_limit_bytes(ReadNumber(file("memory", "memory.swap.max")).value_or(kUnlimited));
    for (const auto& [name, value] : ReadCounters(file("memory", "memory.events"))) {
      (*stats.mutable_memory_events())[name] = value;
    }
    const auto max_events = stats.memory_events().find("max");
    if (max_events != stats.memory_events().end()) stats.set_memory_failcnt(max_events->second);
    ReadBlockIoV2(file("io", "io.stat"), stats);
    return stats;
  }

  if (!DirectoryOf("cpuacct").empty()) {
    stats.set_cpu_usage_nanos(number("cpuacct", "cpuacct.usage"));
    const std::map<std::string, uint64_t> split = ReadCounters(file("cpuacct", "cpuacct.stat"));
    const uint64_t nanos_per_tick = 1'000'000'000 / static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
    stats.set_cpu_user_nanos(CounterOr0(split, "user") * nanos_per_tick);
    stats.set_cpu_system_nanos(CounterOr0(split, "system") * nanos_per_tick);
    const std::string per_cpu = ReadText(file("cpuacct", "cpuacct.usage_percpu"));
    for (absl::string_view word :
         absl::StrSplit(per_cpu, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
      uint64_t value;
      if (absl::SimpleAtoi(word, &value)) stats.add_cpu_per_cpu_nanos(value);
    }
  }
  if (!DirectoryOf("cpu").empty()) {
    const std::map<std::string, uint64_t> cpu = ReadCounters(file("cpu", "cpu.stat"));
    stats.set_cpu_periods(CounterOr0(cpu, "nr_periods"));
    stats.set_cpu_throttled_periods(CounterOr0(cpu, "nr_throttled"));
    stats.set_cpu_throttled_nanos(CounterOr0(cpu, "throttled_time"));
  }
  if (!DirectoryOf("memory").empty()) {
    stats.set_memory_usage_bytes(number("memory", "memory.usage_in_bytes"));
    stats.set_memory_max_usage_bytes(number("memory", "memory.max_usage_in_bytes"));
    stats.set_memory_limit_bytes(ReadLimitV1(file("memory", "memory.limit_in_bytes")));
    stats.set_memory_failcnt(number("memory", "memory.failcnt"));
    // memsw counts memory and swap together.
    const std::optional<uint64_t> with_swap =
        ReadNumber(file("memory", "memory.memsw.usage_in_bytes"));
    if (with_swap.has_value()) {
      stats.set_swap_usage_bytes(*with_swap - std::min(*with_swap, stats.memory_usage_bytes()));
      const uint64_t limit = ReadLimitV1(file("memory", "memory.memsw.limit_in_bytes"));
      stats.set_swap_limit_bytes(
          limit == kUnlimited ? kUnlimited : limit - std::min(limit, stats.memory_limit_bytes()));
    }
  }
  if (!DirectoryOf("blkio").empty()) ReadBlockIoV1(DirectoryOf("blkio"), stats);
  return stats;
}

}  // namespace gantry::shim
