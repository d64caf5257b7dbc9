// What confines a container, looked at from outside: its namespaces, /proc/PID/status, its mounts,
// and what system calls and devices do in it. Defaults are docker's.
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "integration/testbed.h"

namespace gantry::integration {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsSupersetOf;
using testing::Not;

constexpr char kImage[] = "busybox:test";

struct MountLine {
  std::string at;
  std::string options;      // of the mount: "ro,nosuid"
  std::string propagation;  // "shared:1", "master:1"; "" for private
  std::string type;
};

class ConfinementTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    Start();
  }
  void Start() {
    bed_ = std::make_unique<Testbed>();
    ASSERT_TRUE(bed_->LoadBusybox(kImage));
  }
  // Starts a container that does nothing and returns the number of its first process.
  std::string Run(const std::string& name, std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"run", "-d", "--name", name});
    flags.insert(flags.end(), {kImage, "sleep", "1000"});
    EXPECT_TRUE(Ok(bed_->Ctl(std::move(flags))));
    return bed_->Inspect(name, "{{.State.Pid}}");
  }
  // The end of a container that runs `script`, and what it printed.
  Outcome Try(std::vector<std::string> flags, const std::string& script) {
    flags.insert(flags.begin(), {"run", "--rm"});
    flags.insert(flags.end(), {kImage, "sh", "-c", script});
    return bed_->Ctl(std::move(flags));
  }
  static std::string Namespace(const std::string& pid, const std::string& kind) {
    char text[100] = {};
    const ssize_t size =
        readlink(absl::StrCat("/proc/", pid, "/ns/", kind).c_str(), text, sizeof text - 1);
    return size > 0 ? text : "";
  }
  static std::string Status(const std::string& pid, absl::string_view field) {
    const std::string status =
        ReadFile(absl::StrCat("/proc/", pid, "/status"), 1 << 16).value_or("");
    for (absl::string_view line : absl::StrSplit(status, '\n')) {
      if (absl::ConsumePrefix(&line, field) && absl::ConsumePrefix(&line, ":"))
        return std::string(absl::StripAsciiWhitespace(line));
    }
    return "";
  }
  static std::vector<MountLine> Mounts(const std::string& pid) {
    std::vector<MountLine> mounts;
    const std::string text =
        ReadFile(absl::StrCat("/proc/", pid, "/mountinfo"), 4 << 20).value_or("");
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      const std::pair<absl::string_view, absl::string_view> halves = absl::StrSplit(line, " - ");
      const std::vector<std::string> place = absl::StrSplit(halves.first, ' ');
      const std::vector<std::string> kind = absl::StrSplit(halves.second, ' ');
      if (place.size() < 6) continue;
      mounts.push_back({place[4], place[5], place.size() > 6 ? place[6] : "", kind[0]});
    }
    return mounts;
  }
  static std::vector<std::string> MountPoints(const std::string& pid) {
    std::vector<std::string> points;
    for (const MountLine& mount : Mounts(pid)) points.push_back(mount.at);
    return points;
  }
  // The uppermost mount there.
  static MountLine MountAt(const std::string& pid, const std::string& path) {
    MountLine found;
    for (const MountLine& mount : Mounts(pid)) {
      if (mount.at == path) found = mount;
    }
    return found;
  }
  static bool IsReadOnly(const MountLine& mount) {
    return mount.options == "ro" || absl::StartsWith(mount.options, "ro,");
  }
  std::unique_ptr<Testbed> bed_;
};

TEST_F(ConfinementTest, NamespacesAreItsOwnUnlessTheyAreShared) {
  const std::string own = Run("own", {});
  for (const char* kind : {"pid", "net", "mnt", "ipc", "uts"}) {
    EXPECT_NE(Namespace(own, kind), "") << kind;
    EXPECT_NE(Namespace(own, kind), Namespace("self", kind)) << kind;
  }
  EXPECT_EQ(Namespace(own, "user"), Namespace("self", "user"));
  const std::string shared = Run("shared", {"--pid", "host", "--ipc", "host", "--uts", "host",
                                            "--network", "host", "--cgroupns", "host"});
  for (const char* kind : {"pid", "net", "ipc", "uts", "cgroup"})
    EXPECT_EQ(Namespace(shared, kind), Namespace("self", kind)) << kind;
  EXPECT_NE(Namespace(shared, "mnt"), Namespace("self", "mnt"));
  // Of cgroups by request, or where they are version 2, as docker has it.
  EXPECT_NE(Namespace(Run("groups", {"--cgroupns", "private"}), "cgroup"),
            Namespace("self", "cgroup"));
  Run("offers", {"--ipc", "shareable"});
  const std::string offers = bed_->Inspect("offers", "{{.State.Pid}}");
  const std::string joins = Run("joins", {"--pid", "container:offers", "--ipc", "container:offers",
                                          "--network", "container:offers"});
  for (const char* kind : {"pid", "ipc", "net"})
    EXPECT_EQ(Namespace(joins, kind), Namespace(offers, kind)) << kind;
  EXPECT_NE(Namespace(joins, "uts"), Namespace(offers, "uts"));
}

