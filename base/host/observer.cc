#include "base/host/observer.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

#include "base/file.h"
#include "base/host/forward_policy.h"
#include "base/unique_fd.h"

namespace gantry::host {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr int64_t kCgroupV1Type = 0x01021994;  // a tmpfs with a directory for each controller
constexpr int64_t kCgroupV2Type = 0x63677270;

// A tree of files in place of the host's.
class Tree {
 public:
  explicit Tree(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string At(absl::string_view path) const { return absl::StrCat(prefix_, path); }
  bool Has(absl::string_view path) const { return access(At(path).c_str(), F_OK) == 0; }
  std::optional<std::string> Text(absl::string_view path) const {
    absl::StatusOr<std::string> text = ReadFile(At(path), kMaxFileBytes);
    if (!text.ok()) return std::nullopt;
    return *std::move(text);
  }
  void Number(absl::string_view path, int64_t* value) const {
    const std::optional<std::string> text = Text(path);
    int64_t number;
    if (text.has_value() && absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &number))
      *value = number;
  }

 private:
  const std::string prefix_;
};

// The number behind "NAME:" in a file such as /proc/meminfo.
std::optional<uint64_t> Field(absl::string_view text, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::StartsWith(line, name)) continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t:"), absl::SkipEmpty());
    uint64_t number;
    if (words.size() >= 2 && words[0] == name && absl::SimpleAtoi(words[1], &number)) return number;
  }
  return std::nullopt;
}

void LookAtKernel(const Tree& tree, Observation& seen) {
  struct utsname name;
  if (uname(&name) == 0) seen.kernel = name.release;
  for (const char* kind : {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}) {
    if (!tree.Has(absl::StrCat("/proc/self/ns/", kind))) seen.missing_namespaces.push_back(kind);
  }
  const std::string modules = absl::StrCat("/lib/modules/", seen.kernel, "/kernel");
  if (const auto types = tree.Text("/proc/filesystems"); types.has_value())
    seen.overlay = absl::StrContains(*types, "\toverlay") || tree.Has(modules + "/fs/overlayfs");
  if (tree.Has("/proc/sys/kernel")) seen.seccomp = tree.Has("/proc/sys/kernel/seccomp");
  tree.Number("/proc/sys/user/max_user_namespaces", &seen.max_user_namespaces);
  tree.Number("/proc/sys/user/max_net_namespaces", &seen.max_network_namespaces);
  tree.Number("/proc/sys/kernel/pid_max", &seen.pid_max);
  tree.Number("/proc/sys/kernel/threads-max", &seen.threads_max);
  tree.Number("/proc/sys/fs/inotify/max_user_instances", &seen.inotify_instances_max);
  if (const auto load = tree.Text("/proc/loadavg"); load.has_value()) {
    const std::vector<absl::string_view> words = absl::StrSplit(*load, absl::ByAnyChar(" /"));
    int64_t threads;
    if (words.size() > 4 && absl::SimpleAtoi(words[4], &threads)) seen.processes = threads;
  }
  if (const auto files = tree.Text("/proc/sys/fs/file-nr"); files.has_value()) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(*files, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
    if (words.size() == 3) {
      (void)absl::SimpleAtoi(words[0], &seen.open_files);
      // The kernel's "no limit" does not fit a signed number.
      if (!absl::SimpleAtoi(words[2], &seen.open_files_max)) seen.open_files_max = 0;
    }
  }
  if (const auto keys = tree.Text("/proc/key-users"); keys.has_value()) {
    // "    0:    10 9/9 8/1000000 100/25000000": user, uses, keys, quota of keys and bytes.
    for (absl::string_view line : absl::StrSplit(*keys, '\n')) {
      const std::vector<absl::string_view> words =
          absl::StrSplit(line, ' ', absl::SkipWhitespace());
      if (words.size() < 4 || words[0] != "0:") continue;
      const std::pair<absl::string_view, absl::string_view> quota = absl::StrSplit(words[3], '/');
      (void)absl::SimpleAtoi(quota.first, &seen.key_count);
      (void)absl::SimpleAtoi(quota.second, &seen.key_max);
    }
  }
  seen.connections_max = 0;
  tree.Number("/proc/sys/net/netfilter/nf_conntrack_max", &seen.connections_max);
  tree.Number("/proc/sys/net/netfilter/nf_conntrack_count", &seen.connections);
  if (const auto memory = tree.Text("/proc/meminfo"); memory.has_value()) {
    const std::optional<uint64_t> total = Field(*memory, "MemTotal");
    const std::optional<uint64_t> available = Field(*memory, "MemAvailable");
    if (total.has_value() && available.has_value()) {
      seen.memory_bytes = *total << 10;
      seen.memory_available_bytes = *available << 10;
    }
  }
  if (const auto apparmor = tree.Text("/sys/module/apparmor/parameters/enabled");
      apparmor.has_value() && absl::StartsWith(*apparmor, "Y")) {
    seen.apparmor = true;
    seen.apparmor_parser =
        tree.Has("/sbin/apparmor_parser") || tree.Has("/usr/sbin/apparmor_parser");
  }
  if (const auto selinux = tree.Text("/sys/fs/selinux/enforce"); selinux.has_value())
    seen.selinux_enforcing = absl::StartsWith(*selinux, "1");
}

