// containerd's API on Gantry's core: every service of containerd's main socket, for clients that
// were written for containerd.
//
// Translates and nothing else. Calls that memory answers run on gRPC's own thread, others on
// executors; those that wait or stream for long (Tasks.Wait, Events.Subscribe, Health.Watch,
// Streaming.Stream, Content.Read and Write) hold no thread while they wait. Life: construct ->
// register services() with one or more grpc::Server builders -> Stop() before the servers are shut
// down. Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_CONTAINERD_CONTAINERD_DOOR_H_
#define GANTRY_SUPERVISOR_API_CONTAINERD_CONTAINERD_DOOR_H_

#include <memory>
#include <string>
#include <vector>

namespace grpc {
class Service;
}
namespace gantry {
class Executor;
}
namespace gantry::core {
class EventBus;
class EventSubjects;
struct ImageServices;
class ExecService;
class MountActivations;
class SandboxService;
class TaskService;
struct Stores;
}  // namespace gantry::core
namespace gantry::runtime {
class RuntimeProbe;
}
namespace gantry::gc {
class Scheduler;
struct Collection;
}  // namespace gantry::gc

namespace gantry::api {

class ContainerdDoor {
 public:
  // Nothing is owned; everything outlives the door.
  struct Parts {
    core::Stores* stores = nullptr;
    core::TaskService* tasks = nullptr;
    core::ExecService* execs = nullptr;
    core::SandboxService* sandboxes = nullptr;
    core::EventBus* events = nullptr;
    core::EventSubjects* subjects = nullptr;
    core::ImageServices* images = nullptr;
    core::MountActivations* mounts = nullptr;
    gc::Scheduler* gc = nullptr;
    runtime::RuntimeProbe* runtimes = nullptr;  // may be null: no runtime is described then
    Executor* workers = nullptr;
    std::string uuid;            // of this installation, kept over restarts
    std::string root_directory;  // where the snapshotters' directories are, for the plugin table
    std::string
        version;  // of the API served, which clients choose their calls by: a semantic version
  };
  explicit ContainerdDoor(const Parts& parts);
  ~ContainerdDoor();
  ContainerdDoor(const ContainerdDoor&) = delete;
  ContainerdDoor& operator=(const ContainerdDoor&) = delete;

  // Owned by the door.
  std::vector<grpc::Service*> services();

  // Ends waits, subscriptions and streams with kUnavailable; later ones end at once.
  void Stop();

  // Publishes what a collection removed: /images/delete, /snapshot/remove, /content/delete.
  void PublishCollected(const gc::Collection& collection);

 private:
  struct Services;
  const std::unique_ptr<Services> services_;
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_CONTAINERD_CONTAINERD_DOOR_H_
