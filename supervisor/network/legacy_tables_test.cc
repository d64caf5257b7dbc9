// Tables that the real program makes, in network namespaces of the tests' own. Needs root.
#include "supervisor/network/legacy_tables.h"

#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "base/temp_dir.h"
#include "supervisor/network/netns.h"

namespace gantry::network {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// What is said in a new namespace after these commands.
std::vector<std::string> After(const std::string& commands) {
  std::vector<std::string> said;
  // The program's usual lock is in /run, which a test may not write to.
  const TempDir locks;
  EXPECT_TRUE(NewNetns([&] {
                if (!commands.empty()) {
                  const std::string whole =
                      "PATH=/usr/sbin:/sbin:$PATH; export XTABLES_LOCKFILE=" + locks.Join("lock") +
                      "; " + commands;
                  EXPECT_EQ(system(whole.c_str()), 0) << commands;
                }
                said = LegacyProgramsThatDrop();
                return absl::OkStatus();
              }).ok());
  return said;
}

TEST(LegacyTablesTest, PoliciesThatDropAreSeen) {
  if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
  EXPECT_THAT(After(""), IsEmpty());
  EXPECT_THAT(After("iptables-legacy -A FORWARD -p tcp -j DROP"), IsEmpty());
  EXPECT_THAT(After("iptables-legacy -P INPUT DROP"), IsEmpty());
  EXPECT_THAT(After("iptables-legacy -P FORWARD DROP"), ElementsAre("iptables-legacy"));
  // Behind rules and chains of the administrator's own.
  EXPECT_THAT(After("iptables-legacy -N MINE && iptables-legacy -A FORWARD -j MINE && "
                    "iptables-legacy -A FORWARD -p udp --dport 53 -j ACCEPT && "
                    "iptables-legacy -P FORWARD DROP"),
              ElementsAre("iptables-legacy"));
  EXPECT_THAT(After("ip6tables-legacy -P FORWARD DROP"), ElementsAre("ip6tables-legacy"));
}

// A host that never used the program does not get its tables by being asked about them.
TEST(LegacyTablesTest, LookingMakesNoTable) {
  if (geteuid() != 0) GTEST_SKIP() << "makes network namespaces, which needs root";
  EXPECT_TRUE(NewNetns([] {
                EXPECT_THAT(LegacyProgramsThatDrop(), IsEmpty());
                EXPECT_NE(system("grep -q filter /proc/thread-self/net/ip_tables_names"), 0);
                return absl::OkStatus();
              }).ok());
}

}  // namespace
}  // namespace gantry::network
