// Runs the builds of BuildKit's clients: their files, secrets and credentials come from their
// sessions, and the results go to the image store or back to the session.
//
// Thread-safe; a build takes the caller's thread. Failures have no class of their own, as
// BuildKit's: they are kUnknown but for kCancelled, and name the place in the Dockerfile in the
// details that docker's clients show it by.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SOLVER_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SOLVER_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "proto/gantry/v1/builds.pb.h"
#include "supervisor/api/buildkit/build_history.h"
#include "supervisor/api/buildkit/session.h"
#include "supervisor/api/buildkit/solve_progress.h"
#include "supervisor/api/buildkit/solve_request.h"
#include "supervisor/core/call_context.h"

namespace gantry {
class ByteSource;
}
namespace gantry::build {
class BuildExecutor;
}

namespace gantry::api::buildkit {

class Solver {
 public:
  // `directory`: for Dockerfiles and results of builds under way. Nothing is owned.
  Solver(build::BuildExecutor& builder, Sessions& sessions, BuildHistory& history,
         std::string directory)
      : builder_(builder),
        sessions_(sessions),
        history_(history),
        directory_(std::move(directory)) {}

  struct Job {
    std::string ref;
    std::string session;  // id
    Solve solve;
    std::vector<Destination> destinations;
    bool plain_failures = false;  // failures are those of the builder, unchanged
    // Gives the context, a tar, to `read`, where the client uploads it beside its session. Empty:
    // the session has the upload that the sources name.
    std::function<absl::Status(const std::function<absl::Status(ByteSource&)>& read)> upload;
  };
  // What the Dockerfile says, where that is all that the client asks for (`call` of the request).
  absl::StatusOr<v1::BuildReport> Describe(const core::CallContext& call, Job job);

  // What the client is told of the results, by BuildKit's names for it.
  absl::StatusOr<Attributes> Run(const core::CallContext& call, Job job,
                                 const std::function<void(SolveProgress::Status)>& tell);

 private:
  absl::StatusOr<Attributes> RunNow(const core::CallContext& call, Job& job,
                                    std::string& dockerfile,
                                    const std::function<void(SolveProgress::Status)>& tell);

  build::BuildExecutor& builder_;
  Sessions& sessions_;
  BuildHistory& history_;
  const std::string directory_;
};

// As a failure is told to the client; `dockerfile` is the text, "" where there is none.
absl::Status FailureOf(const absl::Status& failure, const std::string& file,
                       const std::string& dockerfile);

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SOLVER_H_
