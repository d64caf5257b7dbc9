// The present health of containers that have a health check: written by the health monitor, read by
// the views of a container.
//
// Thread-safe.
#ifndef GANTRY_SUPERVISOR_CORE_HEALTH_BOARD_H_
#define GANTRY_SUPERVISOR_CORE_HEALTH_BOARD_H_

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "proto/gantry/v1/container_health.pb.h"

namespace gantry::core {

class HealthBoard {
 public:
  std::optional<v1::HealthState> Get(const std::string& ns, const std::string& container) const {
    absl::MutexLock lock(&mu_);
    auto it = states_.find({ns, container});
    if (it == states_.end()) return std::nullopt;
    return it->second;
  }
  // Its word alone, "" where there is none: the whole state has the output of its last probes.
  std::string Word(const std::string& ns, const std::string& container) const {
    absl::MutexLock lock(&mu_);
    auto it = states_.find({ns, container});
    return it == states_.end() ? std::string() : it->second.status();
  }
  void Set(const std::string& ns, const std::string& container, v1::HealthState state) {
    absl::MutexLock lock(&mu_);
    states_[{ns, container}] = std::move(state);
  }
  void Forget(const std::string& ns, const std::string& container) {
    absl::MutexLock lock(&mu_);
    states_.erase({ns, container});
  }

 private:
  mutable absl::Mutex mu_;
  std::map<std::pair<std::string, std::string>, v1::HealthState> states_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gantry::core

#endif  // GANTRY_SUPERVISOR_CORE_HEALTH_BOARD_H_
