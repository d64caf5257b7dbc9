// The builds of BuildKit's clients since the daemon began, for clients that list them.
//
// The last few are kept, and those that a client has pinned. Thread-safe.
#ifndef GANTRY_SUPERVISOR_API_BUILDKIT_BUILD_HISTORY_H_
#define GANTRY_SUPERVISOR_API_BUILDKIT_BUILD_HISTORY_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "proto/buildkit/control.pb.h"
#include "supervisor/api/buildkit/solve_request.h"

namespace gantry {
class CancelToken;
}

namespace gantry::api::buildkit {

class BuildHistory {
 public:
  using Record = moby::buildkit::v1::BuildHistoryRecord;
  using Event = moby::buildkit::v1::BuildHistoryEvent;
  using Request = moby::buildkit::v1::BuildHistoryRequest;

  // `record` says what is built; an older one of the same name is replaced.
  void Begin(Record record, absl::Time now);
  void Count(const std::string& ref, const moby::buildkit::v1::StatusResponse& status);
  void End(const std::string& ref, const absl::Status& result, const Attributes& results,
           absl::Time now);

  // Gives on the records that there are, newest first, then what happens, unless the request wants
  // to exit early. kInvalidArgument: a filter, of which there are none.
  absl::Status Listen(const Request& request, CancelToken* cancel,
                      const std::function<absl::Status(const Event&)>& take);
  // kNotFound: no such build. kFailedPrecondition: it runs, or is pinned.
  absl::Status Remove(const std::string& ref);
  absl::Status Pin(const std::string& ref, bool pinned);

 private:
  struct Build {
    Record record;
    std::set<std::string> steps;
    std::set<std::string> cached;
    std::set<std::string> completed;
  };
  Build* Find(const std::string& ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Happened(moby::buildkit::v1::BuildHistoryEventType type, const Record& record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::Mutex mu_;
  std::deque<Build> builds_ ABSL_GUARDED_BY(mu_);  // newest first
  std::deque<Event> events_ ABSL_GUARDED_BY(mu_);  // the last few
  uint64_t first_event_ ABSL_GUARDED_BY(mu_) = 0;  // number of the first of them
};

}  // namespace gantry::api::buildkit

#endif  // GANTRY_SUPERVISOR_API_BUILDKIT_BUILD_HISTORY_H_
