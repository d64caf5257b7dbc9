// The services that BuildKit's clients call. Each is registered with one gRPC server; what they
// share outlives them.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SERVICES_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SERVICES_H_

#include <memory>
#include <string>

namespace grpc {
class Service;
}
namespace gantry {
class Executor;
}
namespace gantry::core {
class BuildCache;
}

namespace gantry::api::buildkit {

class BuildHistory;
class Sessions;
class SolveJobs;
class Solver;

// moby.buildkit.v1.Control
std::unique_ptr<grpc::Service> NewControlService(Solver& solver, SolveJobs& jobs,
                                                 Sessions& sessions, core::BuildCache& cache,
                                                 BuildHistory& history, std::string version,
                                                 Executor& work);
// moby.buildkit.v1.frontend.LLBBridge: what a client calls while its build function runs. Of
// definitions there is nothing; a Dockerfile frontend is planned, and built when the function
// returns it.
std::unique_ptr<grpc::Service> NewGatewayService(Solver& solver, SolveJobs& jobs, Executor& work);

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SERVICES_H_
