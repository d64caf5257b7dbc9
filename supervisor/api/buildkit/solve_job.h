// A build of a BuildKit client between the calls that are about it: one runs it, another follows
// its progress, and where the client has a build function of its own, further calls bring what is
// to be built. They find each other by a name that the client chose.
//
// Both classes are thread-safe. Jobs are shared by these calls.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_JOB_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_JOB_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "proto/buildkit/control.pb.h"
#include "supervisor/api/buildkit/solve_request.h"

namespace gantry {
class CancelToken;
}

namespace gantry::api::buildkit {

class SolveJob {
 public:
  using Status = moby::buildkit::v1::StatusResponse;

  explicit SolveJob(std::string ref, std::string session = "")
      : ref_(std::move(ref)), session_(std::move(session)) {}
  const std::string& ref() const { return ref_; }
  // The id of the client's session, "" where it gave none.
  const std::string& session() const { return session_; }

  // ---- progress ----

  // Waits while one that follows is far behind. Dropped after Close().
  void Publish(Status status);
  void Close();
  // Calls `take` with all progress, from the oldest that is kept to the end of the build.
  absl::Status Follow(CancelToken* cancel, const std::function<absl::Status(const Status&)>& take);

  // ---- what the client's build function brings ----

  // A build that it asks for; returns a name for the result, by which Return() knows it.
  std::string Plan(Solve solve);
  bool HasPlan(const std::string& name);
  // The end of the function: a result by its name, "" for none, or why it failed. The first counts.
  void Return(absl::StatusOr<std::string> result);
  // Waits for Return(). nullopt: there is nothing to build.
  absl::StatusOr<std::optional<Solve>> AwaitReturn(CancelToken* cancel);

 private:
  void Trim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string ref_;
  const std::string session_;

  absl::Mutex mu_;
  std::deque<Status> statuses_ ABSL_GUARDED_BY(mu_);
  uint64_t first_ ABSL_GUARDED_BY(mu_) = 0;  // number of the oldest that is kept
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::map<uint64_t, uint64_t> followers_ ABSL_GUARDED_BY(mu_);  // to the next that each takes
  uint64_t follower_ids_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, Solve> plans_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::StatusOr<std::string>> returned_ ABSL_GUARDED_BY(mu_);
};

class SolveJobs {
 public:
  // kAlreadyExists: a build of that name is under way.
  absl::StatusOr<std::shared_ptr<SolveJob>> Begin(const std::string& ref,
                                                  const std::string& session = "");
  // Waits for one that is about to begin; the last few that ended are found, too.
  absl::StatusOr<std::shared_ptr<SolveJob>> Find(const std::string& ref, CancelToken* cancel,
                                                 absl::Duration patience = absl::Seconds(10));
  void End(const std::shared_ptr<SolveJob>& job);

 private:
  absl::Mutex mu_;
  std::map<std::string, std::shared_ptr<SolveJob>> jobs_ ABSL_GUARDED_BY(mu_);
  std::deque<std::string> ended_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_SOLVE_JOB_H_
