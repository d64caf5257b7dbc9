// Waiting for a container to end or to be gone, without a thread.
#include <utility>

#include "glog/logging.h"

#include "base/executor.h"
#include "proto/containerd/events/task.pb.h"
#include "supervisor/core/container_service.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/proto_time.h"

namespace gantry::core {
void ContainerService::PendingAnswer::Answer(absl::StatusOr<v1::WaitContainerResponse> response) {
  std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done;
  {
    absl::MutexLock lock(&mu_);
    done = std::exchange(done_, nullptr);
  }
  if (done) done(std::move(response));
}

std::function<void()> ContainerService::WaitAsync(
    const CallContext& context, const v1::WaitContainerRequest& request,
    std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done) {
  absl::StatusOr<Loaded> loaded = Load(context, request.container());
  if (!loaded.ok()) {
    done(loaded.status());
    return [] {};
  }
  auto wait = std::make_shared<PendingAnswer>(std::move(done));
  if (request.condition() == v1::WaitContainerRequest::REMOVED) {
    const std::pair<std::string, std::string> key(context.ns, loaded->id());
    {
      absl::MutexLock lock(&mu_);
      removals_.emplace(key, wait);
    }
    if (!Load(context, loaded->id()).ok()) wait->Answer(v1::WaitContainerResponse());
    return [this, wait, key] {
      {
        absl::MutexLock lock(&mu_);
        auto [begin, end] = removals_.equal_range(key);
        for (auto it = begin; it != end; ++it) {
          if (it->second == wait) {
            removals_.erase(it);
            break;
          }
        }
      }
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

}  // namespace gantry::core
