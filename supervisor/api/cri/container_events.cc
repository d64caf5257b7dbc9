#include "supervisor/api/cri/container_events.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/status_macros.h"
#include "proto/record/v1/record.pb.h"
#include "supervisor/api/cri/container_now.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/pod_containers.h"
#include "supervisor/core/pod_service.h"

namespace gantry::api::cri {
namespace {

// Looks this often whether the client has gone.
constexpr absl::Duration kEventLook = absl::Milliseconds(250);

class EventSender {
 public:
  explicit EventSender(const CriParts& parts) : parts_(parts) {}

  absl::Status Send(const core::CallContext& in, CancelToken& cancel,
                    Sender<wire::ContainerEventResponse>& out) {
    absl::Mutex mu;
    bool more = false;
    const std::shared_ptr<core::Subscription> events = parts_.events->Subscribe(
        [](const core::Event& event) {
          return event.ns == kNamespace && (event.kind == core::EventKind::kContainer ||
                                            event.kind == core::EventKind::kSandbox);
        },
        [&mu, &more] {
          absl::MutexLock lock(&mu);
          more = true;
        });
    const absl::Cleanup close = [&events] { events->Close(); };
    Known known = KnownNow(in);
    while (true) {
      GANTRY_RETURN_IF_ERROR(cancel.Check());
      {
        absl::MutexLock lock(&mu);
        mu.AwaitWithTimeout(absl::Condition(&more), kEventLook);
        more = false;
      }
      while (const core::EventPtr event = events->Pop()) {
        std::optional<wire::ContainerEventResponse> answer = ToEvent(in, *event, known);
        if (answer.has_value()) GANTRY_RETURN_IF_ERROR(out.Send(*std::move(answer)));
      }
      GANTRY_RETURN_IF_ERROR(events->status());
    }
  }

 private:
  // What a stream of events knows of pods: the end of one is told with its status, as the kubelet
  // wants it, and core has forgotten it by then.
  struct Known {
    std::map<std::string, std::string> pod_of;           // by container
    std::map<std::string, wire::PodSandboxStatus> pods;  // as each was last
  };
  Known KnownNow(const core::CallContext& in) {
    Known known;
    for (const core::Pod& pod : parts_.pods->List(in)) known.pods[pod.id] = ToSandboxStatus(pod);
    const absl::StatusOr<std::vector<core::LoadedContainer>> all = parts_.pod_containers->List(in);
    if (!all.ok()) return known;
    for (const core::LoadedContainer& one : *all) known.pod_of[one.id()] = one.record.sandbox();
    return known;
  }

  // Nothing for events that CRI does not have, or of containers that are of no pod.
  std::optional<wire::ContainerEventResponse> ToEvent(const core::CallContext& in,
                                                      const core::Event& event, Known& known) {
    const bool of_pod = event.kind == core::EventKind::kSandbox;
    wire::ContainerEventResponse out;
    if (event.action == core::action::kCreate && event.low_level == of_pod) {
      out.set_container_event_type(wire::CONTAINER_CREATED_EVENT);
    } else if (event.action == core::action::kStart) {
      out.set_container_event_type(wire::CONTAINER_STARTED_EVENT);
    } else if (event.action == (of_pod ? core::action::kExit : core::action::kDie)) {
      out.set_container_event_type(wire::CONTAINER_STOPPED_EVENT);
    } else if (event.action == (of_pod ? core::action::kDelete : core::action::kDestroy)) {
      out.set_container_event_type(wire::CONTAINER_DELETED_EVENT);
    } else {
      return std::nullopt;
    }
    const bool gone = out.container_event_type() == wire::CONTAINER_DELETED_EVENT;
    const std::string pod_id = of_pod ? event.id : PodOf(in, event.id, known);
    if (!of_pod && gone) known.pod_of.erase(event.id);
    if (pod_id.empty()) return std::nullopt;
    out.set_container_id(event.id);
    out.set_created_at(absl::ToUnixNanos(event.at));
    const absl::StatusOr<core::Pod> pod = parts_.pods->Get(in, pod_id);
    if (!pod.ok()) {
      const auto last = known.pods.find(pod_id);
      if (last == known.pods.end()) return std::nullopt;  // not one of the kubelet's
      *out.mutable_pod_sandbox_status() = last->second;
      out.mutable_pod_sandbox_status()->set_state(wire::SANDBOX_NOTREADY);
      if (of_pod && gone) known.pods.erase(last);
      return out;
    }
    *out.mutable_pod_sandbox_status() = ToSandboxStatus(*pod);
    known.pods[pod_id] = out.pod_sandbox_status();
    absl::StatusOr<std::vector<core::LoadedContainer>> all =
        parts_.pod_containers->ListWhole(in, pod_id);
    if (!all.ok()) return out;
    for (core::LoadedContainer& loaded : *all)
      *out.add_containers_statuses() = ToStatus(WithTask(*parts_.tasks, std::move(loaded)), &*pod);
    return out;
  }

  // "" for one that is of no pod, or came and went before it was looked at.
  std::string PodOf(const core::CallContext& in, const std::string& container, Known& known) {
    const auto found = known.pod_of.find(container);
    if (found != known.pod_of.end()) return found->second;
    const absl::StatusOr<core::LoadedContainer> loaded = parts_.pod_containers->Load(in, container);
    if (!loaded.ok()) return "";
    return known.pod_of[container] = loaded->record.sandbox();
  }

  const CriParts& parts_;
};

}  // namespace

absl::Status SendEvents(const CriParts& parts, const core::CallContext& in, CancelToken& cancel,
                        Sender<wire::ContainerEventResponse>& out) {
  return EventSender(parts).Send(in, cancel, out);
}

}  // namespace gantry::api::cri
