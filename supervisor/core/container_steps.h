// The steps that a container's life is made of: start a task, stop it, settle its end. Removal is
// in container_removal.h.
//
// Used by the life cycle's calls, by streams that start a container, by restart policies and by
// recovery, which put the steps in order. Start, stop and settle are called with the container's
// operation lock held and its context, on the container as loaded under that lock, and bring
// `loaded` up to date.
//
// Thread-safe. Common status codes: kFailedPrecondition its state forbids it.
#ifndef GANTRY_SUPERVISOR_CORE_CONTAINER_STEPS_H_
#define GANTRY_SUPERVISOR_CORE_CONTAINER_STEPS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "supervisor/core/call_context.h"
#include "supervisor/core/container_records.h"
#include "supervisor/core/container_removal.h"
#include "supervisor/core/prepare_run.h"
#include "supervisor/core/start_waits.h"
#include "supervisor/core/stores.h"
#include "supervisor/core/task_service.h"

namespace gantry::core {

class ContainerSteps {
 public:
  // Nothing is owned.
  struct Parts {
    ContainerRecords* records;
    Stores* stores;
    TaskService* tasks;
    RunPreparer* runs;
    ContainerRemoval* removal;
    StartWaits* starts;
    // Of a container that removes itself, before it does; `ended` is null when it could not be
    // started. May be empty.
    std::function<void(const LoadedContainer&, const Process* ended)> before_self_removal = nullptr;
  };
  explicit ContainerSteps(const Parts& parts) : parts_(parts) {}

  // Prepares the run, makes the task and records its start; returns the pid. Those who wait for the
  // container's next start (StartWaits) are answered when the shim is up and before the process is
  // made; `before_create` is called after them, and the shim then waits for its attach.
  // `restart_count` is how often the restart policy has started the container since a client did.
  // On failure the container stays as it was, with the reason on record.
  absl::StatusOr<int32_t> StartLocked(const CallContext& context, LoadedContainer& loaded,
                                      uint32_t restart_count,
                                      std::function<void(runtime::Shim&)> before_create = nullptr);
  // The task was found running, since `started_at`: says so in the record.
  absl::Status NoteStarted(LoadedContainer& loaded, int32_t pid, absl::Time started_at);

  // What is to follow from the end that a stop brings about.
  enum class AfterStop { kStaysStopped, kStartsAgain };
  // Sends the stop signal ("" the container's own), SIGKILL after `patience` (then `killed`, which
  // may be null, is set), and returns once the process has ended. kAborted: a forced removal cut it
  // short.
  absl::Status StopLocked(const CallContext& context, LoadedContainer& loaded,
                          const std::string& signal, absl::Duration patience, AfterStop after,
                          bool* killed);
  // After SIGKILL: returns once the process has ended. kUnavailable: it has not, after `patience`.
  absl::Status WaitAfterKill(const CallContext& context, const std::string& id,
                             absl::Duration patience);
  // While this exists, no stop of the container waits longer than `patience` from now: neither one
  // that is under way nor one that begins before the caller has the operation lock.
  class Hurry {
   public:
    Hurry(ContainerSteps& steps, const std::string& ns, const std::string& id,
          absl::Duration patience);
    ~Hurry();
    Hurry(const Hurry&) = delete;
    Hurry& operator=(const Hurry&) = delete;

   private:
    ContainerSteps& steps_;
    std::multimap<std::pair<std::string, std::string>, absl::Duration>::iterator entry_;
  };

  // Takes the ended task's exit into the record and the task away. True: the container was removed
  // as well. With `keep` it is not removed, whatever its configuration says.
  absl::StatusOr<bool> SettleLocked(const CallContext& context, LoadedContainer& loaded,
                                    bool keep = false);

  // The end of the task is taken into the record, with the time of the restart if the policy wants
  // one.
  absl::Status NoteEnded(LoadedContainer& loaded, const Process& task,
                         metadata::Durability durability = metadata::Durability::kBuffered);

  // Publishes the signal, then sends it, so that its event precedes that of the end it causes.
  absl::Status SendSignal(const CallContext& context, const LoadedContainer& loaded, int signal);
  // The restart that the container waited for will not happen: answers those who wait for its next
  // exit with the last one.
  void EndRestartPause(const LoadedContainer& loaded);

 private:
  // A stop that waits for the end of its container.
  struct WaitingStop {
    absl::Duration deadline;             // monotonic
    std::shared_ptr<CancelToken> slice;  // cancelled when the deadline moves
  };
  using Key = std::pair<std::string, std::string>;  // namespace, id

  // Waits for the end for `patience`, or for less if a Hurry says so.
  absl::Status WaitForEnd(const CallContext& context, const std::string& id,
                          absl::Duration patience);
  absl::StatusOr<int32_t> CreateTaskOf(const CallContext& context, const LoadedContainer& loaded,
                                       std::function<void(runtime::Shim&)> before_create);
  void NoteStartFailed(LoadedContainer& loaded, const absl::Status& why);
  absl::Status SignalAndWait(const CallContext& context, const LoadedContainer& loaded, int signal,
                             absl::Duration patience, bool* killed);

  const Parts parts_;

  absl::Mutex mu_;
  std::map<Key, WaitingStop> stops_ ABSL_GUARDED_BY(mu_);
  std::multimap<Key, absl::Duration> hurries_ ABSL_GUARDED_BY(mu_);  // monotonic deadlines
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_CONTAINER_STEPS_H_
