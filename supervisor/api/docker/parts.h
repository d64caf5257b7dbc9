// The core classes that the routes of the Docker door call.
#ifndef GANTRY_SUPERVISOR_API_DOCKER_PARTS_H_
#define GANTRY_SUPERVISOR_API_DOCKER_PARTS_H_

namespace gantry::core {
class ContainerFiles;
class ContainerLifecycle;
class ContainerNetworks;
class ContainerRecords;
class ContainerStreams;
class ContainerView;
class ContainerWait;
class ExecService;
struct ImageServices;
class NetworkService;
class SystemService;
class VolumeService;
}  // namespace gantry::core

namespace gantry::api::docker {

// Nothing is owned; all outlive the door.
struct Parts {
  core::ContainerRecords* records = nullptr;
  core::ContainerLifecycle* lifecycle = nullptr;
  core::ContainerStreams* streams = nullptr;
  core::ContainerView* view = nullptr;
  core::ContainerFiles* files = nullptr;
  core::ContainerWait* wait = nullptr;
  core::ExecService* execs = nullptr;
  core::ImageServices* images = nullptr;
  core::NetworkService* networks = nullptr;
  core::ContainerNetworks* container_networks = nullptr;
  core::SystemService* system = nullptr;
  core::VolumeService* volumes = nullptr;
};

}  // namespace gantry::api::docker

#endif  // GANTRY_SUPERVISOR_API_DOCKER_PARTS_H_
