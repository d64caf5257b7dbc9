#include "base/host/checks.h"

#include <functional>
#include <set>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace gantry::host {
namespace {

Observation CleanHost() {
  Observation seen;
  Space root;
  root.path = "/var/lib/gantry";
  Space state;
  state.path = "/run/gantry";
  state.type = "tmpfs";
  state.nosuid = state.nodev = true;
  seen.spaces = {root, state};
  return seen;
}

struct Fault {
  const char* check;
  Severity severity;
  const char* detail;  // part of it
  std::function<void(Observation&)> stage;
};

const std::vector<Fault>& Faults() {
  using O = Observation;
  static const auto* const kFaults = new std::vector<Fault>{
      {"daemon-not-running", Severity::kError, "does not exist",
       [](O& o) { o.daemon_answers = o.daemon_runs = o.socket_exists = false; }},
      {"daemon-not-running", Severity::kError, "left behind",
       [](O& o) { o.daemon_answers = o.daemon_runs = false; }},
      {"daemon-other-socket", Severity::kError, "gantry.sock",
       [](O& o) { o.daemon_answers = o.socket_exists = false; }},
      {"socket-permission", Severity::kError, "gantry.sock",
       [](O& o) { o.daemon_answers = o.socket_permitted = false; }},
      {"daemon-hangs", Severity::kError, "deadline",
       [](O& o) {
         o.daemon_answers = false;
         o.daemon_error = "deadline exceeded";
       }},
      {"socket-open-to-all", Severity::kError, "sock", [](O& o) { o.socket_open_to_all = true; }},
      {"not-root", Severity::kError, "", [](O& o) { o.root = false; }},
      {"kernel-too-old", Severity::kError, "4.19", [](O& o) { o.kernel = "4.19.0-27-amd64"; }},
      {"namespaces", Severity::kError, "user", [](O& o) { o.missing_namespaces = {"user"}; }},
      {"overlay", Severity::kError, "overlay", [](O& o) { o.overlay = false; }},
      {"seccomp", Severity::kWarning, "", [](O& o) { o.seccomp = false; }},
      {"nf-tables", Severity::kWarning, "", [](O& o) { o.nf_tables = false; }},
      {"capabilities", Severity::kNote, "CAP_SYS_RESOURCE",
       [](O& o) { o.missing_capabilities = {"CAP_SYS_RESOURCE"}; }},
      {"user-namespaces", Severity::kNote, "", [](O& o) { o.max_user_namespaces = 0; }},
      {"network-namespaces", Severity::kError, "", [](O& o) { o.max_network_namespaces = 0; }},
      {"processes", Severity::kWarning, "32000 of 32768",
       [](O& o) {
         o.processes = 32000;
         o.pid_max = 32768;
       }},
      {"open-files", Severity::kWarning, "990 of 1000",
       [](O& o) {
         o.open_files = 990;
         o.open_files_max = 1000;
       }},
      {"daemon-open-files", Severity::kWarning, "1024", [](O& o) { o.open_files_limit = 1024; }},
      {"inotify", Severity::kNote, "16", [](O& o) { o.inotify_instances_max = 16; }},
      {"keys", Severity::kWarning, "195 of 200", [](O& o) { o.key_count = 195; }},
      {"connections", Severity::kWarning, "65536", [](O& o) { o.connections = 65536; }},
      {"memory", Severity::kWarning, "0.1 GiB", [](O& o) { o.memory_available_bytes = 100 << 20; }},
      {"cgroups", Severity::kError, "", [](O& o) { o.cgroups = O::Cgroups::kNone; }},
      {"cgroup-hybrid", Severity::kNote, "", [](O& o) { o.cgroups = O::Cgroups::kHybrid; }},
      {"cgroup-v1", Severity::kNote, "", [](O& o) { o.cgroups = O::Cgroups::kV1; }},
      {"cgroup-controllers", Severity::kWarning, "memory",
       [](O& o) { o.missing_controllers = {"memory"}; }},
      {"cgroup-delegation", Severity::kError, "", [](O& o) { o.cgroup_writable = false; }},
      {"forwarding", Severity::kWarning, "ip_forward",
       [](O& o) {
         o.uses_networks = true;
         o.forwarding = false;
       }},
      {"forwarding6", Severity::kWarning, "ipv6",
       [](O& o) {
         o.uses_networks = o.uses_ipv6 = true;
         o.forwarding6 = false;
       }},
      {"default-route", Severity::kNote, "", [](O& o) { o.has_default_route = false; }},
      {"forward-dropped", Severity::kWarning, "",
       [](O& o) { o.uses_networks = o.forward_dropped = true; }},
      {"firewalld", Severity::kNote, "", [](O& o) { o.firewalld = true; }},
      {"ufw", Severity::kNote, "", [](O& o) { o.ufw = true; }},
      {"name-servers", Severity::kWarning, "", [](O& o) { o.name_servers.clear(); }},
      {"resolv-conf", Severity::kWarning, "",
       [](O& o) {
         o.resolv_conf_readable = false;
         o.name_servers.clear();
       }},
      {"hosts-file", Severity::kNote, "", [](O& o) { o.localhost_in_hosts = false; }},
      {"clock-wrong", Severity::kWarning, "1000", [](O& o) { o.unix_seconds = 1000; }},
      {"clock-went-back", Severity::kWarning, "future",
       [](O& o) { o.newest_record_is_later = true; }},
      {"clock-not-synchronised", Severity::kNote, "", [](O& o) { o.clock_synchronised = false; }},
      {"disk-space", Severity::kWarning, "/var/lib/gantry: 0.1 GiB",
       [](O& o) { o.spaces[0].free_bytes = 100 << 20; }},
      {"disk-inodes", Severity::kWarning, "10 of 1000000",
       [](O& o) { o.spaces[0].free_inodes = 10; }},
      {"disk-read-only", Severity::kError, "/run/gantry",
       [](O& o) { o.spaces[1].read_only = true; }},
      {"disk-noexec", Severity::kWarning, "/var/lib/gantry",
       [](O& o) { o.spaces[0].noexec = true; }},
      {"disk-nosuid", Severity::kNote, "/var/lib/gantry", [](O& o) { o.spaces[0].nosuid = true; }},
      {"disk-type", Severity::kError, "nfs4", [](O& o) { o.spaces[0].type = "nfs4"; }},
      {"disk-on-overlay", Severity::kNote, "/var/lib/gantry",
       [](O& o) { o.spaces[0].type = "overlay"; }},
      {"project-quotas", Severity::kWarning, "",
       [](O& o) {
         o.wants_project_quotas = true;
         o.project_quotas = false;
       }},
      {"state-survives", Severity::kNote, "", [](O& o) { o.state_survives_reboot = true; }},
      {"no-runtime", Severity::kError, "neither",
       [](O& o) {
         o.default_runtime_usable = false;
         o.runtimes.clear();
       }},
      {"no-runtime", Severity::kError, "crun: refuses hybrid",
       [](O& o) {
         o.default_runtime_usable = false;
         o.runtimes[0].problem = "refuses hybrid";
       }},
      {"runtime-fault", Severity::kWarning, "CVE-2024-21626",
       [](O& o) {
         o.runtimes = {{"runc", "/usr/bin/runc", "1.1.5", ""}};
       }},
      {"runtime-fault", Severity::kWarning, "CVE-2025-31133",
       [](O& o) {
         o.runtimes = {{"mine", "/opt/runc", "1.3.0", ""}};
       }},
      {"runtime-fault-packaged", Severity::kNote, "CVE-2024-21626",
       [](O& o) {
         o.runtimes = {{"runc", "/usr/bin/runc", "1.1.5+ds1", ""}};
       }},
      {"apparmor-parser", Severity::kNote, "",
       [](O& o) {
         o.apparmor = true;
         o.apparmor_parser = false;
       }},
      {"selinux", Severity::kNote, "", [](O& o) { o.selinux_enforcing = true; }},
      {"silent-shims", Severity::kWarning, "web", [](O& o) { o.silent_shims = {"web"}; }},
      {"stuck-removals", Severity::kWarning, "busy",
       [](O& o) { o.stuck_removals = {"web: busy"}; }},
      {"damaged-records", Severity::kError, "web", [](O& o) { o.damaged = {"web"}; }},
      {"leaked-shims", Severity::kWarning, "pid 9",
       [](O& o) {
         o.leftovers = {{Leftover::Kind::kShim, "pid 9"}};
       }},
      {"leaked-mounts", Severity::kWarning, "/run/gantry/mounts/x",
       [](O& o) {
         o.leftovers = {{Leftover::Kind::kMount, "/run/gantry/mounts/x"}};
       }},
      {"leaked-cgroups", Severity::kWarning, "/gantry/x",
       [](O& o) {
         o.leftovers = {{Leftover::Kind::kCgroup, "/gantry/x"}};
       }},
      {"leaked-netns", Severity::kWarning, "x",
       [](O& o) {
         o.leftovers = {{Leftover::Kind::kNetns, "x"}};
       }},
      {"leaked-bundles", Severity::kWarning, "x",
       [](O& o) {
         o.leftovers = {{Leftover::Kind::kBundle, "x"}};
       }},
      {"leaked-directories", Severity::kWarning, "and 2 more",
       [](O& o) {
         for (int i = 0; i < 10; ++i) o.leftovers.push_back({Leftover::Kind::kDirectory, "x"});
       }},
      {"other-engines", Severity::kNote, "docker",
       [](O& o) { o.other_engines = {"docker (/run/docker.sock)"}; }},
  };
  return *kFaults;
}

TEST(HostChecksTest, ACleanHostHasNoFindings) {
  for (const Finding& finding : CheckHost(CleanHost())) ADD_FAILURE() << finding.check;
}

TEST(HostChecksTest, EveryFaultIsFoundAndNothingElse) {
  for (const Fault& fault : Faults()) {
    Observation seen = CleanHost();
    fault.stage(seen);
    const std::vector<Finding> findings = CheckHost(seen);
    ASSERT_EQ(findings.size(), 1u) << fault.check;
    EXPECT_EQ(findings[0].check, fault.check);
    EXPECT_EQ(findings[0].severity, fault.severity) << fault.check;
    EXPECT_TRUE(absl::StrContains(findings[0].detail, fault.detail))
        << fault.check << ": " << findings[0].detail;
    EXPECT_FALSE(findings[0].title.empty()) << fault.check;
    EXPECT_FALSE(findings[0].remedy.empty()) << fault.check;
  }
}

TEST(HostChecksTest, TheWorstComesFirst) {
  Observation seen = CleanHost();
  seen.ufw = true;
  seen.seccomp = false;
  seen.overlay = false;
  const std::vector<Finding> findings = CheckHost(seen);
  ASSERT_EQ(findings.size(), 3u);
  EXPECT_EQ(findings[0].check, "overlay");
  EXPECT_EQ(findings[1].check, "seccomp");
  EXPECT_EQ(findings[2].check, "ufw");
}

TEST(HostChecksTest, VersionsThatAreMendedOrOddAreNoFault) {
  for (const char* version :
       {"1.1.12", "1.2.8", "1.3.3", "1.4.0", "", "unknown", "1.1.15-1~deb12u1"}) {
    Observation seen = CleanHost();
    seen.runtimes = {{"runc", "/usr/bin/runc", version, ""}};
    for (const Finding& finding : CheckHost(seen)) {
      if (std::string(version) == "1.1.12" || std::string(version) == "1.1.15-1~deb12u1") continue;
      ADD_FAILURE() << version << ": " << finding.detail;
    }
  }
}

}  // namespace
}  // namespace gantry::host