void LookAtSelf(Observation& seen) {
  seen.root = geteuid() == 0;
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
    seen.open_files_limit = limit.rlim_cur == RLIM_INFINITY ? std::numeric_limits<int64_t>::max()
                                                            : static_cast<int64_t>(limit.rlim_cur);
  const absl::StatusOr<std::string> status = ReadFile("/proc/self/status", kMaxFileBytes);
  if (!status.ok()) return;
  static constexpr std::pair<int, const char*> kNeeded[] = {{21, "CAP_SYS_ADMIN"},
                                                            {12, "CAP_NET_ADMIN"},
                                                            {24, "CAP_SYS_RESOURCE"},
                                                            {27, "CAP_MKNOD"},
                                                            {19, "CAP_SYS_PTRACE"}};
  for (absl::string_view line : absl::StrSplit(*status, '\n')) {
    uint64_t set;
    if (!absl::StartsWith(line, "CapEff:") ||
        !absl::SimpleHexAtoi(absl::StripAsciiWhitespace(line.substr(7)), &set))
      continue;
    for (const auto& [bit, name] : kNeeded) {
      if (seen.root && (set >> bit & 1) == 0) seen.missing_capabilities.push_back(name);
    }
  }
}

void LookAtCgroups(const Tree& tree, Observation& seen) {
  struct statfs info;
  const std::string mount = tree.At("/sys/fs/cgroup");
  std::set<std::string> have;
  if (statfs(mount.c_str(), &info) != 0) {
    seen.cgroups = Observation::Cgroups::kNone;
    return;
  }
  seen.cgroup_writable = (info.f_flags & ST_RDONLY) == 0;
  if (info.f_type == kCgroupV2Type || tree.Has("/sys/fs/cgroup/cgroup.controllers")) {
    seen.cgroups = Observation::Cgroups::kV2;
    const auto controllers = tree.Text("/sys/fs/cgroup/cgroup.controllers");
    for (absl::string_view name :
         absl::StrSplit(controllers.value_or(""), absl::ByAnyChar(" \n"), absl::SkipEmpty()))
      have.insert(std::string(name));
  } else if (info.f_type == kCgroupV1Type || tree.Has("/sys/fs/cgroup/memory")) {
    seen.cgroups = tree.Has("/sys/fs/cgroup/unified/cgroup.procs") ? Observation::Cgroups::kHybrid
                                                                   : Observation::Cgroups::kV1;
    // A tmpfs that is mounted read-only holds controllers that are not.
    seen.cgroup_writable = statfs(tree.At("/sys/fs/cgroup/pids").c_str(), &info) != 0 ||
                           (info.f_flags & ST_RDONLY) == 0;
    for (const char* name : {"cpu", "cpuset", "memory", "pids"}) {
      if (tree.Has(absl::StrCat("/sys/fs/cgroup/", name))) have.insert(name);
    }
    if (tree.Has("/sys/fs/cgroup/blkio")) have.insert("io");
  } else {
    seen.cgroups = Observation::Cgroups::kNone;
    return;
  }
  for (const char* name : {"cpu", "cpuset", "io", "memory", "pids"}) {
    if (!have.contains(name)) seen.missing_controllers.push_back(name);
  }
  seen.systemd = tree.Has("/run/systemd/system");
}

