#include "supervisor/core/container_wait.h"

#include <memory>
#include <utility>

#include "glog/logging.h"

#include "base/executor.h"
#include "base/status_macros.h"
#include "proto/containerd/events/task.pb.h"
#include "proto/gantry/v1/container_requests.pb.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {

std::function<void()> ContainerWait::WaitAsync(
    const CallContext& context, const v1::WaitContainerRequest& request,
    std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done) {
  absl::StatusOr<LoadedContainer> loaded = parts_.records->Load(context, request.container());
  if (!loaded.ok()) {
    done(loaded.status());
    return [] {};
  }
  auto wait = std::make_shared<PendingAnswer>(std::move(done));
  if (request.condition() == v1::WaitContainerRequest::REMOVED) {
    parts_.removals->Add(context.ns, loaded->id(), wait);
    if (!parts_.records->Load(context, loaded->id()).ok())
      wait->Answer(v1::WaitContainerResponse());
    return [this, wait, ns = context.ns, id = loaded->id()] {
      parts_.removals->Drop(ns, id, wait);
      wait->Answer(absl::CancelledError("the wait was cancelled"));
    };
  }
  absl::StatusOr<Process> task = parts_.tasks->Get(context.ns, loaded->id(), "");
  const bool runs = task.ok() && task->status != ProcessStatus::kStopped;
  if (!runs && request.condition() == v1::WaitContainerRequest::NOT_RUNNING) {
    v1::WaitContainerResponse response;
    response.set_exit_code(task.ok() ? task->exit_status : loaded->state.exit_code());
    response.set_error(loaded->state.error());
    wait->Answer(response);
    return [] {};
  }
  if (!runs) {
    // NEXT_EXIT of something that does not run yet: heard of by the event bus.
    auto subscription = std::make_shared<std::shared_ptr<Subscription>>();
    *subscription = parts_.events->Subscribe(
        [ns = context.ns](const Event& event) {
          return event.ns == ns && event.topic == "/tasks/exit";
        },
        [this, wait, subscription, id = loaded->id()] {
          parts_.workers->Schedule([wait, subscription, id] {
            while (EventPtr event = *subscription ? (*subscription)->Pop() : nullptr) {
              containerd::events::TaskExit exit;
              if (!exit.ParseFromString(event->payload) || exit.container_id() != id ||
                  exit.id() != id)
                continue;
              v1::WaitContainerResponse response;
              response.set_exit_code(exit.exit_status());
              *response.mutable_exited_at() = exit.exited_at();
              (*subscription)->Close();
              wait->Answer(response);
            }
          });
        });
    return [subscription, wait] {
      (*subscription)->Close();
      wait->Answer(absl::CancelledError("the wait was cancelled"));
    };
  }
  const uint64_t ticket = parts_.tasks->WaitAsync(
      context.ns, loaded->id(), "",
      [this, wait, ns = context.ns, id = loaded->id()](absl::StatusOr<Exit> exit) {
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
      });
  return [this, wait, ticket] {
    parts_.tasks->CancelWait(ticket);
    wait->Answer(absl::CancelledError("the wait was cancelled"));
  };
}

absl::StatusOr<bool> ContainerWait::SettleExit(const CallContext& context,
                                               const std::string& container) {
  // Whoever saw the end in a stream may be ahead of the event that tells us of it; the event is on its way.
  constexpr absl::Duration kEventUnderWay = absl::Seconds(3);
  absl::StatusOr<std::string> id = parts_.records->ResolveId(context, container);
  if (absl::IsNotFound(id.status())) return true;
  if (!id.ok()) return id.status();
  absl::Status heard = parts_.tasks->Wait(context, *id, "", kEventUnderWay).status();
  if (absl::IsDeadlineExceeded(heard)) return false;  // it runs again already
  OperationLock lock;
  absl::StatusOr<LoadedContainer> loaded =
      parts_.records->LoadLocked(context, container, lock, Interruptible::kNo);
  if (absl::IsNotFound(loaded.status())) return true;
  if (!loaded.ok()) return loaded.status();
  return parts_.steps->SettleLocked(lock.Within(context), *loaded);
}

}  // namespace gantry::core
