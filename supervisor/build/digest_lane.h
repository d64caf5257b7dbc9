// Digests of contents, worked out on a thread of its own while the caller does something else with
// the same bytes.
//
// For one caller. The thread begins with the first piece and ends with the object. Where none can
// be had, the caller's does the work.
#ifndef GANTRY_SUPERVISOR_BUILD_DIGEST_LANE_H_
#define GANTRY_SUPERVISOR_BUILD_DIGEST_LANE_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "content-store/digest.h"

namespace gantry::build {

class DigestLane {
 public:
  DigestLane() = default;
  ~DigestLane();
  DigestLane(const DigestLane&) = delete;
  DigestLane& operator=(const DigestLane&) = delete;

  // The next piece of the content that `hasher` digests, which is not to be used before Settle().
  // Waits while much is waiting.
  void Add(std::shared_ptr<content::Hasher> hasher, std::string piece);
  // Waits until all pieces are in their digests.
  void Settle();
  // A string that held a piece, for the next one: its memory is there already.
  std::string Buffer();

 private:
  void Run();

  bool tried_ = false;  // to start the thread
  std::thread thread_;
  absl::Mutex mu_;
  std::deque<std::pair<std::shared_ptr<content::Hasher>, std::string>> queue_ ABSL_GUARDED_BY(mu_);
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;  // of the queue and of the piece at hand
  std::vector<std::string> spare_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gantry::build

#endif  // GANTRY_SUPERVISOR_BUILD_DIGEST_LANE_H_
