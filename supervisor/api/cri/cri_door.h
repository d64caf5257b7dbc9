// Kubernetes' Container Runtime Interface, v1, over core: what the kubelet and crictl call.
//
// All that is made through it is in the namespace k8s.io. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_CRI_CRI_DOOR_H_
#define GANTRY_SUPERVISOR_API_CRI_CRI_DOOR_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>
#include <string>

namespace gantry {
class Executor;
}
namespace gantry::core {
class ContainerLifecycle;
class ContainerRecords;
class EventBus;
class ExecRunner;
class ImageCatalog;
class ImagePull;
class PodContainers;
class PodFigures;
class PodService;
class SystemService;
class TaskService;
}  // namespace gantry::core

namespace gantry::api::cri {

class StreamServer;

// The namespace of all that the kubelet makes.
inline constexpr char kNamespace[] = "k8s.io";

// What the services call. All outlive them.
struct CriParts {
  core::PodService* pods;
  core::PodContainers* pod_containers;
  core::PodFigures* pod_figures;
  core::ContainerRecords* records;
  core::ContainerLifecycle* lifecycle;
  core::TaskService* tasks;
  core::ExecRunner* exec_runner;
  core::ImageCatalog* images;
  core::ImagePull* pull;
  core::EventBus* events;
  StreamServer* streams;
  std::string root_directory;
  std::string version;  // of Gantry
};

// `work` runs the calls and outlives the service.
std::unique_ptr<grpc::Service> NewRuntimeService(const CriParts& parts, Executor& work);
std::unique_ptr<grpc::Service> NewImageService(const CriParts& parts, Executor& work);

}  // namespace gantry::api::cri

#endif  // GANTRY_SUPERVISOR_API_CRI_CRI_DOOR_H_
