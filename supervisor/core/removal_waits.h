// Waits for containers to be removed.
//
// Thread-safe. Answers are given without a lock held.
#ifndef GANTRY_SUPERVISOR_CORE_REMOVAL_WAITS_H_
#define GANTRY_SUPERVISOR_CORE_REMOVAL_WAITS_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "proto/gantry/v1/container_requests.pb.h"

namespace gantry::core {

// An answer that is given once, by the first who has it.
class PendingAnswer {
 public:
  explicit PendingAnswer(std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done)
      : done_(std::move(done)) {}
  void Answer(absl::StatusOr<v1::WaitContainerResponse> response);

 private:
  absl::Mutex mu_;
  std::function<void(absl::StatusOr<v1::WaitContainerResponse>)> done_ ABSL_GUARDED_BY(mu_);
};

class RemovalWaits {
 public:
  void Add(const std::string& ns, const std::string& id, std::shared_ptr<PendingAnswer> wait);
  // Forgets a wait that was given up. Harmless if it was answered.
  void Drop(const std::string& ns, const std::string& id,
            const std::shared_ptr<PendingAnswer>& wait);
  // The container has been removed: answers all its waits.
  void Answer(const std::string& ns, const std::string& id,
              const v1::WaitContainerResponse& response);

 private:
  absl::Mutex mu_;
  std::multimap<std::pair<std::string, std::string>, std::shared_ptr<PendingAnswer>> waits_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_REMOVAL_WAITS_H_
