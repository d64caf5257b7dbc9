// One call's turn at a volume. Private to the volume service and to VolumeHolds.
#ifndef GANTRY_SUPERVISOR_CORE_VOLUME_TURN_H_
#define GANTRY_SUPERVISOR_CORE_VOLUME_TURN_H_

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "supervisor/core/volume_service.h"

namespace gantry::core {

// Waits until no other call works on the volume, and keeps others waiting while it lives.
class VolumeService::Turn {
 public:
  Turn(VolumeService& service, Key key) : service_(service), key_(std::move(key)) {
    const auto free = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return service_.busy_.count(key_) == 0;
    };
    absl::MutexLock lock(&service_.mu_, absl::Condition(&free));
    service_.busy_.insert(key_);
  }
  ~Turn() {
    absl::MutexLock lock(&service_.mu_);
    service_.busy_.erase(key_);
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  VolumeService& service_;
  const Key key_;
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_VOLUME_TURN_H_
