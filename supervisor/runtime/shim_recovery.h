// After a restart: finds the bundles, looks who still answers, and says what each task is now.
//
// A shim that lives and has recorded its state is not asked: a machine with a thousand containers
// knows them again in a fraction of a second.
//
// Three steps. Observe() gathers facts about one bundle and changes nothing; Decide() turns them
// into a verdict and is a pure function; Recover() does both for all bundles side by side, each
// with the same deadline, and connects those to adopt. What a verdict asks for is carried out by
// the caller (core), with dead_task.h for the leftovers.
//
// A shim that does not answer is never deleted on a guess: kKeepUnknown.
//
// Recover() blocks; Decide() may be called from anywhere.
#ifndef GANTRY_SUPERVISOR_RUNTIME_SHIM_RECOVERY_H_
#define GANTRY_SUPERVISOR_RUNTIME_SHIM_RECOVERY_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "proto/shim/v1/shim.pb.h"
#include "supervisor/runtime/bundle.h"
#include "supervisor/runtime/dead_task.h"
#include "supervisor/runtime/shim_registry.h"

namespace gantry::runtime {

enum class Verdict {
  kAdopt,        // the shim answers, or has recorded its state, and is who it should be: use it
  kReap,         // nothing was ever running, or what is left has no owner: clean up, report nothing
  kMarkExited,   // the container ran and is over, the shim is gone: report the exit, then clean up
  kKeepUnknown,  // the shim lives but does not answer: show the task as unknown, try again later
};
absl::string_view VerdictName(Verdict verdict);

struct Observation {
  bool launch_record_ok = false;
  bool same_boot = false;  // the record was written since the machine started
  enum class Process {
    kNeverReady,  // no shim.json: the supervisor died during the launch
    kGone,        // the process named there has ended
    kAlive,
  };
  Process process = Process::kNeverReady;
  enum class Answer {
    kNobody,    // no socket, or connection refused
    kSilent,    // connected or in progress, but no answer by the deadline
    kStranger,  // answered for another task
    kAnswered,  // or its process lives and has recorded what it would answer
  };
  Answer answer = Answer::kNobody;
  // As the shim tells it; STATUS_EMPTY: it was never asked to create.
  shim::v1::Status init_status = shim::v1::STATUS_UNKNOWN;
  bool removal_finished = false;  // the shim had a delete call and had done all of its part
  bool exit_record = false;       // the shim wrote down how the init process ended
  bool init_was_started = false;  // a pid was recorded: the container existed
};
Verdict Decide(const Observation& observation);

struct RecoveredTask {
  TaskKey key;
  Verdict verdict = Verdict::kKeepUnknown;
  std::string reason;  // one clause, for the log and for `inspect`
  // With what config.json tells of the cgroup, and nothing else, where the launch record is missing
  // or damaged.
  std::optional<Bundle> bundle;
  std::shared_ptr<Shim> shim;  // whenever its process lives: to use, to shut down, or to ask again
  std::optional<shim::v1::InfoResponse> info;  // when it answered, or recorded its state
  bool info_is_recorded = false;               // the shim was not asked: see state_record.h
  std::optional<TaskExit> exit;                // kMarkExited: recorded by the shim, or synthesised
};

// All bundles of the store, or the one of `only`, in parallel. Order is by key. Takes at most
// `deadline` plus the time to read the directories.
absl::StatusOr<std::vector<RecoveredTask>> RecoverShims(
    const BundleStore& store, absl::Duration deadline,
    const std::optional<TaskKey>& only = std::nullopt);

}  // namespace gantry::runtime

#endif  // GANTRY_SUPERVISOR_RUNTIME_SHIM_RECOVERY_H_
