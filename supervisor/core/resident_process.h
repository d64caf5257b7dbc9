// A process whose root is a directory, in a mount namespace of its own: what a container's process
// looks like from outside, for tests. Needs root. Ends with its object.
#ifndef GANTRY_SUPERVISOR_CORE_RESIDENT_PROCESS_H_
#define GANTRY_SUPERVISOR_CORE_RESIDENT_PROCESS_H_

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace gantry::core {

class Resident {
 public:
  // `binds`: paths of the host, with their targets in the tree.
  explicit Resident(const std::string& root,
                    std::vector<std::pair<std::string, std::string>> binds = {}) {
    int ready[2] = {-1, -1};
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    for (auto& [source, target] : binds) target = root + target;
    // The child makes nothing but system calls: the test has other threads.
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      bool ok = unshare(CLONE_NEWNS) == 0 &&
                mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                mount(root.c_str(), root.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0;
      for (const auto& [source, target] : binds)
        ok = ok && mount(source.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) == 0;
      ok = ok && chdir(root.c_str()) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
           umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
      if (write(ready[1], ok ? "y" : "n", 1) != 1) _exit(1);
      for (;;) pause();
    }
    close(ready[1]);
    char answer = 'n';
    EXPECT_EQ(read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y') << "the process could not enter " << root;
    close(ready[0]);
  }
  ~Resident() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Resident(const Resident&) = delete;
  Resident& operator=(const Resident&) = delete;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_RESIDENT_PROCESS_H_
