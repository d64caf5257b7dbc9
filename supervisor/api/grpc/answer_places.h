// How many large answers may be in memory at once: each from before it is made until its client has
// taken it. More of them wait, so that a hundred clients who ask for everything there is do not
// cost a hundred times its memory.
//
// A place that is held for longer than the patience does not count any more: clients who take
// nothing cannot keep others waiting for longer than that.
//
// Thread-safe; outlives its places.
#ifndef GANTRY_SUPERVISOR_API_GRPC_ANSWER_PLACES_H_
#define GANTRY_SUPERVISOR_API_GRPC_ANSWER_PLACES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "base/cancel_token.h"
#include "base/clock.h"

namespace gantry::api {

class AnswerPlaces {
 public:
  // One answer's; it is given back at the end of this object, which belongs to the call.
  class Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept
        : places_(std::exchange(other.places_, nullptr)), id_(other.id_) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(places_, other.places_);
      std::swap(id_, other.id_);
      return *this;
    }
    ~Place() {
      if (places_ != nullptr) places_->GiveBack(id_);
    }

   private:
    friend class AnswerPlaces;
    Place(AnswerPlaces* places, uint64_t id) : places_(places), id_(id) {}
    AnswerPlaces* places_ = nullptr;
    uint64_t id_ = 0;
  };

  AnswerPlaces(size_t places, absl::Duration patience, const Clock& clock = Clock::Real())
      : most_(places), patience_(patience), clock_(clock) {}
  AnswerPlaces(const AnswerPlaces&) = delete;
  AnswerPlaces& operator=(const AnswerPlaces&) = delete;

  // Waits for a place. kCancelled, kDeadlineExceeded: the call's own end.
  absl::StatusOr<Place> Take(CancelToken& cancel) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void GiveBack(uint64_t id) ABSL_LOCKS_EXCLUDED(mu_);
  // Stops counting those that are held for too long.
  void DropOld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t most_;
  const absl::Duration patience_;
  const Clock& clock_;
  absl::Mutex mu_;
  absl::CondVar changed_;
  uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  // Those that count, oldest first, with the times at which they were taken.
  std::map<uint64_t, absl::Duration> held_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::api

#endif  // GANTRY_SUPERVISOR_API_GRPC_ANSWER_PLACES_H_
