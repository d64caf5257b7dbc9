#include "base/host/observer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "base/file.h"
#include "base/temp_dir.h"
#include "base/unique_fd.h"

namespace gantry::host {
namespace {

class ObserverTest : public testing::Test {
 protected:
  void Put(const std::string& path, const std::string& content) {
    const std::string at = tree_.path() + path;
    ASSERT_TRUE(MakeDirectories(at.substr(0, at.rfind('/')), 0755).ok());
    ASSERT_TRUE(WriteFile(at, content, 0644).ok());
  }
  Observation Look() {
    Places places;
    places.tree = tree_.path();
    places.root_directory = tree_.path() + "/root";
    places.state_directory = tree_.path() + "/state";
    places.socket = tree_.path() + "/state/gantry.sock";
    return Observe(places);
  }
  TempDir tree_;
};

TEST_F(ObserverTest, ReadsWhatTheKernelSays) {
  Put("/proc/filesystems", "nodev\ttmpfs\n\text4\n");
  Put("/proc/sys/kernel/pid_max", "32768\n");
  Put("/proc/sys/fs/file-nr", "900\t0\t1000\n");
  Put("/proc/loadavg", "0.1 0.2 0.3 2/345 678\n");
  Put("/proc/key-users", "    0:    10 9/9 190/200 100/20000\n 1000:     1 1/1 1/200 9/20000\n");
  Put("/proc/meminfo", "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n");
  Put("/proc/sys/net/ipv4/ip_forward", "0\n");
  Put("/proc/net/route", "Iface\tDestination\nlo\t0100000A\t0\t0\t0\t0\t0\tFFFFFFFF\n");
  Put("/sys/fs/cgroup/cgroup.controllers", "cpu io memory\n");
  const Observation seen = Look();
  EXPECT_FALSE(seen.overlay);
  EXPECT_FALSE(seen.seccomp);
  EXPECT_EQ(seen.pid_max, 32768);
  EXPECT_EQ(seen.open_files, 900);
  EXPECT_EQ(seen.open_files_max, 1000);
  EXPECT_EQ(seen.processes, 345);
  EXPECT_EQ(seen.key_count, 190);
  EXPECT_EQ(seen.key_max, 200);
  EXPECT_EQ(seen.memory_bytes, 2048u << 10);
  EXPECT_EQ(seen.memory_available_bytes, 1024u << 10);
  EXPECT_FALSE(seen.forwarding);
  EXPECT_FALSE(seen.has_default_route);
  EXPECT_EQ(seen.cgroups, Observation::Cgroups::kV2);
  EXPECT_EQ(seen.missing_controllers, (std::vector<std::string>{"cpuset", "pids"}));
}

TEST_F(ObserverTest, ReadsWhatTheHostIsConfiguredFor) {
  Put("/etc/resolv.conf", "# none\nsearch x\nnameserver 127.0.0.53\n nameserver\t::1\n");
  Put("/etc/hosts", "10.0.0.1 me\n");
  Put("/etc/ufw/ufw.conf", "# ufw\nENABLED=yes\n");
  Put("/run/docker.sock", "");
  Put("/run/firewalld/x", "");
  const Observation seen = Look();
  EXPECT_EQ(seen.name_servers, (std::vector<std::string>{"127.0.0.53", "::1"}));
  EXPECT_FALSE(seen.localhost_in_hosts);
  EXPECT_TRUE(seen.ufw);
  EXPECT_TRUE(seen.firewalld);
  EXPECT_EQ(seen.other_engines, (std::vector<std::string>{"docker (/run/docker.sock)"}));
  EXPECT_EQ(seen.spaces.size(), 2u);
}

TEST_F(ObserverTest, ADoorOfOursAtDockersPlaceIsNoOtherEngine) {
  Put("/run/docker.sock", "");
  const UniqueFd ours(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct stat info = {};
  ASSERT_EQ(fstat(ours.get(), &info), 0);
  const auto table = [](uint64_t inode, const char* path) {
    return absl::StrCat("Num       RefCount Protocol Flags    Type St Inode Path\n",
                        "0000000000000000: 00000002 00000000 00010000 0001 01 ", inode, " ", path,
                        "\n");
  };
  Put("/proc/net/unix", table(info.st_ino, "/run/docker.sock"));
  EXPECT_TRUE(Look().other_engines.empty());
  Put("/proc/net/unix", table(info.st_ino, "/var/run/docker.sock"));
  EXPECT_TRUE(Look().other_engines.empty());
  // Another process's, and another socket of ours.
  Put("/proc/net/unix", table(0, "/run/docker.sock"));
  EXPECT_EQ(Look().other_engines.size(), 1u);
  Put("/proc/net/unix", table(info.st_ino, "/run/other.sock"));
  EXPECT_EQ(Look().other_engines.size(), 1u);
}

TEST_F(ObserverTest, ALockThatIsHeldSaysThatTheDaemonRuns) {
  Places places;
  places.root_directory = tree_.path();
  places.socket = tree_.path() + "/gantry.sock";
  Observation seen;
  ObserveSilentDaemon(places, "no answer", seen);
  EXPECT_FALSE(seen.daemon_runs);
  EXPECT_FALSE(seen.socket_exists);
  const std::string path = tree_.path() + "/lock";
  const UniqueFd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  ObserveSilentDaemon(places, "no answer", seen);
  EXPECT_TRUE(seen.daemon_runs);
  ASSERT_EQ(flock(lock.get(), LOCK_UN), 0);
  ObserveSilentDaemon(places, "no answer", seen);
  EXPECT_FALSE(seen.daemon_runs);
}

}  // namespace
}  // namespace gantry::host
