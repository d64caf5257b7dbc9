#include "supervisor/oci/spec_builder.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include <nlohmann/json.hpp>

#include "supervisor/oci/default_profile.h"

namespace gantry::oci {
namespace {

using nlohmann::json;

HostFacts Host() {
  HostFacts host;
  host.kernel_major = 6;
  host.kernel_minor = 1;
  return host;
}

ContainerConfig Config() {
  ContainerConfig config;
  config.id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
  config.args = {"sh"};
  config.root_path = "rootfs";
  config.cgroups_path = "/gantry/x";
  return config;
}

User Root() {
  return {.uid = 0, .gid = 0, .additional_gids = {0}, .name = "root", .home = "/root"};
}

json Build(const ContainerConfig& config, const User& user = Root(),
           const HostFacts& host = Host()) {
  auto spec = BuildSpec(config, user, host);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? spec->document() : json();
}

absl::Status Refusal(const ContainerConfig& config, const HostFacts& host = Host()) {
  return BuildSpec(config, Root(), host).status();
}

const json* Mount(const json& spec, absl::string_view destination) {
  for (const json& mount : spec["mounts"]) {
    if (mount["destination"].get<std::string>() == destination) return &mount;
  }
  return nullptr;
}

std::vector<std::string> Destinations(const json& spec) {
  std::vector<std::string> out;
  for (const json& mount : spec["mounts"]) out.push_back(mount["destination"]);
  return out;
}

bool Has(const json& list, const char* item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

TEST(SpecBuilderTest, DefaultsAreDockers) {
  const json spec = Build(Config());
  EXPECT_EQ(spec["ociVersion"], "1.0.2");
  EXPECT_EQ(spec["hostname"], "0123456789ab");
  EXPECT_EQ(spec["process"]["cwd"], "/");
  EXPECT_EQ(spec["process"]["env"],
            (json{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                  "HOSTNAME=0123456789ab", "HOME=/root"}));
  EXPECT_EQ(spec["process"]["noNewPrivileges"], false);
  EXPECT_EQ(spec["process"]["capabilities"]["bounding"].size(), 14u);
  EXPECT_EQ(spec["process"]["capabilities"]["effective"].size(), 14u);
  EXPECT_FALSE(spec["process"]["capabilities"].contains("inheritable"));
  EXPECT_FALSE(spec["process"]["capabilities"].contains("ambient"));
  EXPECT_EQ(spec["process"]["oomScoreAdj"], 0);
  EXPECT_EQ(Destinations(spec),
            (std::vector<std::string>{"/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup",
                                      "/dev/mqueue", "/dev/shm"}));
  EXPECT_TRUE(Has((*Mount(spec, "/sys"))["options"], "ro"));
  EXPECT_TRUE(Has((*Mount(spec, "/dev/shm"))["options"], "size=67108864"));
  EXPECT_EQ(
      spec["linux"]["namespaces"],
      json::parse(
          R"([{"type":"mount"},{"type":"network"},{"type":"uts"},{"type":"pid"},{"type":"ipc"}])"));
  EXPECT_TRUE(Has(spec["linux"]["maskedPaths"], "/proc/kcore"));
  EXPECT_TRUE(Has(spec["linux"]["readonlyPaths"], "/proc/sys"));
  EXPECT_EQ(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
  EXPECT_EQ(spec["linux"]["resources"]["devices"][0],
            json::parse(R"({"allow":false,"access":"rwm"})"));
  EXPECT_EQ(spec["linux"]["resources"]["devices"].size(), 8u);
  EXPECT_EQ(spec["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"], "0");
}

TEST(SpecBuilderTest, OrdinaryUsersHaveNoEffectiveCapabilities) {
  const json spec = Build(
      Config(), {.uid = 33, .gid = 34, .additional_gids = {34, 50}, .name = "web", .home = "/"});
  EXPECT_EQ(spec["process"]["user"],
            json::parse(R"({"uid":33,"gid":34,"additionalGids":[34,50]})"));
  EXPECT_EQ(spec["process"]["capabilities"]["bounding"].size(), 14u);
  EXPECT_FALSE(spec["process"]["capabilities"].contains("effective"));
  EXPECT_FALSE(spec["process"]["capabilities"].contains("permitted"));
}

TEST(SpecBuilderTest, PrivilegedOpensEverything) {
  ContainerConfig config = Config();
  config.privileged = true;
  const json spec = Build(config);
  EXPECT_EQ(spec["process"]["capabilities"]["effective"].size(), 41u);
  EXPECT_FALSE(spec["linux"].contains("seccomp"));
  EXPECT_FALSE(spec["linux"].contains("maskedPaths"));
  EXPECT_FALSE(spec["linux"].contains("readonlyPaths"));
  EXPECT_FALSE(Has((*Mount(spec, "/sys"))["options"], "ro"));
  EXPECT_FALSE(Has((*Mount(spec, "/sys/fs/cgroup"))["options"], "ro"));
  EXPECT_EQ(spec["linux"]["resources"]["devices"],
            json::parse(R"([{"allow":true,"type":"a","access":"rwm"}])"));
  const json& devices = spec["linux"]["devices"];
  EXPECT_TRUE(std::any_of(devices.begin(), devices.end(),
                          [](const json& d) { return d["path"] == "/dev/null"; }));
}

TEST(SpecBuilderTest, EnvironmentIsMergedLaterWins) {
  ContainerConfig config = Config();
  config.terminal = true;
  config.env = {"A=1", "TERM=vt100", "B=2", "A=3", "B", "HOSTNAME=mine"};
  EXPECT_EQ(Build(config)["process"]["env"],
            (json{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                  "HOSTNAME=mine", "TERM=vt100", "HOME=/root", "A=3"}));
  config.env = {"HOME=/mine"};
  EXPECT_EQ(Build(config)["process"]["env"].back(), "HOME=/mine");
  config.env = {"=x"};
  EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpecBuilderTest, AHugeEnvironmentIsMergedInLinearTime) {
  ContainerConfig config = Config();
  for (int i = 0; i < 350000; ++i) config.env.push_back(absl::StrCat("V", i, "=x"));
  config.env.push_back("V7=last");
  config.env.push_back("V8");
  const json env = Build(config)["process"]["env"];
  EXPECT_TRUE(std::find(env.begin(), env.end(), json("V7=last")) != env.end());
  EXPECT_TRUE(std::find(env.begin(), env.end(), json("V8=x")) == env.end());
}

TEST(SpecBuilderTest, CpusetsAreOfThisHost) {
  HostFacts host;
  host.online_cpus = "0-1,4";
  host.online_memory_nodes = "0";
  ContainerConfig config = Config();
  config.resources.cpuset_cpus = "1,4";
  config.resources.cpuset_mems = "0";
  EXPECT_TRUE(Refusal(config, host).ok());
  config.resources.cpuset_cpus = "1-2";
  EXPECT_EQ(BuildSpec(config, User(), host).status().message(),
            "cpuset-cpus \"1-2\": this host has the CPUs 0-1,4");
  config.resources.cpuset_cpus = "";
  config.resources.cpuset_mems = "1";
  EXPECT_EQ(BuildSpec(config, User(), host).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpecBuilderTest, SharingTheHostsIpcNeedsNothingMountedThere) {
  ContainerConfig config = Config();
  config.ipc = NamespaceMode::Host();
  const json spec = Build(config);
  EXPECT_EQ((*Mount(spec, "/dev/mqueue"))["type"], "mqueue");
  EXPECT_EQ((*Mount(spec, "/dev/shm"))["source"], "/dev/shm");
}

TEST(SpecBuilderTest, MountsAreOrderedAndReplaceDefaults) {
  ContainerConfig config = Config();
  config.mounts = {{.source = "/h/deep", .destination = "/a/b/c"},
                   {.source = "/h/a", .destination = "/a/", .read_only = true},
                   {.type = MountConfig::Type::kTmpfs,
                    .source = "",
                    .destination = "/dev/shm",
                    .options = {"size=1m"}}};
  const json spec = Build(config);
  EXPECT_EQ(Destinations(spec),
            (std::vector<std::string>{"/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup",
                                      "/dev/mqueue", "/a", "/dev/shm", "/a/b/c"}));
  EXPECT_EQ((*Mount(spec, "/a"))["options"], (json{"rbind", "rprivate", "ro"}));
  EXPECT_EQ((*Mount(spec, "/dev/shm"))["options"],
            (json{"noexec", "nosuid", "nodev", "rprivate", "size=1m"}));
}

TEST(SpecBuilderTest, LaterTmpfsOptionsReplaceTheirOpposites) {
  ContainerConfig config = Config();
  config.mounts = {{.type = MountConfig::Type::kTmpfs,
                    .source = "",
                    .destination = "/t",
                    .read_only = true,
                    .options = {"exec", "mode=755", "rw", "noexec", "exec"}}};
  EXPECT_EQ((*Mount(Build(config), "/t"))["options"],
            (json{"nosuid", "nodev", "rprivate", "mode=755", "rw", "exec"}));
}

TEST(SpecBuilderTest, MountOverDevTakesItsChildrenAway) {
  ContainerConfig config = Config();
  config.mounts = {{.source = "/dev", .destination = "/dev"}};
  EXPECT_EQ(Destinations(Build(config)),
            (std::vector<std::string>{"/proc", "/sys", "/sys/fs/cgroup", "/dev"}));
}

TEST(SpecBuilderTest, PropagationReachesTheRoot) {
  ContainerConfig config = Config();
  config.mounts = {{.source = "/h", .destination = "/h", .propagation = "rshared"}};
  const json spec = Build(config);
  EXPECT_EQ((*Mount(spec, "/h"))["options"], (json{"rbind", "rshared"}));
  EXPECT_EQ(spec["linux"]["rootfsPropagation"], "shared");
  config.mounts[0].propagation = "sideways";
  EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpecBuilderTest, RefusesBadPaths) {
  for (const char* destination : {"", "a", "/", "/..", "/../../etc", "/./", "/a/../.."}) {
    ContainerConfig config = Config();
    config.mounts = {{.source = "/h", .destination = destination}};
    EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument) << destination;
  }
  ContainerConfig twice = Config();
  twice.mounts = {{.source = "/h", .destination = "/a"}, {.source = "/h", .destination = "//a/."}};
  EXPECT_TRUE(absl::StrContains(Refusal(twice).message(), "duplicate mount point: /a"));
  for (const char* cwd : {"rel", "/proc/self/fd/7", "/proc/1/root", "/proc//self/./fd/3/..",
                          "/proc/thread-self/cwd", "/../x"}) {
    ContainerConfig config = Config();
    config.working_dir = cwd;
    EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument) << cwd;
  }
  ContainerConfig nul = Config();
  nul.args = {"a", std::string("b\0c", 3)};
  EXPECT_EQ(Refusal(nul).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpecBuilderTest, NamespaceModes) {
  ContainerConfig config = Config();
  config.network = NamespaceMode::Host();
  config.pid = NamespaceMode::Path("/proc/7/ns/pid");
  config.ipc = NamespaceMode::Host();
  config.uts = NamespaceMode::Host();
  HostFacts v2 = Host();
  v2.cgroup_v2 = true;
  const json spec = Build(config, Root(), v2);
  EXPECT_EQ(spec["linux"]["namespaces"],
            json::parse(
                R"([{"type":"mount"},{"type":"pid","path":"/proc/7/ns/pid"},{"type":"cgroup"}])"));
  config.cgroup = NamespaceMode::Private();
  EXPECT_FALSE(absl::StrContains(Build(config)["linux"]["namespaces"].dump(), "cgroup"))
      << "version 1";
  config.own_cgroup_namespace = true;
  EXPECT_TRUE(absl::StrContains(Build(config)["linux"]["namespaces"].dump(), "cgroup"));
  EXPECT_FALSE(spec.contains("hostname"));
  EXPECT_FALSE(spec["linux"].contains("sysctl"));
  EXPECT_EQ((*Mount(spec, "/dev/shm"))["type"], "bind");
  config.hostname = "x";
  EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpecBuilderTest, SysctlsNeedTheirNamespace) {
  ContainerConfig config = Config();
  config.sysctls = {{"net.core.somaxconn", "99"}, {"kernel.shmmax", "1"}};
  EXPECT_EQ(Build(config)["linux"]["sysctl"]["net.core.somaxconn"], "99");
  config.sysctls = {{"net/ipv4/conf/eth0.7/forwarding", "1"}};
  EXPECT_EQ(Build(config)["linux"]["sysctl"]["net.ipv4.conf.eth0/7.forwarding"], "1");
  config.network = NamespaceMode::Host();
  EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument);
  for (const char* name : {"kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern",
                           "net.", "net..x", "kernel.sem\n", "net.a+b", "net.a=b", ""}) {
    ContainerConfig bad = Config();
    bad.sysctls = {{name, "1"}};
    EXPECT_EQ(Refusal(bad).code(), absl::StatusCode::kInvalidArgument) << name;
  }
  ContainerConfig newline = Config();
  newline.sysctls = {{"net.core.somaxconn", "1\nkernel.x=2"}};
  EXPECT_EQ(Refusal(newline).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpecBuilderTest, DevicesAreLookedUpAndAllowed) {
  ContainerConfig config = Config();
  config.devices = {
      {.host_path = "/dev/null", .container_path = "/dev/nothing", .permissions = "rw"}};
  config.device_cgroup_rules = {"c 10:* r"};
  const json spec = Build(config);
  EXPECT_EQ(spec["linux"]["devices"][0]["path"], "/dev/nothing");
  EXPECT_EQ(spec["linux"]["devices"][0]["minor"], 3);
  const json& rules = spec["linux"]["resources"]["devices"];
  EXPECT_EQ(rules[8],
            json::parse(R"({"allow":true,"type":"c","major":1,"minor":3,"access":"rw"})"));
  EXPECT_EQ(rules[9], json::parse(R"({"allow":true,"type":"c","major":10,"access":"r"})"));

  config.devices = {{.host_path = "/dev/does-not-exist", .container_path = ""}};
  EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kNotFound);
  config.devices = {{.host_path = "/etc/hostname", .container_path = ""}};
  EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument);
  config.devices.clear();
  config.device_cgroup_rules = {"x 1:2 r"};
  EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpecBuilderTest, InitRunsBeforeTheCommand) {
  ContainerConfig config = Config();
  config.init_path = "/usr/lib/gantry/init";
  const json spec = Build(config);
  EXPECT_EQ(spec["process"]["args"], (json{"/dev/gantry-init", "--", "sh"}));
  EXPECT_EQ((*Mount(spec, "/dev/gantry-init"))["source"], "/usr/lib/gantry/init");
}

TEST(SpecBuilderTest, SecurityOptions) {
  ContainerConfig config = Config();
  EXPECT_TRUE(ApplySecurityOption("no-new-privileges", config).ok());
  EXPECT_TRUE(ApplySecurityOption("seccomp=unconfined", config).ok());
  EXPECT_TRUE(ApplySecurityOption("apparmor:mine", config).ok());
  EXPECT_TRUE(ApplySecurityOption("systempaths=unconfined", config).ok());
  const json spec = Build(config);
  EXPECT_EQ(spec["process"]["noNewPrivileges"], true);
  EXPECT_EQ(spec["process"]["apparmorProfile"], "mine");
  EXPECT_FALSE(spec["linux"].contains("seccomp"));
  EXPECT_FALSE(spec["linux"].contains("maskedPaths"));
  EXPECT_TRUE(ApplySecurityOption(R"(seccomp={"defaultAction":"SCMP_ACT_ALLOW"})", config).ok());
  EXPECT_EQ(Build(config)["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
  for (const char* option : {"", "nonsense", "seccomp", "apparmor=", "no-new-privileges=maybe"}) {
    EXPECT_EQ(ApplySecurityOption(option, config).code(), absl::StatusCode::kInvalidArgument)
        << option;
  }
}

// As with docker: files that name a profile are for every host.
TEST(SpecBuilderTest, AProfileOfAppArmorIsLeftOutWhereTheKernelHasNone) {
  ContainerConfig config = Config();
  ASSERT_TRUE(ApplySecurityOption("apparmor=mine", config).ok());
  HostFacts host = Host();
  EXPECT_EQ(Build(config, Root(), host)["process"]["apparmorProfile"], "mine");
  host.no_apparmor = true;
  EXPECT_FALSE(Build(config, Root(), host)["process"].contains("apparmorProfile"));
}

TEST(SpecBuilderTest, PathsAreMaskedAndUnmasked) {
  ContainerConfig config = Config();
  EXPECT_TRUE(ApplySecurityOption("unmask=/proc/kcore:/proc/b*", config).ok());
  EXPECT_TRUE(ApplySecurityOption("mask=/etc/secret/:/opt/keys", config).ok());
  json spec = Build(config);
  EXPECT_FALSE(Has(spec["linux"]["maskedPaths"], "/proc/kcore"));
  EXPECT_TRUE(Has(spec["linux"]["maskedPaths"], "/proc/keys"));
  EXPECT_TRUE(Has(spec["linux"]["maskedPaths"], "/etc/secret"));
  EXPECT_TRUE(Has(spec["linux"]["maskedPaths"], "/opt/keys"));
  EXPECT_FALSE(Has(spec["linux"]["readonlyPaths"], "/proc/bus"));
  EXPECT_TRUE(Has(spec["linux"]["readonlyPaths"], "/proc/sys"));

  ContainerConfig all = Config();
  EXPECT_TRUE(ApplySecurityOption("unmask=ALL", all).ok());
  spec = Build(all);
  EXPECT_FALSE(spec["linux"].contains("maskedPaths"));
  EXPECT_FALSE(spec["linux"].contains("readonlyPaths"));

  ContainerConfig privileged = Config();
  privileged.privileged = true;
  EXPECT_TRUE(ApplySecurityOption("mask=/etc/secret", privileged).ok());
  EXPECT_EQ(Build(privileged)["linux"]["maskedPaths"], (json{"/etc/secret"}));

  for (const char* option : {"mask=", "mask=relative", "mask=/", "mask=/a/../..", "unmask=proc"}) {
    EXPECT_EQ(ApplySecurityOption(option, config).code(), absl::StatusCode::kInvalidArgument)
        << option;
  }
}

TEST(SpecBuilderTest, LabelsArePutTogetherWhereTheHostHasThem) {
  ContainerConfig config = Config();
  EXPECT_TRUE(ApplySecurityOption("label=type:mine_t", config).ok());
  EXPECT_TRUE(ApplySecurityOption("label=level:s0:c1,c2", config).ok());
  EXPECT_FALSE(Build(config)["process"].contains("selinuxLabel"));
  HostFacts host = Host();
  host.selinux = true;
  json spec = Build(config, Root(), host);
  EXPECT_EQ(spec["process"]["selinuxLabel"], "system_u:system_r:mine_t:s0:c1,c2");
  EXPECT_EQ(spec["linux"]["mountLabel"], "system_u:object_r:container_file_t:s0:c1,c2");
  EXPECT_TRUE(ApplySecurityOption("label=disable", config).ok());
  spec = Build(config, Root(), host);
  EXPECT_FALSE(spec["process"].contains("selinuxLabel"));
  EXPECT_FALSE(spec["linux"].contains("mountLabel"));
  EXPECT_TRUE(ApplySecurityOption("label=system_u:system_r:other_t:s0", config).ok());
  spec = Build(config, Root(), host);
  EXPECT_EQ(spec["process"]["selinuxLabel"], "system_u:system_r:other_t:s0");
}

TEST(SpecBuilderTest, CgroupsAreWritableInANamespaceOfItsOwnOnly) {
  ContainerConfig config = Config();
  EXPECT_TRUE(ApplySecurityOption("writable-cgroups=true", config).ok());
  HostFacts host = Host();
  host.cgroup_v2 = false;
  EXPECT_TRUE(absl::IsInvalidArgument(Refusal(config, host)));
  host.cgroup_v2 = true;
  const json spec = Build(config, Root(), host);
  EXPECT_FALSE(Has((*Mount(spec, "/sys/fs/cgroup"))["options"], "ro"));
  config.cgroup = NamespaceMode::Host();
  EXPECT_TRUE(absl::IsInvalidArgument(Refusal(config, host)));
  EXPECT_TRUE(ApplySecurityOption("writable-cgroups=false", config).ok());
  EXPECT_TRUE(Refusal(config, host).ok());
}

TEST(SpecBuilderTest, LimitsAndResources) {
  ContainerConfig config = Config();
  config.rlimits = {*ParseUlimit("nofile=1024:2048"), *ParseUlimit("RLIMIT_CORE=-1")};
  config.resources.memory_limit_bytes = 64 << 20;
  config.resources.pids_limit = 50;
  config.oom_score_adj = 300;
  const json spec = Build(config);
  EXPECT_EQ(spec["process"]["rlimits"][0],
            json::parse(R"({"type":"RLIMIT_NOFILE","soft":1024,"hard":2048})"));
  EXPECT_EQ(spec["linux"]["resources"]["memory"]["limit"], 67108864);
  EXPECT_EQ(spec["linux"]["resources"]["pids"]["limit"], 50);
  EXPECT_EQ(spec["process"]["oomScoreAdj"], 300);
  for (const char* text :
       {"", "nofile", "nofile=", "nofile=2:1", "x=1", "nofile=1:2:3", "nofile=a"}) {
    EXPECT_EQ(ParseUlimit(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  config.oom_score_adj = 1001;
  EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument);
}

TEST(SpecBuilderTest, HostnamesAreChecked) {
  for (const std::string& name :
       {std::string("a b"), std::string("a\n"), std::string(65, 'a'), std::string("-x")}) {
    ContainerConfig config = Config();
    config.hostname = name;
    EXPECT_EQ(Refusal(config).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(BuildExecProcessTest, TakesOverWhatConfinesTheContainer) {
  ContainerConfig config = Config();
  config.env = {"A=1"};
  config.no_new_privileges = true;
  config.rlimits = {*ParseUlimit("nofile=10")};
  auto spec = BuildSpec(config, Root(), Host());
  ASSERT_TRUE(spec.ok());
  auto process = BuildExecProcess(
      *spec,
      {.args = {"id"},
       .env = {"A=2", "C=3"},
       .working_dir = "/tmp",
       .user = "web",
       .terminal = true},
      User{.uid = 33, .gid = 34, .additional_gids = {34}, .name = "web", .home = "/"}, Host());
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_EQ(process->args, std::vector<std::string>{"id"});
  EXPECT_EQ(process->env,
            (std::vector<std::string>{
                "TERM=xterm", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOSTNAME=0123456789ab", "HOME=/root", "A=2", "C=3"}));
  EXPECT_EQ(process->cwd, "/tmp");
  EXPECT_EQ(process->uid, 33u);
  EXPECT_TRUE(process->terminal);
  EXPECT_TRUE(process->no_new_privileges);
  EXPECT_EQ(process->bounding.size(), 14u);
  EXPECT_TRUE(process->effective.empty());
  EXPECT_EQ(process->rlimits.size(), 1u);

  auto privileged =
      BuildExecProcess(*spec, {.args = {"id"}, .privileged = true}, std::nullopt, Host());
  ASSERT_TRUE(privileged.ok());
  EXPECT_EQ(privileged->effective.size(), 41u);
  EXPECT_EQ(BuildExecProcess(*spec, {}, std::nullopt, Host()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(HostFactsTest, ProbeSeesThisMachine) {
  const HostFacts host = HostFacts::Probe();
  EXPECT_GT(host.kernel_major, 3);
  EXPECT_GE(host.last_capability, 37);
  EXPECT_EQ(host.hard_rlimits.count("RLIMIT_NOFILE"), 1u);
  EXPECT_FALSE(host.architecture.empty());
}

}  // namespace
}  // namespace gantry::oci
