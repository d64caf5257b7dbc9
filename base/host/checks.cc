#include "base/host/checks.h"

#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace gantry::host {
namespace {

using Seen = std::optional<std::string>;  // no value: nothing is wrong

struct Check {
  const char* id;
  Severity severity;
  const char* title;
  const char* remedy;
  Seen (*seen)(const Observation& o);
};

constexpr uint64_t kLowBytes = uint64_t{1} << 30;
constexpr int64_t kYear2024 = 1704067200;

// The leading numbers of a version: {1, 2, 3} for "1.2.3-rc.1".
std::vector<int> Numbers(absl::string_view version) {
  std::vector<int> numbers;
  for (absl::string_view part : absl::StrSplit(version, '.')) {
    const size_t digits = std::min(part.find_first_not_of("0123456789"), part.size());
    int number;
    if (!absl::SimpleAtoi(part.substr(0, digits), &number)) break;
    numbers.push_back(number);
    if (digits < part.size()) break;
  }
  return numbers;
}

bool Before(absl::string_view version, std::vector<int> other) {
  const std::vector<int> numbers = Numbers(version);
  return !numbers.empty() && numbers < other;
}

// A distribution mends faults without the number changing, so its package says nothing.
bool IsPackaged(absl::string_view version) {
  return absl::StrContains(version, "+ds") || absl::StrContains(version, "ubuntu") ||
         absl::StrContains(version, "deb") || absl::StrContains(version, ".el") ||
         absl::StrContains(version, ".fc");
}

struct KnownFault {
  const char* runtime;
  std::vector<int> from, mended;  // versions, half open
  const char* fault;
};

const std::vector<KnownFault>& KnownFaults() {
  static const auto* const kFaults = new std::vector<KnownFault>{
      {"runc", {1, 0}, {1, 1, 12}, "a container can reach the host's files (CVE-2024-21626)"},
      {"runc", {1, 2}, {1, 2, 8}, "masked paths can be replaced (CVE-2025-31133)"},
      {"runc", {1, 3}, {1, 3, 3}, "masked paths can be replaced (CVE-2025-31133)"},
      {"runc", {1, 1, 12}, {1, 2}, "masked paths can be replaced (CVE-2025-31133)"},
      {"crun", {0, 1}, {1, 4, 4}, "inheritable capabilities are given away (CVE-2022-27650)"},
  };
  return *kFaults;
}

std::vector<std::string> FaultsOf(const SeenRuntime& runtime, bool packaged) {
  std::vector<std::string> faults;
  if (IsPackaged(runtime.version) != packaged) return faults;
  for (const KnownFault& known : KnownFaults()) {
    if (!absl::StrContains(runtime.name, known.runtime) &&
        !absl::StrContains(runtime.path, known.runtime))
      continue;
    if (Before(runtime.version, known.mended) && !Before(runtime.version, known.from))
      faults.push_back(absl::StrCat(runtime.name, " ", runtime.version, ": ", known.fault));
  }
  return faults;
}

Seen RuntimeFaults(const Observation& o, bool packaged) {
  std::vector<std::string> all;
  for (const SeenRuntime& runtime : o.runtimes) {
    for (std::string& fault : FaultsOf(runtime, packaged)) all.push_back(std::move(fault));
  }
  if (all.empty()) return std::nullopt;
  return absl::StrJoin(all, "; ");
}

Seen NonEmpty(const std::vector<std::string>& names) {
  if (names.empty()) return std::nullopt;
  constexpr size_t kShown = 8;
  const size_t shown = std::min(names.size(), kShown);
  std::string text =
      absl::StrJoin(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", ");
  if (names.size() > shown) absl::StrAppend(&text, " and ", names.size() - shown, " more");
  return text;
}

Seen If(bool wrong, std::string detail) {
  if (!wrong) return std::nullopt;
  return detail;
}

// More than nine tenths of a limit are in use.
Seen NearlyUsed(int64_t used, int64_t most, absl::string_view what) {
  if (most <= 0 || used < most - most / 10) return std::nullopt;
  return absl::StrCat(used, " of ", most, " ", what);
}

Seen LeftoversOf(const Observation& o, Leftover::Kind kind) {
  std::vector<std::string> names;
  for (const Leftover& leftover : o.leftovers) {
    if (leftover.kind == kind) names.push_back(leftover.name);
  }
  return NonEmpty(names);
}

Seen AnySpace(const Observation& o, Seen (*seen)(const Space& space)) {
  std::vector<std::string> all;
  for (const Space& space : o.spaces) {
    const Seen one = seen(space);
    if (one.has_value()) all.push_back(*one);
  }
  return NonEmpty(all);
}

std::string Gibibytes(uint64_t bytes) {
  return absl::StrFormat("%.1f GiB", static_cast<double>(bytes) / (1 << 30));
}

const Check kChecks[] = {
    // --- the daemon
    {"daemon-not-running", Severity::kError, "gantryd does not run.",
     "Start it: `systemctl start gantry`, or `gantryd`; `journalctl -u gantry` says why it ended.",
     [](const Observation& o) -> Seen {
       if (o.daemon_answers || o.daemon_runs || !o.socket_permitted) return std::nullopt;
       return absl::StrCat("no process holds the daemon's lock; ", o.socket,
                           o.socket_exists ? " was left behind" : " does not exist");
     }},
    {"daemon-other-socket", Severity::kError, "gantryd runs and listens elsewhere.",
     "Give its socket with --address or GANTRY_ADDRESS; `ctl config` shows what is configured.",
     [](const Observation& o) -> Seen {
       if (o.daemon_answers || !o.daemon_runs || o.socket_exists) return std::nullopt;
       return absl::StrCat(o.socket, " does not exist");
     }},
    {"socket-permission", Severity::kError, "The daemon's socket may not be used by this user.",
     "Use root, or a user in the socket's group.",
     [](const Observation& o) {
       return If(!o.daemon_answers && o.socket_exists && !o.socket_permitted, o.socket);
     }},
    {"daemon-hangs", Severity::kError, "gantryd runs and does not answer.",
     "It may be starting, or its disk hangs (`dmesg`, `cat /proc/$(pidof gantryd)/stack`). "
     "Containers run "
     "on while it is restarted: `systemctl restart gantry`.",
     [](const Observation& o) {
       return If(!o.daemon_answers && o.daemon_runs && o.socket_exists && o.socket_permitted,
                 o.daemon_error);
     }},
    {"socket-open-to-all", Severity::kError, "Everyone on the host may use the daemon's socket.",
     "Whoever may use it is root on the host: chmod o= the socket and its directory's mode.",
     [](const Observation& o) { return If(o.socket_open_to_all, o.socket); }},
    // --- the kernel
    {"not-root", Severity::kError, "The daemon does not run as root.", "Run gantryd as root.",
     [](const Observation& o) { return If(!o.root, "user id is not 0"); }},
    {"kernel-too-old", Severity::kError, "The kernel is too old.",
     "Linux 5.10 or newer is needed (openat2, pidfd, mount_setattr from 5.12).",
     [](const Observation& o) {
       return If(Before(o.kernel, {5, 10}), o.kernel);
     }},
    {"namespaces", Severity::kError, "The kernel lacks namespaces.",
     "Use a kernel with CONFIG_NAMESPACES and these kinds.",
     [](const Observation& o) { return NonEmpty(o.missing_namespaces); }},
    {"overlay", Severity::kError, "The kernel has no overlay file system.",
     "modprobe overlay; without it use snapshotter = \"native\", which copies.",
     [](const Observation& o) { return If(!o.overlay, "overlay is not in /proc/filesystems"); }},
    {"seccomp", Severity::kWarning, "The kernel has no seccomp filters.",
     "Containers run without a system call filter: use a kernel with CONFIG_SECCOMP_FILTER.",
     [](const Observation& o) { return If(!o.seccomp, "/proc/sys/kernel/seccomp is missing"); }},
    {"nf-tables", Severity::kWarning, "The kernel has no nf_tables.",
     "modprobe nf_tables; without it networks and published ports do not work.",
     [](const Observation& o) { return If(!o.nf_tables, "nf_tables cannot be used"); }},
    {"capabilities", Severity::kNote, "The daemon lacks capabilities that root has.",
     "It is itself confined, as in a container: privileged containers and limits reach no further.",
     [](const Observation& o) { return NonEmpty(o.missing_capabilities); }},
    {"user-namespaces", Severity::kNote, "User namespaces are switched off.",
     "sysctl user.max_user_namespaces=10000, if containers are to have user namespaces (--userns).",
     [](const Observation& o) {
       return If(o.max_user_namespaces == 0, "user.max_user_namespaces is 0");
     }},
    {"network-namespaces", Severity::kError, "Network namespaces are switched off.",
     "sysctl user.max_net_namespaces=10000",
     [](const Observation& o) {
       return If(o.max_network_namespaces == 0, "user.max_net_namespaces is 0");
     }},
    // --- limits of the host
    {"processes", Severity::kWarning, "The host is near its limit of processes.",
     "Raise kernel.pid_max and kernel.threads-max, or find who makes them: `ctl stats` shows PIDS.",
     [](const Observation& o) {
       return NearlyUsed(o.processes, std::min(o.pid_max, o.threads_max), "threads");
     }},
    {"open-files", Severity::kWarning, "The host is near its limit of open files.",
     "Raise fs.file-max.",
     [](const Observation& o) { return NearlyUsed(o.open_files, o.open_files_max, "open files"); }},
    {"daemon-open-files", Severity::kWarning, "The daemon may open few files.",
     "Set LimitNOFILE=1024:524288 in its unit, as gantry.service has it.",
     [](const Observation& o) {
       return If(o.open_files_limit < 4096, absl::StrCat("limit ", o.open_files_limit));
     }},
    {"inotify", Severity::kNote, "Few inotify instances are allowed.",
     "sysctl fs.inotify.max_user_instances=1024: programs that watch files fail with \"too many "
     "open "
     "files\" in many containers.",
     [](const Observation& o) {
       return If(o.inotify_instances_max < 128,
                 absl::StrCat("fs.inotify.max_user_instances is ", o.inotify_instances_max));
     }},
    {"keys", Severity::kWarning, "Root is near its limit of keyrings.",
     "sysctl kernel.keys.root_maxkeys=1000000, or set no_new_keyring for the runtime.",
     [](const Observation& o) { return NearlyUsed(o.key_count, o.key_max, "keys"); }},
    {"connections", Severity::kWarning, "The table of tracked connections is nearly full.",
     "Raise net.netfilter.nf_conntrack_max: new connections are dropped when it is full.",
     [](const Observation& o) {
       return NearlyUsed(o.connections, o.connections_max, "connections");
     }},
    {"memory", Severity::kWarning, "The host is short of memory.",
     "`ctl stats` shows who uses it; limits (--memory) keep one container from taking all.",
     [](const Observation& o) {
       return If(o.memory_available_bytes < o.memory_bytes / 20,
                 absl::StrCat(Gibibytes(o.memory_available_bytes), " of ",
                              Gibibytes(o.memory_bytes), " available"));
     }},
    // --- control groups
    {"cgroups", Severity::kError, "There are no control groups.",
     "mount -t cgroup2 none /sys/fs/cgroup",
     [](const Observation& o) {
       return If(o.cgroups == Observation::Cgroups::kNone, "nothing is mounted at /sys/fs/cgroup");
     }},
    {"cgroup-hybrid", Severity::kNote, "Control groups are of both versions (hybrid).",
     "It works; boot with systemd.unified_cgroup_hierarchy=1 for version 2, with which limits of "
     "memory "
     "and disk are better.",
     [](const Observation& o) {
       return If(o.cgroups == Observation::Cgroups::kHybrid, "version 1 with an empty version 2");
     }},
    {"cgroup-v1", Severity::kNote, "Control groups are of version 1.",
     "It works; systemd and kernels are about to drop it. Boot with "
     "systemd.unified_cgroup_hierarchy=1.",
     [](const Observation& o) {
       return If(o.cgroups == Observation::Cgroups::kV1, "/sys/fs/cgroup is version 1");
     }},
    {"cgroup-controllers", Severity::kWarning, "Controllers of control groups are missing.",
     "Limits of these kinds do not work. Enable them (cgroup_enable=memory on the kernel's command "
     "line; "
     "Delegate=yes in the daemon's unit).",
     [](const Observation& o) {
       return If(o.cgroups != Observation::Cgroups::kNone && !o.missing_controllers.empty(),
                 absl::StrJoin(o.missing_controllers, ", "));
     }},
    {"cgroup-delegation", Severity::kError, "The daemon may not make control groups.",
     "Give it its subtree: Delegate=yes in its unit; in a container, a writable /sys/fs/cgroup.",
     [](const Observation& o) {
       return If(o.cgroups != Observation::Cgroups::kNone && !o.cgroup_writable,
                 "/sys/fs/cgroup is read-only");
     }},
    // --- the network
    {"forwarding", Severity::kWarning, "The host forwards no IPv4 packets.",
     "sysctl net.ipv4.ip_forward=1 (something switched it off after the daemon had set it; look in "
     "/etc/sysctl.d).",
     [](const Observation& o) {
       return If(o.uses_networks && !o.forwarding, "net.ipv4.ip_forward is 0");
     }},
    {"forwarding6", Severity::kWarning, "The host forwards no IPv6 packets.",
     "sysctl net.ipv6.conf.all.forwarding=1",
     [](const Observation& o) {
       return If(o.uses_networks && o.uses_ipv6 && !o.forwarding6,
                 "net.ipv6.conf.all.forwarding is 0");
     }},
    {"default-route", Severity::kNote, "The host has no default route.",
     "Containers reach only what the host reaches: its own networks.",
     [](const Observation& o) { return If(!o.has_default_route, "no route to 0.0.0.0/0"); }},
    {"forward-dropped", Severity::kWarning, "Another firewall drops forwarded packets.",
     "docker and ufw set the policy of FORWARD to drop: accept Gantry's bridges there (`nft add "
     "rule ip "
     "filter DOCKER-USER iifname \"gantry*\" accept`).",
     [](const Observation& o) {
       return If(o.uses_networks && o.forward_dropped,
                 "a chain at the forward hook has the policy drop");
     }},
    {"firewalld", Severity::kNote, "firewalld runs.",
     "A reload of it can remove rules; the daemon writes its own anew. Put gantry0 into the zone "
     "trusted.",
     [](const Observation& o) { return If(o.firewalld, "/run/firewalld"); }},
    {"ufw", Severity::kNote, "ufw is enabled.",
     "Published ports pass before ufw's rules; bind them to 127.0.0.1 (-p 127.0.0.1:80:80) to keep "
     "them "
     "on this host.",
     [](const Observation& o) { return If(o.ufw, "/etc/ufw/ufw.conf"); }},
    {"name-servers", Severity::kWarning, "The host has no name server.",
     "Put one into /etc/resolv.conf, or give containers one with --dns.",
     [](const Observation& o) {
       return If(o.resolv_conf_readable && o.name_servers.empty(), "/etc/resolv.conf names none");
     }},
    {"resolv-conf", Severity::kWarning, "The host's /etc/resolv.conf cannot be read.",
     "It may be a link to nowhere: `ls -l /etc/resolv.conf`.",
     [](const Observation& o) { return If(!o.resolv_conf_readable, "/etc/resolv.conf"); }},
    {"hosts-file", Severity::kNote, "The host's /etc/hosts has no localhost.",
     "Add \"127.0.0.1 localhost\".",
     [](const Observation& o) { return If(!o.localhost_in_hosts, "/etc/hosts"); }},
    // --- time
    {"clock-wrong", Severity::kWarning, "The clock is wrong.",
     "Set it (`timedatectl set-ntp true`): with a wrong clock no registry's certificate is valid.",
     [](const Observation& o) {
       return If(o.unix_seconds < kYear2024, absl::StrCat("it says ", o.unix_seconds, " s"));
     }},
    {"clock-went-back", Severity::kWarning, "The clock is behind files that the daemon wrote.",
     "Set the clock; times of containers and `--until` are wrong meanwhile.",
     [](const Observation& o) {
       return If(o.newest_record_is_later, "files of the root directory are from the future");
     }},
    {"clock-not-synchronised", Severity::kNote, "No program keeps the clock right.",
     "Install chrony or systemd-timesyncd.",
     [](const Observation& o) { return If(!o.clock_synchronised, "adjtimex: not synchronised"); }},
    // --- disks
    {"disk-space", Severity::kWarning, "A disk is nearly full.",
     "`ctl system df` shows what Gantry holds, `ctl system prune` frees what nothing uses.",
     [](const Observation& o) {
       return AnySpace(o, [](const Space& s) {
         return If(s.free_bytes < std::min(kLowBytes, s.total_bytes / 20),
                   absl::StrCat(s.path, ": ", Gibibytes(s.free_bytes), " of ",
                                Gibibytes(s.total_bytes), " free"));
       });
     }},
    {"disk-inodes", Severity::kWarning, "A file system has hardly any files left.",
     "Layers have many small files: `ctl system prune`, or a file system with more inodes "
     "(mkfs.ext4 -i; "
     "XFS makes them as needed).",
     [](const Observation& o) {
       return AnySpace(o, [](const Space& s) {
         return If(s.total_inodes > 0 && s.free_inodes < s.total_inodes / 20,
                   absl::StrCat(s.path, ": ", s.free_inodes, " of ", s.total_inodes, " free"));
       });
     }},
    {"disk-read-only", Severity::kError, "A directory of the daemon is read-only.",
     "The kernel makes a damaged file system read-only: `dmesg`; then check and remount it.",
     [](const Observation& o) {
       return AnySpace(o, [](const Space& s) { return If(s.read_only, s.path); });
     }},
    {"disk-noexec", Severity::kWarning, "A directory of the daemon forbids programs (noexec).",
     "Remount it with exec: programs in containers cannot be run from it.",
     [](const Observation& o) {
       return AnySpace(o, [](const Space& s) { return If(s.noexec, s.path); });
     }},
    {"disk-nosuid", Severity::kNote, "A directory of the daemon is mounted with nosuid or nodev.",
     "sudo, ping and device files of images do not work in containers: remount it.",
     [](const Observation& o) {
       return AnySpace(o, [](const Space& s) {
         return If((s.nosuid || s.nodev) && s.type != "tmpfs", s.path);
       });
     }},
    {"disk-type", Severity::kError, "A file system cannot hold layers.",
     "Put the root directory on ext4, XFS, btrfs or ZFS: this kind lacks what overlay needs "
     "(extended "
     "attributes, whiteouts).",
     [](const Observation& o) {
       return AnySpace(o, [](const Space& s) {
         const bool bad = s.type == "nfs" || s.type == "nfs4" || s.type == "vfat" ||
                          s.type == "exfat" || s.type == "cifs" || s.type == "ecryptfs" ||
                          s.type == "9p";
         return If(bad, absl::StrCat(s.path, " is on ", s.type));
       });
     }},
    {"disk-on-overlay", Severity::kNote, "A file system is itself an overlay.",
     "The daemon runs in a container: give it a volume for its root directory.",
     [](const Observation& o) {
       return AnySpace(o, [](const Space& s) { return If(s.type == "overlay", s.path); });
     }},
    {"project-quotas", Severity::kWarning, "Sizes of containers cannot be bounded.",
     "Mount the root's file system with project quotas: XFS with prjquota, ext4 with -O "
     "quota,project.",
     [](const Observation& o) {
       return If(o.wants_project_quotas && !o.project_quotas,
                 "the file system has no project quotas");
     }},
    {"state-survives", Severity::kNote, "The state directory is on a disk.",
     "Put it on a tmpfs (/run): what is in it is of no use after a reboot.",
     [](const Observation& o) { return If(o.state_survives_reboot, "it is not a tmpfs"); }},
    // --- runtimes
    {"no-runtime", Severity::kError, "There is no usable OCI runtime.", "apt-get install crun",
     [](const Observation& o) -> Seen {
       if (o.default_runtime_usable) return std::nullopt;
       std::vector<std::string> why;
       for (const SeenRuntime& runtime : o.runtimes)
         why.push_back(absl::StrCat(runtime.name, ": ", runtime.problem));
       return why.empty() ? "neither crun nor runc is installed" : absl::StrJoin(why, "; ");
     }},
    {"runtime-fault", Severity::kWarning, "A runtime has a known fault.", "Upgrade it.",
     [](const Observation& o) { return RuntimeFaults(o, /*packaged=*/false); }},
    {"runtime-fault-packaged", Severity::kNote,
     "A runtime's version has a known fault, which its distribution may have mended.",
     "Look in the package's changelog.",
     [](const Observation& o) { return RuntimeFaults(o, /*packaged=*/true); }},
    // --- security modules
    {"apparmor-parser", Severity::kNote, "AppArmor is on and its parser is not installed.",
     "apt-get install apparmor: profiles of containers cannot be loaded.",
     [](const Observation& o) {
       return If(o.apparmor && !o.apparmor_parser, "apparmor_parser is not in PATH");
     }},
    {"selinux", Severity::kNote, "SELinux is enforcing.", "Mounts of host files need :z or :Z.",
     [](const Observation& o) { return If(o.selinux_enforcing, "/sys/fs/selinux/enforce is 1"); }},
    // --- what the daemon holds
    {"silent-shims", Severity::kWarning, "Shims of containers do not answer.",
     "`ctl rm -f` ends such a container in any case; look for a hanging disk or mount with `ps -o "
     "pid,stat,wchan`.",
     [](const Observation& o) { return NonEmpty(o.silent_shims); }},
    {"stuck-removals", Severity::kWarning, "Removals of containers wait.",
     "They are tried again by themselves once the reason is gone.",
     [](const Observation& o) { return NonEmpty(o.stuck_removals); }},
    {"damaged-records", Severity::kError, "Records of containers are damaged.",
     "Remove these containers and make them anew; check the disk.",
     [](const Observation& o) { return NonEmpty(o.damaged); }},
    {"leaked-shims", Severity::kWarning, "There are shims without a container.",
     "End them by their pid; a restart of the daemon adopts or ends them.",
     [](const Observation& o) { return LeftoversOf(o, Leftover::Kind::kShim); }},
    {"leaked-mounts", Severity::kWarning, "There are mounts that nothing uses.",
     "umount them; a restart of the daemon does it.",
     [](const Observation& o) { return LeftoversOf(o, Leftover::Kind::kMount); }},
    {"leaked-cgroups", Severity::kWarning, "There are control groups without a container.",
     "rmdir them; processes in them are ended first.",
     [](const Observation& o) { return LeftoversOf(o, Leftover::Kind::kCgroup); }},
    {"leaked-netns", Severity::kWarning, "There are network namespaces without a container.",
     "A restart of the daemon removes them.",
     [](const Observation& o) { return LeftoversOf(o, Leftover::Kind::kNetns); }},
    {"leaked-bundles", Severity::kWarning, "There are bundles without a container.",
     "A restart of the daemon removes them.",
     [](const Observation& o) { return LeftoversOf(o, Leftover::Kind::kBundle); }},
    {"leaked-directories", Severity::kWarning, "There are directories of containers that are gone.",
     "`ctl system gc` removes them.",
     [](const Observation& o) { return LeftoversOf(o, Leftover::Kind::kDirectory); }},
    // --- others
    {"other-engines", Severity::kNote, "Other container engines are on this host.",
     "They do not disturb each other, apart from the firewall (see forward-dropped) and the disk.",
     [](const Observation& o) { return NonEmpty(o.other_engines); }},
};

}  // namespace

std::vector<Finding> CheckHost(const Observation& seen) {
  std::vector<Finding> findings;
  for (const Check& check : kChecks) {
    const Seen detail = check.seen(seen);
    if (!detail.has_value()) continue;
    findings.push_back({check.id, check.severity, check.title, *detail, check.remedy});
  }
  std::stable_sort(findings.begin(), findings.end(),
                   [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
  return findings;
}

const char* SeverityWord(Severity severity) {
  switch (severity) {
    case Severity::kNote:
      return "note";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "";
}

}  // namespace gantry::host