void LookAtNetwork(const Tree& tree, Observation& seen) {
  const auto flag = [&tree](absl::string_view path, bool* value) {
    int64_t number = *value ? 1 : 0;
    tree.Number(path, &number);
    *value = number != 0;
  };
  flag("/proc/sys/net/ipv4/ip_forward", &seen.forwarding);
  flag("/proc/sys/net/ipv6/conf/all/forwarding", &seen.forwarding6);
  if (const auto routes = tree.Text("/proc/net/route"); routes.has_value()) {
    seen.has_default_route = false;
    for (absl::string_view line : absl::StrSplit(*routes, '\n')) {
      const std::vector<absl::string_view> words = absl::StrSplit(line, '\t');
      if (words.size() > 7 && words[1] == "00000000" && words[7] == "00000000")
        seen.has_default_route = true;
    }
  }
  bool nf_tables = false;
  seen.forward_dropped = !DroppingForwardChains(&nf_tables).empty();
  // A host without a single chain answers as well; the module is loaded by the question.
  if (geteuid() == 0) seen.nf_tables = nf_tables;
  seen.firewalld = tree.Has("/run/firewalld");
  if (const auto ufw = tree.Text("/etc/ufw/ufw.conf"); ufw.has_value())
    seen.ufw = absl::StrContains(absl::AsciiStrToLower(*ufw), "\nenabled=yes");
  const auto resolv = tree.Text("/etc/resolv.conf");
  seen.resolv_conf_readable = resolv.has_value();
  seen.name_servers.clear();
  for (absl::string_view line : absl::StrSplit(resolv.value_or(""), '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipWhitespace());
    if (words.size() > 1 && words[0] == "nameserver") seen.name_servers.emplace_back(words[1]);
  }
  if (const auto hosts = tree.Text("/etc/hosts"); hosts.has_value())
    seen.localhost_in_hosts = absl::StrContains(*hosts, "localhost");
}

// The mount that holds `path`, as /proc/self/mountinfo describes it.
void LookAtMount(const Tree& tree, Space& space) {
  const auto mounts = tree.Text("/proc/self/mountinfo");
  if (!mounts.has_value()) return;
  size_t best = 0;
  for (absl::string_view line : absl::StrSplit(*mounts, '\n')) {
    const std::pair<absl::string_view, absl::string_view> halves =
        absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    const std::vector<absl::string_view> left = absl::StrSplit(halves.first, ' ');
    const std::vector<absl::string_view> right = absl::StrSplit(halves.second, ' ');
    if (left.size() < 6 || right.empty()) continue;
    const absl::string_view at = left[4];
    const bool holds =
        at == "/" || space.path == at || absl::StartsWith(space.path, absl::StrCat(at, "/"));
    if (!holds || at.size() < best) continue;
    best = at.size();
    space.type = std::string(right[0]);
    const std::set<absl::string_view> options = absl::StrSplit(left[5], ',');
    space.read_only = options.contains("ro");
    space.noexec = options.contains("noexec");
    space.nosuid = options.contains("nosuid");
    space.nodev = options.contains("nodev");
    // The options of the file system stand last: "ext4 /dev/vda1 rw,prjquota".
    const std::set<absl::string_view> of_file_system =
        absl::StrSplit(right.size() > 2 ? right[2] : "", ',');
    space.project_quotas = of_file_system.contains("prjquota") || of_file_system.contains("pquota");
  }
}

std::optional<Space> LookAtSpace(const Tree& tree, std::string path) {
  struct statvfs info;
  while (statvfs(path.c_str(), &info) != 0) {
    // Not made yet: what is above it will hold it.
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos || path == "/") return std::nullopt;
    path.resize(std::max<size_t>(slash, 1));
  }
  Space space;
  space.path = path;
  space.total_bytes = info.f_blocks * info.f_frsize;
  space.free_bytes = info.f_bavail * info.f_frsize;
  space.total_inodes = info.f_files;
  space.free_inodes = info.f_favail;
  LookAtMount(tree, space);
  return space;
}

