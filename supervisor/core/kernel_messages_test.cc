#include "supervisor/core/kernel_messages.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace gantry::core {
namespace {

KernelSubject Subject() {
  KernelSubject subject;
  subject.container_id = "0123abcd";
  subject.pid = 77;
  subject.from = absl::Seconds(10);
  subject.until = absl::Seconds(20);
  return subject;
}

// What the kernel writes at a kill for want of memory, at second 15.
std::vector<std::string> OomRecords(const std::string& group) {
  return {
      "4,1,15000000,-;app invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0",
      "6,2,15000001,-;Tasks state (memory values in pages):",
      "6,3,15000002,-;[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem "
      "pgtables_bytes swapents oom_score_adj name",
      "6,4,15000003,-;[     77]     0    77     1092      256      0      256      0    45056   "
      "     0             0 sh",
      "6,5,15000004,-;[     78]     0    78    20000    16384  16000      384      0    90112   "
      "     0             0 app",
      "6,6,15000005,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
      "oom_memcg=" +
          group + ",task_memcg=/gantry/0123abcd,task=app,pid=78,uid=0",
      "3,7,15000006,-;Memory cgroup out of memory: Killed process 78 (app) total-vm:80000kB",
  };
}

TEST(KernelMessagesTest, AKillForWantOfMemoryNamesGroupVictimAndTheLargest) {
  const KernelMessages found = SelectKernelMessages(OomRecords("/gantry/0123abcd"), Subject());
  ASSERT_TRUE(found.oom.has_value());
  EXPECT_EQ(found.oom->group(), "/gantry/0123abcd");
  EXPECT_EQ(found.oom->victim(), "app");
  ASSERT_EQ(found.oom->largest_size(), 2);
  EXPECT_EQ(found.oom->largest(0).name(), "app");
  EXPECT_EQ(found.oom->largest(0).resident_bytes(), 64u << 20);
  ASSERT_EQ(found.lines.size(), 1u);
  EXPECT_TRUE(absl::StrContains(found.lines[0], "Killed process 78"));
}

TEST(KernelMessagesTest, TheGroupMayBeOneAbove) {
  const KernelMessages found = SelectKernelMessages(OomRecords("/gantry"), Subject());
  ASSERT_TRUE(found.oom.has_value());
  EXPECT_EQ(found.oom->group(), "/gantry");
}

TEST(KernelMessagesTest, WhatConcernsOthersOrAnotherTimeIsLeftOut) {
  KernelSubject other = Subject();
  other.container_id = "ffff";
  other.pid = 1;
  EXPECT_FALSE(SelectKernelMessages(OomRecords("/gantry/0123abcd"), other).oom.has_value());
  KernelSubject later = Subject();
  later.from = absl::Seconds(16);
  EXPECT_FALSE(SelectKernelMessages(OomRecords("/gantry/0123abcd"), later).oom.has_value());
  EXPECT_TRUE(SelectKernelMessages({"", ";", "6,1;x", "6,1,x,-;y"}, Subject()).lines.empty());
}

TEST(KernelMessagesTest, FaultsOfTheFirstProcessAreFoundByItsPid) {
  const std::vector<std::string> records = {
      "6,1,12000000,-;app[77]: segfault at 0 ip 000000 sp 0000 error 6 in app[400000+1000]\n "
      "SUBSYSTEM=x",
      "6,2,12000000,-;app[177]: segfault at 0 ip 000000 sp 0000 error 6 in app[400000+1000]",
      "5,3,12000000,-;audit: type=1326 audit(1.2:3): auid=1 uid=0 pid=77 comm=\"x\" sig=31 "
      "arch=c000003e syscall=165 compat=0",
  };
  const KernelMessages found = SelectKernelMessages(records, Subject());
  ASSERT_EQ(found.lines.size(), 2u);
  EXPECT_FALSE(absl::StrContains(found.lines[0], "SUBSYSTEM"));
  EXPECT_EQ(SeccompCall(found.lines[1]), 165);
  EXPECT_EQ(SeccompCall(found.lines[0]), std::nullopt);
}

TEST(KernelMessagesTest, AFaultOfAChildIsTakenNearTheEndOnly) {
  const std::vector<std::string> records = {
      "6,1,12000000,-;app[177]: segfault at 0 ip 000000 sp 0000 error 6",
      "6,2,19000000,-;app[178]: segfault at 0 ip 000000 sp 0000 error 6",
  };
  KernelSubject subject = Subject();
  EXPECT_TRUE(SelectKernelMessages(records, subject).lines.empty());
  subject.child_was_ended = true;
  const KernelMessages found = SelectKernelMessages(records, subject);
  ASSERT_EQ(found.lines.size(), 1u);
  EXPECT_TRUE(absl::StrContains(found.lines[0], "[178]"));
}

}  // namespace
}  // namespace gantry::core