TEST_F(ConfinementTest, CapabilitiesAreDockersInEverySet) {
  struct Case {
    std::vector<std::string> flags;
    const char* permitted;
    const char* bounding;
  };
  constexpr char kDockers[] = "00000000a80425fb";
  constexpr char kNone[] = "0000000000000000";
  const std::vector<Case> cases = {
      {{}, kDockers, kDockers},
      {{"-u", "1000:1000"}, kNone, kDockers},
      {{"--cap-drop", "ALL"}, kNone, kNone},
      {{"--cap-drop", "ALL", "--cap-add", "NET_ADMIN"}, "0000000000001000", "0000000000001000"},
      {{"--cap-add", "SYS_ADMIN"}, "00000000a82425fb", "00000000a82425fb"},
      {{"--cap-drop", "MKNOD"}, "00000000a00425fb", "00000000a00425fb"},
  };
  int number = 0;
  for (const Case& one : cases) {
    const std::string pid = Run(absl::StrCat("c", number++), one.flags);
    EXPECT_EQ(Status(pid, "CapPrm"), one.permitted);
    EXPECT_EQ(Status(pid, "CapEff"), one.permitted);
    EXPECT_EQ(Status(pid, "CapBnd"), one.bounding);
    // What is inherited has been a way to get more: CVE-2022-24769.
    EXPECT_EQ(Status(pid, "CapInh"), kNone);
    EXPECT_EQ(Status(pid, "CapAmb"), kNone);
    EXPECT_EQ(Status(pid, "Seccomp"), "2");
    EXPECT_EQ(Status(pid, "NoNewPrivs"), "0");
  }
  const std::string privileged = Run("privileged", {"--privileged"});
  EXPECT_EQ(Status(privileged, "CapEff"), Status("self", "CapBnd"));
  EXPECT_EQ(Status(privileged, "CapInh"), kNone);
  EXPECT_EQ(Status(privileged, "Seccomp"), "0");
  const std::string no_new = Run("no-new", {"--security-opt", "no-new-privileges"});
  EXPECT_EQ(Status(no_new, "NoNewPrivs"), "1");
}

TEST_F(ConfinementTest, UsersAndGroupsAreThoseThatWereAskedFor) {
  const std::string pid =
      Run("users", {"-u", "1000:1001", "--group-add", "44", "--group-add", "45"});
  EXPECT_EQ(Status(pid, "Uid"), "1000\t1000\t1000\t1000");
  EXPECT_EQ(Status(pid, "Gid"), "1001\t1001\t1001\t1001");
  EXPECT_EQ(Status(pid, "Groups"), "44 45 1001");
  // Numbers that a careless reader takes for another one, or for a name: CVE-2024-40635.
  for (const char* user : {"4294967296", "4294967295", "2147483648", "18446744073709551616", "-1",
                           "00", "0x0", "+0", " 0", "1000:4294967296", "1000:-1"}) {
    const Outcome run = Try({"-u", user}, "id -u");
    EXPECT_EQ(run.code, 125) << user;
    EXPECT_EQ(run.out, "") << user;
  }
  EXPECT_EQ(Try({"-u", "2147483647"}, "id -u").out, "2147483647\n");
}

TEST_F(ConfinementTest, SystemCallsGetTheProfilesAnswer) {
  const std::string unshare = "unshare -m true && echo done";
  EXPECT_EQ(Try({}, unshare).out, "");
  // The call is the filter's to refuse, also from one that would be allowed to make it.
  EXPECT_EQ(Try({"--security-opt", "seccomp=unconfined", "--cap-add", "SYS_ADMIN"}, unshare).out,
            "done\n");
  const std::string profile = bed_->scratch() + "/profile.json";
  ASSERT_TRUE(
      WriteFile(profile,
                R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[)"
                R"({"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]})")
          .ok());
  const Outcome own = Try({"--security-opt", "seccomp=" + profile}, "mkdir /made; touch /file");
  EXPECT_THAT(own.err, HasSubstr("Permission denied"));
  EXPECT_EQ(own.code, 0);
}

