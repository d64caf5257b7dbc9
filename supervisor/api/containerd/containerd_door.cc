#include "supervisor/api/containerd/containerd_door.h"

#include <utility>

#include "base/executor.h"
#include "supervisor/api/containerd/services.h"
#include "supervisor/api/containerd/stream_registry.h"
#include "supervisor/api/grpc/lane.h"
#include "supervisor/core/event_bus.h"
#include "supervisor/core/record_facts.h"
#include "supervisor/gc/collector.h"

namespace gantry::api {

using containerd_api::DoorService;
using containerd_api::Room;

namespace {

// Threads that may wait; they exist only while they have something to do. More calls than these
// wait for their turn.
constexpr size_t kStoreCalls = 32;
constexpr size_t kLongCalls = 256;
constexpr size_t kPumps = 2;
// Of these, most that are one connection's.
constexpr size_t kStoreShare = 16;
constexpr size_t kLongShare = 64;

}  // namespace

struct ContainerdDoor::Services {
  explicit Services(const Parts& parts) : room(parts) {
    room.streams = &streams;
    room.store_calls = &store_lane;
    room.long_calls = &long_lane;
    room.pumps = &pumps;
    all.push_back(NewContainersService(room));
    all.push_back(NewContentService(room));
    all.push_back(NewDiffService(room));
    all.push_back(NewEventsService(room));
    all.push_back(containerd_api::NewHealthService(room));
    all.push_back(NewImagesService(room));
    all.push_back(NewIntrospectionService(room));
    all.push_back(NewLeasesService(room));
    all.push_back(NewMountsService(room));
    all.push_back(NewNamespacesService(room));
    all.push_back(NewSandboxControllerService(room));
    all.push_back(NewSandboxStoreService(room));
    all.push_back(NewSnapshotsService(room));
    all.push_back(NewStreamingService(room));
    all.push_back(NewTasksService(room));
    all.push_back(NewTransferService(room));
    all.push_back(NewVersionService(room));
  }

  Room room;
  containerd_api::StreamRegistry streams;
  std::vector<std::unique_ptr<DoorService>> all;
  Lane store_lane{store_calls, kStoreShare};
  Lane long_lane{long_calls, kLongShare};
  // Last, so that they are idle before what they work on goes.
  Executor store_calls{"containerd-store", kStoreCalls};
  Executor long_calls{"containerd-call", kLongCalls};
  Executor pumps{"containerd-pump", kPumps};
};

ContainerdDoor::ContainerdDoor(const Parts& parts) : services_(std::make_unique<Services>(parts)) {}

ContainerdDoor::~ContainerdDoor() = default;

std::vector<grpc::Service*> ContainerdDoor::services() {
  std::vector<grpc::Service*> services;
  for (const std::unique_ptr<DoorService>& one : services_->all) services.push_back(one->service());
  return services;
}

void ContainerdDoor::Stop() {
  for (const std::unique_ptr<DoorService>& one : services_->all) one->Stop();
}

void ContainerdDoor::PublishCollected(const gc::Collection& collection) {
  core::EventBus& events = *services_->room.events;
  for (const gc::Node& node : collection.removed) {
    switch (node.type) {
      case gc::Type::kImage: {
        events.Publish(node.ns, core::ImageRecordGone(node.name));
        break;
      }
      case gc::Type::kSnapshot: {
        core::SnapshotFacts facts;
        facts.snapshotter = node.snapshotter;
        events.Publish(node.ns,
                       core::LowLevelEvent(core::EventKind::kSnapshot, core::action::kRemove,
                                           node.name, std::move(facts)));
        break;
      }
      case gc::Type::kContent: {
        events.Publish(node.ns, core::LowLevelEvent(core::EventKind::kContent,
                                                    core::action::kDelete, node.name));
        break;
      }
      // Leases, ingests and mounts have no events, the others are not collected.
      case gc::Type::kContainer:
      case gc::Type::kSandbox:
      case gc::Type::kLease:
      case gc::Type::kIngest:
      case gc::Type::kMount:
        break;
    }
  }
}

}  // namespace gantry::api
