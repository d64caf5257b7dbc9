#include "supervisor/runtime/shim_recovery.h"

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"

#include "base/clock.h"
#include "base/status_macros.h"
#include "shim/exit_record.h"
#include "shim/state_record.h"
#include "supervisor/runtime/shim_launcher.h"

namespace gantry::runtime {
namespace {

constexpr uint32_t kKilledStatus = 137;

// The answers that are still awaited. Shared with the calls, which may come back after the wait has
// ended any more.
struct Answers {
  absl::Mutex mu;
  int outstanding ABSL_GUARDED_BY(mu) = 0;
  std::vector<absl::StatusOr<shim::v1::InfoResponse>> infos ABSL_GUARDED_BY(mu);

  bool Complete() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) { return outstanding == 0; }
};

// A bundle whose launch record cannot be read. The spec, where it can be read, names the cgroup
// that is to be emptied.
Bundle Salvage(const BundleStore& store, const TaskKey& key) {
  LaunchRecord launch;
  Bundle bundle(key, store.PathOf(key), store.SocketPathOf(key), launch);
  const absl::StatusOr<std::string> config = bundle.ReadConfig();
  if (!config.ok()) return bundle;
  const nlohmann::json spec = nlohmann::json::parse(*config, nullptr, /*allow_exceptions=*/false);
  if (!spec.is_object() || !spec.contains("linux") || !spec["linux"].is_object()) return bundle;
  const auto path = spec["linux"].find("cgroupsPath");
  if (path != spec["linux"].end() && path->is_string())
    launch.cgroup_path = path->get<std::string>();
  return Bundle(key, store.PathOf(key), store.SocketPathOf(key), std::move(launch));
}

std::string Explain(const Observation& seen, Verdict verdict) {
  switch (verdict) {
    case Verdict::kAdopt:
      return "its shim answers";
    case Verdict::kReap:
      if (!seen.launch_record_ok) return "its launch record is missing or damaged";
      if (seen.removal_finished) return "its removal had only the bundle left to remove";
      return "its launch had not got as far as a container";
    case Verdict::kMarkExited:
      if (!seen.same_boot) return "the machine was restarted";
      if (seen.exit_record) return "its shim recorded the exit and is gone";
      return "its shim died and left no record of the exit";
    case Verdict::kKeepUnknown:
      break;
  }
  switch (seen.answer) {
    case Observation::Answer::kNobody:
      return "its shim lives but its socket is not served";
    case Observation::Answer::kSilent:
      return "its shim did not answer in time";
    case Observation::Answer::kStranger:
      return "another task's shim answers at its socket";
    case Observation::Answer::kAnswered:
      break;
  }
  return "its launch record cannot be read but its shim lives";
}

}  // namespace

absl::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAdopt:
      return "adopt";
    case Verdict::kReap:
      return "reap";
    case Verdict::kMarkExited:
      return "mark_exited";
    case Verdict::kKeepUnknown:
      return "keep_unknown";
  }
  return "";
}

Verdict Decide(const Observation& seen) {
  const bool had_container = seen.exit_record || seen.init_was_started;
  // The removal needs nothing of the shim any more, whether it has gone yet or not.
  if (seen.removal_finished) return seen.exit_record ? Verdict::kMarkExited : Verdict::kReap;
  // Pids and sockets of another boot mean nothing.
  if (seen.launch_record_ok && !seen.same_boot) {
    return had_container ? Verdict::kMarkExited : Verdict::kReap;
  }
  if (!seen.launch_record_ok) {
    // Without one no shim was forked, or the bundle is half removed, or the file is damaged: the
    // process tells.
    if (seen.process == Observation::Process::kAlive) {
      return seen.answer == Observation::Answer::kAnswered &&
                     seen.init_status != shim::v1::STATUS_EMPTY
                 ? Verdict::kAdopt
                 : Verdict::kKeepUnknown;
    }
    return seen.exit_record ? Verdict::kMarkExited : Verdict::kReap;
  }
  switch (seen.answer) {
    case Observation::Answer::kAnswered:
      return seen.init_status == shim::v1::STATUS_EMPTY ? Verdict::kReap : Verdict::kAdopt;
    case Observation::Answer::kSilent:
      // A dead process does not keep a connection waiting: the process is alive.
      if (seen.process != Observation::Process::kGone) return Verdict::kKeepUnknown;
      break;
    case Observation::Answer::kStranger:
    case Observation::Answer::kNobody:
      if (seen.process == Observation::Process::kAlive) return Verdict::kKeepUnknown;
      break;
  }
  return had_container ? Verdict::kMarkExited : Verdict::kReap;
}