TEST_F(ConfinementTest, MountsAreDockersSet) {
  const std::string pid = Run("mounts", {});
  const std::vector<std::string> points = MountPoints(pid);
  EXPECT_THAT(points, IsSupersetOf({"/", "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup",
                                    "/dev/mqueue", "/dev/shm", "/etc/hosts", "/etc/hostname",
                                    "/etc/resolv.conf"}));
  const std::vector<std::string> read_only_paths = {"/proc/bus", "/proc/fs", "/proc/irq",
                                                    "/proc/sys", "/proc/sysrq-trigger"};
  std::vector<std::string> paths = {
      "/proc/acpi",    "/proc/asound",      "/proc/interrupts",
      "/proc/kcore",   "/proc/keys",        "/proc/latency_stats",
      "/proc/scsi",    "/proc/timer_list",  "/proc/timer_stats",
      "/sys/firmware", "/proc/sched_debug", "/sys/devices/virtual/powercap"};
  paths.insert(paths.end(), read_only_paths.begin(), read_only_paths.end());
  for (const std::string& path : paths) {
    if (access(path.c_str(), F_OK) != 0) continue;  // this kernel has it not
    EXPECT_THAT(points, Contains(path));
  }
  // Nothing of the host's besides.
  for (const MountLine& mount : Mounts(pid)) {
    EXPECT_EQ(mount.propagation, "") << mount.at;
    const bool known = mount.at == "/" || absl::StartsWith(mount.at, "/proc") ||
                       absl::StartsWith(mount.at, "/dev") || absl::StartsWith(mount.at, "/sys") ||
                       absl::StartsWith(mount.at, "/etc/");
    EXPECT_TRUE(known) << mount.at;
  }
  EXPECT_TRUE(IsReadOnly(MountAt(pid, "/sys")));
  for (const std::string& path : read_only_paths) {
    if (access(path.c_str(), F_OK) != 0) continue;
    EXPECT_TRUE(IsReadOnly(MountAt(pid, path))) << path;
  }
  for (const char* path : {"/", "/proc", "/dev", "/dev/shm", "/etc/hosts"})
    EXPECT_FALSE(IsReadOnly(MountAt(pid, path))) << path;

  const std::string read_only = Run("read-only", {"--read-only", "--tmpfs", "/tmp"});
  for (const char* path : {"/", "/etc/hosts", "/etc/resolv.conf"})
    EXPECT_TRUE(IsReadOnly(MountAt(read_only, path))) << path;
  for (const char* path : {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/tmp"})
    EXPECT_FALSE(IsReadOnly(MountAt(read_only, path))) << path;
  EXPECT_EQ(MountAt(read_only, "/tmp").type, "tmpfs");
}

// A terminal is of the container's own devices, not of what its image has in their place, nor of
// the host's: CVE-2025-52565.
TEST_F(ConfinementTest, ATerminalIsAmongTheContainersOwnDevices) {
  for (const char* runtime : {"crun", "runc"}) {
    const std::string pid = Run(absl::StrCat("tty-", runtime), {"-t", "--runtime", runtime});
    EXPECT_EQ(MountAt(pid, "/dev").type, "tmpfs") << runtime;
    std::vector<std::string> terminals;
    for (const MountLine& mount : Mounts(pid)) {
      if (mount.type == "devpts") terminals.push_back(mount.at);
    }
    EXPECT_THAT(terminals, testing::UnorderedElementsAre("/dev/pts", "/dev/console")) << runtime;
    struct stat ours = {};
    struct stat hosts = {};
    ASSERT_EQ(stat(absl::StrCat("/proc/", pid, "/root/dev/pts").c_str(), &ours), 0);
    if (stat("/dev/pts", &hosts) == 0) {
      EXPECT_NE(ours.st_dev, hosts.st_dev) << runtime;
    }
  }
}

TEST_F(ConfinementTest, PathsAreMaskedAndUnmasked) {
  const std::string some = Run("some", {"--security-opt", "unmask=/proc/keys:/proc/b*",
                                        "--security-opt", "mask=/etc/passwd:/var"});
  const std::vector<std::string> points = MountPoints(some);
  EXPECT_THAT(points, Not(Contains("/proc/keys")));
  EXPECT_THAT(points, Not(Contains("/proc/bus")));
  EXPECT_THAT(points, Contains("/proc/sys"));
  EXPECT_THAT(points, Contains("/etc/passwd"));
  EXPECT_EQ(bed_->CtlOut({"exec", "some", "sh", "-c", "wc -c < /etc/passwd; ls /var"}), "0");
  const std::string all = Run("all", {"--security-opt", "unmask=ALL"});
  for (const MountLine& mount : Mounts(all))
    EXPECT_FALSE(absl::StartsWith(mount.at, "/proc/")) << mount.at;
  EXPECT_EQ(bed_->Inspect("all", "{{json .HostConfig.MaskedPaths}}"), "[]");
  // What cannot be is refused.
  EXPECT_EQ(Try({"--security-opt", "mask=here"}, "true").code, 125);
}

TEST_F(ConfinementTest, KernelParametersAreTheContainersOwn) {
  const std::string before = ReadFile("/proc/sys/kernel/msgmax", 100).value();
  const Outcome own = Try({"--sysctl", "kernel.msgmax=4242", "--sysctl", "net.ipv4.ip_forward=1"},
                          "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward");
  EXPECT_EQ(own.out, "4242\n1\n") << own.err;
  EXPECT_EQ(ReadFile("/proc/sys/kernel/msgmax", 100).value(), before);
  EXPECT_EQ(Try({"--sysctl", "vm.overcommit_memory=1"}, "true").code, 125);
  EXPECT_EQ(Try({"--network", "host", "--sysctl", "net.ipv4.ip_forward=1"}, "true").code, 125);
}

TEST_F(ConfinementTest, DevicesAreThoseThatWereGiven) {
  EXPECT_EQ(Try({}, "ls /dev | tr '\\n' ' '").out,
            "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ");
  // A number without a driver: what may be done with it is decided before that is known.
  const std::string host_node = bed_->scratch() + "/node";
  ASSERT_EQ(mknod(host_node.c_str(), S_IFCHR | 0666, makedev(60, 4)), 0);
  const Outcome given = Try({"--device", host_node + ":/dev/other:r"},
                            "cat /dev/other 2>&1 | sed 's/.*: //';"
                            "(echo x > /dev/other) 2>&1 | sed 's/.*: //'");
  EXPECT_EQ(given.out, "No such device or address\nOperation not permitted\n") << given.err;
  const std::string node = "mknod /tmp/node c 60 4 && cat /tmp/node 2>&1 | sed 's/.*: //'";
  EXPECT_EQ(Try({}, node).out, "Operation not permitted\n");
  EXPECT_EQ(Try({"--device-cgroup-rule", "c 60:4 r"}, node).out, "No such device or address\n");
  EXPECT_EQ(Try({"--privileged"}, node).out, "No such device or address\n");
}

// Below a mount that is shared, as systemd makes "/".
class PropagationTest : public ConfinementTest {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "containers need root";
    // The daemon gets this thread's mounts; nothing of it is seen outside.
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    char base[] = "/tmp/propagation-XXXXXX";
    ASSERT_NE(mkdtemp(base), nullptr);
    base_ = base;
    ASSERT_EQ(mount("tmpfs", base, "tmpfs", 0, nullptr), 0);
    ASSERT_EQ(mount(nullptr, base, nullptr, MS_SHARED, nullptr), 0);
    Start();
  }
  void TearDown() override {
    bed_.reset();
    if (base_.empty()) return;
    EXPECT_EQ(umount2(base_.c_str(), MNT_DETACH), 0);
    EXPECT_EQ(rmdir(base_.c_str()), 0);
  }
  std::string base_;
};

TEST_F(PropagationTest, IsPrivateUnlessAskedFor) {
  const std::string pid = Run("spread", {"-v", base_ + ":/private", "-v", base_ + ":/slave:rslave",
                                         "-v", base_ + ":/shared:rshared"});
  EXPECT_EQ(MountAt(pid, "/private").propagation, "");
  EXPECT_THAT(MountAt(pid, "/slave").propagation, HasSubstr("master:"));
  EXPECT_THAT(MountAt(pid, "/shared").propagation, HasSubstr("shared:"));
  // A source that is not shared cannot be.
  const Outcome refused = Try({"-v", "/proc:/x:rshared"}, "true");
  EXPECT_EQ(refused.code, 125);
  EXPECT_THAT(refused.err, HasSubstr("not a shared mount"));
}

}  // namespace
}  // namespace gantry::integration