// Whether this process has the socket that is bound to `path`: Gantry's own door is at docker's
// place where its package, or the configuration, puts it there.
bool IsOwnSocket(const Tree& tree, absl::string_view path) {
  constexpr size_t kMostBytes = 64 << 20;  // a line for each socket of the host
  const absl::StatusOr<std::string> table = ReadFile(tree.At("/proc/net/unix"), kMostBytes);
  if (!table.ok()) return false;
  std::set<std::string> own;
  for (const std::string& fd :
       ListDirectory("/proc/self/fd").value_or(std::vector<std::string>())) {
    char target[64];
    const ssize_t size =
        readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), target, sizeof target);
    if (size > 0) own.emplace(target, static_cast<size_t>(size));
  }
  for (const absl::string_view line : absl::StrSplit(*table, '\n')) {
    // "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/docker.sock"
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() == 8 && (words[7] == path || words[7] == absl::StrCat("/var", path)) &&
        own.contains(absl::StrCat("socket:[", words[6], "]")))
      return true;
  }
  return false;
}

void LookAtEngines(const Tree& tree, const Places& places, Observation& seen) {
  static constexpr std::pair<const char*, const char*> kSockets[] = {
      {"docker", "/run/docker.sock"},
      {"containerd", "/run/containerd/containerd.sock"},
      {"podman", "/run/podman/podman.sock"},
      {"CRI-O", "/run/crio/crio.sock"}};
  for (const auto& [name, socket] : kSockets) {
    if (tree.Has(socket) && !absl::StartsWith(socket, places.state_directory + "/") &&
        !IsOwnSocket(tree, socket))
      seen.other_engines.push_back(absl::StrCat(name, " (", socket, ")"));
  }
}

}  // namespace

Observation Observe(const Places& places) {
  const Tree tree(places.tree);
  Observation seen;
  seen.runtimes.clear();
  seen.socket = places.socket;
  LookAtKernel(tree, seen);
  LookAtSelf(seen);
  LookAtCgroups(tree, seen);
  LookAtNetwork(tree, seen);
  LookAtEngines(tree, places, seen);
  seen.unix_seconds = time(nullptr);
  struct timex clock = {};
  // TIME_ERROR also says that the clock was never set; a container's host keeps it for us.
  seen.clock_synchronised = adjtimex(&clock) != TIME_ERROR;
  for (const std::string& path : {places.root_directory, places.state_directory}) {
    if (path.empty()) continue;
    std::optional<Space> space = LookAtSpace(tree, path);
    if (space.has_value()) seen.spaces.push_back(*std::move(space));
  }
  if (!places.root_directory.empty() && !seen.spaces.empty())
    seen.project_quotas = seen.spaces[0].project_quotas;
  if (!places.state_directory.empty() && seen.spaces.size() == 2)
    seen.state_survives_reboot = seen.spaces[1].type != "tmpfs";
  struct stat info;
  if (!places.root_directory.empty() &&
      stat((places.root_directory + "/lock").c_str(), &info) == 0) {
    constexpr int64_t kSlackSeconds = 300;
    seen.newest_record_is_later = info.st_mtim.tv_sec > seen.unix_seconds + kSlackSeconds;
  }
  if (stat(places.socket.c_str(), &info) == 0)
    seen.socket_open_to_all = (info.st_mode & 0006) == 0006;
  return seen;
}

void ObserveSilentDaemon(const Places& places, const std::string& error, Observation& seen) {
  seen.daemon_answers = false;
  seen.daemon_error = error;
  seen.socket_exists = access(places.socket.c_str(), F_OK) == 0;
  seen.socket_permitted = !seen.socket_exists || access(places.socket.c_str(), R_OK | W_OK) == 0;
  const UniqueFd lock(open((places.root_directory + "/lock").c_str(), O_RDONLY | O_CLOEXEC));
  if (!lock.valid()) {
    // Without the file there never was a daemon; one that may not be read may run.
    seen.daemon_runs = errno == EACCES;
    return;
  }
  // Looked up in the kernel's list of locks: a daemon that starts just then would give up if the
  // lock were taken for the question.
  struct stat info;
  const absl::StatusOr<std::string> locks = ReadFile("/proc/locks", kMaxFileBytes);
  seen.daemon_runs = false;
  if (!locks.ok() || fstat(lock.get(), &info) != 0) return;
  const std::string inode = absl::StrCat(":", info.st_ino, " ");
  for (absl::string_view line : absl::StrSplit(*locks, '\n')) {
    if (absl::StrContains(line, " FLOCK ") && absl::StrContains(line, inode))
      seen.daemon_runs = true;
  }
}

}  // namespace gantry::host
