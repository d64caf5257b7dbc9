// BuildKit's API as docker's clients find it behind the Docker socket: a connection on which they
// call us, and one on which we call them.
//
// Life: construction -> Serve...() and Build(), from the threads of HTTP connections -> Stop() or
// destruction, which ends builds and waits for them; the connections are ended before by whose they
// are. The gRPC server is there from the first connection on.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_BUILDKIT_DOOR_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_BUILDKIT_DOOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "base/executor.h"
#include "base/unique_fd.h"
#include "supervisor/api/buildkit/build_history.h"
#include "supervisor/api/buildkit/session.h"
#include "supervisor/api/buildkit/solve_job.h"
#include "supervisor/api/buildkit/solver.h"

namespace grpc {
class Server;
class Service;
}  // namespace grpc
namespace gantry::core {
class BuildCache;
}

namespace gantry::api {

class BuildkitDoor {
 public:
  // Nothing is owned.
  struct Parts {
    build::BuildExecutor* builder;
    core::BuildCache* cache;
    std::string directory;  // for Dockerfiles and results of builds under way
    std::string version;
  };
  explicit BuildkitDoor(const Parts& parts);
  ~BuildkitDoor();
  BuildkitDoor(const BuildkitDoor&) = delete;
  BuildkitDoor& operator=(const BuildkitDoor&) = delete;

  // A connection whose client calls moby.buildkit.v1, non-blocking. Returns at once.
  // kUnavailable: the daemon is stopping.
  absl::Status ServeControl(UniqueFd connection);
  // A connection whose client serves its session, non-blocking. Returns when the client leaves.
  absl::Status ServeSession(const buildkit::SessionOffer& offer, UniqueFd connection);
  // For clients that ask for a build in another way.
  buildkit::Solver& solver() { return solver_; }

  void Stop();

 private:
  const Parts parts_;
  buildkit::Sessions sessions_;
  buildkit::SolveJobs jobs_;
  buildkit::BuildHistory history_;
  buildkit::Solver solver_;

  absl::Mutex mu_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::unique_ptr<grpc::Service>> services_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Executor> work_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<grpc::Server> server_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_BUILDKIT_DOOR_H_
