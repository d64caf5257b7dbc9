// A real gantryd for one test: its own root, state, sockets and namespace, real runtimes, real
// clients, and a check that nothing of it is left in the end.
//
// A test makes a Testbed, drives it with Ctl(), and lets it go: the destructor removes the
// containers, stops the daemon and looks for leaked processes, mounts, cgroups, runtime state and
// bundles, each named by something only this testbed has, so that tests can run beside each other.
// A leak fails the test.
//
// Programs are taken from $GANTRY_BIN (a directory with supervisor/gantryd, shim/gantry-shim and
// ctl/ctl), else from the test's runfiles. Needs root. Thread-compatible, but Ctl(), Ctr() and
// Start*() may be called from several threads.
#ifndef GANTRY_INTEGRATION_TESTBED_H_
#define GANTRY_INTEGRATION_TESTBED_H_

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

#include "base/subprocess.h"

namespace gantry::integration {

// How a program ended and what it printed.
struct Outcome {
  int code =
      -1;  // 128 + signal when a signal ended it; -1 when it did not start or had to be killed
  std::string out;
  std::string err;
  std::string command;

  bool ok() const { return code == 0; }
};
// For EXPECT_TRUE(Ok(outcome)): says what was run and what it printed.
testing::AssertionResult Ok(const Outcome& outcome);

Outcome RunProgram(std::vector<std::string> argv, const std::string& input = "",
                   absl::Duration timeout = absl::Seconds(60),
                   const std::map<std::string, std::string>& more_env = {});

// Polls until `condition` holds; false at the deadline. For states that no event reports.
bool Eventually(const std::function<bool()>& condition, absl::Duration limit = absl::Seconds(30));

class Testbed {
 public:
  struct Options {
    std::string config;  // config.toml; "" for none
    std::map<std::string, std::string> daemon_env;
    std::vector<std::string> daemon_flags;
    // A command that executes the words that follow it, and so starts the daemon. Empty: the daemon
    // is started directly.
    std::vector<std::string> daemon_wrapper;
    bool start = true;
    // Root, state and address come from `config`, where "@base@" stands for the directory that has
    // them: root, state, state/gantry.sock, and scratch for the test's own.
    bool places_from_config = false;
  };

  Testbed() : Testbed(Options()) {}
  explicit Testbed(Options options);
  ~Testbed();
  Testbed(const Testbed&) = delete;
  Testbed& operator=(const Testbed&) = delete;

  // --- the daemon
  // --------------------------------------------------------------------------------------------------

  // Starts gantryd and waits for its READY=1. `more_env` is for this run only.
  testing::AssertionResult StartDaemon(const std::map<std::string, std::string>& more_env = {});
  // The same without waiting; for a daemon that is to die.
  testing::AssertionResult SpawnDaemon(const std::map<std::string, std::string>& more_env = {});
  // kill -9, and waits until it is gone.
  void KillDaemon();
  // Waits for a daemon that ends by itself (at a crash point); returns 128 + signal or its exit
  // code, -1 when it lives on.
  int WaitDaemonGone(absl::Duration limit = absl::Seconds(30));
  // SIGTERM; fails when the daemon does not end of it, or not with 0.
  void StopDaemon();
  pid_t daemon_pid() const;
  std::string daemon_log() const;
  // What /metrics says, of a daemon started with --metrics-address 127.0.0.1:0; "" when nothing
  // comes.
  std::string Metrics(const std::string& path = "/metrics") const;
  // From spawn to READY=1, of the last start.
  absl::Duration start_took() const { return start_took_; }

  // --- clients
  // -----------------------------------------------------------------------------------------------------

  Outcome Ctl(std::vector<std::string> args, const std::string& input = "",
              absl::Duration timeout = absl::Seconds(60)) const;
  // Expects exit status 0; returns standard output without the last newline.
  std::string CtlOut(std::vector<std::string> args) const;
  // Debian's ctr on our socket, in our namespace.
  Outcome Ctr(std::vector<std::string> args, absl::Duration timeout = absl::Seconds(60)) const;
  // Runs beside the test.
  absl::StatusOr<Process> SpawnCtl(std::vector<std::string> args, int out_fd = -1,
                                   int in_fd = -1) const;
  // The command line of ctl with address and namespace.
  std::vector<std::string> CtlCommand(std::vector<std::string> args) const;

  // Loads a busybox image (docker-archive) under this name.
  testing::AssertionResult LoadBusybox(const std::string& name = "busybox:test");

  // --- looking at the machine
  // --------------------------------------------------------------------------------------

  const std::string& root() const { return root_; }
  const std::string& state() const { return state_; }
  const std::string& address() const { return address_; }
  const std::string& scratch() const { return scratch_; }  // for the test's own files
  const std::string& ns() const { return namespace_; }

  pid_t ZygotePid() const;
  // Full ids of bundles on disk.
  std::vector<std::string> Bundles() const;
  // The shim that serves a container, of our namespace unless another is named; 0 when none is
  // known.
  pid_t ShimPid(const std::string& full_id, const std::string& ns = "") const;
  // Value of a docker-like template for one container; "" when it is not there.
  std::string Inspect(const std::string& container, const std::string& format) const;
  testing::AssertionResult StatusBecomes(const std::string& container, const std::string& status,
                                         absl::Duration limit = absl::Seconds(30)) const;
  // What is still there of this testbed and should not be. Empty when the machine is clean.
  std::vector<std::string> Leaks() const;
  // Do not fail when the daemon is not there at the end.
  void DaemonMayBeDead() { daemon_may_be_dead_ = true; }

 private:
  std::string Binary(const std::string& name) const;
  void RemoveContainers();

  const Options options_;
  std::string base_;   // everything of this testbed lies below
  std::string token_;  // the unique part of base_
  std::string root_;
  std::string state_;
  std::string scratch_;
  std::string address_;
  std::string namespace_;
  std::string log_path_;
  Process daemon_;
  absl::Duration start_took_;
  bool daemon_may_be_dead_ = false;
  std::set<std::string> cgroups_before_;
  mutable std::set<std::string> ids_seen_;
};

// Names of the v1 and v2 cgroup directories that hold containers made by gantryd, on the whole
// machine.
std::set<std::string> ContainerCgroups();

}  // namespace gantry::integration

#endif  // GANTRY_INTEGRATION_TESTBED_H_
