// Service gantry.v1.Containers over core's container classes. Translates, nothing else.
#ifndef GANTRY_SUPERVISOR_API_GANTRY_CONTAINERS_H_
#define GANTRY_SUPERVISOR_API_GANTRY_CONTAINERS_H_

#include <grpcpp/impl/codegen/service_type.h>

#include <memory>

namespace gantry {
class Executor;
}
namespace gantry::core {
class ContainerFiles;
class ContainerLifecycle;
class ContainerRecords;
class ContainerStreams;
class ContainerView;
class ContainerWait;
class ExecService;
}  // namespace gantry::core

namespace gantry::api::gantry_v1 {

// What the door calls. All outlive the service, which is stopped first.
struct ContainersParts {
  core::ContainerRecords* records;
  core::ContainerLifecycle* lifecycle;
  core::ContainerStreams* streams;
  core::ContainerView* view;
  core::ContainerFiles* files;
  core::ContainerWait* wait;
  core::ExecService* execs;
};

// `work` runs what takes a moment (starts, copies), `followers` what may last for days (logs -f,
// stats): separate, so that the one never waits for the other. Both outlive the service.
std::unique_ptr<grpc::Service> NewContainersDoor(const ContainersParts& parts, Executor& work,
                                                 Executor& followers);

}  // namespace gantry::api::gantry_v1

#endif  // GANTRY_SUPERVISOR_API_GANTRY_CONTAINERS_H_
