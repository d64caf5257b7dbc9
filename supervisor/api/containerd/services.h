// One maker per service of containerd's API, so that only the file of a service pays for its gRPC
// headers.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_SERVICES_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_SERVICES_H_

#include <memory>

#include "supervisor/api/containerd/containerd_door.h"
#include "supervisor/api/grpc/lane.h"

namespace gantry::api::containerd_api {

class StreamRegistry;

// What the services share. Everything outlives them.
struct Room : ContainerdDoor::Parts {
  explicit Room(const ContainerdDoor::Parts& parts) : ContainerdDoor::Parts(parts) {}
  StreamRegistry* streams = nullptr;
  Lane* store_calls = nullptr;  // work that the database and the disk end by themselves
  Lane* long_calls = nullptr;   // work that waits for a shim, a registry or its client
  Executor* pumps = nullptr;    // events on their way to subscribers; never blocks
};

class DoorService {
 public:
  virtual ~DoorService() = default;
  virtual grpc::Service* service() = 0;
  // Ends the calls that wait, with kUnavailable.
  virtual void Stop() {}
};

std::unique_ptr<DoorService> NewContainersService(const Room& room);
std::unique_ptr<DoorService> NewContentService(const Room& room);
std::unique_ptr<DoorService> NewDiffService(const Room& room);
std::unique_ptr<DoorService> NewEventsService(const Room& room);
std::unique_ptr<DoorService> NewHealthService(const Room& room);
std::unique_ptr<DoorService> NewImagesService(const Room& room);
std::unique_ptr<DoorService> NewIntrospectionService(const Room& room);
std::unique_ptr<DoorService> NewLeasesService(const Room& room);
std::unique_ptr<DoorService> NewMountsService(const Room& room);
std::unique_ptr<DoorService> NewNamespacesService(const Room& room);
std::unique_ptr<DoorService> NewSandboxControllerService(const Room& room);
std::unique_ptr<DoorService> NewSandboxStoreService(const Room& room);
std::unique_ptr<DoorService> NewSnapshotsService(const Room& room);
std::unique_ptr<DoorService> NewStreamingService(const Room& room);
std::unique_ptr<DoorService> NewTasksService(const Room& room);
std::unique_ptr<DoorService> NewTransferService(const Room& room);
std::unique_ptr<DoorService> NewVersionService(const Room& room);

}  // namespace gantry::api::containerd_api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_SERVICES_H_
