#include "supervisor/core/container_wait.h"

#include <memory>
#include <utility>

#include "glog/logging.h"

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "supervisor/core/container_state.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {

namespace {

// Calls `done` once, with the first answer: the wait may be given up while its end is on the way to
// the records.
class PendingAnswer {
 public:
  explicit PendingAnswer(std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done)
      : done_(std::move(done)) {}

  void Answer(absl::StatusOr<v1::WaitContainerResponse> response) {
    std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done;
    {
      absl::MutexLock lock(&mu_);
      done = std::exchange(done_, nullptr);
    }
    if (done) done(std::move(response));
  }

 private:
  absl::Mutex mu_;
  std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done_ ABSL_GUARDED_BY(mu_);
};

bool IsRestarting(const LoadedContainer& loaded, const absl::StatusOr<Process>& task) {
  return StateOf(loaded.state, loaded.config.restart_policy(), task.ok() ? &*task : nullptr) ==
         v1::CONTAINER_STATE_RESTARTING;
}

// Of a container that does not run.
v1::WaitContainerResponse LastExitOf(const LoadedContainer& loaded,
                                     const absl::StatusOr<Process>& task) {
  v1::WaitContainerResponse response;
  response.set_exit_code(task.ok() ? task->exit_status : loaded.state.exit_code());
  response.set_error(loaded.state.error());
  return response;
}

}  // namespace

std::function<void()> ContainerWait::WaitAsync(
    const CallContext& context, const v1::WaitContainerRequest& request,
    std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done) {
  absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, request.container());
  if (!loaded.ok()) {
    done(loaded.status());
    return [] {};
  }
  const std::string ns = context.ns;
  const std::string id = loaded->id();
  if (request.condition() == v1::WaitContainerRequest::REMOVED)
    return WaitForRemoval(context, id, std::move(done));
  const absl::StatusOr<Process> task = parts_.tasks->view().Get(ns, id, "");
  const bool runs = task.ok() && task->status != ProcessStatus::kStopped;
  // A container that waits for its restart counts as running; its next exit is waited for.
  const bool restarting = !runs && IsRestarting(*loaded, task);
  if (!runs && !restarting && request.condition() == v1::WaitContainerRequest::NOT_RUNNING) {
    done(LastExitOf(*loaded, task));
    return [] {};
  }
  auto wait = std::make_shared<PendingAnswer>(std::move(done));
  const auto on_exit = [this, wait, ns, id](absl::StatusOr<Exit> exit) {
    if (!exit.ok()) {
      wait->Answer(exit.status());
      return;
    }
    // Answered once the end is on record; that takes locks, so not on this thread.
    parts_.workers->Schedule([this, wait, ns, id, exit = *exit] {
      CallContext later;
      later.ns = ns;
      absl::StatusOr<bool> settled = SettleExit(later, id);
      if (!settled.ok()) LOG(WARNING) << "ns=" << ns << " id=" << id << " " << settled.status();
      v1::WaitContainerResponse response;
      response.set_exit_code(exit.status);
      response.set_oom_killed(exit.oom_killed);
      SetTimestamp(exit.at, response.mutable_exited_at());
      wait->Answer(response);
    });
  };
  uint64_t ticket;
  if (restarting || request.condition() == v1::WaitContainerRequest::NEXT_EXIT) {
    ticket = parts_.tasks->waits().WaitNextExitAsync(ns, id, on_exit);
    // Two events between the look and the wait would not answer it: a removal, and the end of a
    // restart pause that no run follows.
    const absl::StatusOr<LoadedContainer> now = parts_.records->Load(context, id);
    if (absl::IsNotFound(now.status())) parts_.tasks->waits().EndNextExitWaits(ns, id);
    if (restarting && now.ok()) {
      const absl::StatusOr<Process> next = parts_.tasks->view().Get(ns, id, "");
      const bool over = !next.ok() || next->status == ProcessStatus::kStopped;
      if (over && !IsRestarting(*now, next)) {
        wait->Answer(LastExitOf(*now, next));
        parts_.tasks->waits().CancelWait(ticket);
      }
    }
  } else {
    ticket = parts_.tasks->waits().WaitAsync(ns, id, "", on_exit);
  }
  return [this, wait, ticket] {
    parts_.tasks->waits().CancelWait(ticket);
    wait->Answer(absl::CancelledError("the wait was cancelled"));
  };
}

std::function<void()> ContainerWait::WaitForRemoval(
    const CallContext& context, const std::string& id,
    std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done) {
  const absl::StatusOr<RemovalWaits::Ticket> ticket =
      parts_.removals->Add({context.ns, id}, std::move(done));
  if (!ticket.ok()) {
    done(ticket.status());  // NOLINT(bugprone-use-after-move): it was not taken
    return [] {};
  }
  // Removed between the look and the wait.
  if (absl::IsNotFound(parts_.records->Load(context, id).status()))
    parts_.removals->AnswerOne(*ticket, v1::WaitContainerResponse());
  return [removals = parts_.removals, ticket = *ticket] {
    removals->AnswerOne(ticket, absl::CancelledError("the wait was cancelled"));
  };
}

absl::StatusOr<bool> ContainerWait::SettleExit(const CallContext& context,
                                               const std::string& container) {
  // A caller that saw the end in a stream may be ahead of the shim's exit event.
  constexpr absl::Duration kEventUnderWay = absl::Seconds(3);
  absl::StatusOr<std::string> id = parts_.records->ResolveId(context, container);
  if (absl::IsNotFound(id.status())) return true;
  if (!id.ok()) return id.status();
  absl::Status heard = parts_.tasks->waits().Wait(context, *id, "", kEventUnderWay).status();
  if (absl::IsDeadlineExceeded(heard)) return false;  // it runs again already
  OperationLock lock;
  absl::StatusOr<LoadedContainer> loaded =
      parts_.records->LoadLocked(context, container, lock, Interruptible::kNo);
  if (absl::IsNotFound(loaded.status())) return true;
  if (!loaded.ok()) return loaded.status();
  return parts_.steps->SettleLocked(lock.Within(context), *loaded);
}

}  // namespace gantry::core
