// Starts child processes and learns of their end: the shim is the subreaper of everything its
// container leaves behind.
//
// Every child is reaped from one place, on the event loop, by SIGCHLD. The end of a claimed child
// is reported to its owner; orphans are reaped and forgotten. While a Hold exists, orphans stay
// zombies: a runtime that was just started may have made a process whose pid we are about to learn,
// and a zombie keeps its pid, its parent and its cgroup readable.
//
// When several have ended, claims are reported in the order of their rank: execs before the init
// process.
//
// Thread-safe. Callbacks run on the loop's thread without any lock held. SIGCHLD must be blocked in
// every thread of the process before the first one is made.
#ifndef GANTRY_SHIM_REAPER_H_
#define GANTRY_SHIM_REAPER_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/unique_fd.h"
#include "shim/event_loop.h"

namespace gantry::shim {

// A program to run. It gets the descriptors listed and no others, default signal handling, an empty
// signal mask and its own process group; working directory as ours.
struct SpawnRequest {
  std::vector<std::string> argv;  // argv[0] is a path, there is no search
  std::string program;            // executed in place of argv[0]; "" for that itself
  std::vector<std::string> env;
  // {ours, the child's}; the child's numbers are 0 .. n-1. A standard stream that is not named is
  // /dev/null.
  std::vector<std::pair<int, int>> fds;
  bool ignore_sigpipe = false;  // the one signal that may be handled other than by default
  int oom_score_adj = 0;        // not ours: the shim may be protected, what it starts is not
};

class Reaper {
 public:
  using OnExit = std::function<void(int wait_status, absl::Time at)>;
  enum class Rank { kHelper = 0, kExec = 1, kInit = 2 };

  // Watches SIGCHLD on `loop`, which must outlive the reaper.
  static absl::StatusOr<std::unique_ptr<Reaper>> Create(EventLoop* loop);
  Reaper(const Reaper&) = delete;
  Reaper& operator=(const Reaper&) = delete;
  ~Reaper();

  // kNotFound, kPermissionDenied: the program; others: no process could be made.
  absl::StatusOr<pid_t> Spawn(const SpawnRequest& request, OnExit on_exit) ABSL_LOCKS_EXCLUDED(mu_);

  // Runs to the end; the answer is the wait status. After `timeout` the process group is killed and
  // the answer is kDeadlineExceeded. Not on the loop's thread.
  absl::StatusOr<int> Run(const SpawnRequest& request, absl::Duration timeout)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Reports the end of `pid`, a child of ours, also if it has ended already (under a Hold).
  void Claim(pid_t pid, Rank rank, OnExit on_exit) ABSL_LOCKS_EXCLUDED(mu_);

  // RAII, see above. Thread-compatible; must not outlive the reaper.
  class Hold {
   public:
    explicit Hold(Reaper* reaper);
    ~Hold();
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    Reaper* const reaper_;
  };

  // Kills the unclaimed children: what is left of a runtime that hung or returned wrongly. Under a
  // Hold; does nothing while there are other Holds.
  void KillUnclaimed() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Claimed {
    Rank rank;
    OnExit on_exit;
  };

  Reaper(EventLoop* loop, UniqueFd signals) : loop_(loop), signals_(std::move(signals)) {}
  void Reap() ABSL_LOCKS_EXCLUDED(mu_);

  EventLoop* const loop_;
  const UniqueFd signals_;  // signalfd for SIGCHLD

  absl::Mutex mu_;
  std::map<pid_t, Claimed> claims_ ABSL_GUARDED_BY(mu_);
  int holds_ ABSL_GUARDED_BY(mu_) = 0;
};

// As a shell counts: the code, or 128 + signal.
uint32_t ExitStatusOf(int wait_status);

}  // namespace gantry::shim

#endif  // GANTRY_SHIM_REAPER_H_