absl::StatusOr<std::vector<RecoveredTask>> RecoverShims(const BundleStore& store,
                                                        absl::Duration deadline,
                                                        const std::optional<TaskKey>& only) {
  const absl::Duration until = Clock::Real().Monotonic() + deadline;
  GANTRY_ASSIGN_OR_RETURN(std::vector<FoundBundle> found, store.List());
  if (only.has_value()) {
    found.erase(std::remove_if(found.begin(), found.end(),
                               [&only](const FoundBundle& one) { return !(one.key == *only); }),
                found.end());
  }

  struct Candidate {
    Observation seen;
    std::optional<ShimProcess> process;
    UniqueFd pidfd;
    std::unique_ptr<ShimClient> client;
    std::optional<shim::v1::InfoResponse> recorded;
    absl::StatusOr<TaskExit> exit = absl::NotFoundError("no exit record");
  };
  std::vector<Candidate> candidates(found.size());
  const auto answers = std::make_shared<Answers>();
  {
    absl::MutexLock lock(&answers->mu);
    answers->infos.assign(found.size(), absl::DeadlineExceededError("no answer"));
  }

  for (size_t i = 0; i < found.size(); ++i) {
    Candidate& candidate = candidates[i];
    Observation& seen = candidate.seen;
    seen.launch_record_ok = found[i].bundle.ok();
    // Damaged or not, the directory tells who served it.
    const Bundle bundle = found[i].bundle.ok()
                              ? *found[i].bundle
                              : Bundle(found[i].key, store.PathOf(found[i].key),
                                       store.SocketPathOf(found[i].key), LaunchRecord());
    seen.same_boot = found[i].bundle.ok() && bundle.launch().boot_id == store.boot_id();
    seen.removal_finished = shim::IsDeleted(bundle.path());
    seen.init_was_started = ReadInitPid(bundle) != 0;
    candidate.exit = ReadTaskExit(bundle);
    seen.exit_record = candidate.exit.ok();
    const absl::StatusOr<ShimProcess> process = bundle.ReadShimProcess();
    if (process.ok()) {
      absl::StatusOr<UniqueFd> pidfd = OpenShimPidfd(*process);
      seen.process = pidfd.ok() ? Observation::Process::kAlive : Observation::Process::kGone;
      if (pidfd.ok()) {
        candidate.process = *process;
        candidate.pidfd = *std::move(pidfd);
      }
    }
    if (seen.launch_record_ok ? !seen.same_boot || seen.process == Observation::Process::kGone
                              : seen.process != Observation::Process::kAlive) {
      continue;
    }
    // Asking a thousand shims takes seconds of processor time, reading what they recorded a tenth
    // of one. A record that cannot be read is no loss: the shim is asked.
    if (seen.launch_record_ok && seen.process == Observation::Process::kAlive) {
      absl::StatusOr<shim::v1::InfoResponse> state = shim::ReadStateRecord(bundle.path());
      if (state.ok() && state->shim_pid() == candidate.process->pid) {
        candidate.recorded = *std::move(state);
        continue;
      }
    }
    candidate.client = std::make_unique<ShimClient>(bundle.key(), bundle.socket_path());
    {
      absl::MutexLock lock(&answers->mu);
      ++answers->outstanding;
    }
    candidate.client->InfoAsync(until - Clock::Real().Monotonic(),
                                [answers, i](absl::StatusOr<shim::v1::InfoResponse> info) {
                                  absl::MutexLock lock(&answers->mu);
                                  answers->infos[i] = std::move(info);
                                  --answers->outstanding;
                                });
  }

  std::vector<absl::StatusOr<shim::v1::InfoResponse>> infos;
  {
    absl::MutexLock lock(&answers->mu);
    // The calls have the same deadline; the little more is for those that report it.
    answers->mu.AwaitWithTimeout(
        absl::Condition(answers.get(), &Answers::Complete),
        std::max(until - Clock::Real().Monotonic(), absl::ZeroDuration()) + absl::Milliseconds(50));
    infos = answers->infos;
  }

  std::vector<RecoveredTask> tasks;
  tasks.reserve(found.size());
  for (size_t i = 0; i < found.size(); ++i) {
    Candidate& candidate = candidates[i];
    Observation& seen = candidate.seen;
    const TaskKey& key = found[i].key;
    const bool recorded = candidate.recorded.has_value();
    if (recorded) infos[i] = *std::move(candidate.recorded);
    if (candidate.client != nullptr || recorded) {
      if (infos[i].ok()) {
        const bool ours =
            infos[i]->namespace_() == key.ns && infos[i]->container_id() == key.container_id;
        seen.answer = ours ? Observation::Answer::kAnswered : Observation::Answer::kStranger;
        seen.init_status = infos[i]->init().status();
      } else {
        seen.answer = absl::IsUnavailable(infos[i].status()) ? Observation::Answer::kNobody
                                                             : Observation::Answer::kSilent;
      }
    }
    // The supervisor died between the shim's readiness and writing down who it is: the shim itself
    // knows.
    if (seen.answer == Observation::Answer::kAnswered && !candidate.process.has_value()) {
      const pid_t pid = infos[i]->shim_pid();
      const absl::StatusOr<uint64_t> start = ReadStartTime(pid);
      if (start.ok()) {
        const ShimProcess process{pid, *start};
        absl::StatusOr<UniqueFd> pidfd = OpenShimPidfd(process);
        if (pidfd.ok()) {
          candidate.process = process;
          candidate.pidfd = *std::move(pidfd);
          seen.process = Observation::Process::kAlive;
          if (found[i].bundle.ok()) (void)found[i].bundle->WriteShimProcess(process);
        }
      }
    }

    RecoveredTask task;
    task.key = key;
    task.verdict = Decide(seen);
    task.reason = Explain(seen, task.verdict);
    task.bundle = found[i].bundle.ok() ? *std::move(found[i].bundle) : Salvage(store, key);
    if (candidate.process.has_value()) {
      task.shim = std::make_shared<Shim>(*task.bundle, *candidate.process,
                                         std::move(candidate.pidfd), std::move(candidate.client));
    }
    if (seen.answer == Observation::Answer::kAnswered) {
      task.info = *std::move(infos[i]);
      task.info_is_recorded = recorded;
    }
    if (task.verdict == Verdict::kMarkExited) {
      if (candidate.exit.ok()) {
        task.exit = *candidate.exit;
      } else {
        TaskExit exit;
        exit.exit_status = kKilledStatus;
        exit.exited_at = absl::Now();
        exit.synthesised = true;
        exit.reason = task.reason;
        exit.pid = ReadInitPid(*task.bundle);
        task.exit = std::move(exit);
      }
    }
    tasks.push_back(std::move(task));
  }
  return tasks;
}

}  // namespace gantry::runtime
