#include "shim/process_session.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::shim {
namespace {

using testing::UnorderedElementsAre;

std::vector<pid_t> PidsOf(const std::vector<ProcessId>& processes) {
  std::vector<pid_t> pids;
  for (const ProcessId& process : processes) pids.push_back(process.pid);
  return pids;
}

TEST(SessionOfTest, ChildrenBelongAlsoInSessionsOfTheirOwn) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t leader = fork();
  if (leader == 0) {
    setsid();
    pid_t children[2];
    for (int i = 0; i < 2; ++i) {
      children[i] = fork();
      if (children[i] == 0) {
        if (i == 1) setsid();
        (void)!write(ready[1], &i, sizeof i);
        while (true) pause();
      }
    }
    (void)!write(ready[1], children, sizeof children);
    while (true) pause();
  }
  // Three writes of a few bytes, in any order but each whole.
  int words[4];
  for (int& word : words) ASSERT_EQ(read(ready[0], &word, sizeof word), ssize_t{sizeof word});
  std::vector<pid_t> children;
  for (const int word : words) {
    if (word > 1) children.push_back(word);
  }
  ASSERT_EQ(children.size(), 2u);
  EXPECT_THAT(PidsOf(SessionOf(leader, {getpid(), leader, children[0], children[1], 1})),
              UnorderedElementsAre(leader, children[0], children[1]));
  EXPECT_THAT(PidsOf(SessionOf(children[0], {leader, children[0], children[1]})),
              UnorderedElementsAre(children[0]));
  for (const pid_t pid : {children[0], children[1], leader}) kill(pid, SIGKILL);
  waitpid(leader, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

// A child that waits to be killed; a session of its own if asked for.
pid_t Child(bool leads) {
  int ready[2];
  if (pipe(ready) != 0) return -1;
  const pid_t pid = fork();
  if (pid == 0) {
    if (leads) setsid();
    (void)!write(ready[1], "x", 1);
    while (true) pause();
  }
  char byte;
  (void)!read(ready[0], &byte, 1);
  close(ready[0]);
  close(ready[1]);
  return pid;
}

TEST(SessionSinceTest, WhatBelongsToOthersDoesNotBelong) {
  const pid_t leads = Child(true);
  const pid_t follows = Child(false);  // in the test's own session
  std::vector<ProcessId> earlier = SessionOf(leads, {leads, follows});
  const ProcessId in_ours = SessionOf(follows, {follows}).at(0);
  ASSERT_EQ(earlier.size(), 1u);
  EXPECT_THAT(PidsOf(SessionSince(earlier, {leads, follows, getpid()})),
              UnorderedElementsAre(leads));
  // Nobody of these leads the session that it is in, so the test itself is not met.
  EXPECT_THAT(PidsOf(SessionSince({in_ours}, {leads, follows, getpid()})),
              UnorderedElementsAre(follows));
  // Another process that has the pid now.
  earlier[0].start_ticks += 1;
  EXPECT_THAT(PidsOf(SessionSince(earlier, {leads, follows})), UnorderedElementsAre());
  for (const pid_t pid : {leads, follows}) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
}

TEST(SignalProcessTest, APidThatAnotherProcessHasIsNotMet) {
  const pid_t pid = Child(true);
  ProcessId process = SessionOf(pid, {pid}).at(0);
  process.start_ticks -= 1;
  EXPECT_FALSE(SignalProcess(process, SIGKILL));
  EXPECT_EQ(waitpid(pid, nullptr, WNOHANG), 0);
  process.start_ticks += 1;
  EXPECT_TRUE(SignalProcess(process, SIGKILL));
  EXPECT_EQ(waitpid(pid, nullptr, 0), pid);
  EXPECT_FALSE(SignalProcess(process, SIGKILL));
}

}  // namespace
}  // namespace gantry::shim
