#include "shim/process_session.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace gantry::shim {
namespace {

using testing::UnorderedElementsAre;

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
  EXPECT_THAT(SessionOf(leader, {getpid(), leader, children[0], children[1], 1}),
              UnorderedElementsAre(leader, children[0], children[1]));
  EXPECT_THAT(SessionOf(children[0], {leader, children[0], children[1]}),
              UnorderedElementsAre(children[0]));
  for (const pid_t pid : {children[0], children[1], leader}) kill(pid, SIGKILL);
  waitpid(leader, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

}  // namespace
}  // namespace gantry::shim
